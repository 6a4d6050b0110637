"""Counts recordings by provider, day and state, so that no report adds up all rows. The database keeps the counts
itself.

Triggers on `recording` change the counts in the transaction of the row's own change, whoever makes it. So the counts
are as true as the rows; the daemon compares them with the rows once a
day (`wrong`), and makes wrong ones anew. PostgreSQL's writers use several rows for one
count, lest they wait for one another: add the rows up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import DDL, Connection, event, func, select, text

from archiver.ingest.tables import DENIED, recording, recording_day, unindexed

SHARDS = 8  # more than the replicas that a database is likely to serve

_RATE = "recording_storage_rate"  # Vobiz states the price of storage in each row
_MEASURES = ("n", "bytes", "unweighed_ms", "ms", "minutes")
_KEY = ("shard", "provider", "day", "state", "silent", "rate")
# A change of any of these may move a row from one count to another.
_WATCHED = ("provider", "variant", "state", "attempts", "call_started_at", "listed_at", "duration_ms", "plaintext_bytes",
            "metadata")  # fmt: skip


@dataclass(frozen=True, slots=True)
class DayCount:
    """The recordings of one provider, UTC day and state. A call without a start counts on the day when it was listed.

    `silent`: the provider's log says that the call has no recording. `bytes`: received audio; `unweighed_ms`: the
    length of recordings whose bytes are unknown; `ms`: the length of all; `minutes`: each one's length rounded up, for
    prices; `rate`: the provider's price as the row states it, or "".
    """

    provider: str
    day: date
    state: str
    silent: bool
    rate: str
    n: int
    bytes: int
    unweighed_ms: int
    ms: int
    minutes: int


def day_counts(
    conn: Connection, provider: str | None = None, since: date | None = None, until: date | None = None
) -> Iterator[DayCount]:
    """Yields the counts of one provider, or of all, from day `since` up to, not including, `until`, in order of
    days."""
    columns = recording_day.c
    key = (columns.provider, columns.day, columns.state, columns.silent, columns.rate)
    sums = [func.sum(columns[name]).label(name) for name in _MEASURES]
    wanted = select(*key, *sums).group_by(*key).order_by(columns.provider, columns.day)
    if provider is not None:
        wanted = wanted.where(columns.provider == provider)
    if since is not None:
        wanted = wanted.where(columns.day >= since.isoformat())
    if until is not None:
        wanted = wanted.where(columns.day < until.isoformat())
    for row in conn.execute(wanted):
        if row.n:
            yield DayCount(
                row.provider, date.fromisoformat(row.day), row.state, bool(row.silent), row.rate,
                int(row.n), int(row.bytes), int(row.unweighed_ms), int(row.ms), int(row.minutes),
            )  # fmt: skip


def states(conn: Connection) -> dict[str, dict[str, int]]:
    """Returns, for each provider, its number of recordings in each state."""
    columns = recording_day.c
    found: dict[str, dict[str, int]] = {}
    wanted = select(columns.provider, columns.state, func.sum(columns.n).label("n"))
    for row in conn.execute(wanted.group_by(columns.provider, columns.state)):
        if row.n:
            found.setdefault(row.provider, {})[row.state] = int(row.n)
    return found


def denied_briefly(conn: Connection, provider: str, longest: timedelta, since: date, until: date) -> Counter[date]:
    """Counts the calls without a recording that were asked for although they lasted no longer than `longest`, by day.

    Such calls count as `silent`, too: their length is the reason why the provider recorded nothing.
    """
    columns = recording.c
    at = func.coalesce(columns.call_started_at, columns.listed_at, type_=columns.listed_at.type)
    wanted = select(at).where(
        unindexed(columns.provider) == provider, DENIED,
        columns.duration_ms <= round(longest.total_seconds() * 1000), at >= _morning(since), at < _morning(until),
    )  # fmt: skip
    return Counter(each.astimezone(UTC).date() for each in conn.execute(wanted).scalars())


def _morning(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def recount(conn: Connection) -> None:
    """Makes all counts anew from the rows, in the caller's transaction."""
    conn.execute(recording_day.delete())
    conn.execute(text(FILL[conn.dialect.name]))


def wrong(conn: Connection) -> list[str]:
    """Returns a sentence for each count that the rows contradict. Reads every row: seconds for a million."""
    listed = "provider, day, state, silent, rate"
    sums = ", ".join(f"SUM({name})" for name in _MEASURES)
    kept = f"SELECT {listed}, {sums} FROM recording_day GROUP BY {listed} HAVING SUM(n) <> 0"  # noqa: S608  constants
    rows = f"SELECT {', '.join(_expressions(conn.dialect.name, 'r')[1:])} FROM recording AS r"  # noqa: S608  constants
    named = ", ".join(_KEY[1:] + _MEASURES)
    true = f"SELECT {listed}, {sums} FROM ({_named(rows, named)}) AS t GROUP BY {listed}"  # noqa: S608  constants
    found = []
    for only, other in ((kept, true), (true, kept)):
        for row in conn.execute(text(f"{only} EXCEPT {other}")):
            said = "counted" if only is kept else "there"
            found.append(f"{row[0]} {row[1]} {row[2]}: {row[5]} {said}")
    return found


