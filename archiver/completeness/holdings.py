"""Reads figures for clocks, cost and forecast: the recordings that an account still holds, and the backlog. Reads
only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from sqlalchemy import ColumnElement, Connection, case, func, or_, select

from archiver.completeness.clocks import (
    BYTES_PER_SECOND,
    VOBIZ_TERMS,
    Clock,
    Held,
    Quota,
    Stay,
    StorageCost,
    clocks,
    quota,
    storage_cost,
)
from archiver.completeness.forecast import Capacity, Forecast, Pending, forecast
from archiver.completeness.gap import Profile
from archiver.completeness.observe import utc_day
from archiver.ingest import deadlines
from archiver.ingest.day_counts import day_counts
from archiver.ingest.tables import IN_WORK, recording, unindexed
from archiver.recording import Reason, State, Window
from archiver.schedule.deadline import ProviderRetention

_RECENT = timedelta(days=30)
_MEASURED = timedelta(days=7)
_UNMEASURED = 1_000_000  # bytes a second: a slow line, until anything has been measured


def held(conn: Connection, providers: Sequence[str], kept: ProviderRetention, now: datetime) -> Held:
    """The recordings that the provider still keeps of one account: measured where received, otherwise estimated by
    length.

    `providers`: the configured providers that read this account. A recording that several of them list counts once. For
    one provider, whole days come from the counts by day; only the recordings of the oldest day are looked at one by
    one.
    """
    oldest = now - kept.keeps if kept.keeps is not None else None
    if len(providers) > 1:
        return _held_once(conn, providers, oldest, now)
    (provider,) = providers
    first = None if oldest is None else oldest.astimezone(UTC).date()
    days = [each for each in day_counts(conn, provider, first) if each.state not in {State.ABSENT, State.GONE}]
    weighed, unweighed = sum(each.bytes for each in days), sum(each.unweighed_ms for each in days) / 1000
    begins = _began(conn, provider, min(each.day for each in days)) if days else now
    if oldest is not None:
        gone = _before(conn, provider, utc_day(oldest.astimezone(UTC).date()).since, oldest)
        weighed, unweighed, begins = weighed - gone[0], unweighed - gone[1], max(begins, oldest)
    since = max(now - _RECENT, begins)
    lately = [each for each in days if each.day >= since.astimezone(UTC).date()]
    recent = sum(each.bytes + each.unweighed_ms / 1000 * BYTES_PER_SECOND for each in lately)
    early = _before(conn, provider, utc_day(since.astimezone(UTC).date()).since, since)
    recent -= early[0] + early[1] * BYTES_PER_SECOND
    return Held(weighed, unweighed, recent, max(now - since, timedelta(days=1)) / timedelta(days=1))


def _before(conn: Connection, provider: str, since: datetime, until: datetime) -> tuple[int, float]:
    """The bytes, and the seconds of what has no bytes yet, of the provider's recordings that began in this part of a
    day."""
    columns = recording.c
    seconds = columns.duration_ms / 1000.0
    row = conn.execute(
        select(
            func.coalesce(func.sum(columns.plaintext_bytes), 0).label("weighed"),
            func.coalesce(func.sum(case((columns.plaintext_bytes.is_(None), seconds))), 0.0).label("unweighed"),
        ).where(
            columns.provider == provider, columns.state.not_in([State.ABSENT, State.GONE]),
            columns.call_started_at >= since, columns.call_started_at < until,
        )
    ).one()  # fmt: skip
    return int(row.weighed), float(row.unweighed)


def _began(conn: Connection, provider: str, day: date) -> datetime:
    """The time of the provider's first call on this day; the day's beginning, where no row states a time."""
    span, started = utc_day(day), recording.c.call_started_at
    there = (recording.c.state.not_in([State.ABSENT, State.GONE]), started >= span.since, started < span.until)
    first: datetime | None = conn.execute(
        select(func.min(started)).where(recording.c.provider == provider, *there)
    ).scalar()
    return first or span.since


def _held_once(conn: Connection, providers: Sequence[str], oldest: datetime | None, now: datetime) -> Held:
    """As `held`, of an account that several configured providers read: recordings are told apart one by one."""
    columns = recording.c
    there: list[ColumnElement[bool]] = [
        columns.provider.in_(providers),
        columns.state.not_in([State.ABSENT, State.GONE]),
    ]
    if oldest is not None:
        there.append(columns.call_started_at >= oldest)
    wanted = (columns.plaintext_bytes, columns.duration_ms, columns.call_started_at)
    once = (columns.account, columns.provider_recording_id, columns.variant, columns.revision)
    largest = [func.max(column).label(column.name) for column in wanted]
    each = select(*largest).where(*there).group_by(*once).subquery().c
    seconds = each.duration_ms / 1000.0
    row = conn.execute(
        select(
            func.coalesce(func.sum(each.plaintext_bytes), 0).label("weighed"),
            func.coalesce(func.sum(case((each.plaintext_bytes.is_(None), seconds))), 0.0).label("unweighed"),
            func.min(each.call_started_at).label("first"),
        )
    ).one()
    since = max(now - _RECENT, row.first) if row.first is not None else now
    size = func.coalesce(each.plaintext_bytes, seconds * BYTES_PER_SECOND)
    recent = conn.execute(select(func.coalesce(func.sum(size), 0.0)).where(each.call_started_at >= since)).scalar_one()
    days = max(now - since, timedelta(days=1)) / timedelta(days=1)
    return Held(int(row.weighed), float(row.unweighed), float(recent), days)


def clocks_of(
    conn: Connection, recording_id: str, kept: ProviderRetention, of: Profile, now: datetime, shared: Sequence[str] = ()
) -> list[Clock]:
    """The clocks of one recording now; [] when the journal does not know it. `shared`: the `providers` of
    `quota_of`."""
    row = conn.execute(select(recording).where(recording.c.id == recording_id)).one_or_none()
    if row is None:
        return []
    called_at = min(row.call_ended_at or row.call_started_at or row.listed_at, row.listed_at)
    account = shared or (row.provider,)
    rate = deadlines.bytes_per_day(conn, account, now, BYTES_PER_SECOND) if kept.quota_bytes is not None else 0.0
    link_until = None if of.link_life is None else row.last_seen_at + of.link_life
    return clocks(called_at, kept, bytes_per_day=rate, link_until=link_until)


def quota_of(conn: Connection, providers: Sequence[str], kept: ProviderRetention, now: datetime) -> Quota | None:
    """The use of one account's storage, and the time when it is full; None for a provider without a quota.

    The limit is the account's: all `providers` that read the account, with other filters or for other products, are
    added up.
    """
    return quota(held(conn, providers, kept, now), kept, now) if kept.quota_bytes is not None else None


def storage_cost_of(conn: Connection, provider: str, kind: str, now: datetime) -> StorageCost | None:
    """The cost of storing all listed recordings at the provider; None for a provider that states no price.

    Plivo's price is in its documents, Vobiz's in each row. Recordings are added up by day, each rounded up to whole
    minutes.
    """
    if kind not in {"plivo", "vobiz"}:
        return None
    there = [
        each for each in day_counts(conn, provider) if each.minutes and each.state not in {State.ABSENT, State.GONE}
    ]
    if kind == "plivo":
        minutes: Counter[date] = Counter()
        for each in there:
            minutes[each.day] += each.minutes
        return storage_cost([Stay(utc_day(day).since, count) for day, count in minutes.items()], now)
    priced = [(each, micros) for each in there if (micros := _micros(each.rate)) is not None]
    stays = [Stay(utc_day(each.day).since, each.minutes, micros=micros, free=timedelta(0)) for each, micros in priced]
    return storage_cost(stays, now, VOBIZ_TERMS, None) if stays else None


def _micros(rate: str) -> int | None:
    """A price as a row states it, in millionths; None for a value that is no price."""
    try:
        found = Decimal(rate)
    except InvalidOperation:
        return None
    return round(found * 1_000_000) if found.is_finite() and 0 <= found < 1_000_000 else None


def backlog(conn: Connection, provider: str) -> list[Pending]:
    """The recordings still to be fetched, grouped by the hour of their deadline: a million become a few thousand rows.

    Only recordings with a deadline whose audio is ready: the others cannot be lost by lateness.
    """
    columns = recording.c
    hour = (
        func.substr(columns.delete_at, 1, 13)
        if conn.dialect.name == "sqlite"
        else func.to_char(func.timezone("UTC", columns.delete_at), 'YYYY-MM-DD"T"HH24')
    )
    waits = or_(columns.reason.is_(None), columns.reason != Reason.NOT_READY)
    rows = conn.execute(
        select(hour, func.count(), func.coalesce(func.avg(columns.duration_ms), 0), func.min(columns.delete_at))
        .where(unindexed(columns.provider) == provider, IN_WORK, columns.state != State.SPOOLED)
        .where(columns.delete_at.is_not(None), waits)
        .group_by(hour)
    )
    return [
        Pending(first, round(float(average) / 1000 * BYTES_PER_SECOND), int(count)) for _, count, average, first in rows
    ]


def capacity(conn: Connection, provider: str, now: datetime, items_per_second: float) -> Capacity:
    """The account's capacity: in bytes, that of its best hour in the last week; in recordings, that of its rate
    budget."""
    columns = recording.c
    hour = (
        func.substr(columns.archived_at, 1, 13)
        if conn.dialect.name == "sqlite"
        else func.to_char(columns.archived_at, "YYYY-MM-DD HH24")
    )
    hours = (
        select(func.sum(columns.plaintext_bytes).label("size"))
        .where(columns.provider == provider, columns.archived_at >= now - _MEASURED)
        .group_by(hour)
        .subquery()
    )
    best = conn.execute(select(func.max(hours.c.size))).scalar()
    # Idle hours do not show the capacity: the figure is never less than that of a slow line.
    return Capacity(max(float(best or 0) / 3600, _UNMEASURED), items_per_second)


def forecast_of(
    conn: Connection, provider: str, now: datetime, items_per_second: float, outages: Sequence[Window] = ()
) -> Forecast:
    """The forecast for this provider's present backlog. `items_per_second`: its rate budget, in recordings."""
    room = capacity(conn, provider, now, items_per_second)
    return forecast(backlog(conn, provider), now, room, outages)
