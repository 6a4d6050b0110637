"""Finds listings that contradict their totals, earlier listings, or the account's habits. Pure: no I/O, no clock."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import mean

from archiver.completeness.gap import Code, Gap, Grade
from archiver.recording import Json, Window

EMPTY = "an empty listing where"
"""The words with which the poller rejects an empty listing (`archiver.ingest.poll`)."""

_EDGE = timedelta(hours=2)
_WEEKS = 8
_SURE = 7.0  # e^-7 < 0.1 %: when 7 are expected and none is seen, it is no quiet day


@dataclass(frozen=True, slots=True)
class Walk:
    """The newest enumerated window of one scope. `before`: the walk cannot have begun earlier than this.

    `total` is the provider's own count, `rows` the number of rows that the walk showed; `seen` counts the provider's
    ids that were shown since `before`, each once.
    """

    scope: str
    window: Window
    completed_at: datetime
    before: datetime
    total: int | None
    rows: int
    seen: int
    digest: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A recording that the newest walks should have shown. `party`: the user, agent or subaccount that it belongs
    to."""

    id: str
    party: str
    safe: bool
    seen: bool


def totals(provider: str, walks: Iterable[Walk]) -> list[Gap]:
    """The gaps where a provider counts more, or fewer, recordings than its own pages show."""
    found = []
    for walk in walks:
        if walk.total is None:
            continue
        evidence: dict[str, Json] = {"total": walk.total, "listed": walk.seen, "listing_sha256": walk.digest}
        subject = f"total:{walk.scope}"
        if walk.total > walk.seen:
            code, grade = Code.NEVER_LISTED, Grade.OPEN
            detail = f"the provider counts {walk.total} and lists {walk.seen}: {walk.total - walk.seen} never shown"
        elif walk.total < min(walk.seen, walk.rows):
            code, grade = Code.TOTAL_DIFFERS, Grade.WATCHED
            detail = f"the provider counts {walk.total} and lists {walk.seen}: its total cannot be relied on"
        else:
            continue
        found.append(Gap(provider, subject, code, grade, detail, evidence, walk.window.since, walk.window.until))
    return found


def span(walks: Sequence[Walk]) -> tuple[Window, datetime] | None:
    """The span that the newest walks of all scopes share, and the time since which its recordings must have been seen.

    An edge at the span's beginning is left out: a provider's filter time may differ by a call's length from the
    journal's time.
    """
    if not walks:
        return None
    since, until = max(each.window.since for each in walks), min(each.window.until for each in walks)
    since += min(_EDGE, (until - since) / 4)
    return (Window(since, until), min(each.before for each in walks)) if since < until else None


def unlisted(provider: str, shown: Window, listed: Sequence[Listed]) -> list[Gap]:
    """The gaps of recordings that are not listed any more, although the provider should still keep them."""
    gone = [each for each in listed if not each.seen]
    if not gone:
        return []
    found = [
        Gap(
            provider, f"rec:{each.id}", Code.NO_LONGER_LISTED, Grade.OPEN,
            "listed before, not any more, and not archived", {}, shown.since, shown.until,
        )
        for each in gone if not each.safe
    ]  # fmt: skip
    narrowed = _narrowed(provider, shown, listed)
    found += narrowed
    evidence: dict[str, Json] = {"known": len(listed), "not_listed": len(gone), "safe": sum(each.safe for each in gone)}
    if len(gone) >= max(3, len(listed) / 5) and not narrowed:
        detail = f"{len(gone)} of {len(listed)} recordings that were listed before have disappeared from the listing"
        found.append(
            Gap(provider, "listing:history", Code.HISTORY_GONE, Grade.OPEN, detail, evidence, shown.since, shown.until)
        )
    elif any(each.safe for each in gone) and not narrowed:
        detail = f"{len(gone)} archived recording(s) are no longer listed; nothing of them is missing here"
        code = Code.NO_LONGER_LISTED
        found.append(Gap(provider, "listing:history", code, Grade.WATCHED, detail, evidence, shown.since, shown.until))
    return found


