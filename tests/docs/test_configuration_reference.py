"""The configuration reference is what the model says today."""

from __future__ import annotations

from archiver.config.reference import json_schema, markdown, parts
from tests.config_files import ROOT


def test_reference_is_fresh() -> None:
    written = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert written == markdown(), "run: python -m archiver.config.reference > docs/reference/configuration.md"


def test_every_key_says_what_it_means() -> None:
    silent = [(part.pattern, key.name) for part in parts() for key in part.keys if not key.meaning]
    assert silent == []


def test_schema_names_every_key() -> None:
    schema = json_schema()
    named = {name for section in [schema, *schema["$defs"].values()] for name in section.get("properties", {})}
    assert {key.name for part in parts() for key in part.keys} <= named
    assert schema["additionalProperties"] is False
