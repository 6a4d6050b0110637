"""Writes the letters of a bundle in plain text: the draft of a certificate, and the readme."""

from __future__ import annotations

from archiver.documents.html import templates_of
from archiver.evidence.report import Report

_TEMPLATES = templates_of("archiver.evidence")


def certificate(facts: Report) -> str:
    """Return a draft certification under Fed. R. Evid. 902(13) and (14), with blanks for statements that only a person
    can make."""
    return _TEMPLATES.get_template("certificate-902.txt").render(facts=facts)


def readme(facts: Report, verifier_sha256: str) -> str:
    """Return the readme, which tells three ways to verify the bundle."""
    return _TEMPLATES.get_template("README-VERIFY.txt").render(facts=facts, verifier_sha256=verifier_sha256)
