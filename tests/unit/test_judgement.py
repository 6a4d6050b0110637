"""One judgement: from each fact to its level, and from there to every face, on both sides of each threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.alerts.facts import Facts, Failing, HostFacts, ProviderFacts, StorageFacts
from archiver.alerts.judgement import Judgement, judge, poll_due, unproven
from archiver.alerts.rule import GAPS, Kind, Level, Severity, Thresholds, level_of
from archiver.completeness.gap import Code
from archiver.completeness.verified import Integrity
from archiver.ingest.queries import ProviderCounts
from archiver.status.metrics import Metrics
from archiver.status.report import Report, as_json, exit_code, nagios, provider_status

NOW = datetime(2028, 2, 29, 23, 30, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))
LIMITS = Thresholds()
ACME = ProviderFacts("acme", poll_succeeded_at=NOW - MINUTE, poll_every=10 * MINUTE)
PRIMARY = StorageFacts("primary", required=True, trusted=True, probed_at=NOW - MINUTE)
SECOND_COPY = StorageFacts("second", required=False, trusted=True, probed_at=NOW - MINUTE)
HOST = HostFacts("h1", NOW)
CALM = Facts(NOW, NOW - DAY, "h1", providers=(ACME,), storages=(PRIMARY, SECOND_COPY), hosts=(HOST,), checkpoint_at=NOW)
NO = Failing(NOW - 2 * HOUR, NOW - SECOND, "PutObject: AccessDenied")


def _read(at: datetime, every: timedelta | None = 90 * DAY) -> Facts:
    return replace(CALM, storages=(replace(PRIMARY, oldest_reading=at, read_every=every), SECOND_COPY))


def acme(**changed: Any) -> Facts:
    return replace(CALM, providers=(replace(ACME, **changed),))


def primary(**changed: Any) -> Facts:
    return replace(CALM, storages=(replace(PRIMARY, **changed), SECOND_COPY))


def second(**changed: Any) -> Facts:
    return replace(CALM, storages=(PRIMARY, replace(SECOND_COPY, **changed)))


def host(**changed: Any) -> Facts:
    return replace(CALM, hosts=(replace(HOST, **changed),))


@dataclass(frozen=True)
class Row:
    """One fact: what it makes of everything, and the beginning of the sentence."""

    name: str
    facts: Facts
    level: Level
    kinds: tuple[Kind, ...]
    sentence: str


K, L = Kind, Level
ROWS = [
    Row("nothing wrong", CALM, L.ON_TIME, (), "Nothing is at risk"),
    Row(
        "cron at rest",
        acme(poll_every=None, poll_succeeded_at=NOW - 30 * DAY, schedule_due=NOW + HOUR),
        L.ON_TIME,
        (),
        "Nothing is",
    ),
    Row("cron not yet late", acme(poll_every=None, schedule_due=NOW - HOUR), L.ON_TIME, (), "Nothing is"),
    Row(
        "cron missed",
        acme(poll_every=None, schedule_due=NOW - HOUR - SECOND),
        L.LATE,
        (K.POLL_STALLED,),
        "Late, nothing is at risk yet: acme",
    ),
    Row("poll within three", acme(poll_every=HOUR, poll_succeeded_at=NOW - 3 * HOUR), L.ON_TIME, (), "Nothing is"),
    Row(
        "poll beyond three",
        acme(poll_every=HOUR, poll_succeeded_at=NOW - 3 * HOUR - SECOND),
        L.LATE,
        (K.POLL_STALLED,),
        "Late",
    ),
    Row("quick poll within an hour", acme(poll_succeeded_at=NOW - HOUR), L.ON_TIME, (), "Nothing is"),
    Row("quick poll beyond an hour", acme(poll_succeeded_at=NOW - HOUR - SECOND), L.LATE, (K.POLL_STALLED,), "Late"),
    Row(
        "never polled, nobody at work",
        replace(acme(poll_succeeded_at=None), started_at=None),
        L.LATE,
        (K.POLL_STALLED,),
        "Late",
    ),
    Row(
        "not to be polled", acme(configured=False, poll_every=None, poll_succeeded_at=None), L.ON_TIME, (), "Nothing is"
    ),
    Row(
        "parked",
        acme(refused="401"),
        L.AT_RISK,
        (K.PROVIDER_AUTH_FAILED,),
        "AT RISK: acme: the provider refuses the credentials: 401",
    ),
    Row("gone", acme(lost=2), L.LOST, (K.RECORDING_LOST,), "LOST: 2 recording(s) were deleted by their provider"),
    Row("deadline far", acme(nearest_deadline=NOW + 72 * HOUR), L.ON_TIME, (), "Nothing is"),
    Row("deadline near", acme(nearest_deadline=NOW + 72 * HOUR - SECOND), L.LATE, (K.DEADLINE_WARNING,), "Late"),
    Row("deadline still near", acme(nearest_deadline=NOW + 24 * HOUR), L.LATE, (K.DEADLINE_WARNING,), "Late"),
    Row(
        "deadline critical",
        acme(nearest_deadline=NOW + 24 * HOUR - SECOND, nearest_source="plan"),
        L.AT_RISK,
        (K.DEADLINE_CRITICAL, K.DEADLINE_WARNING),
        "AT RISK: acme: the first recording that is not archived will be deleted by the provider in 24 h (plan)",
    ),
    Row(
        "deadline over",
        acme(nearest_deadline=NOW),
        L.AT_RISK,
        (K.DEADLINE_CRITICAL, K.DEADLINE_WARNING),
        "AT RISK: acme: a recording that",
    ),
    Row(
        "overdue",
        acme(overdue=3),
        L.LATE,
        (K.DEADLINE_WARNING,),
        "Late, nothing is at risk yet: acme: 3 recording(s) are past",
    ),
    Row("slack enough", acme(slack=72 * HOUR + MINUTE), L.ON_TIME, (), "Nothing is"),
    Row("slack short", acme(slack=72 * HOUR + MINUTE - SECOND), L.LATE, (K.FORECAST_LOSS,), "Late"),
    Row(
        "pace too slow",
        acme(slack=-HOUR, first_loss_at=NOW + 60 * DAY),
        L.AT_RISK,
        (K.FORECAST_LOSS,),
        "AT RISK: acme: at the present pace",
    ),
    Row("quota not full", acme(quota_used=84), L.ON_TIME, (), "Nothing is"),
    Row("quota filling", acme(quota_used=85, quota_full_at=NOW + 3 * DAY), L.LATE, (K.QUOTA_FILLING,), "Late"),
    Row(
        "required storage refuses",
        primary(failing=NO),
        L.AT_RISK,
        (K.STORAGE_NOT_TRUSTED,),
        "Nothing can be archived: storage primary: PutObject: AccessDenied (since 2028-02-29 21:30 UTC)",
    ),
    Row(
        "required storage not trusted",
        primary(trusted=False, doubt="lock: deleted"),
        L.AT_RISK,
        (K.STORAGE_NOT_TRUSTED,),
        "Nothing can be archived: storage primary: lock: deleted",
    ),
    Row(
        "required storage never reached",
        primary(trusted=None, probed_at=None, waiting=2, failing=NO),
        L.AT_RISK,
        (K.STORAGE_NOT_TRUSTED,),
        "Nothing can be archived: storage primary: never reached so far; 2 sealed recording(s) wait",
    ),
    Row(
        "required storage never asked", primary(trusted=None, probed_at=None), L.LATE, (K.STORAGE_NOT_TRUSTED,), "Late"
    ),
    Row("proof old enough", primary(probed_at=NOW - 3 * HOUR), L.ON_TIME, (), "Nothing is"),
    Row(
        "proof too old",
        primary(probed_at=NOW - 3 * HOUR - SECOND),
        L.AT_RISK,
        (K.STORAGE_NOT_TRUSTED,),
        "Nothing can be archived",
    ),
    Row("proof of a daily sweep", primary(probed_at=NOW - 3 * DAY, every=DAY), L.ON_TIME, (), "Nothing is"),
    Row(
        "proof from the future",
        primary(probed_at=NOW + 5 * MINUTE + SECOND),
        L.AT_RISK,
        (K.STORAGE_NOT_TRUSTED,),
        "Nothing can be archived",
    ),
    Row("proved since it refused", primary(failing=replace(NO, at=NOW - HOUR)), L.ON_TIME, (), "Nothing is"),
    Row(
        "optional storage refuses",
        second(failing=NO),
        L.AT_RISK,
        (K.STORAGE_NOT_TRUSTED,),
        "AT RISK: second does not prove",
    ),
    Row("disk not full", host(spool_used=79), L.ON_TIME, (), "Nothing is"),
    Row("disk filling", host(spool_used=80), L.AT_RISK, (K.SPOOL_FILLING,), "AT RISK: h1: the spool is 80 % full"),
    Row(
        "no room",
        host(no_room="4194304 bytes wanted"),
        L.AT_RISK,
        (K.SPOOL_FILLING,),
        "AT RISK: h1: there is no room on the disk",
    ),
    Row("clock nearly right", host(clock_offset=2 * SECOND), L.ON_TIME, (), "Nothing is"),
    Row("clock wrong", host(clock_offset=-2.1 * SECOND), L.LATE, (K.CLOCK_SKEW,), "Late"),
    Row(
        "verified badly",
        replace(CALM, integrity={"object_missing": 2}),
        L.INTEGRITY,
        (K.INTEGRITY_FAILED,),
        "INTEGRITY: verification found 2 mismatch(es)",
    ),
    Row("read again in time", _read(NOW - 90 * DAY), L.ON_TIME, (), "Nothing is"),
    Row("read again never, as configured", _read(NOW - 900 * DAY, every=None), L.ON_TIME, (), "Nothing is"),
    Row(
        "read again too late",
        _read(NOW - 91 * DAY),
        L.LATE,
        (K.VERIFY_BEHIND,),
        "Late, nothing is at risk yet: primary: a copy was last read whole 91 d ago, and each is to be read within 90 d",
    ),
    Row("published in time", replace(CALM, checkpoint_at=NOW - 3 * HOUR), L.ON_TIME, (), "Nothing is"),
    Row(
        "published too long ago",
        replace(CALM, checkpoint_at=NOW - 3 * HOUR - SECOND),
        L.LATE,
        (K.CHECKPOINT_OVERDUE,),
        "Late",
    ),
    *(
        Row(f"gap {code}", acme(gaps={code.value: 1}), level_of(code.value), (GAPS.get(code.value, K.GAP_OPEN),), "")
        for code in Code
    ),
    Row(
        "gap of next year",
        acme(gaps={"of_next_year": 1}),
        L.AT_RISK,
        (K.GAP_OPEN,),
        "AT RISK: acme: recordings that are missing or doubtful",
    ),
    Row(
        "gap of a storage",
        replace(CALM, providers=(ACME, ProviderFacts("primary", {"chain_gap": 1}, configured=False))),
        L.INTEGRITY,
        (K.INTEGRITY_FAILED,),
        "INTEGRITY: primary: copies or their history",
    ),
]


def report(facts: Facts) -> Report:
    it = judge(facts, LIMITS)
    counts = ProviderCounts("acme", {"archived": 3}, None, None, 0, 0, NOW, NOW, None, None, None, 0)
    shown = provider_status(counts, it.of("acme"), covered_until=NOW, holes=())
    trusted: dict[str, Any] = {each.storage: {"trusted": unproven(each, NOW) is None} for each in facts.storages}
    return Report("t", NOW, (shown,), (0,) * 5, trusted, (), "6", integrity=Integrity(), judgement=it)


def gauges(shown: Report) -> dict[str, float]:
    metrics = Metrics("1")
    metrics.show(shown)
    lines = [line.rpartition(" ") for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_fact_has_one_level_and_all_faces_show_it(row: Row) -> None:
    it, shown = judge(row.facts, LIMITS), report(row.facts)
    assert (it.level, tuple(each.kind for each in it.concerns)) == (row.level, row.kinds)
    assert it.sentence.startswith(row.sentence)
    assert (it.sentence == "Nothing is at risk") is (not it.concerns)
    data: Any = as_json(shown)
    figures = gauges(shown)
    standing = sum(v for k, v in figures.items() if k.startswith("archiver_concerns{"))
    green = not it.concerns
    faces = {
        "status": data["sentence"] == "Nothing is at risk",
        "json": data["level"] == "on time" and not data["concerns"],
        "check": exit_code(shown.level) == 0,
        "nagios": nagios(shown.level) == ("OK", 0),
        "metrics": figures["archiver_status_level"] == 0 and standing == 0,
        "alerts": not it.alerts,
    }
    assert set(faces.values()) == {green}, faces
    claimed = row.level in {L.ON_TIME, L.LATE} and K.STORAGE_NOT_TRUSTED not in row.kinds
    assert it.proven is claimed, "a heartbeat is a claim"
    for storage in row.facts.storages:
        refused = any(each.subject == storage.storage and each.kind is K.STORAGE_NOT_TRUSTED for each in it.concerns)
        assert figures[f'archiver_storage_trusted{{target="{storage.storage}"}}'] == (0 if refused else 1)


def test_every_kind_but_news_has_a_row() -> None:
    assert {kind for row in ROWS for kind in row.kinds} == {kind for kind in K if kind.severity is not Severity.NOTE}


def test_what_wakes_people_is_red() -> None:
    unused = "required storage never asked"
    for row in ROWS:
        pages = any(each.severity is Severity.PAGE for each in judge(row.facts, LIMITS).concerns)
        assert not pages or row.level.red or row.name == unused, row.name


LEVELS = {
    "gone_at_provider": L.LOST, "month_boundary": L.LOST, "truncated_at_provider": L.LOST, "missing_here": L.INTEGRITY,
    "digest_differs": L.INTEGRITY, "chain_gap": L.INTEGRITY, "unlocked": L.INTEGRITY, "not_ready": L.LATE, "orphan": L.LATE,
    "never_listed": L.AT_RISK, "row_not_understood": L.AT_RISK, "not_fetched": L.AT_RISK, "suspicious_empty": L.AT_RISK,
}  # fmt: skip


def test_open_gaps_have_the_level_that_their_reason_deserves() -> None:
    assert {code: level_of(code) for code in LEVELS} == LEVELS
    assert all(level_of(code.value) is not L.ON_TIME for code in Code)


def sentence(*of: Facts) -> str:
    merged = replace(
        CALM,
        providers=tuple(p for f in of for p in f.providers if p != ACME) or (ACME,),
        storages=tuple(s for f in of for s in f.storages if s not in (PRIMARY, SECOND_COPY)) or (PRIMARY,),
        integrity={k: v for f in of for k, v in f.integrity.items()},
    )
    return judge(merged, LIMITS).sentence


def test_the_worst_is_said_first() -> None:
    lost, bad = acme(lost=1), replace(CALM, integrity={"x": 1})
    refuses, near, parked = primary(failing=NO), acme(nearest_deadline=NOW + HOUR), acme(refused="401")
    assert sentence(lost, bad, refuses).startswith("LOST")
    assert sentence(bad, refuses, near).startswith("INTEGRITY")
    assert sentence(refuses, near).startswith("AT RISK: acme: the first recording")
    assert sentence(refuses, parked).startswith("Nothing can be archived")


@pytest.mark.parametrize(
    ("each", "due"),
    [
        (ACME, ACME.poll_succeeded_at + HOUR),
        (replace(ACME, poll_every=HOUR), ACME.poll_succeeded_at + 3 * HOUR),
        (replace(ACME, poll_every=None, schedule_due=NOW), NOW + HOUR),
        (replace(ACME, poll_every=None), None),
        (replace(ACME, configured=False), None),
        (replace(ACME, poll_succeeded_at=None), NOW - DAY + HOUR),
    ],
)  # fmt: skip
def test_when_a_poll_is_due(each: ProviderFacts, due: datetime | None) -> None:
    assert poll_due(each, NOW - DAY, LIMITS) == due


def test_nothing_wrong_is_an_empty_judgement() -> None:
    assert judge(CALM, LIMITS) == Judgement()