def _named(query: str, names: str) -> str:
    return f"WITH t({names}) AS ({query}) SELECT * FROM t"  # noqa: S608  constants


# --- what the triggers do ----------------------------------------------------------------------------------------------


def _expressions(dialect: str, row: str) -> list[str]:
    """Returns the key and the measures of one row, as expressions in the order of the columns of `recording_day`."""
    at = f"coalesce({row}.call_started_at, {row}.listed_at)"
    if dialect == "sqlite":
        shard, day = "0", f"substr({at}, 1, 10)"
        silent = f"({row}.state = 'absent' AND {row}.attempts = 0)"
        # Not read as JSON, here as below: SQLite lets no trigger do that, and a value that PostgreSQL refuses, such as
        # \u0000, must not keep a recording out.
        found = f"instr({row}.metadata, '\"{_RATE}\": ')"
        rest = f"substr({row}.metadata, {found} + {len(_RATE) + 4}, 40)"
        value = f"substr({rest}, 1, instr(replace({rest}, '}}', ',') || ',', ',') - 1)"
        rate = f"CASE {found} WHEN 0 THEN '' ELSE trim({value}, '\"') END"
    else:
        shard, day = f"pg_backend_pid() % {SHARDS}", f"to_char(timezone('UTC', {at}), 'YYYY-MM-DD')"
        silent = f"({row}.state = 'absent' AND {row}.attempts = 0)::int"
        rate = f"coalesce(substring({row}.metadata from '\"{_RATE}\": ?\"?([-+.eE0-9]{{1,40}})'), '')"
    timed = f"{row}.variant = '' AND {row}.call_started_at IS NOT NULL"
    return [
        shard, f"{row}.provider", day, f"{row}.state", silent, rate,
        "1", f"coalesce({row}.plaintext_bytes, 0)",
        f"CASE WHEN {row}.plaintext_bytes IS NULL THEN coalesce({row}.duration_ms, 0) ELSE 0 END",
        f"coalesce({row}.duration_ms, 0)",
        f"CASE WHEN {timed} THEN (coalesce({row}.duration_ms, 0) + 59999) / 60000 ELSE 0 END",
    ]  # fmt: skip


def _change(dialect: str, row: str, sign: str) -> str:
    """Returns the statement that adds one row to its count, or takes it away."""
    values = _expressions(dialect, row)
    signed = values[: len(_KEY)] + [f"{sign}({value})" for value in values[len(_KEY) :]]
    sums = ", ".join(f"{name} = recording_day.{name} + excluded.{name}" for name in _MEASURES)
    return (
        f"INSERT INTO recording_day ({', '.join(_KEY + _MEASURES)}) VALUES ({', '.join(signed)}) "  # noqa: S608  constants
        f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {sums};"
    )


def _fill(dialect: str) -> str:
    values = _expressions(dialect, "r")
    values[0] = "0"
    sums = ", ".join(f"SUM({name})" for name in _MEASURES)
    key = ", ".join(_KEY)
    each = _named(f"SELECT {', '.join(values)} FROM recording AS r", ", ".join(_KEY + _MEASURES))  # noqa: S608  constants
    return f"INSERT INTO recording_day ({key}, {', '.join(_MEASURES)}) SELECT {key}, {sums} FROM ({each}) AS e GROUP BY {key}"  # noqa: S608


FILL = {dialect: _fill(dialect) for dialect in ("sqlite", "postgresql")}
"""The statement that counts all rows, by dialect."""


def triggers(dialect: str) -> list[str]:
    """Returns the statements that make the database keep the counts."""
    add, remove = _change(dialect, "NEW", "+"), _change(dialect, "OLD", "-")
    update = f"AFTER UPDATE OF {', '.join(_WATCHED)} ON recording"
    old, new = (", ".join(f"{row}.{name}" for name in _WATCHED) for row in ("OLD", "NEW"))
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER recording_day_insert AFTER INSERT ON recording BEGIN {add} END",
            f"CREATE TRIGGER recording_day_delete AFTER DELETE ON recording BEGIN {remove} END",
            f"CREATE TRIGGER recording_day_update {update} WHEN ({old}) IS NOT ({new}) BEGIN {remove} {add} END",
        ]
    body = f"IF TG_OP <> 'INSERT' THEN {remove} END IF; IF TG_OP <> 'DELETE' THEN {add} END IF; RETURN NULL;"
    when = f"WHEN (({old}) IS DISTINCT FROM ({new}))"
    return [
        f"CREATE OR REPLACE FUNCTION count_recording() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        "CREATE TRIGGER recording_day_rows AFTER INSERT OR DELETE ON recording FOR EACH ROW EXECUTE FUNCTION count_recording()",
        f"CREATE TRIGGER recording_day_update {update} FOR EACH ROW {when} EXECUTE FUNCTION count_recording()",
    ]


def _listen() -> None:
    for dialect in ("sqlite", "postgresql"):
        for statement in triggers(dialect):
            ddl: Any = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
            event.listen(recording_day, "after_create", ddl.execute_if(dialect=dialect))


_listen()
