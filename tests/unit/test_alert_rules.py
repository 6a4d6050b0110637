"""What is worth telling: one case for each alert, on both sides of its threshold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.alerts.facts import Facts, Failing, HostFacts, ProviderFacts, StorageFacts
from archiver.alerts.judgement import judge
from archiver.alerts.rule import GAPS, LOCAL, Alert, Kind, Severity, Thresholds
from archiver.completeness.gap import Code

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LIMITS = Thresholds()
REFUSED = Failing(NOW - HOUR, NOW, "403")
QUIET = ProviderFacts("acme", poll_succeeded_at=NOW - timedelta(minutes=5), poll_every=timedelta(minutes=10))
PROVED = StorageFacts("primary", required=True, trusted=True, probed_at=NOW - HOUR)
SPACIOUS = HostFacts("h1", NOW)
CALM = Facts(
    now=NOW, started_at=NOW - DAY, host="h1", providers=(QUIET,), storages=(PROVED,), hosts=(SPACIOUS,), checkpoint_at=NOW
)  # fmt: skip


def provider(**changed: Any) -> Facts:
    return replace(CALM, providers=(replace(QUIET, **changed),))


def archive(**changed: Any) -> Facts:
    return replace(CALM, **changed)


def scheduled(due: datetime) -> Facts:
    return provider(poll_every=None, schedule_due=due)


def storage(**changed: Any) -> Facts:
    return replace(CALM, storages=(replace(PROVED, **changed),))


def host(**changed: Any) -> Facts:
    return replace(CALM, hosts=(replace(SPACIOUS, **changed),))


def firing(facts: Facts, limits: Thresholds) -> tuple[Alert, ...]:
    return judge(facts, limits).alerts


def names(facts: Facts) -> set[tuple[str, str]]:
    return {(each.kind.value, each.subject) for each in firing(facts, LIMITS)}


CASES: list[tuple[str, str, Facts, Facts]] = [
    # alert, subject, just about to fire, fires
    ("recording.lost", "acme", provider(gaps={"gone_at_provider": 0}), provider(gaps={"gone_at_provider": 1})),
    ("recording.lost", "acme", provider(lost=0), provider(lost=1)),
    ("poll.stalled", "acme", scheduled(NOW - HOUR), scheduled(NOW - 2 * HOUR)),
    ("coverage.gap", "acme", provider(), provider(gaps={"never_listed": 1})),
    ("suspicious_empty", "acme", provider(), provider(gaps={"suspicious_empty": 1})),
    ("rows.rejected", "acme", provider(), provider(gaps={"row_not_understood": 2})),
    ("lock.short", "acme", provider(), provider(gaps={"unlocked": 2})),
    ("gap.open", "acme", provider(), provider(gaps={"a_code_of_next_year": 1})),
    ("integrity.failed", "acme", provider(), provider(gaps={"digest_differs": 1})),
    ("integrity.failed", "object_missing", archive(integrity={"object_missing": 0}), archive(integrity={"object_missing": 1})),
    ("deadline.warning", "acme", provider(nearest_deadline=NOW + 72 * HOUR), provider(nearest_deadline=NOW + 71 * HOUR)),
    ("deadline.warning", "acme", provider(overdue=0), provider(overdue=1)),
    ("deadline.critical", "acme", provider(nearest_deadline=NOW + 24 * HOUR), provider(nearest_deadline=NOW - HOUR)),
    ("forecast.loss", "acme", provider(slack=73 * HOUR), provider(slack=72 * HOUR)),
    ("forecast.loss", "acme", provider(slack=None), provider(slack=-HOUR, first_loss_at=NOW + 60 * DAY)),
    ("quota.filling", "acme", provider(quota_used=84), provider(quota_used=85, quota_full_at=NOW + 9 * DAY)),
    ("provider.auth_failed", "acme", provider(), provider(refused="401")),
    ("poll.stalled", "acme", provider(poll_succeeded_at=NOW - HOUR), provider(poll_succeeded_at=NOW - 2 * HOUR)),
    ("storage.not_trusted", "primary", storage(), storage(trusted=False, doubt="canary deleted while locked")),
    ("storage.not_trusted", "primary", storage(), storage(trusted=None, probed_at=None)),
    ("storage.not_trusted", "primary", storage(probed_at=NOW - 3 * HOUR), storage(probed_at=NOW - 3 * HOUR - SECOND)),
    ("storage.not_trusted", "primary", storage(probed_at=NOW + 5 * MINUTE), storage(probed_at=NOW + 6 * MINUTE)),
    ("storage.not_trusted", "primary", storage(every=DAY, probed_at=NOW - 3 * DAY), storage(every=DAY, probed_at=NOW - 4 * DAY)),
    ("storage.not_trusted", "primary", storage(failing=Failing(NOW - DAY, NOW - 2 * HOUR, "403")), storage(failing=REFUSED)),
    ("spool.filling", "h1", host(spool_used=79), host(spool_used=80)),
    ("spool.filling", "h1", host(), host(no_room="4194304 bytes wanted")),
    ("clock.skew", "h1", host(clock_offset=timedelta(seconds=2)), host(clock_offset=timedelta(seconds=-3))),
    ("log.forked", "", provider(gaps={}), provider(provider="", gaps={"log_forked": 1})),
    ("voucher.silent", "", provider(gaps={}), provider(provider="", gaps={"witness_silent": 1, "timestamp_silent": 1})),
    ("answers.odd", "primary", provider(gaps={}), provider(provider="primary", gaps={"answer_not_understood": 1})),
    ("verify.behind", "primary", storage(oldest_reading=NOW - 90 * DAY, read_every=90 * DAY),
     storage(oldest_reading=NOW - 91 * DAY, read_every=90 * DAY)),
    ("checkpoint.overdue", "", archive(checkpoint_at=NOW - 3 * HOUR), archive(checkpoint_at=NOW - 4 * HOUR)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "subject", "before", "after"), CASES, ids=[f"{each[0]}-{each[1]}" for each in CASES])
def test_fires_beyond_its_threshold_and_not_before(name: str, subject: str, before: Facts, after: Facts) -> None:
    assert (name, subject) not in names(before)
    assert (name, subject) in names(after)


def test_every_kind_but_news_has_a_case() -> None:
    assert {each[0] for each in CASES} == {kind.value for kind in Kind if kind.severity is not Severity.NOTE}


def test_a_calm_archive_is_silent() -> None:
    assert firing(CALM, LIMITS) == ()


def test_every_reason_code_of_a_gap_that_has_an_alert_of_its_own_exists() -> None:
    assert GAPS.keys() <= {each.value for each in Code}


def test_forecast_warns_by_the_longer_lead_time_whichever_it_is() -> None:
    for limits in (replace(LIMITS, warning=DAY, critical=9 * DAY), replace(LIMITS, warning=9 * DAY, critical=DAY)):
        assert [each.kind for each in firing(provider(slack=9 * DAY), limits)] == [Kind.FORECAST_LOSS]
        assert firing(provider(slack=9 * DAY + HOUR), limits) == ()


def test_a_provider_polled_by_cron_rests_for_as_long_as_its_schedule_does() -> None:
    rested = provider(poll_every=None, poll_succeeded_at=NOW - 30 * DAY, schedule_due=NOW + DAY)
    assert names(rested) == set()
    assert names(provider(poll_every=None, poll_succeeded_at=NOW - 30 * DAY, schedule_due=None)) == set()


def test_a_slow_poll_interval_stretches_the_patience() -> None:
    assert names(provider(poll_every=6 * HOUR, poll_succeeded_at=NOW - 17 * HOUR)) == set()


def test_never_polled_is_told_when_the_process_has_had_its_time() -> None:
    fresh = replace(provider(poll_succeeded_at=None), started_at=NOW - timedelta(minutes=30))
    assert names(fresh) == set()
    assert ("poll.stalled", "acme") in names(replace(fresh, started_at=NOW - 2 * HOUR))
    assert ("poll.stalled", "acme") in names(replace(fresh, started_at=None)), "and at once where nobody is at work"
    refused = replace(provider(poll_succeeded_at=None, refused="401"), started_at=None)
    assert names(refused) == {("provider.auth_failed", "acme")}, "the cause alone"


def test_a_restart_does_not_look_like_the_end_of_a_stall() -> None:
    stalled = replace(provider(poll_succeeded_at=NOW - DAY), started_at=NOW)
    assert ("poll.stalled", "acme") in names(stalled)


def test_several_reasons_of_one_kind_are_one_alert_with_their_sum() -> None:
    found = firing(provider(gaps={"delete_marker": 2, "missing_here": 1, "gone_at_provider": 4}, lost=4), LIMITS)
    assert [(each.kind, each.weight) for each in found] == [(Kind.RECORDING_LOST, 4), (Kind.INTEGRITY_FAILED, 3)]
    assert "2 delete_marker, 1 missing_here" in found[1].sentence


def test_what_one_host_alone_can_know_names_the_host() -> None:
    found = firing(host(spool_used=100, clock_offset=HOUR), LIMITS)
    assert {each.kind for each in found} == LOCAL
    assert {each.subject for each in found} == {"h1"}


@given(
    st.builds(
        ProviderFacts,
        provider=st.sampled_from(["a", "b"]),
        gaps=st.dictionaries(st.sampled_from([each.value for each in Code]), st.integers(0, 9)),
        nearest_deadline=st.none() | st.datetimes(timezones=st.just(UTC)),
        poll_succeeded_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        slack=st.none() | st.timedeltas(),
        first_loss_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        quota_used=st.none() | st.integers(0, 200),
    )
)
def test_no_two_alerts_share_kind_and_subject_and_each_is_one_line(one: ProviderFacts) -> None:
    found: tuple[Alert, ...] = firing(replace(CALM, providers=(one, replace(one, provider="other"))), LIMITS)
    assert len({(each.kind, each.subject) for each in found}) == len(found)
    assert all(each.sentence and each.sentence.isprintable() for each in found)
