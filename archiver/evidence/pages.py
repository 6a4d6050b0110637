"""Makes the pages for people: report, certificate draft, readme. From the package's templates; HTML is escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from archiver.evidence.report import STATED_LIMITS, Report, format_instant

_TEMPLATES = Environment(
    loader=PackageLoader("archiver.evidence", "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["instant"] = format_instant


def report_html(facts: Report) -> str:
    """Return the report as one page without script, style sheet or picture from elsewhere."""
    return _TEMPLATES.get_template("report.html").render(facts=facts, limits=STATED_LIMITS)


def certificate(facts: Report) -> str:
    """Return a draft certification under Fed. R. Evid. 902(13) and (14), with blanks for statements that only a person
    can make."""
    return _TEMPLATES.get_template("certificate-902.txt").render(facts=facts)


def readme(facts: Report, verifier_sha256: str) -> str:
    """Return the readme, which tells three ways to verify the bundle."""
    return _TEMPLATES.get_template("README-VERIFY.txt").render(facts=facts, verifier_sha256=verifier_sha256)
