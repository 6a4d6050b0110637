"""Each concern word by word: from one fact to its kind, level, sentence, weight, remedy and what it blocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.alerts.facts import Facts, Failing, HostFacts, ProviderFacts, StorageFacts
from archiver.alerts.judgement import Concern, Judgement, judge, poll_due, unproven, worst
from archiver.alerts.rule import Alert, Kind, Level, Thresholds

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LIMITS = Thresholds()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SHORT = "%Y-%m-%d %H:%M"


def provider(**changed: Any) -> list[Concern]:
    """Of one that is polled and has nothing to tell but this."""
    known = {"poll_succeeded_at": NOW, "poll_every": HOUR, **changed}
    return list(judge(Facts(NOW, NOW, providers=[ProviderFacts("p", **known)]), LIMITS).concerns)


def told(found: list[Concern]) -> list[tuple[Kind, Level, str, int, str]]:
    return [(each.kind, each.level, each.sentence, each.weight, each.remedy) for each in found]


GAPS = "archiver gaps list --provider p"
LOST = "p: deleted by the provider before it could be archived:"


@pytest.mark.parametrize(
    ("gaps", "lost", "concerns"),
    [
        ({"gone_at_provider": 2, "orphan": 0}, 1,
         [(Kind.RECORDING_LOST, Level.LOST, f"{LOST} 2 gone_at_provider", 2, GAPS)]),
        ({"gone_at_provider": 2}, 3,
         [(Kind.RECORDING_LOST, Level.LOST, f"{LOST} 3 gone_at_provider", 3, GAPS)]),
        ({}, 0, []),
        ({"orphan": 0}, 0, []),
    ],
)  # fmt: skip
def test_what_is_lost_is_counted_by_register_or_journal_whichever_knows_more(
    gaps: dict[str, int], lost: int, concerns: list[tuple[Kind, Level, str, int, str]]
) -> None:
    assert told(provider(gaps=gaps, lost=lost)) == concerns


def test_gaps_of_a_kind_are_one_concern_of_the_worst_level() -> None:
    by_kind = {each.kind: each for each in provider(gaps={"never_listed": 2, "invented_later": 3, "not_recorded": 1})}
    assert all(each.remedy == GAPS for each in by_kind.values())
    assert sum(each.weight for each in by_kind.values()) == 6
    assert "3 invented_later" in by_kind[Kind.GAP_OPEN].sentence


def test_gaps_of_no_provider_are_the_archives() -> None:
    (found,) = judge(Facts(NOW, NOW, providers=[ProviderFacts("", {"orphan": 1}, configured=False)]), LIMITS).concerns
    assert found.sentence.startswith("the archive: ")
    assert found.remedy == "archiver gaps list"


PASSED = "p: a recording that is not archived may already have been deleted by the provider (source unknown)"
DEADLINE = "p: the first recording that is not archived will be deleted by the provider in"


@pytest.mark.parametrize(
    ("changed", "concerns"),
    [
        ({"overdue": 3}, [(Kind.DEADLINE_WARNING, Level.LATE, "p: 3 recording(s) are past the safety margin", 3, "")]),
        ({"nearest_deadline": NOW + 60 * MINUTE, "nearest_source": "plan"},
         [(Kind.DEADLINE_CRITICAL, Level.AT_RISK, f"{DEADLINE} 60 min (plan)", 0, ""),
          (Kind.DEADLINE_WARNING, Level.LATE, f"{DEADLINE} 60 min (plan)", 0, "")]),
        ({"nearest_deadline": NOW},
         [(kind, level, PASSED, 0, "")
          for kind, level in ((Kind.DEADLINE_CRITICAL, Level.AT_RISK), (Kind.DEADLINE_WARNING, Level.LATE))]),
        ({"slack": LIMITS.warning}, [(Kind.FORECAST_LOSS, Level.LATE,
          "p: if nothing were fetched from now on, a recording could no longer be saved in 3 d", 0, "")]),
        ({"slack": -HOUR, "first_loss_at": NOW + 5 * DAY, "remedies": ["more", "less"]},
         [(Kind.FORECAST_LOSS, Level.AT_RISK, "p: at the present pace the first recording is lost in 5 d", 0, "more")]),
        ({"slack": -HOUR, "first_loss_at": NOW},
         [(Kind.FORECAST_LOSS, Level.AT_RISK, "p: at the present pace the first recording is lost now", 0, "")]),
        ({"quota_used": LIMITS.quota},
         [(Kind.QUOTA_FILLING, Level.LATE, f"p: {LIMITS.quota} % of the provider's storage is used", 0, "")]),
        ({"quota_used": 99, "quota_full_at": NOW + 2 * HOUR},
         [(Kind.QUOTA_FILLING, Level.LATE, "p: 99 % of the provider's storage is used; it is full in 2 h", 0, "")]),
        ({"refused": "401"}, [(Kind.PROVIDER_AUTH_FAILED, Level.AT_RISK, "p: the provider refuses the credentials: 401", 0,
                               "archiver providers test p")]),
        ({"poll_succeeded_at": NOW - 9 * DAY}, [(Kind.POLL_STALLED, Level.LATE,
          f"p: no complete poll for too long; the last one at {NOW - 9 * DAY:{SHORT}} UTC", 0, "archiver providers test p")]),
    ],
)  # fmt: skip
def test_a_fact_of_a_provider_has_its_sentence(
    changed: dict[str, Any], concerns: list[tuple[Kind, Level, str, int, str]]
) -> None:
    found = provider(**changed)
    assert told(found) == concerns
    assert {each.subject for each in found} == {"p"}


@pytest.mark.parametrize(
    "changed",
    [
        {"nearest_deadline": NOW + max(LIMITS.warning, LIMITS.critical)},
        {"slack": max(LIMITS.warning, LIMITS.critical) + MINUTE},
        {"quota_used": LIMITS.quota - 1},
        {"poll_succeeded_at": NOW - max(LIMITS.stalled, 3 * HOUR)},
    ],
)
def test_a_provider_that_is_just_in_time_is_no_concern(changed: dict[str, Any]) -> None:
    assert provider(**changed) == []


def test_a_deadline_at_the_very_threshold_is_not_critical_yet() -> None:
    assert [each.kind for each in provider(nearest_deadline=NOW + LIMITS.critical)] == [Kind.DEADLINE_WARNING]
    almost = max(LIMITS.warning, LIMITS.critical) + MINUTE - timedelta(seconds=1)
    assert [each.kind for each in provider(slack=almost)] == [Kind.FORECAST_LOSS]


def test_a_provider_that_was_never_polled_says_so() -> None:
    facts = Facts(NOW, None, providers=[ProviderFacts("p", poll_every=HOUR)])
    (found,) = judge(facts, LIMITS).concerns
    assert found.sentence == "p: no complete poll for too long; none ever"
    assert judge(Facts(NOW, NOW, providers=facts.providers), LIMITS).concerns == (), "it has only begun"
    assert judge(Facts(NOW, NOW - 9 * DAY, providers=facts.providers), LIMITS).concerns == (found,)


# --- storages -------------------------------------------------------------------------------------------------

FAILING = Failing(NOW - HOUR, NOW, "refused")
SINCE = f"refused (since {NOW - HOUR:{SHORT}} UTC)"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"trusted": True, "probed_at": NOW}, None),
        ({}, "not proved yet: no probe of it has ended so far"),
        ({"trusted": True}, "not proved yet: no probe of it has ended so far"),
        ({"probed_at": NOW}, "not proved yet: no probe of it has ended so far"),
        ({"waiting": 2}, "never reached so far; 2 sealed recording(s) wait on this host's disk"),
        ({"failing": FAILING}, f"never reached so far: {SINCE}"),
        ({"failing": FAILING, "waiting": 1},
         f"never reached so far; 1 sealed recording(s) wait on this host's disk: {SINCE}"),
        ({"trusted": False, "probed_at": NOW}, "did not prove its lock"),
        ({"trusted": False, "probed_at": NOW, "doubt": "lock"}, "lock"),
        ({"trusted": True, "probed_at": NOW, "failing": FAILING}, SINCE),
        ({"trusted": True, "probed_at": NOW + 2 * MINUTE, "failing": FAILING}, SINCE),
        ({"trusted": True, "probed_at": NOW + timedelta(seconds=121), "failing": FAILING}, None),
        ({"trusted": True, "probed_at": NOW - 3 * HOUR}, None),
        ({"trusted": True, "probed_at": NOW - 4 * HOUR},
         f"its last proof is of {NOW - 4 * HOUR:{SHORT}} UTC, too old to rest on"),
        ({"trusted": True, "probed_at": NOW + 5 * MINUTE}, None),
        ({"trusted": True, "probed_at": NOW + timedelta(seconds=301)},
         f"its last proof is of {NOW + 5 * MINUTE:{SHORT}} UTC, too old to rest on"),
    ],
)  # fmt: skip
def test_a_storage_is_believed_while_its_last_proof_is_fresh_and_nothing_contradicts_it(
    changed: dict[str, Any], problem: str | None
) -> None:
    assert unproven(StorageFacts("s", True, **changed), NOW) == problem
    if problem is None:
        assert judge(Facts(NOW, NOW, storages=[StorageFacts("s", True, **changed)]), LIMITS).concerns == ()


@pytest.mark.parametrize(
    ("required", "changed", "level", "blocks"),
    [
        (True, {}, Level.LATE, False),
        (True, {"waiting": 1}, Level.AT_RISK, True),
        (True, {"failing": FAILING}, Level.AT_RISK, True),
        (True, {"trusted": False, "probed_at": NOW}, Level.AT_RISK, True),
        (False, {"trusted": False, "probed_at": NOW}, Level.AT_RISK, False),
    ],
)
def test_a_storage_that_proves_nothing_blocks_when_it_is_required_and_was_ever_tried(
    required: bool, changed: dict[str, Any], level: Level, blocks: bool
) -> None:
    storage = StorageFacts("s", required, **changed)
    (found,) = judge(Facts(NOW, NOW, storages=[storage]), LIMITS).concerns
    problem = unproven(storage, NOW)
    assert found == Concern(
        Kind.STORAGE_NOT_TRUSTED, "s", level,
        f"s does not prove that it keeps what it is given, so nothing is archived there: {problem}",
        remedy="archiver check --online", detail=str(problem), blocks=blocks,
    )  # fmt: skip


# --- hosts and the archive ------------------------------------------------------------------------------------

WRONG = "this machine's clock is {} those of database, storages or providers"


@pytest.mark.parametrize(
    ("changed", "concern"),
    [
        ({"no_room": "1 GiB free", "spool_used": 100},
         Concern(Kind.SPOOL_FILLING, "h", Level.AT_RISK,
                 "h: there is no room on the disk for another recording, so nothing is fetched: 1 GiB free",
                 1, "archiver doctor", "1 GiB free")),
        ({"spool_used": LIMITS.spool},
         Concern(Kind.SPOOL_FILLING, "h", Level.AT_RISK,
                 f"h: the spool is {LIMITS.spool} % full; when it is full, fetching waits for the storage",
                 remedy="archiver doctor")),
        ({"clock_wrong": True, "clock_offset": 3 * HOUR},
         Concern(Kind.CLOCK_SKEW, "h", Level.AT_RISK,
                 f"h: {WRONG.format('3 h ahead of')}; nothing is stated of days that have not come by theirs",
                 remedy="timedatectl status", detail=WRONG.format("3 h ahead of"))),
        ({"clock_wrong": True, "clock_offset": -3 * DAY},
         Concern(Kind.CLOCK_SKEW, "h", Level.AT_RISK, f"h: {WRONG.format('3 d behind')}; what is urgent may be late",
                 remedy="timedatectl status", detail=WRONG.format("3 d behind"))),
        ({"clock_wrong": True},
         Concern(Kind.CLOCK_SKEW, "h", Level.AT_RISK, f"h: {WRONG.format('0 min behind')}; what is urgent may be late",
                 remedy="timedatectl status", detail=WRONG.format("0 min behind"))),
        ({"clock_offset": LIMITS.clock + timedelta(seconds=1)},
         Concern(Kind.CLOCK_SKEW, "h", Level.LATE,
                 f"h: this machine's clock is {LIMITS.clock.total_seconds() + 1:.0f} s ahead of the database's")),
        ({"clock_offset": -LIMITS.clock - timedelta(seconds=1)},
         Concern(Kind.CLOCK_SKEW, "h", Level.LATE,
                 f"h: this machine's clock is {LIMITS.clock.total_seconds() + 1:.0f} s behind the database's")),
    ],
)  # fmt: skip
def test_a_fact_of_a_host_has_its_sentence(changed: dict[str, Any], concern: Concern) -> None:
    assert judge(Facts(NOW, NOW, hosts=[HostFacts("h", NOW, **changed)]), LIMITS).concerns == (concern,)


@pytest.mark.parametrize(
    "changed", [{"spool_used": LIMITS.spool - 1}, {"clock_offset": LIMITS.clock}, {"clock_offset": -LIMITS.clock}]
)
def test_a_host_within_its_limits_is_no_concern(changed: dict[str, Any]) -> None:
    assert judge(Facts(NOW, NOW, hosts=[HostFacts("h", NOW, **changed)]), LIMITS).concerns == ()


@pytest.mark.parametrize(
    ("off", "words"),
    [(119 * MINUTE, "119 min"), (2 * HOUR, "2 h"), (47 * HOUR, "47 h"), (48 * HOUR, "2 d"), (20 * DAY, "20 d")],
)
def test_a_clock_is_off_by_a_coarse_length_of_time(off: timedelta, words: str) -> None:
    (found,) = judge(Facts(NOW, NOW, hosts=[HostFacts("h", NOW, clock_offset=off, clock_wrong=True)]), LIMITS).concerns
    assert found.detail == WRONG.format(f"{words} ahead of")


@pytest.mark.parametrize(
    ("left", "words"),
    [(timedelta(0), "now"), (119 * MINUTE, "in 119 min"), (2 * HOUR, "in 2 h"), (71 * HOUR, "in 71 h"), (72 * HOUR, "in 3 d"),
     (20 * DAY, "in 20 d")],
)  # fmt: skip
def test_time_that_is_left_is_told_coarsely(left: timedelta, words: str) -> None:
    (found,) = provider(quota_used=100, quota_full_at=NOW + left)
    assert found.sentence.endswith(f"; it is full {words}")


def test_what_verification_found_and_an_old_checkpoint_are_the_archives() -> None:
    late = NOW - LIMITS.checkpoint
    facts = Facts(NOW, NOW, integrity={"digest": 2, "none": 0}, checkpoint_at=late - MINUTE)
    assert told(list(judge(facts, LIMITS).concerns)) == [
        (Kind.INTEGRITY_FAILED, Level.INTEGRITY, "verification found 2 × digest", 2, "archiver verify --all"),
        (Kind.CHECKPOINT_OVERDUE, Level.LATE, f"the last custody checkpoint was published at {late - MINUTE:{SHORT}} UTC", 0,
         "archiver custody fsck"),
    ]  # fmt: skip
    assert [each.subject for each in judge(facts, LIMITS).concerns] == ["digest", ""]
    assert judge(Facts(NOW, NOW, checkpoint_at=late), LIMITS).concerns == ()


# --- together -------------------------------------------------------------------------------------------------


def concern(kind: Kind, level: Level, sentence: str = "it", subject: str = "", **changed: Any) -> Concern:
    return Concern(kind, subject, level, sentence, **changed)


@pytest.mark.parametrize(
    ("concerns", "sentence"),
    [
        ([], "Nothing is at risk"),
        ([concern(Kind.RECORDING_LOST, Level.LOST, weight=2), concern(Kind.RECORDING_LOST, Level.LOST, weight=3),
          concern(Kind.RECORDING_LOST, Level.LATE, weight=9), concern(Kind.GAP_OPEN, Level.LOST, weight=9)],
         "LOST: 5 recording(s) were deleted by their provider before they could be archived"),
        ([concern(Kind.GAP_OPEN, Level.LOST)], "LOST: it"),
        ([concern(Kind.RECORDING_LOST, Level.LATE)], "Late, nothing is at risk yet: it"),
        ([concern(Kind.RECORDING_LOST, Level.AT_RISK)], "AT RISK: it"),
        ([concern(Kind.INTEGRITY_FAILED, Level.INTEGRITY, weight=2),
          concern(Kind.INTEGRITY_FAILED, Level.INTEGRITY, weight=4, remedy=GAPS)],
         "INTEGRITY: verification found 2 mismatch(es)"),
        ([concern(Kind.INTEGRITY_FAILED, Level.INTEGRITY, weight=4, remedy=GAPS)], "INTEGRITY: it"),
        ([concern(Kind.LOG_FORKED, Level.INTEGRITY, weight=4)], "INTEGRITY: it"),
        ([concern(Kind.STORAGE_NOT_TRUSTED, Level.AT_RISK, subject="s", detail="why", blocks=True)],
         "Nothing can be archived: storage s: why"),
        ([concern(Kind.DEADLINE_CRITICAL, Level.AT_RISK),
          concern(Kind.STORAGE_NOT_TRUSTED, Level.AT_RISK, subject="s", detail="why", blocks=True)], "AT RISK: it"),
        ([concern(Kind.SPOOL_FILLING, Level.AT_RISK)], "AT RISK: it"),
    ],
)  # fmt: skip
def test_the_first_sentence_is_that_of_the_worst(concerns: list[Concern], sentence: str) -> None:
    assert Judgement(tuple(concerns)).sentence == sentence


def test_concerns_are_found_by_subject_and_the_worst_level_counts() -> None:
    both = (concern(Kind.GAP_OPEN, Level.LATE, subject="a"), concern(Kind.GAP_OPEN, Level.LOST, subject="b"))
    assert Judgement(both).of("b") == both[1:]
    assert (worst(both), worst(())) == (Level.LOST, Level.ON_TIME)
    assert worst((both[0], concern(Kind.GAP_OPEN, Level.INTEGRITY))) is Level.INTEGRITY


def test_a_deadline_that_runs_out_comes_before_all_else_of_its_rank() -> None:
    facts = Facts(
        NOW, NOW,
        providers=[ProviderFacts("p", poll_succeeded_at=NOW, poll_every=HOUR, nearest_deadline=NOW, refused="401")],
        storages=[StorageFacts("s", True, trusted=False, probed_at=NOW)],
    )  # fmt: skip
    assert judge(facts, LIMITS).concerns[0].kind is Kind.DEADLINE_CRITICAL


def test_a_concern_is_a_line_an_alert_and_json() -> None:
    it = concern(Kind.GAP_OPEN, Level.LATE, subject="a", weight=3, remedy="do this")
    assert it.line == "it   → do this"
    assert it.alert == Alert(Kind.GAP_OPEN, "a", it.line, 3)
    assert concern(Kind.GAP_OPEN, Level.LATE).line == "it"
    assert it.as_json() == {
        "kind": Kind.GAP_OPEN.value, "subject": "a", "level": Level.LATE.value, "severity": it.severity.value, "sentence": "it",
        "weight": 3, "remedy": "do this", "runbook": Kind.GAP_OPEN.runbook,
    }  # fmt: skip
    assert concern(Kind.GAP_OPEN, Level.LATE).as_json()["remedy"] is None


@pytest.mark.parametrize(
    ("changed", "started", "due"),
    [
        ({"poll_every": 2 * DAY, "poll_succeeded_at": NOW}, None, NOW + 6 * DAY),
        ({"poll_every": MINUTE, "poll_succeeded_at": NOW}, None, NOW + LIMITS.stalled),
        ({"poll_every": MINUTE}, NOW, NOW + LIMITS.stalled),
        ({"poll_every": MINUTE}, None, None),
        ({"schedule_due": NOW}, NOW, NOW + LIMITS.stalled),
        ({}, NOW, None),
        ({"poll_every": MINUTE, "poll_succeeded_at": NOW, "configured": False}, NOW, None),
    ],
)
def test_a_poll_is_due_after_three_intervals_or_after_its_scheduled_time(
    changed: dict[str, Any], started: datetime | None, due: datetime | None
) -> None:
    assert poll_due(ProviderFacts("p", **changed), started, LIMITS) == due