def _narrowed(provider: str, shown: Window, listed: Sequence[Listed]) -> list[Gap]:
    """A gap if a listing stopped showing whole parties while it still shows others: the credentials see less than
    before."""
    parties: dict[str, list[bool]] = defaultdict(list)
    for each in listed:
        parties[each.party].append(each.seen)
    silent = sorted(name for name, seen in parties.items() if name and len(seen) > 1 and not any(seen))
    if not silent or not any(any(seen) for seen in parties.values()):
        return []
    lost = sum(len(parties[name]) for name in silent)
    names: list[Json] = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in silent[:50]]
    detail = f"nothing of {len(silent)} of {len(parties)} users is listed any more ({lost} known recordings)"
    evidence: dict[str, Json] = {
        "users": len(parties),
        "users_not_listed": len(silent),
        "recordings": lost,
        "sha256": names,
    }
    return [
        Gap(
            provider, "listing:users", Code.CREDENTIALS_NARROWED, Grade.OPEN, detail, evidence, shown.since, shown.until
        )
    ]


def empty(provider: str, poll_error: str | None, now: datetime) -> list[Gap]:
    """A gap if the last poll got an empty listing where there had been recordings, and did not believe it."""
    if poll_error is None or EMPTY not in poll_error:
        return []
    detail = poll_error[poll_error.index(EMPTY) :][:200]
    return [Gap(provider, "listing:empty", Code.SUSPICIOUS_EMPTY, Grade.OPEN, detail, {}, None, now)]


def never_listed(provider: str, holes: Mapping[str, Sequence[Window]]) -> list[Gap]:
    """The gaps of spans of provider time that nobody enumerated, by scope."""
    return [
        Gap(
            provider, f"span:{scope}@{hole.since:%Y-%m-%dT%H:%M:%SZ}", Code.NEVER_LISTED, Grade.OPEN,
            f"never listed to its last page: {hole.since:%Y-%m-%d %H:%M} to {hole.until:%Y-%m-%d %H:%M} UTC",
            {"scope": scope}, hole.since, hole.until,
        )
        for scope, spans in holes.items() for hole in spans
    ]  # fmt: skip


def clock(provider: str, newest: datetime | None, now: datetime) -> list[Gap]:
    """A gap if the journal holds times in the future: a clock ran ahead, so times around it prove nothing.

    The gap keeps its subject at each look, so that the register keeps its first time: no day from then on is complete
    until a person has acknowledged the gap.
    """
    if newest is None or newest <= now + timedelta(minutes=5):
        return []
    stands = f"{newest:%Y-%m-%dT%H:%M:%SZ}"
    detail = f"the journal holds times up to {stands}, ahead of this clock: one of the two was wrong"
    return [Gap(provider, "clock", Code.CLOCK_JUMPED, Grade.OPEN, detail, {"newest": stands}, now, newest)]


# --- the account's own habits -------------------------------------------------------------------------------------


def volume(provider: str, counts: Mapping[date, int], covered: Iterable[date]) -> list[Gap]:
    """The gaps of fully listed days with no or hardly any recordings, where the same weekdays always had some.

    Only the run of days that ends with the last covered day is judged: earlier runs were reported in their time.
    """
    known = frozenset(covered)
    days = sorted(known)
    found: list[Gap] = []
    silent: list[date] = []
    expected = 0.0
    for day in reversed(days):
        if counts.get(day, 0):
            break
        silent.append(day)
        expected += _usual(day, counts, known)
    if silent and expected >= _SURE:
        first = silent[-1]
        detail = f"no recording on {len(silent)} day(s) since {first}, where some {expected:.0f} were to be expected"
        found.append(_quiet(provider, first, Code.VOLUME_ZERO, detail, expected, 0))
    elif days and not silent:
        last = days[-1]
        usual, here = _usual(last, counts, known), counts.get(last, 0)
        # A day with less than a fifth of the usual number; the root leaves small accounts room for chance.
        if usual >= 20 and here < usual / 5 - math.sqrt(usual) / 5:
            detail = f"{here} recordings on {last}, where some {usual:.0f} were to be expected"
            found.append(_quiet(provider, last, Code.VOLUME_DROPPED, detail, usual, here))
    return found


def _usual(day: date, counts: Mapping[date, int], covered: Collection[date]) -> float:
    """The mean of the same weekday in earlier weeks; 0 with less than two weeks, or if more than a quarter were
    silent."""
    weeks = [day - timedelta(weeks=n) for n in range(1, _WEEKS + 1)]
    before = [counts.get(each, 0) for each in weeks if each in covered]
    return mean(before) if len(before) >= 2 and before.count(0) * 4 <= len(before) else 0.0


def _quiet(provider: str, day: date, code: Code, detail: str, expected: float, here: int) -> Gap:
    evidence: dict[str, Json] = {"day": day.isoformat(), "expected": round(expected), "listed": here}
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Gap(provider, f"volume:{day}", code, Grade.OPEN, detail, evidence, since, since + timedelta(days=1))
