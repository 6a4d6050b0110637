"""What is well written and cannot do what it says is named, with its place and what would be right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.config.load import read
from archiver.config.problem import Severity
from archiver.schedule.cron import longest_rest
from archiver.schedule.window import beginning
from tests.config_files import VALID, read_text, written

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RULE = "    - match: {provider: kazoo}\n      keep: 1y\n"
ERROR, WARNING = "C131", "C212"


def rules(*matches: str) -> tuple[str, str]:
    """The file's rules instead of its one; what `matches` say, one rule each."""
    return RULE, "".join(f"    - {{match: {{{each}}}, keep: 1y}}\n" for each in matches)


JC, KAZOO, PLIVO = "    plan: team\n", "    retention: {months: 6}\n", "    auth_token: env:PLIVO_TOKEN\n"
ROUTE = "{routes: [{when: [gap.open], to: [a], repeat: 1s}], channels: [{id: a, kind: webhook, url: env:U}]}"
POLL = "  poll_every: 10m\n"
CASES = [
    # what stands in VALID, what is written instead, code, path, a word that the message must hold
    (*rules("direction: Incoming", "direction: inbound"), ERROR, "retention.rules[1].match", "rules[0]"),
    (*rules("tag: A", "{tag: a, agent: 1}".strip("{}")), ERROR, "retention.rules[1].match", "rules[0]"),
    (*rules("number: '+1415'", "from_number: 1415"), ERROR, "retention.rules[1].match", "rules[0]"),
    (*rules("longer_than: 1h", "longer_than: 2h"), ERROR, "retention.rules[1].match", "rules[0]"),
    (*rules("direction: internal, provider: justcall"), ERROR, "retention.rules[0].match.direction", "internal"),
    (*rules("longer_than: 2h, shorter_than: 1h"), ERROR, "retention.rules[0].match.longer_than", "shorter_than"),
    (*rules("since: 2026-01-01, until: 2025-01-01"), ERROR, "retention.rules[0].match.since", "until"),
    (*rules("variant: original"), ERROR, "retention.rules[0].match.variant", "original"),
    (*rules("variant: child"), ERROR, "retention.rules[0].match.variant", "child"),
    (*rules("provider: plivo, tag: a"), WARNING, "retention.rules[0].match.tag", "tag"),
    (*rules("provider: vobiz, agent: a"), WARNING, "retention.rules[0].match.agent", "agent"),
    (*rules("provider: vobiz, direction: inbound"), WARNING, "retention.rules[0].match.direction", "direction"),
    ("default: 7y", "default: 1s", ERROR, "retention.default", "1d"),
    ("default: 7y", "default: 23h", ERROR, "retention.default", "1d"),
    ("keep: 1y", "keep: 1m", ERROR, "retention.rules[0].keep", "1d"),
    (JC, JC + "    safety_margin: 90d\n", WARNING, "providers[0].safety_margin", "90d"),
    (JC, JC + "    safety_margin: 89d\n    poll_every: 2d\n", WARNING, "providers[0].safety_margin", "poll_every"),
    (JC, JC + "    poll_every: 90d\n", ERROR, "providers[0].poll_every", "90d"),
    (POLL, "  poll_every: 91d\n", ERROR, "defaults.poll_every", "justcall"),
    (KAZOO, KAZOO + "    poll_every: 186d\n", ERROR, "providers[1].poll_every", "186d"),
    (JC, JC + "    poll_cron: 0 0 1 1 *\n", ERROR, "providers[0].poll_cron", "366d"),
    (POLL, POLL + "  safety_margin: 90d\n", WARNING, "defaults.safety_margin", "90d"),
    (JC, JC + "    poll_cron: 0 0 31 2 *\n", ERROR, "providers[0].poll_cron", "never"),
    (JC, JC + "    poll_cron: 0 0 31 4,6,9,11 *\n", ERROR, "providers[0].poll_cron", "never"),
    (POLL, POLL + "  overlap: 0s\n", WARNING, "defaults.overlap", "overlap"),
    (JC, JC + "    rate: 1/h\n", WARNING, "providers[0].rate", "1/h"),
    (JC, JC + "    quota: 1KB\n", WARNING, "providers[0].quota", "1KB"),
    (KAZOO, KAZOO + "    max_window: 1m\n", WARNING, "providers[1].max_window", "1m"),
    (POLL, POLL + "  max_size: 1B\n", ERROR, "defaults.max_size", "every recording"),
    (POLL, POLL + "  max_size: 1MB\n", WARNING, "defaults.max_size", "1MB"),
    ("retention:\n  default", "spool: {quota: 1GiB}\nretention:\n  default", WARNING, "spool.quota", "2GiB"),
    (JC, JC + "    backfill_from: 2099-01-01\n", ERROR, "providers[0].backfill_from", "2099"),
    (PLIVO, PLIVO + "    filters: {add_time__gt: 2026-01-02 00:00, add_time__lt: 2026-01-01 00:00}\n", ERROR,
     "providers[3].filters.add_time__lt", "add_time__gt"),
    (PLIVO, PLIVO + "    filters: {recording_storage_duration__gte: 90, recording_storage_duration: 30}\n", ERROR,
     "providers[3].filters.recording_storage_duration", "nothing"),
    (JC, JC + "    dialect: v2.1\n    filters: {number: '1', justcall_number: '2'}\n", ERROR,
     "providers[0].filters.number", "justcall_number"),
    (JC, JC + "    dialect: v2.1\n    filters: {ivr_digit: 1, call_type: x}\n", WARNING,
     "providers[0].filters.call_type", "ivr_digit"),
    ("retention:\n  default", "alerting: {thresholds: {warning: 24h, critical: 24h}}\nretention:\n  default", ERROR,
     "alerting.thresholds.warning", "critical"),
    ("retention:\n  default", "alerting: {thresholds: {critical: 73h}}\nretention:\n  default", ERROR,
     "alerting.thresholds.critical", "warning"),
    ("retention:\n  default", "alerting: {thresholds: {checkpoint: 10s}}\nretention:\n  default", WARNING,
     "alerting.thresholds.checkpoint", "always stand"),
    ("retention:\n  default", f"alerting: {ROUTE}\nretention:\n  default", WARNING, "alerting.routes[0].repeat", "1s"),
    (JC, "    retention: 2d\n", WARNING, "providers[0]", "safety_margin"),
    ("  signing_key: file:custody.pem\n", "  signing_key: file:custody.pem\n  checkpoint_every: 30d\n", WARNING,
     "custody.checkpoint_every", "30d"),
    ("  signing_key: file:custody.pem\n",
     "  signing_key: file:custody.pem\n  checkpoint_every: 1h\n  timestamp: {url: https://t.example, every: 1m}\n",
     WARNING, "custody.timestamp.every", "more often"),
    ("    bucket: recordings\n", "    bucket: recordings\n    sse: {mode: AES256, key_id: k}\n", ERROR,
     "storage[0].sse.key_id", "AES256"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "path", "word"), CASES)
