"""Every tampering with a chain is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archiver.custody.chain import Fault, Head, Problem, check_chain, enrolled_writers, explained
from archiver.custody.event import Entry, Event, Type, leaf_hash, sign
from archiver.custody.keys import public_hex
from archiver.recording import Json
from tests.custody_examples import HOST_KEY, KEY, OTHER_KEY, OTHER_SUBJECT, SUBJECT, FixedChance, SteadyClock

HOST, WRITER, STRANGER = (public_hex(key) for key in (HOST_KEY, KEY, OTHER_KEY))


def chain(subject: str, length: int, *, key=KEY, type: str = Type.FIXITY_CHECKED, seed: str = "") -> list[Entry]:  # type: ignore[no-untyped-def]  # noqa: A002
    clock, chance = SteadyClock(), FixedChance(seed)
    entries: list[Entry] = []
    for seq in range(length):
        event = Event(
            subject=subject,
            seq=seq,
            prev=leaf_hash(entries[-1].raw).hex() if entries else None,
            type=type,
            at=clock.now(),
            id=chance.uuid(),
            writer=public_hex(key),
            data={"result": "ok"},
        )
        entries.append(Entry(subject, seq, sign(event, key)))
    return entries


GOOD = chain(SUBJECT, 6)
OTHERS = chain(OTHER_SUBJECT, 6, seed="other")
HEAD = Head(5, leaf_hash(GOOD[5].raw))


def check(entries: list[Entry], head: Head | None = HEAD) -> list[Problem]:
    return check_chain(SUBJECT, entries, {WRITER}, {HOST}, head)


def test_whole_chain_has_no_problem() -> None:
    assert check(GOOD) == []
    assert check_chain(SUBJECT, [], {WRITER}, {HOST}) == []


def with_entry(seq: int, raw: bytes) -> list[Entry]:
    return [replace(entry, raw=raw) if entry.seq == seq else entry for entry in GOOD]


def resigned(seq: int) -> bytes:
    """The event rewritten by somebody who has the writer's key."""
    event = Event(SUBJECT, seq, leaf_hash(GOOD[seq - 1].raw).hex(), Type.FIXITY_CHECKED, datetime(2026, 1, 1, tzinfo=UTC),
                  FixedChance("x").uuid(), WRITER, data={"result": "bad"})  # fmt: skip
    return sign(event, KEY)


def renumbered(entries: list[Entry]) -> list[Entry]:
    return [replace(entry, seq=seq) for seq, entry in enumerate(entries)]


