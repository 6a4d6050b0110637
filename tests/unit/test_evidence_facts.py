"""The facts of an evidence report: each line's words, people, trouble and place, and a day's statement in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from archiver.custody.event import leaf_hash
from archiver.errors import VerificationError
from archiver.evidence import manifest
from archiver.evidence.manifest import File
from archiver.evidence.model import (
    Disclosure,
    Logged,
    LogPart,
    Recording,
    Request,
    Stamp,
    Statement,
    delivered,
    prepared,
)
from archiver.evidence.report import Chapter, Line, Report, report
from tests.evidence_log import Log, cosign, jcs, key_of, public, sha256, vkey

WORKER, SINCE = key_of("worker"), datetime(2026, 11, 20, tzinfo=UTC)
AUDIO = File("data/recordings/x/audio.wav", "ab" * 32, 5)


class Case:
    """A log with one recording, to which events are added, and the report of it."""

    def __init__(self) -> None:
        self.log = Log("facts")
        self.log.now = SINCE
        self.log.enroll(WORKER)
        self.id = self.log.uuid()
        self.request = Request(self.log.uuid(), "acme", SINCE, "counsel", "a case", {})

    def add(self, kind: str, *, minutes: float = 1, **data: Any) -> None:
        self.log.now += timedelta(minutes=minutes, seconds=-1)
        self.log.append(f"rec:{self.id}", kind, data, WORKER)

    def logged(self, subject: str, checkpoint: bytes) -> tuple[Logged, ...]:
        at = self.log.where.get(subject, ())
        return tuple(Logged(self.log.entries[each], self.log.tlog_proof(each, checkpoint)) for each in at)

    def report(
        self,
        *private: Disclosure,
        change: Callable[[LogPart], LogPart] = lambda part: part,
        more: tuple[Recording, ...] = (),
        statements: tuple[Statement, ...] = (),
        signatures: str = "",
    ) -> Report:
        checkpoint = self.log.checkpoint() + signatures.encode()
        part = LogPart(
            checkpoint,
            self.log.vkey,
            (self.log.host_hex,),
            {self.id: self.logged(f"rec:{self.id}", checkpoint)},
            self.logged("archive", checkpoint),
        )
        return report(self.request, [*more, Recording(self.id, AUDIO, private)], change(part), statements)


@pytest.fixture
def case() -> Case:
    made = Case()
    made.add("recording.discovered")
    return made


def chapter(case: Case, *private: Disclosure) -> Chapter:
    return case.report(*private).chapters[0]


def test_a_report_names_what_it_rests_on(case: Case) -> None:
    stamps = (Stamp("a", b""), Stamp("b", b"", checkpoint=b"x"))
    found = case.report(change=lambda part: replace(part, stamps=stamps))
    assert (found.request, found.log_key, found.hosts) == (case.request, case.log.vkey, (case.log.host_hex,))
    assert (found.checkpoint.size, found.witnesses, found.unchecked) == (2, (), ())
    assert found.stamps == (("a", "data/log/checkpoint"), ("b", "data/tsa/b.checkpoint"))
    assert (found.events, found.set_back, found.statements) == (1, False, ())
    (line,) = found.archive
    assert (line.file, line.leaf) == ("data/log/archive-events/000000000000.json", 0)
    assert line.details == (("writer", public(WORKER).hex()),)


def test_chapters_stand_in_the_order_of_their_ids_and_one_without_events_is_empty(case: Case) -> None:
    first, last = Recording("0" * 36), Recording("f" * 36)
    found = case.report(more=(last, first))
    assert [each.id for each in found.chapters] == ["0" * 36, case.id, "f" * 36]
    empty = found.chapters[0]
    assert (empty.head, empty.lines, empty.milestones, empty.disclosed, empty.audio) == ("", (), (), (), None)
    assert found.events == 1


def test_a_line_tells_what_the_event_states_and_where_it_stands(case: Case) -> None:
    case.add("recording.downloaded", bytes=7, nothing=None, content_type="audio/wav", parts=[1, "b"], none=[])
    found = chapter(case)
    line = found.lines[1]
    assert line == Line(
        at=SINCE + timedelta(seconds=1, minutes=2),
        title="Downloaded from the provider",
        type="recording.downloaded",
        actor=f"worker, key {public(WORKER).hex()[:16]}…",
        details=(("bytes", "7"), ("content type", "audio/wav"), ("none", "none"), ("parts", "1, b")),
        file=f"data/recordings/{case.id}/events/0001.json",
        leaf=2,
        trouble=False,
    )
    assert found.head == leaf_hash(case.log.entries[-1]).hex()
    assert found.audio == AUDIO


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": {"b": 1}, "c": [True, False]}, "a b 1, c yes, no"),
        ([None, []], "none, none"),
        (0, "0"),
        ("", ""),
    ],
)
def test_a_value_is_told_in_words(case: Case, value: object, text: str) -> None:
    case.add("recording.verified", seen=value)
    assert chapter(case).lines[1].details == (("seen", text),)


@pytest.mark.parametrize(
    ("kind", "data", "outcome", "trouble", "details"),
    [
        ("recording.verified", {"a": 1}, "failed", True, (("outcome", "failed"), ("a", "1"))),
        ("recording.fixity_checked", {"result": "failed"}, "ok", True, (("result", "failed"),)),
        ("recording.fixity_checked", {"result": "ok"}, "ok", False, (("result", "ok"),)),
        ("anomaly.gap", {}, "ok", True, ()),
        ("recording.verified", {}, "ok", False, ()),
    ],
)
def test_trouble_is_an_anomaly_a_failure_or_another_result(
    case: Case, kind: str, data: dict[str, Any], outcome: str, trouble: bool, details: tuple[tuple[str, str], ...]
) -> None:
    case.log.append(f"rec:{case.id}", kind, data, WORKER, changed={"outcome": outcome})
    line = chapter(case).lines[1]
    assert (line.trouble, line.details) == (trouble, details)


def test_an_actor_is_named_with_its_account_where_it_has_one(case: Case) -> None:
    actor = {"kind": "operator", "user": "u-7", "writer": public(WORKER).hex()}
    case.log.append(f"rec:{case.id}", "recording.accessed", {}, WORKER, changed={"actor": actor})
    assert chapter(case).lines[1].actor == f"operator u-7, key {public(WORKER).hex()[:16]}…"


def test_a_person_is_named_by_what_was_disclosed_of_the_event(case: Case) -> None:
    case.add("recording.accessed")
    case.add("recording.accessed")
    who = [
        Disclosure(1, "access", b"", {"reason": "a case"}),
        Disclosure(1, "person", b"", {"account": "ana", "uid": 7, "claimed": {}}),
        Disclosure(1, "ack", b"", {}),
        Disclosure(0, "parties", b"", {"to_number": "+2", "from_number": "+1"}),
        Disclosure(2, "parties", b"", {"from_number": "+1"}),
        Disclosure(0, "provider_meta", b"", {"raw": "x"}),
    ]
    found = chapter(case, *who)
    assert [(line.by, line.reason) for line in found.lines] == [("", ""), ("ana", "a case"), ("", "")]
    assert found.disclosed == (("from number", "+1"), ("to number", "+2"))
    assert [stop.by for stop in found.milestones] == ["", ""]


def test_this_export_is_by_the_person_that_asked_for_it(case: Case) -> None:
    case.add("export.prepared", request=case.request.export)
    case.add("export.prepared", request="another")
    case.add("export.delivered", request=case.request.export)
    case.add("recording.verified", request=case.request.export)
    found = chapter(case)
    assert [(line.title, line.by, line.reason) for line in found.lines[1:4]] == [
        ("Exported: this bundle's content fixed", "counsel", "a case"),
        ("Exported: the content of a bundle fixed (not this one)", "", ""),
        ("Exported: this bundle's content fixed", "", ""),
    ]
    assert found.lines[4].by == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("anomaly.store_mismatch", "Anomaly: store mismatch"),
        ("hold.placed_again", "hold.placed again"),
        ("recording.stored", "Written to a storage"),
    ],
)
def test_a_type_without_words_is_shown_by_its_name(case: Case, kind: str, words: str) -> None:
    case.add(kind)
    assert chapter(case).lines[1].title == words


# --- the time line --------------------------------------------------------------------------------------------


def stops(case: Case) -> list[tuple[str, str, bool]]:
    return [(each.label, each.after, each.trouble) for each in chapter(case).milestones]


def test_stations_are_told_with_the_time_between_them(case: Case) -> None:
    case.add("recording.verified")
    case.add("recording.downloaded", minutes=2)
    case.add("recording.sealed", minutes=0)
    assert stops(case) == [("Listed", "", False), ("Downloaded", "+ 3 min", False), ("Encrypted", "+ 0 s", False)]
    assert chapter(case).milestones[1].at == SINCE + timedelta(minutes=4, seconds=1)


def test_a_station_that_is_told_again_counts_once_from_its_last_time(case: Case) -> None:
    case.add("recording.stored")
    case.add("recording.stored", minutes=5)
    case.add("recording.store_verified", minutes=1)
    assert stops(case) == [("Listed", "", False), ("Stored", "+ 6 min", False), ("Read back", "+ 1 min", False)]


def test_a_clock_that_was_set_back_stands_out(case: Case) -> None:
    case.add("recording.downloaded", minutes=-1)
    assert stops(case)[1] == ("Downloaded", "− 1 min", True)
    assert case.report().set_back


def test_half_a_second_is_no_clock_that_was_set_back(case: Case) -> None:
    case.add("recording.downloaded", minutes=-0.3 / 60)
    assert stops(case)[1] == ("Downloaded", "+ 0 s", False)


ROUND = ("recording.stored", "recording.accessed")


@pytest.mark.parametrize("more", [7, 8, 9, 20])
def test_of_more_than_nine_stations_the_ends_are_shown(case: Case, more: int) -> None:
    for number in range(more):
        case.add(ROUND[number % 2])
    case.add("export.prepared")
    labels = ["Listed", *[("Stored", "Opened")[number % 2] for number in range(more)], "Exported"]
    shown = labels if len(labels) <= 9 else [*labels[:4], *labels[-3:]]
    assert [each[0] for each in stops(case)] == shown


def test_of_the_faults_between_the_first_two_are_shown(case: Case) -> None:
    for kind in [
        "recording.stored",
        "recording.accessed",
        "recording.stored",
        *["anomaly.gap", "recording.accessed"] * 4,
    ]:
        case.add(kind)
    case.add("recording.stored")
    assert [each[0] for each in stops(case)] == [
        "Listed", "Stored", "Opened", "Stored", "Anomaly", "Anomaly", "Anomaly", "Opened", "Stored",
    ]  # fmt: skip


# --- witnesses ------------------------------------------------------------------------------------------------


def test_a_witness_counts_with_the_key_that_the_policy_names_and_its_time(case: Case) -> None:
    one, two = key_of("one"), key_of("two")
    body, at = case.log.body(), 1_790_000_000
    lines = cosign(body, "w.example/1", one, at) + cosign(body, "w.example/3", two, at)
    policy = "\n".join(
        [
            "# witness w3 is nobody's",
            f"witness w1 {vkey('w.example/1', one, 4)}",
            f"witness w2 {vkey('w.example/2', two, 4)} https://w.example",
            "quorum w1",
            "witness w9",
        ]
    )
    found = case.report(change=lambda part: replace(part, policy=policy), signatures=lines)
    (named,) = found.witnesses
    assert named.startswith("w.example/1 (key ")
    assert named.endswith(", 2026-09-21 14:13:20 UTC)")
    assert found.unchecked == ("w.example/3",)


def test_a_plain_signature_in_a_witness_name_has_no_time(case: Case) -> None:
    policy = f"witness log {case.log.vkey}\n"
    (named,) = case.report(change=lambda part: replace(part, policy=policy)).witnesses
    assert named.endswith(")")
    assert "UTC" not in named


# --- statements -----------------------------------------------------------------------------------------------


def stated(case: Case, **changed: Any) -> Statement:
    day = changed.pop("on", "2026-11-01")
    return Statement("plivo-us", date.fromisoformat(day), case.log.state(WORKER, day=day, **changed))


def test_a_statement_is_told_in_words_with_the_event_that_signs_it(case: Case) -> None:
    gaps = [{"code": "not_recorded", "acknowledged": False}, {"code": "lock_short", "acknowledged": True}]
    hole = {"since": "01:00", "until": "02:00"}
    made = stated(
        case,
        listed=8,
        states={"archived": 3, "absent": 3, "listed": 2, "gone": 0},
        without_audio=1,
        rejects=4,
        holes=[hole],
        gaps=[*gaps, gaps[0]],
        complete=False,
    )
    (found,) = case.report(statements=(made,)).statements
    assert found.words == (
        "8 listed", "3 archived", "1 without audio at the provider", "2 absent", "2 listed", "4 listed rows not understood",
        "not listed in full from 01:00 to 02:00", "1 gap: lock short, acknowledged", "2 gap: not recorded",
    )  # fmt: skip
    assert (found.provider, found.day, found.complete) == ("plivo-us", "2026-11-01", False)
    assert (found.file, found.leaf) == ("data/statements/plivo-us-2026-11-01.json", 2)
    assert found.at == SINCE + timedelta(minutes=1, seconds=2)


def test_a_silent_day_has_few_words(case: Case) -> None:
    (found,) = case.report(statements=(stated(case, listed=0, states={}, without_audio=0),)).statements
    assert (found.words, found.complete) == (("0 listed", "0 archived", "0 without audio at the provider"), True)


def test_statements_stand_in_the_order_of_their_days(case: Case) -> None:
    late, early = stated(case, on="2026-11-02"), stated(case, on="2026-11-01")
    assert [each.day for each in case.report(statements=(late, early)).statements] == ["2026-11-01", "2026-11-02"]


@pytest.mark.parametrize("changed", [{"states": 5}, {"holes": [{}]}, {"gaps": ["x"]}, {"without_audio": None}])
def test_a_signed_statement_that_says_nothing_of_its_day_is_refused(case: Case, changed: dict[str, Any]) -> None:
    made = stated(case)
    broken = _stating(case, made.document, changed)
    with pytest.raises(
        VerificationError, match=r"data/statements/plivo-us-2026-11-01\.json is no completeness statement"
    ):
        case.report(statements=(replace(made, document=broken),))


def _stating(case: Case, raw: bytes, changed: dict[str, Any]) -> bytes:
    """A document of one's own, and the event that signs it."""
    broken = jcs({**json.loads(raw), **changed})
    case.log.append("archive", "reconcile.completed", {"statement_sha256": sha256(broken).hex()}, WORKER)
    return broken


