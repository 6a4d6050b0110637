"""Entries that this process signed are known by their whole bytes, and only the newest of them."""

from __future__ import annotations

from datetime import UTC, datetime

from archiver.custody.event import Event, Type, parse, sign
from archiver.custody.own import OwnEntries
from tests.custody_examples import KEY, SUBJECT, WRITER

_EVENT = Event(SUBJECT, 0, None, Type.DISCOVERED, datetime(2026, 11, 30, tzinfo=UTC), SUBJECT[4:], WRITER)


def test_an_entry_is_known_by_its_whole_bytes_and_no_other_is() -> None:
    entry = sign(_EVENT, KEY)
    own = OwnEntries()
    own.add(entry, parse(entry))
    assert own.event(entry) == parse(entry)
    assert own.event(entry[:-3] + b'A"}') is None
    assert own.event(entry + b" ") is None


def test_beyond_its_size_the_memory_forgets_the_oldest_entry_first() -> None:
    entry = sign(_EVENT, KEY)
    own = OwnEntries(most=2)
    for name in (b"a", b"b", b"c"):
        own.add(name, parse(entry))
    assert [own.event(name) is not None for name in (b"a", b"b", b"c")] == [False, True, True]