TAMPERED: dict[str, tuple[Callable[[], list[Entry]], set[tuple[int, Fault]]]] = {
    "edited": (
        lambda: with_entry(3, GOOD[3].raw.replace(b'"result":"ok"', b'"result":"no"')),
        {(3, Fault.SIGNATURE), (4, Fault.LINK)},
    ),
    "edited and signed again": (lambda: with_entry(3, resigned(3)), {(4, Fault.LINK)}),
    "last edited and signed again": (lambda: with_entry(5, resigned(5)), {(5, Fault.HEAD)}),
    "spelled otherwise": (lambda: with_entry(2, GOOD[2].raw.replace(b":", b": ", 1)), {(2, Fault.FORMAT), (3, Fault.LINK)}),
    "rubbish": (lambda: with_entry(0, b"\x00\xff"), {(0, Fault.FORMAT), (1, Fault.LINK)}),
    "first deleted": (lambda: GOOD[1:], {(1, Fault.GAP)}),
    "middle deleted": (lambda: GOOD[:2] + GOOD[4:], {(4, Fault.GAP)}),
    "middle cut out and the rest moved up": (
        lambda: renumbered(GOOD[:2] + GOOD[3:]),
        {(2, Fault.PLACE), (2, Fault.LINK), (3, Fault.PLACE), (4, Fault.PLACE), (5, Fault.HEAD)},
    ),
    "end cut off": (lambda: GOOD[:4], {(5, Fault.HEAD)}),
    "all deleted": (list, {(5, Fault.HEAD)}),
    "two exchanged": (
        lambda: renumbered([*GOOD[:2], GOOD[3], GOOD[2], *GOOD[4:]]),
        {(2, Fault.PLACE), (2, Fault.LINK), (3, Fault.PLACE), (3, Fault.LINK), (4, Fault.LINK)},
    ),
    "one doubled": (lambda: [*GOOD[:3], GOOD[2], *GOOD[3:]], {(2, Fault.GAP)}),
    "one from another chain": (lambda: with_entry(2, OTHERS[2].raw), {(2, Fault.PLACE), (2, Fault.LINK), (3, Fault.LINK)}),
    "signature of another event": (
        lambda: with_entry(5, GOOD[5].raw[:-92] + GOOD[4].raw[-92:]),
        {(5, Fault.SIGNATURE), (5, Fault.HEAD)},
    ),
    "unknown writer from here on": (
        lambda: [*GOOD[:5], Entry(SUBJECT, 5, sign(Event(SUBJECT, 5, leaf_hash(GOOD[4].raw).hex(), Type.FIXITY_CHECKED,
                 datetime(2026, 1, 1, tzinfo=UTC), FixedChance().uuid(), STRANGER), OTHER_KEY))],
        {(5, Fault.WRITER), (5, Fault.HEAD)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_found_and_named(how: str) -> None:
    tamper, expected = TAMPERED[how]
    assert {(problem.seq, problem.fault) for problem in check(tamper())} == expected


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("middle deleted", ["4: events 2 to 3 missing before it"]),
        ("first deleted", ["1: event 0 missing before it"]),
        ("one doubled", ["2: two events have this number, or they are out of order"]),
        ("edited", ["3: the signature is not the writer's", "4: does not follow the event before it"]),
        ("rubbish", ["0: not canonical JSON", "1: does not follow the event before it"]),
        ("end cut off", ["5: the chain should end with this event, but ends with 3"]),
        (
            "unknown writer from here on",
            [
                f"5: signed by {STRANGER[:16]}…, which was not enrolled",
                "5: the chain should end with this event, but ends with 5",
            ],
        ),
    ],
)
def test_problem_reads_as_a_sentence(how: str, says: list[str]) -> None:
    assert [str(problem) for problem in check(TAMPERED[how][0]())] == [f"{SUBJECT} event {each}" for each in says]


def test_event_in_anothers_place_is_named() -> None:
    (found, *_) = check(with_entry(2, OTHERS[2].raw))
    assert str(found) == f"{SUBJECT} event 2: is event 2 of {OTHER_SUBJECT}, standing in another's place"


def test_every_byte_of_every_event_counts() -> None:
    for seq, entry in enumerate(GOOD):
        for place in range(0, len(entry.raw), 7):
            raw = bytearray(entry.raw)
            raw[place] ^= 1
            assert seq in {problem.seq for problem in check(with_entry(seq, bytes(raw)))}


def test_cut_end_is_not_seen_without_a_head() -> None:
    assert check(GOOD[:4], head=None) == []


def test_writer_counts_only_when_a_host_key_enrolled_it() -> None:
    def enrolment(key, writer: str) -> Entry:  # type: ignore[no-untyped-def]
        event = Event("archive", 0, None, Type.WRITER_ENROLLED, datetime(2026, 1, 1, tzinfo=UTC), FixedChance().uuid(),
                      public_hex(key), actor_kind="host", data={"writer": writer})  # fmt: skip
        return Entry("archive", 0, sign(event, key))

    good, self_made = enrolment(HOST_KEY, WRITER), enrolment(OTHER_KEY, STRANGER)
    forged = replace(good, raw=good.raw.replace(WRITER.encode(), STRANGER.encode()))
    assert enrolled_writers([good, self_made, forged, Entry("archive", 1, b"rubbish")], {HOST}) == {WRITER}
    assert check_chain("archive", [good], set(), {HOST}) == []
    assert [p.fault for p in check_chain("archive", [self_made], {STRANGER}, {HOST})] == [Fault.WRITER]


def test_writer_that_comes_behind_its_retirement_is_named() -> None:
    entries: list[Entry] = []

    def add(key, type_: str, **data: str) -> None:  # type: ignore[no-untyped-def]
        prev = leaf_hash(entries[-1].raw).hex() if entries else None
        event = Event("archive", len(entries), prev, type_, datetime(2026, 1, 1, tzinfo=UTC), FixedChance().uuid(),
                      public_hex(key), data=data)  # fmt: skip
        entries.append(Entry("archive", len(entries), sign(event, key)))

    add(HOST_KEY, Type.WRITER_ENROLLED, writer=WRITER)
    add(KEY, Type.LOG_HEARTBEAT)
    add(HOST_KEY, Type.WRITER_RETIRED, writer=WRITER)
    assert check_chain("archive", entries, {WRITER}, {HOST}) == []
    add(KEY, Type.LOG_HEARTBEAT)
    (found,) = check_chain("archive", entries, {WRITER}, {HOST})
    assert (found.seq, found.fault) == (3, Fault.WRITER)
    assert found.detail == f"signed by {WRITER[:16]}…, which was retired before it"
    assert enrolled_writers(entries, {HOST}) == {WRITER}, "those that were enrolled, also after their retirement"


def test_writer_that_was_retired_before_it_was_enrolled_does_not_count() -> None:
    """Events that tell nothing of writers stand between, and one that nobody can read."""
    entries = [
        Entry("archive", 0, b"rubbish"),
        archive_event(1, KEY, Type.LOG_HEARTBEAT),
        archive_event(2, HOST_KEY, Type.WRITER_RETIRED, writer=STRANGER),
        archive_event(3, HOST_KEY, Type.WRITER_ENROLLED, writer=STRANGER),
        archive_event(4, HOST_KEY, Type.WRITER_ENROLLED, writer=WRITER),
    ]
    assert enrolled_writers(entries, {HOST}) == {WRITER}


def archive_event(seq: int, key, type_: str, prev: str | None = None, /, **data: Json) -> Entry:  # type: ignore[no-untyped-def]
    event = Event("archive", seq, (prev or "00" * 32) if seq else None, type_, datetime(2026, 1, 1, tzinfo=UTC),
                  FixedChance().uuid(), public_hex(key), data=data)  # fmt: skip
    return Entry("archive", seq, sign(event, key))


def rehomed_chain(*, follows: str = "ab" * 32, seq: int = 2, **data: Json) -> list[Entry]:
    """Event 2 was written into a rolled-back database and is in no log; 3 continues from it; 4 explains."""
    entries = [archive_event(0, KEY, Type.LOG_HEARTBEAT)]
    entries.append(archive_event(1, KEY, Type.LOG_HEARTBEAT, leaf_hash(entries[-1].raw).hex()))
    entries.append(archive_event(3, KEY, Type.LOG_HEARTBEAT, follows))
    told: dict[str, Json] = {"subject": "archive", "seq": seq, "leaf_hash": "ab" * 32, **data}
    entries.append(archive_event(4, KEY, Type.LOG_REHOMED, leaf_hash(entries[-1].raw).hex(), **told))
    return entries


def test_event_that_is_kept_beside_the_log_is_no_gap() -> None:
    assert explained(rehomed_chain()) == {2: "ab" * 32}
    assert check_chain("archive", rehomed_chain(), {WRITER}, {HOST}) == []


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({"follows": "cd" * 32}, [(3, Fault.GAP)]),  # it continues from another
        ({"seq": 1}, [(3, Fault.GAP)]),  # another event is explained
        ({"seq": "2"}, [(3, Fault.GAP)]),
        ({"leaf_hash": None}, [(3, Fault.GAP)]),
        ({"leaf_hash": "cd" * 32}, [(3, Fault.GAP)]),
        ({"subject": SUBJECT}, [(3, Fault.GAP)]),  # of another chain
    ],
)
def test_event_that_nothing_explains_is_a_gap(change: dict[str, Any], faults: list[tuple[int, Fault]]) -> None:
    assert [(p.seq, p.fault) for p in check_chain("archive", rehomed_chain(**change), {WRITER}, {HOST})] == faults


