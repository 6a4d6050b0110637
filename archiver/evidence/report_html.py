"""Renders the report as one HTML page."""

from __future__ import annotations

from archiver.documents.html import templates_of
from archiver.evidence.report import STATED_LIMITS, Report

_TEMPLATES = templates_of("archiver.evidence")


def report_html(facts: Report) -> str:
    """Return the report as one page."""
    return _TEMPLATES.get_template("report.html").render(facts=facts, limits=STATED_LIMITS)
