"""Judges the archive once, for every output. Pure: facts and thresholds in, concerns out.

Status, `--check`, `--nagios`, metrics, alerts, heartbeat, doctor and the monthly report all use the result of `judge`,
so that none of them can be green while another is red:

| Level | `--check` | `--nagios` | heartbeat | doctor |
|---|---|---|---|---|
| on time | 0 | OK | pings | ✓ |
| late | 3 | WARNING | pings, for finished sweeps | ! |
| at risk | 3 | CRITICAL | silent | ✗ |
| integrity | 65 | CRITICAL | silent | ✗ |
| lost | 4 | CRITICAL | silent | ✗ |

An alert that wakes people has the level "at risk" or worse, except in an archive that has never run. "Nothing is at
risk" is a claim that needs proof: a proof that is missing or old is a concern. An acknowledged gap is no concern any
more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.alerts.facts import Facts, HostFacts, ProviderFacts, StorageFacts
from archiver.alerts.rule import GAPS, Alert, Kind, Level, Severity, Thresholds, level_of
from archiver.recording import Json

_LOOKS = timedelta(minutes=1)  # facts are read every 20 s: the lead time is kept even if one reading fails
_PROOFS_MISSED = 3
_AHEAD = timedelta(minutes=5)  # a proof dated further ahead was dated by a wrong clock, and proves nothing
_PROVED_SINCE = timedelta(minutes=2)  # a failure is recorded again and again while it lasts
_WORSE = 1  # a full disk is worse than one that fills, so its alert is sent again at once
_LEVELS, _SEVERITIES, _KINDS = list(Level), list(Severity), list(Kind)


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that is wrong now. There is at most one for each kind and subject: a provider, a storage, a host, or ""
    for all.

    `weight` counts what is wrong where counting makes sense. `detail` is the cause alone, without the words around it
    in `sentence`. `blocks`: nothing at all can be archived while the concern lasts.
    """

    kind: Kind
    subject: str
    level: Level
    sentence: str
    weight: int = 0
    remedy: str = ""
    detail: str = ""
    blocks: bool = False

    @property
    def severity(self) -> Severity:
        return self.kind.severity

    @property
    def line(self) -> str:
        """The sentence, followed by the remedy."""
        return f"{self.sentence}   → {self.remedy}" if self.remedy else self.sentence

    @property
    def alert(self) -> Alert:
        return Alert(self.kind, self.subject, self.line, self.weight)

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "level": self.level.value,
            "severity": self.severity.value,
            "sentence": self.sentence,
            "weight": self.weight,
            "remedy": self.remedy or None,
            "runbook": self.kind.runbook,
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every concern, the worst first."""

    concerns: tuple[Concern, ...] = ()

    @property
    def level(self) -> Level:
        return worst(self.concerns)

    @property
    def proven(self) -> bool:
        """True when nothing contradicts that the work is done, and each storage proved itself. A heartbeat claims
        this."""
        return not self.level.red and all(each.kind is not Kind.STORAGE_NOT_TRUSTED for each in self.concerns)

    @property
    def alerts(self) -> tuple[Alert, ...]:
        return tuple(each.alert for each in self.concerns)

    @property
    def blocking(self) -> tuple[str, ...]:
        """The storages that keep everything from being archived, each with its problem."""
        return tuple(f"storage {each.subject}: {each.detail}" for each in self.concerns if each.blocks)

    def of(self, subject: str) -> tuple[Concern, ...]:
        return tuple(each for each in self.concerns if each.subject == subject)

    @property
    def sentence(self) -> str:
        """The one sentence that a person needs to know first."""
        if not self.concerns:
            return "Nothing is at risk"
        first, level = self.concerns[0], self.level
        alike = [each for each in self.concerns if each.kind is first.kind and each.level is level]
        if level is Level.LOST and first.kind is Kind.RECORDING_LOST:
            lost = sum(each.weight for each in alike)
            return f"LOST: {lost} recording(s) were deleted by their provider before they could be archived"
        if level is Level.INTEGRITY:
            return f"INTEGRITY: {_integrity(self.concerns)}"
        if level in {Level.LOST, Level.LATE}:
            prefix = "LOST" if level is Level.LOST else "Late, nothing is at risk yet"
            return f"{prefix}: {first.sentence}"
        if first.kind is not Kind.DEADLINE_CRITICAL and self.blocking:
            return f"Nothing can be archived: {self.blocking[0]}"
        return f"AT RISK: {first.sentence}"


def worst(concerns: tuple[Concern, ...]) -> Level:
    """The worst level among these concerns."""
    return max((each.level for each in concerns), key=_LEVELS.index, default=Level.ON_TIME)


def judge(facts: Facts, limits: Thresholds) -> Judgement:
    """Judges the facts. Returns every concern, the worst first."""
    found = [
        concern
        for each in facts.providers
        for concern in (*_gaps(each), *_deadlines(each, facts, limits), *_polling(each, facts, limits))
    ]
    found += [
        concern for each in facts.storages for concern in (*_storage(each, facts.now), *_reading(each, facts.now))
    ]
    found += [concern for each in facts.hosts for concern in _host(each, limits)]
    found += _archive(facts, limits)
    return Judgement(tuple(sorted(found, key=_rank)))


def _rank(it: Concern) -> tuple[int, int, bool, int, str]:
    """Sorts by level, then severity; a deadline that runs out comes before its causes and all else of the same rank."""
    urgent = it.kind is not Kind.DEADLINE_CRITICAL
    return -_LEVELS.index(it.level), _SEVERITIES.index(it.severity), urgent, _KINDS.index(it.kind), it.subject


def _integrity(concerns: tuple[Concern, ...]) -> str:
    bad = [each for each in concerns if each.level is Level.INTEGRITY]
    if bad[0].kind is Kind.LOG_FORKED:
        return bad[0].sentence
    found = sum(each.weight for each in bad if not each.remedy.startswith("archiver gaps"))
    return f"verification found {found} mismatch(es)" if found else bad[0].sentence


# --- providers --------------------------------------------------------------------------------------------------------


def _gaps(each: ProviderFacts) -> Iterator[Concern]:
    """Yields a concern for each kind of gap that nobody has acknowledged."""
    by_kind: dict[Kind, dict[str, int]] = {}
    for code, count in sorted(each.gaps.items()):
        if count:
            by_kind.setdefault(GAPS.get(code, Kind.GAP_OPEN), {})[code] = count
    if each.lost > sum(by_kind.get(Kind.RECORDING_LOST, {}).values()):  # before the register has looked
        by_kind[Kind.RECORDING_LOST] = {"gone_at_provider": each.lost}
    for kind, codes in by_kind.items():
        what = ", ".join(f"{count} {code}" for code, count in codes.items())
        yield Concern(
            kind,
            each.provider,
            max((level_of(code) for code in codes), key=_LEVELS.index),
            f"{each.provider or 'the archive'}: {_MEANS[kind]}: {what}",
            sum(codes.values()),
            f"archiver gaps list --provider {each.provider}" if each.provider else "archiver gaps list",
        )


_MEANS = {
    Kind.RECORDING_LOST: "deleted by the provider before it could be archived",
    Kind.COVERAGE_GAP: "time that was not listed in full",
    Kind.SUSPICIOUS_EMPTY: "listings that cannot be believed",
    Kind.ROWS_REJECTED: "listed rows that are not understood",
    Kind.INTEGRITY_FAILED: "copies or their history are not what they should be",
    Kind.LOG_FORKED: "THERE ARE TWO HISTORIES of the custody log; both heads are kept",
    Kind.VOUCHER_SILENT: "witnesses or time stamps that have fallen silent",
    Kind.ANSWERS_ODD: "answers that nothing could be made of",
    Kind.LOCK_SHORT: "copies that are locked too short or not at all",
}
_MEANS |= {kind: "recordings that are missing or doubtful" for kind in Kind if kind not in _MEANS}


def _deadlines(each: ProviderFacts, facts: Facts, limits: Thresholds) -> Iterator[Concern]:
    """Yields concerns about recordings that are not archived and whose time runs out."""
    name = each.provider
    left = None if each.nearest_deadline is None else each.nearest_deadline - facts.now
    source = each.nearest_source or "source unknown"
    if left is not None and left < limits.critical:
        yield Concern(Kind.DEADLINE_CRITICAL, name, Level.AT_RISK, f"{name}: {_deadline(left)} ({source})")
    if left is not None and left < limits.warning:
        yield Concern(Kind.DEADLINE_WARNING, name, Level.LATE, f"{name}: {_deadline(left)} ({source})")
    elif each.overdue:
        said = f"{name}: {each.overdue} recording(s) are past the safety margin"
        yield Concern(Kind.DEADLINE_WARNING, name, Level.LATE, said, each.overdue)
    lead = max(limits.warning, limits.critical)
    if each.slack is not None and each.slack < lead + _LOOKS:
        level, advice = Level.LATE, ""
        if each.first_loss_at is not None:
            level, advice = Level.AT_RISK, each.remedies[0] if each.remedies else ""
            what = f"at the present pace the first recording is lost {_in(each.first_loss_at - facts.now)}"
        else:
            what = f"if nothing were fetched from now on, a recording could no longer be saved {_in(each.slack)}"
        yield Concern(Kind.FORECAST_LOSS, name, level, f"{name}: {what}", remedy=advice)
    used = each.quota_used
    if used is not None and used >= limits.quota:
        full = "" if each.quota_full_at is None else f"; it is full {_in(each.quota_full_at - facts.now)}"
        yield Concern(Kind.QUOTA_FILLING, name, Level.LATE, f"{name}: {used} % of the provider's storage is used{full}")


def poll_due(each: ProviderFacts, started_at: datetime | None, limits: Thresholds) -> datetime | None:
    """The time by which a provider's next complete poll must have come; None for a provider that is not polled.

    With an interval: three intervals, and at least `limits.stalled`, after the last complete poll. With a schedule:
    `limits.stalled` after the scheduled time. The count starts at the last poll and not at the start of the process: a
    restart must not look like the end of the trouble.
    """
    if not each.configured:
        return None
    if each.poll_every is None:
        return None if each.schedule_due is None else each.schedule_due + limits.stalled
    since = each.poll_succeeded_at or started_at
    return None if since is None else since + max(limits.stalled, 3 * each.poll_every)


def _polling(each: ProviderFacts, facts: Facts, limits: Thresholds) -> Iterator[Concern]:
    """Yields concerns about a provider that is not polled, or that refuses the credentials."""
    name, last = each.provider, each.poll_succeeded_at
    test = f"archiver providers test {name}"
    if each.refused is not None:
        said = f"{name}: the provider refuses the credentials: {each.refused}"
        yield Concern(Kind.PROVIDER_AUTH_FAILED, name, Level.AT_RISK, said, remedy=test)
    due = poll_due(each, facts.started_at, limits)
    never = each.configured and last is None and facts.started_at is None and each.refused is None
    if never or (due is not None and facts.now > due):
        ever = "none ever" if last is None else f"the last one at {last:%Y-%m-%d %H:%M} UTC"
        said = f"{name}: no complete poll for too long; {ever}"
        yield Concern(Kind.POLL_STALLED, name, Level.LATE, said, remedy=test)


# --- storages, hosts, the archive as a whole --------------------------------------------------------------------------


def unproven(it: StorageFacts, now: datetime) -> str | None:
    """The reason why nothing can be called archived in this storage.

    None while the storage's last proof is fresh and nothing contradicts it.
    """
    problem = _failing(it)
    if it.trusted is None or it.probed_at is None:
        if problem is None and not it.waiting:
            return "not proved yet: no probe of it has ended so far"
        waits = f"; {it.waiting} sealed recording(s) wait on this host's disk" if it.waiting else ""
        return f"never reached so far{waits}" + (f": {problem}" if problem else "")
    if not it.trusted:
        return it.doubt or "did not prove its lock"
    if problem is not None:
        return problem
    if now - it.probed_at > _PROOFS_MISSED * it.every or it.probed_at - now > _AHEAD:
        return f"its last proof is of {it.probed_at:%Y-%m-%d %H:%M} UTC, too old to rest on"
    return None


def _failing(it: StorageFacts) -> str | None:
    """The storage's present failure, in words; None without one.

    A later proof by any host ends a failure that was recorded by a host which no longer looks.
    """
    if it.failing is None or (it.trusted and it.probed_at and it.probed_at > it.failing.at + _PROVED_SINCE):
        return None
    return f"{it.failing.problem} (since {it.failing.since:%Y-%m-%d %H:%M} UTC)"


def _storage(it: StorageFacts, now: datetime) -> Iterator[Concern]:
    problem = unproven(it, now)
    unused = it.trusted is None and it.failing is None and not it.waiting  # a new archive: nobody has probed it yet
    if problem is not None:
        yield Concern(
            Kind.STORAGE_NOT_TRUSTED,
            it.storage,
            Level.LATE if unused else Level.AT_RISK,
            f"{it.storage} does not prove that it keeps what it is given, so nothing is archived there: {problem}",
            remedy="archiver check --online",
            detail=problem,
            blocks=it.required and not unused,
        )


def _reading(it: StorageFacts, now: datetime) -> Iterator[Concern]:
    """Yields a concern about copies that nobody has read again for longer than the configuration allows."""
    if it.read_every is not None and it.oldest_reading is not None and now - it.oldest_reading > it.read_every:
        ago, allowed = (_apart(each) for each in (now - it.oldest_reading, it.read_every))
        said = f"{it.storage}: a copy was last read whole {ago} ago, and each is to be read within {allowed}"
        yield Concern(Kind.VERIFY_BEHIND, it.storage, Level.LATE, said, remedy="archiver verify --all")


def _host(it: HostFacts, limits: Thresholds) -> Iterator[Concern]:
    if it.no_room is not None:
        said = f"{it.host}: there is no room on the disk for another recording, so nothing is fetched: {it.no_room}"
        yield Concern(Kind.SPOOL_FILLING, it.host, Level.AT_RISK, said, _WORSE, "archiver doctor", it.no_room)
    elif it.spool_used >= limits.spool:
        said = f"{it.host}: the spool is {it.spool_used} % full; when it is full, fetching waits for the storage"
        yield Concern(Kind.SPOOL_FILLING, it.host, Level.AT_RISK, said, remedy="archiver doctor")
    ahead = it.clock_offset > timedelta(0)
    if it.clock_wrong:
        what = "nothing is stated of days that have not come by theirs" if ahead else "what is urgent may be late"
        side = f"{_apart(abs(it.clock_offset))} {'ahead of' if ahead else 'behind'}"
        said = f"this machine's clock is {side} those of database, storages or providers"
        yield Concern(
            Kind.CLOCK_SKEW,
            it.host,
            Level.AT_RISK,
            f"{it.host}: {said}; {what}",
            remedy="timedatectl status",
            detail=said,
        )
    elif abs(it.clock_offset) > limits.clock:
        side = "ahead of" if ahead else "behind"
        off = abs(it.clock_offset).total_seconds()
        yield Concern(
            Kind.CLOCK_SKEW,
            it.host,
            Level.LATE,
            f"{it.host}: this machine's clock is {off:.0f} s {side} the database's",
        )


def _archive(facts: Facts, limits: Thresholds) -> Iterator[Concern]:
    for what, count in facts.integrity.items():
        if count:
            said = f"verification found {count} × {what}"
            yield Concern(Kind.INTEGRITY_FAILED, what, Level.INTEGRITY, said, count, "archiver verify --all")
    if facts.checkpoint_at is not None and facts.now - facts.checkpoint_at > limits.checkpoint:
        said = f"the last custody checkpoint was published at {facts.checkpoint_at:%Y-%m-%d %H:%M} UTC"
        yield Concern(Kind.CHECKPOINT_OVERDUE, "", Level.LATE, said, remedy="archiver custody fsck")


def _apart(off: timedelta) -> str:
    """A length of time, coarse, so that the sentence stays the same for a while."""
    hours = off.total_seconds() / 3600
    return f"{hours / 24:.0f} d" if hours >= 48 else f"{hours:.0f} h" if hours >= 2 else f"{hours * 60:.0f} min"


def _deadline(left: timedelta) -> str:
    if left <= timedelta(0):
        return "a recording that is not archived may already have been deleted by the provider"
    return f"the first recording that is not archived will be deleted by the provider {_in(left)}"


def _in(left: timedelta) -> str:
    """The time left, as in `in 19 h`; coarse, so that the sentence stays the same for a while."""
    if left <= timedelta(0):
        return "now"
    hours = left.total_seconds() / 3600
    if hours >= 72:
        return f"in {hours / 24:.0f} d"
    return f"in {hours:.0f} h" if hours >= 2 else f"in {hours * 60:.0f} min"
