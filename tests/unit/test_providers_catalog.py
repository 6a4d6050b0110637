"""The catalogue says of each provider what its documents say."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from archiver.demo.simulators import MovableClock
from archiver.errors import ConfigurationError
from archiver.providers.catalog import CATALOG
from archiver.providers.kazoo_login import ApiKey, Token, User
from archiver.recording import Secret

CLOCK = MovableClock(datetime(2026, 11, 21, tzinfo=UTC))
CANARY = "canary-4711"
SETTINGS: dict[str, dict[str, Any]] = {
    "justcall": {"api_key": Secret(CANARY), "api_secret": Secret(CANARY)},
    "kazoo": {"base_url": "https://k.test:8443", "account_id": "a", "login": Token(Secret(CANARY))},
    "vobiz": {"auth_id": "MA_X", "auth_token": Secret(CANARY)},
    "plivo": {"auth_id": "MA0", "auth_token": Secret(CANARY)},
}


@pytest.mark.parametrize("kind", CATALOG)
def test_each_kind_builds_from_its_settings(kind: str) -> None:
    entry = CATALOG[kind]
    provider = entry.build("mine", entry.settings(**SETTINGS[kind]), None, CLOCK)  # type: ignore[arg-type]
    assert provider.id == "mine"
    assert provider.scopes()
    assert provider.facts.earliest < CLOCK.now()


@pytest.mark.parametrize("kind", CATALOG)
def test_settings_show_no_secret(kind: str) -> None:
    settings = CATALOG[kind].settings(**SETTINGS[kind])
    assert dataclasses.is_dataclass(settings)
    assert CANARY not in repr(settings)
    for login in (ApiKey(Secret(CANARY)), User(Secret(CANARY), Secret(CANARY))):
        assert CANARY not in repr(login)


@pytest.mark.parametrize("kind", CATALOG)
def test_origins_are_https_and_filters_are_the_documents(kind: str) -> None:
    entry = CATALOG[kind]
    if entry.origin is not None:
        assert urlsplit(entry.origin).scheme == "https"
        assert entry.media_hosts
    assert entry.rate.count > 0
    assert not entry.allows("callback_url")
    assert not entry.allows("limit")
    with pytest.raises(ConfigurationError, match="colour"):
        entry.build("mine", entry.settings(**SETTINGS[kind], filters={"colour": "red"}), None, CLOCK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("justcall", "direction"), ("justcall", "agent_id"), ("justcall", "number"), ("justcall", "status"),
        ("kazoo", "filter_direction"), ("vobiz", "call_uuid"), ("vobiz", "recording_type"),
        ("plivo", "from_number"), ("plivo", "to_number"), ("plivo", "subaccount"), ("plivo", "call_uuid"),
        ("plivo", "add_time"), ("plivo", "add_time__gte"), ("plivo", "mpc_name"), ("plivo", "mpc_uuid"),
        ("plivo", "conference_name"), ("plivo", "conference_uuid"), ("plivo", "recording_storage_duration__lt"),
    ],
)  # fmt: skip
def test_every_documented_filter_is_allowed(kind: str, name: str) -> None:
    assert CATALOG[kind].allows(name)
