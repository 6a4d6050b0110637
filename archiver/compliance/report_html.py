"""Renders the report as one HTML page."""

from __future__ import annotations

from archiver.compliance import rules, words
from archiver.compliance.facts import Report
from archiver.documents.html import templates_of

_TEMPLATES = templates_of("archiver.compliance")
_TEMPLATES.globals.update(words=words)


def report_html(it: Report) -> bytes:
    page = _TEMPLATES.get_template("month.html").render(it=it, not_checked=rules.unchecked(it))
    return page.encode()
