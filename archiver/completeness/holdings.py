"""Reads figures for clocks, cost and forecast: the recordings that an account still holds, and the backlog. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, case, cast, func, literal, or_, select

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
from archiver.ingest import discovery
from archiver.ingest.survey import PENDING
from archiver.ingest.tables import recording
from archiver.recording import Reason, State, Window
from archiver.schedule.deadline import ProviderRetention

_RECENT = timedelta(days=30)
_MEASURED = timedelta(days=7)
_UNMEASURED = 1_000_000  # bytes a second: a slow line, until anything has been measured


def held(conn: Connection, providers: Sequence[str], kept: ProviderRetention, now: datetime) -> Held:
    """The recordings that the provider still keeps of one account: measured where received, otherwise estimated by length.

    `providers`: the configured providers that read this account. A recording that several of them list counts once.
    """
    columns = recording.c
    oldest = now - kept.keeps if kept.keeps is not None else None
    there = [columns.provider.in_(providers), columns.state != State.ABSENT, columns.state != State.GONE]
    if oldest is not None:
        there.append(columns.call_started_at >= oldest)
    wanted = (columns.plaintext_bytes, columns.duration_ms, columns.call_started_at)
    if len(providers) == 1:
        each = select(*wanted).where(*there).subquery().c
    else:
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
    """The clocks of one recording now; [] when the journal does not know it. `shared`: the `providers` of `quota_of`."""
    row = conn.execute(select(recording).where(recording.c.id == recording_id)).one_or_none()
    if row is None:
        return []
    called_at = min(row.call_ended_at or row.call_started_at or row.listed_at, row.listed_at)
    account = shared or (row.provider,)
    rate = discovery.bytes_per_day(conn, account, now, BYTES_PER_SECOND) if kept.quota_bytes is not None else 0.0
    link_until = None if of.link_life is None else row.last_seen_at + of.link_life
    return clocks(called_at, kept, bytes_per_day=rate, link_until=link_until)


def quota_of(conn: Connection, providers: Sequence[str], kept: ProviderRetention, now: datetime) -> Quota | None:
    """The use of one account's storage, and the time when it is full; None for a provider without a quota.

    The limit is the account's: all `providers` that read the account, with other filters or for other products, are added up.
    """
    return quota(held(conn, providers, kept, now), kept, now) if kept.quota_bytes is not None else None


def storage_cost_of(conn: Connection, provider: str, kind: str, now: datetime) -> StorageCost | None:
    """The cost of storing all listed recordings at the provider; None for a provider that states no price.

    Plivo's price is in its documents, Vobiz's in each row. Recordings are added up by day, each rounded up to whole minutes.
    """
    if kind not in {"plivo", "vobiz"}:
        return None
    columns = recording.c
    started = columns.call_started_at
    sqlite = conn.dialect.name == "sqlite"
    day = func.substr(started, 1, 10) if sqlite else func.to_char(func.timezone("UTC", started), "YYYY-MM-DD")
    rate: ColumnElement[Any] = literal(None)
    if kind == "vobiz":
        stated = cast(columns.metadata, JSON)
        rate = (
            func.json_extract(columns.metadata, "$.recording_storage_rate")
            if sqlite
            else func.json_extract_path_text(stated, "recording_storage_rate")
        )
    each = (
        select(day.label("day"), rate.label("rate"), ((columns.duration_ms + 59_999) / 60_000).label("minutes"))
        .where(columns.provider == provider, columns.variant == "", columns.state.not_in([State.ABSENT, State.GONE]))
        .where(started.is_not(None), columns.duration_ms.is_not(None))
        .subquery()
        .c
    )
    rows = conn.execute(
        select(each.day, each.rate, func.sum(each.minutes).label("minutes")).group_by(each.day, each.rate)
    )
    if kind == "plivo":
        return storage_cost([Stay(_morning(row.day), int(row.minutes)) for row in rows], now)
    priced = [(row, micros) for row in rows if (micros := _micros(row.rate)) is not None]
    stays = [Stay(_morning(row.day), int(row.minutes), micros=micros, free=timedelta(0)) for row, micros in priced]
    return storage_cost(stays, now, VOBIZ_TERMS, None) if stays else None


def _morning(day: str) -> datetime:
    return utc_day(datetime.fromisoformat(str(day)).date()).since


def _micros(rate: object) -> int | None:
    """A price as a row states it, in millionths; None for a value that is no price."""
    try:
        found = Decimal(str(rate))
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
        .where(columns.provider == provider, columns.state.in_([each for each in PENDING if each is not State.SPOOLED]))
        .where(columns.delete_at.is_not(None), waits)
        .group_by(hour)
    )
    return [
        Pending(first, round(float(average) / 1000 * BYTES_PER_SECOND), int(count)) for _, count, average, first in rows
    ]


def capacity(conn: Connection, provider: str, now: datetime, items_per_second: float) -> Capacity:
    """The account's capacity: in bytes, that of its best hour in the last week; in recordings, that of its rate budget."""
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
