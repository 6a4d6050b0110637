"""Renders the report as one HTML page: escaped, without script, style sheet or picture from elsewhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from archiver.compliance import rules, words
from archiver.compliance.facts import Report
from archiver.evidence.report import format_instant

_TEMPLATES = Environment(
    loader=PackageLoader("archiver.compliance", "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["instant"] = format_instant
_TEMPLATES.globals.update(words=words)


def report_html(it: Report) -> bytes:
    page = _TEMPLATES.get_template("month.html").render(it=it, not_checked=rules.unchecked(it))
    return page.encode()