def test_more_than_one_event_is_missing_whatever_is_explained() -> None:
    entries = rehomed_chain()
    found = check_chain("archive", [entries[0], *entries[2:]], {WRITER}, {HOST})
    assert [(p.seq, p.fault, p.detail) for p in found] == [(3, Fault.GAP, "events 1 to 2 missing before it")]


def test_event_with_two_places_to_follow_may_follow_either() -> None:
    """The log has an event 2 as well, which is not the one that event 3 continues from."""
    entries = rehomed_chain()
    entries.insert(2, archive_event(2, KEY, Type.LOG_HEARTBEAT, leaf_hash(entries[1].raw).hex()))
    assert check_chain("archive", entries, {WRITER}, {HOST}) == []
    other = rehomed_chain(seq=1)
    other.insert(2, entries[2])
    assert [(p.seq, p.fault) for p in check_chain("archive", other, {WRITER}, {HOST})] == [(3, Fault.LINK)]


def test_only_a_signed_explanation_counts() -> None:
    entries = rehomed_chain()
    forged = replace(entries[3], raw=entries[3].raw.replace(b'"id":"', b'"id":"0', 1))
    assert (
        explained(
            [forged, replace(entries[3], raw=entries[3].raw[:-3] + b'A"}'), Entry("archive", 5, b'"log.rehomed"')]
        )
        == {}
    )
    assert explained([Entry("archive", 5, b'"log.rehomed"'), entries[3]]) == {2: "ab" * 32}
    other = archive_event(
        4, KEY, Type.LOG_ANCHORED, subject="archive", seq=2, leaf_hash="ab" * 32, note='"log.rehomed"'
    )
    assert explained([other]) == {}


def test_explanation_in_another_chain_is_none() -> None:
    """Only the archive's own chain was ever continued like this."""
    entries = [replace(entry, subject=SUBJECT) for entry in rehomed_chain()]
    assert (3, Fault.GAP) in {(p.seq, p.fault) for p in check_chain(SUBJECT, entries, {WRITER}, {HOST})}


def test_host_key_signs_nothing_but_enrolments() -> None:
    entries = chain(SUBJECT, 1, key=HOST_KEY)
    assert [p.fault for p in check_chain(SUBJECT, entries, {WRITER}, {HOST})] == [Fault.WRITER]
