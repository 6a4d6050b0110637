"""What the report makes of events: elapsed time in words, stations on the time line, trouble that stands out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.compliance.log import cosigners
from archiver.documents.phrases import elapsed
from archiver.errors import VerificationError
from archiver.evidence import manifest
from archiver.evidence.letters_txt import certificate
from archiver.evidence.manifest import File
from archiver.evidence.model import Disclosure, Logged, LogPart, Recording, Request
from archiver.evidence.report import Report, report
from archiver.evidence.report_html import report_html
from archiver.evidence.report_pdf import report_pdf
from archiver.evidence.verifier.primitives import check_quorum, parse_checkpoint, parse_key
from archiver.exporter import neighbours, policy_of
from archiver.translog.note import parse_vkey
from tests.evidence_log import ORIGIN, Log, cosign, key_of, vkey


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "−5 s"),
        (-7500, "−2 h 5 min"),
        (-0.2, "0 s"),
        (0, "0 s"),
        (12.4, "12 s"),
        (60, "1 min"),
        (7500, "2 h 5 min"),
        (7259, "2 h"),
        (86_400 * 3 + 3600, "3 d 1 h"),
        (31_557_600 * 3 + 86_400 * 41, "3 y 41 d"),
    ],
)
def test_elapsed_time_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert elapsed(timedelta(seconds=seconds)) == words


def _report(*events: tuple[str, dict[str, object]], disclosed: tuple[Disclosure, ...] = ()) -> Report:
    log, worker = Log("report"), key_of("worker")
    log.enroll(worker)
    recording = log.uuid()
    for kind, data in events:
        log.now += timedelta(minutes=1)
        log.append(f"rec:{recording}", kind, data, worker)
    return _facts(log, recording, disclosed=disclosed)


def _facts(
    log: Log, recording: str, checkpoint: bytes | None = None, policy: str | None = None,
    disclosed: tuple[Disclosure, ...] = (),
) -> Report:  # fmt: skip
    checkpoint = checkpoint or log.checkpoint()
    chain = tuple(Logged(log.entries[at], log.tlog_proof(at, checkpoint)) for at in log.where[f"rec:{recording}"])
    part = LogPart(checkpoint, log.vkey, (log.host_hex,), {recording: chain}, (), policy=policy)
    request = Request(log.uuid(), "acme", datetime(2026, 11, 20, tzinfo=UTC), "counsel", "why", {})
    return report(request, [Recording(recording, None, disclosed)], part)


def test_anomaly_stands_out_on_the_time_line_and_in_the_list() -> None:
    facts = _report(
        ("recording.discovered", {}),
        ("anomaly.store_mismatch", {"error": "ConflictError"}),
        ("recording.fixity_checked", {"result": "failed", "method": "full-read"}),
        ("recording.fixity_checked", {"result": "ok", "method": "full-read"}),
    )
    (chapter,) = facts.chapters
    assert [line.trouble for line in chapter.lines] == [False, True, True, False]
    assert [(stop.label, stop.after) for stop in chapter.milestones] == [("Listed", ""), ("Anomaly", "+ 2 min 2 s")]
    page = report_html(facts)
    assert page.count('class="trouble"') == 2
    assert "Anomaly: store mismatch" in page


def test_time_that_runs_backwards_is_shown_with_its_minus_and_stands_out() -> None:
    """It was told as "+ 0 s": a clock that was set back is what a reader must see."""
    log, worker = Log("back"), key_of("worker")
    log.enroll(worker)
    recording = log.uuid()
    log.append(f"rec:{recording}", "recording.discovered", {}, worker)
    log.now -= timedelta(hours=2, minutes=5, seconds=1)
    log.append(f"rec:{recording}", "recording.downloaded", {}, worker)
    facts = _facts(log, recording)
    stop = facts.chapters[0].milestones[1]
    assert (stop.after, stop.trouble, facts.set_back) == ("− 2 h 5 min", True, True)
    assert "It was set back" in report_html(facts)
    assert not _report(("recording.discovered", {}), ("recording.downloaded", {})).set_back


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("recording.stored", {"lock_mode": "off"}, "Written to a storage that does not lock"),
        ("recording.stored", {"lock_mode": "compliance"}, "Written to a storage under Object Lock, compliance mode"),
        ("recording.stored", {"lock_mode": "governance"},
         ("Written to a storage under Object Lock, governance mode: its administrators can lift it")),
        ("recording.stored", {}, "Written to a storage"),
        ("export.prepared", {"request": "another"}, "Exported: the content of a bundle fixed (not this one)"),
        ("export.delivered", {"request": "another"}, "The bundle of an export was finished (not this one)"),
        ("reconcile.completed", {"kind": "storage"}, "Compared with a storage"),
        ("reconcile.completed", {"kind": "verification"}, "The archive was verified"),
        ("reconcile.completed", {"kind": "completeness"}, "The completeness of a day was stated"),
        ("reconcile.completed", {}, "Compared, stated or verified"),
    ],
)  # fmt: skip
def test_words_say_no_more_than_the_event_states(kind: str, data: dict[str, object], words: str) -> None:
    """A plain folder was "locked storage", in the sworn draft too; every earlier export was "this bundle's"."""
    facts = _report(("recording.discovered", {}), (kind, data))
    assert facts.chapters[0].lines[1].title == words
    assert f" UTC  {words} (leaf " in certificate(facts)


def test_name_under_the_checkpoint_is_no_cosignature_unless_a_known_key_made_it() -> None:
    log, worker, witness = Log("cosigned"), key_of("worker"), key_of("witness")
    log.enroll(worker)
    recording = log.uuid()
    log.append(f"rec:{recording}", "recording.discovered", {}, worker)
    at = 1_790_000_000
    lines = [
        cosign(log.body(), "witness.example/1", witness, at),
        cosign(log.body(), "regulator.gov", key_of("anyone"), at),
    ]
    checkpoint = log.checkpoint() + "".join(lines).encode()
    policy = f"log {log.vkey}\nwitness w1 {vkey('witness.example/1', witness, 4)}\nquorum w1\n"
    facts = _facts(log, recording, checkpoint, policy)
    (named,) = facts.witnesses
    assert named.startswith("witness.example/1 (key ")
    assert facts.unchecked == ("regulator.gov",)
    assert "anybody can write such a line" in report_html(facts)
    without = _facts(log, recording, checkpoint)
    assert (without.witnesses, without.unchecked) == ((), ("witness.example/1", "regulator.gov"))
    forged = log.checkpoint() + cosign(log.body() + "x", "witness.example/1", witness, at).encode()
    with pytest.raises(VerificationError):
        _facts(log, recording, forged, policy)


def test_witness_is_counted_in_the_month_only_where_its_cosignature_is_true() -> None:
    log, witness = Log("counted"), key_of("witness")
    log.enroll(key_of("worker"))
    key = parse_vkey(vkey("witness.example/1", witness, 4))
    true = log.checkpoint() + cosign(log.body(), "witness.example/1", witness, 1_790_000_000).encode()
    false = log.checkpoint() + cosign(log.body(), "witness.example/1", key_of("anyone"), 1_790_000_000).encode()
    assert cosigners(true, [key]) == ({"witness.example/1"}, {"witness.example/1", ORIGIN})
    assert cosigners(true, [])[0] == cosigners(false, [key])[0] == cosigners(b"no note", [key])[0] == set()


def test_time_stamps_around_every_event_are_chosen_and_no_more() -> None:
    """Only the newest went along, which says nothing of when an old recording came into the log."""
    sizes = [3, 10, 20, 30, 40, 90]
    assert neighbours(sizes, [12, 13]) == {10, 20, 90}
    assert neighbours(sizes, [9, 10]) == {3, 10, 20, 90}  # a tree of ten leaves holds leaf 9, not leaf 10
    assert neighbours(sizes, [0, 200]) == {3, 90}
    assert neighbours([], [1]) == set()
    assert neighbours([5], []) == {5}


def test_type_of_a_later_version_is_shown_by_its_name() -> None:
    facts = _report(("recording.discovered", {}), ("recording.transcribed", {"words": 12, "by": None, "ok": True}))
    line = facts.chapters[0].lines[1]
    assert (line.title, line.details) == ("recording.transcribed", (("ok", "yes"), ("words", "12")))


def test_long_life_is_told_by_its_beginning_and_its_end() -> None:
    moves: list[tuple[str, dict[str, object]]] = [("recording.stored", {}), ("recording.accessed", {})]
    between: list[tuple[str, dict[str, object]]] = [*moves * 10, ("anomaly.gap", {}), *moves * 10]
    facts = _report(("recording.discovered", {}), *between, ("export.prepared", {}))
    stops = facts.chapters[0].milestones
    assert [stop.label for stop in stops] == [
        "Listed", "Stored", "Opened", "Stored", "Anomaly", "Stored", "Opened", "Exported",
    ]  # fmt: skip
    assert len(facts.chapters[0].lines) == 43
    assert report_pdf(facts).startswith(b"%PDF-")


def test_words_beyond_latin_1_do_not_stop_the_pdf() -> None:
    said = Disclosure(0, "parties", bytes(32), {"agent_name": "ओर्तेगा – “x” 𝄞"})
    facts = _report(("recording.discovered", {"note": "日本語" * 500}), disclosed=(said,))
    assert facts.chapters[0].disclosed == (("agent name", "ओर्तेगा – “x” 𝄞"),)
    assert report_pdf(facts).startswith(b"%PDF-")
    assert "𝄞" in report_html(facts)


def test_bag_info_has_one_line_for_each_field() -> None:
    files = [File("data/a", "0" * 64, 5), File("data/b", "0" * 64, 7), File("bagit.txt", "0" * 64, 55)]
    text = manifest.bag_info(
        files, datetime(2026, 11, 20, tzinfo=UTC), {"Source-Organization": "acme\nPayload-Oxum: 0.0"}
    )
    assert text.decode().splitlines() == [
        "Bagging-Date: 2026-11-20",
        "Payload-Oxum: 12.2",
        "Source-Organization: acme Payload-Oxum: 0.0",
    ]
    assert manifest.listing(files).split(b"\n")[0].endswith(b"  bagit.txt")


@pytest.mark.parametrize("cosigned", [True, False])
def test_policy_of_a_bundle_names_the_witnesses_and_demands_one_where_one_is_there(cosigned: bool) -> None:
    """There was no policy.txt, so nobody could tell whose a cosignature is."""
    log, witness = Log("policy"), key_of("witness")
    log.enroll(key_of("worker"))
    line = cosign(log.body(), "witness.example/1", witness, 1_790_000_000).encode() if cosigned else b""
    keys = [parse_vkey(vkey("witness.example/1", witness, 4)), parse_vkey(vkey("witness.example/2", key_of("two"), 4))]
    policy = policy_of(log.checkpoint() + line, log.vkey, keys)
    assert policy is not None
    said = check_quorum(policy, parse_checkpoint(log.checkpoint() + line), parse_key(log.vkey, 1))
    assert said == (
        "quorum 'cosigners' is met; cosigned by witness.example/1" if cosigned
        else "quorum 'none' is met; cosigned by nobody"
    )  # fmt: skip
    assert policy_of(log.checkpoint(), log.vkey, []) is None
