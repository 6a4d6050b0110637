"""Object keys: same sealed bytes, same key; nothing of the call but its month."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import errors
from archiver.clock import SystemChance
from archiver.store import layout

UUID = "01a1fca5-e0df-7735-b805-07faf428923d"
SHA = "ab" * 32
MAY = datetime(2026, 5, 31, 23, 30, tzinfo=UTC)


def test_key_of_a_recording_is_fixed_for_ever() -> None:
    """A changed key would store every recording once more. Computed by sha256sum, not by us."""
    shelf = "9b/9bfba9aa864341b22210f56d1607cb6cce3e79c055b5f0162d7c80ebf61d3a81"
    assert layout.recording_key(UUID, SHA, MAY) == f"recordings/2026/05/{shelf}"


def test_month_is_that_of_utc() -> None:
    local = MAY.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert local.month == 6
    assert layout.recording_key(UUID, SHA, local) == layout.recording_key(UUID, SHA, MAY)


def test_recording_without_a_date_has_a_key() -> None:
    assert layout.recording_key(UUID, SHA, None).startswith("recordings/undated/")


@given(st.uuids(), st.binary(min_size=32, max_size=32), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_every_key_is_of_the_frozen_shape(uuid: object, digest: bytes, started: datetime | None) -> None:
    for key in (
        layout.recording_key(str(uuid), digest.hex(), started),
        layout.quarantine_key(str(uuid), digest.hex()),
        layout.canary_key(SystemChance().uuid()),
    ):
        assert re.fullmatch(r"[a-z0-9/_-]{1,200}", key)
        assert layout.object_key("calls/", key) == "calls/" + key


def test_other_bytes_or_another_recording_have_another_key() -> None:
    keys = {
        layout.recording_key(UUID, SHA, MAY),
        layout.recording_key(UUID, "cd" * 32, MAY),
        layout.recording_key(UUID.replace("0", "1"), SHA, MAY),
        layout.quarantine_key(UUID, SHA),
    }
    assert len(keys) == 4


def test_key_that_has_the_prefix_stays_as_it_is() -> None:
    full = layout.object_key("calls/", "recordings/a")
    assert full == "calls/recordings/a"
    assert layout.object_key("calls/", full) == full


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/../b", "A", "a.lock", "é", "a b", "a" * 201])
def test_key_of_another_shape_is_refused(key: str) -> None:
    for prefix in ("", "calls/"):
        with pytest.raises(errors.NotAllowedError):
            layout.object_key(prefix, key)


def test_the_longest_key_has_two_hundred_characters_beside_the_prefix() -> None:
    assert layout.object_key("calls/", "a" * 200) == "calls/" + "a" * 200
    assert layout.log_key("calls/", "a" * 200) == "calls/custody/" + "a" * 200


def test_what_is_no_recording_has_a_folder_of_its_own() -> None:
    """Fixed for ever, as recordings' keys are. The catalogue's: sha256sum of `object-key/v1`, `catalogue` and the digest."""
    assert layout.quarantine_key(UUID, SHA) == layout.recording_key(UUID, SHA, None).replace(
        "recordings/undated", "quarantine"
    )
    assert layout.catalogue_key(SHA).startswith("catalogue/fd/fdf9a69d")
    assert layout.canary_key(UUID) == f"canary/{UUID}"
    assert layout.is_canary(layout.canary_key(UUID))
    assert not layout.is_canary(layout.quarantine_key(UUID, SHA))


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("recordings/a", True),
        ("quarantine/a", True),
        ("catalogue/a", False),
        ("canary/a", False),
        ("x/recordings/a", False),
    ],
)
def test_only_recordings_and_quarantine_hold_a_providers_bytes(key: str, content: bool) -> None:
    assert layout.is_content(key) is content


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/x001/234.p/5", "keys/acme.example/2026.vkey", "_a/B-c"])
def test_a_piece_of_the_log_lies_under_its_name_and_is_found_by_the_beginning_of_it(name: str) -> None:
    key = layout.log_key("calls/", name)
    assert key == f"calls/custody/{name}"
    assert layout.log_name("calls/", key) == name
    assert key.startswith(layout.log_listing("calls/", name[:3]))
    assert layout.log_listing("calls/", "") == "calls/custody/"


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", ".", "..", "a/../b", ".a", "a/.b", "-a", "é", "a b", "a" * 201]
)
def test_a_name_that_the_log_does_not_make_is_refused(name: str) -> None:
    with pytest.raises(errors.NotAllowedError):
        layout.log_key("", name)
