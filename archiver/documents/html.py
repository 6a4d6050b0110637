"""Renders a package's templates: pages in the house style, and letters in plain text. Pure: the same text for the same
facts."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from archiver.documents.phrases import format_instant


def templates_of(package: str) -> Environment:
    """Return the templates in a package's folder `templates`; its pages extend the `page.html` of this package.

    What a page says is escaped, and a page has no script, style sheet or picture from elsewhere.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("archiver.documents")]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["instant"] = format_instant
    return found
