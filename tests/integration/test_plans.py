"""No question that a poll, a scrape or a person asks reads every recording: the databases' own plans say so."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Engine, event

from archiver.database import reading
from benchmarks import scale

# Words within a call's details have no index: the newest page is found by reading, at some 0.8 µs a recording.
_READS_ALL = {"list --text, found", "list --text, nowhere"}
# A page of a list is read in the list's own order, up to the number of rows that is asked for.
# An index of some rows only, however many there are in all.
_PARTIAL = (
    "recording_pending",
    "recording_denied",
    "recording_flagged",
    "recording_ready",
    "recording_due",
    "recording_owner",
)
_IN_ORDER = {"list", "list --provider", "list --state", "list --agent"}


def test_questions_are_answered_by_indexes_and_not_by_all_rows(database: Engine) -> None:
    scale.fill(database, 1_000)
    found: dict[str, list[str]] = {}
    for name, ask in scale.questions().items():
        statements = _statements(database, ask)
        assert statements, name
        with database.connect() as conn:
            if database.dialect.name == "postgresql":
                conn.exec_driver_sql("SET enable_seqscan = off")  # a thousand rows are read faster without an index
            for each in statements:
                found.setdefault(name, []).extend(_whole_reads(conn, *each, ordered=name in _IN_ORDER))
    assert {name: lines for name, lines in found.items() if lines and name not in _READS_ALL} == {}
    with reading(database) as conn:  # the plan of one that does read all rows is recognised
        assert _whole_reads(conn, "SELECT sum(length(raw)) FROM recording", (), ordered=False)


def _statements(database: Engine, ask: scale.Question) -> list[tuple[str, Any]]:
    asked: list[tuple[str, Any]] = []

    def note(_conn: Connection, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database, "before_cursor_execute", note)
    with reading(database) as conn:
        ask(conn)
    event.remove(database, "before_cursor_execute", note)
    return [each for each in asked if re.match(r"\s*(SELECT|WITH)", each[0])]


def _whole_reads(conn: Connection, statement: str, parameters: Any, *, ordered: bool) -> list[str]:
    sqlite = conn.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
    plan = [str(row[-1]) for row in conn.exec_driver_sql(explain + statement, parameters)]
    pattern = r"^SCAN (recording|copy)\b" if sqlite else r"Seq Scan on (recording|copy)\b"
    found = [line for line in plan if re.search(pattern, line) and not any(name in line for name in _PARTIAL)]
    return [line for line in found if not (ordered and "recording_order" in line)]