def test_what_cannot_do_what_it_says_is_named_at_its_place(
    old: str, new: str, code: str, path: str, word: str, tmp_path: Path
) -> None:
    assert old in VALID
    loaded = read(written(tmp_path, VALID.replace(old, new, 1)), resolve_secrets=False, now=NOW)
    problem = next(each for each in loaded.problems if each.path == path)
    assert (problem.code, word in problem.message, bool(problem.hint)) == (code, True, True), problem
    assert problem.severity is (Severity.ERROR if code == ERROR else Severity.WARNING)
    assert (loaded.config is None) == (code == ERROR)
    name = "id" if path == "providers[0]" else path.rpartition(".")[2]
    assert name in problem.excerpt, problem


SENSIBLE = [
    rules("direction: Incoming", "direction: Outgoing"),
    rules("tag: a, agent: 1", "tag: a"),
    rules("direction: internal"),
    rules("direction: internal, provider: kazoo"),
    rules("from_number: 1415", "number: 1415"),
    rules("longer_than: 1h, shorter_than: 2h"),
    ("default: 7y", "default: 1d"),
    (JC, JC + "    safety_margin: 30d\n    poll_every: 1d\n"),
    (JC, JC + "    poll_cron: 0 0 29 2 *\n    retention: none\n"),
    (JC, JC + "    backfill_from: 2026-02-28\n    rate: 1/min\n"),
    (PLIVO, PLIVO + "    filters: {add_time__gte: 2026-01-01 00:00, add_time__lte: 2026-01-01 00:00}\n"),
    (PLIVO, PLIVO + "    original: true\n" ),
    ("retention:\n  default", "spool: {quota: 2GiB}\nretention:\n  default"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), SENSIBLE)
def test_what_makes_sense_is_not_complained_of(old: str, new: str, tmp_path: Path) -> None:
    loaded = read(written(tmp_path, VALID.replace(old, new, 1)), resolve_secrets=False, now=NOW)
    assert loaded.problems == ()
    assert loaded.config is not None


def test_a_word_that_is_no_direction_is_refused_and_the_meant_one_offered(tmp_path: Path) -> None:
    old, new = rules("direction: incomming")
    (problem,) = read_text(tmp_path, VALID.replace(old, new)).problems
    assert (problem.code, problem.severity) == ("C103", Severity.ERROR)
    assert "did you mean incoming?" in problem.hint


def test_a_daemon_whose_clock_is_wrong_is_not_kept_from_starting_by_a_date(tmp_path: Path) -> None:
    text = VALID.replace(JC, JC + "    backfill_from: 2099-01-01\n")
    assert read_text(tmp_path, text).config is not None


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (None, datetime(2020, 1, 1, tzinfo=UTC)),
        (datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)),
        (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)),
        (datetime(2099, 1, 1, tzinfo=UTC), NOW),
    ],
)
def test_a_beginning_that_has_not_come_hides_nothing_that_is_new(stated: datetime | None, found: datetime) -> None:
    assert beginning(datetime(2020, 1, 1, tzinfo=UTC), stated, NOW) == found


@pytest.mark.parametrize(
    ("expression", "rest"),
    [
        ("* * * * *", timedelta(minutes=1)),
        ("*/10 7-20 * * mon-sat", timedelta(days=1, hours=10, minutes=10)),
        ("0 0 1 1 *", timedelta(days=366)),
        ("0 12 29 feb *", timedelta(days=1461)),
        ("59 23 * * *", timedelta(days=1)),
        ("0 6,18 * * *", timedelta(hours=12)),
        ("30 5 * * sun", timedelta(days=7)),
        ("0 0 31 2 *", None),
        ("0 0 30 2 mon", None),
        ("0 0 31 4,6,9,11 *", None),
    ],
)
def test_longest_rest_of_a_cron_expression(expression: str, rest: timedelta | None) -> None:
    assert longest_rest(expression) == rest
