"""What the report makes of events: elapsed time in words, stations on the time line, trouble that stands out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.evidence import manifest
from archiver.evidence.manifest import File
from archiver.evidence.model import Disclosure, Logged, LogPart, Recording, Request
from archiver.evidence.pages import report_html
from archiver.evidence.paper import report_pdf
from archiver.evidence.report import Report, elapsed, report
from tests.evidence_log import Log, key_of


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
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
    checkpoint = log.checkpoint()
    chain = tuple(Logged(log.entries[at], log.tlog_proof(at, checkpoint)) for at in log.where[f"rec:{recording}"])
    part = LogPart(checkpoint, log.vkey, (log.host_hex,), {recording: chain}, ())
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