def test_a_statement_that_no_event_signs_is_refused(case: Case) -> None:
    made = stated(case)
    with pytest.raises(VerificationError, match="no event states the completeness of plivo-us on 2026-11-01"):
        case.report(statements=(replace(made, document=made.document.replace(b"3", b"4", 1)),))


# --- the bag --------------------------------------------------------------------------------------------------


def test_a_bag_lists_its_files_by_path() -> None:
    files = [File("data/b", "bb", 7), File("bagit.txt", "cc", 5), File("data/a", "aa", 5)]
    assert manifest.listing(files) == b"cc  bagit.txt\naa  data/a\nbb  data/b\n"
    assert [each.payload for each in files] == [True, False, True]
    with pytest.raises(UnicodeEncodeError):
        manifest.listing([File("data/é", "aa", 5)])


def test_a_bag_says_when_it_was_made_and_how_much_it_holds() -> None:
    files = [File("data/b", "bb", 7), File("bagit.txt", "cc", 5), File("data/a", "aa", 5)]
    about = {"Contact-Name": "  Zoë \t and\nothers "}
    assert manifest.bag_info(files, SINCE, about).decode() == (
        "Bagging-Date: 2026-11-20\nPayload-Oxum: 12.2\nContact-Name: Zoë and others\n"
    )


@pytest.mark.parametrize("path", ["a", "data/a-b_c.D0/e", "data/" + "a" * 195])
def test_a_path_that_reads_in_one_way_is_kept(path: str) -> None:
    assert manifest.check_path(path) == path


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".a", "a/.b", "a b", "a\n", "é", "data/" + "a" * 196])
def test_a_path_that_reads_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path that a bundle may hold"):
        manifest.check_path(path)


def test_events_of_an_export_name_it_and_what_they_close() -> None:
    assert prepared("e", "why", "ab", 7, b"\xcd") == {
        "request": "e", "purpose": "why", "content_manifest_sha256": "ab", "head": {"seq": 7, "hash": "cd"},
    }  # fmt: skip
    assert delivered("e", "ab") == {"request": "e", "bag_sha256": "ab"}
