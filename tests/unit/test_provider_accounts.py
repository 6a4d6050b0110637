"""Which entries of a configuration are one account at its provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.assembly.providers import accounts, poll_plan, sharing
from tests.config_files import VALID, read_text

ENTRIES = """\
providers:
  - {id: dialer, kind: justcall, api_key: env:SAME, api_secret: env:JC_SECRET, dialect: v2.1, sales_dialer: true}
  - {id: other, kind: justcall, api_key: env:OTHER, api_secret: env:JC_SECRET}
"""


def test_entries_with_the_same_credentials_are_one_account_whatever_they_are_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"JC_KEY": "k", "SAME": "k", "OTHER": "k2", "JC_SECRET": "s"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KAZOO_TOKEN", "t")
    config = read_text(tmp_path, VALID.replace("providers:\n", ENTRIES)).config
    assert config is not None
    by_id = {each.id: each for each in config.providers}
    assert {name: set(sharing(each, config)) for name, each in by_id.items()} == {
        "justcall": {"justcall", "dialer"}, "dialer": {"justcall", "dialer"}, "other": {"other"}, "kazoo": {"kazoo"},
        "vobiz": {"vobiz"}, "plivo": {"plivo"},
    }  # fmt: skip
    assert poll_plan(by_id["dialer"], config).shared == sharing(by_id["dialer"], config)
    assert {name: accounts(each) for name, each in by_id.items() if name in ("justcall", "kazoo", "vobiz", "plivo")} == {
        "justcall": {"", "sales_dialer"}, "kazoo": {"0123456789abcdef0123456789abcdef"}, "vobiz": {"MA_1"}, "plivo": {"MA1"},
    }  # fmt: skip
