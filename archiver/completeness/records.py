"""Reads the journal and the custody log in order, a page at a time, each page in a short transaction of its own."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, TextClause, func, literal, select, text, union_all

from archiver.completeness import register
from archiver.completeness.compare import Copy
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.tables import statement
from archiver.custody.tables import custody_pending, custody_subject, custody_subject_event
from archiver.database import read
from archiver.ingest.tables import catalogue_segment, copy, listing_window, recording
from archiver.recording import LockMode, State
from archiver.verify.finding import Finding, Kind
from archiver.verify.kept import SegmentRow, StatementRow, WindowRow

PAGE = 5_000
_OF_LOG = {
    Code.LOG_FORKED: Kind.LOG_FORKED,
    Code.WITNESS_SILENT: Kind.LOG_VOUCHER,
    Code.TIMESTAMP_SILENT: Kind.LOG_VOUCHER,
}
_CHAINS = 400  # subjects at a time, below either database's limit on parameters


async def copies(engine: Engine, storage: str) -> AsyncIterator[Copy]:
    """Yields every copy that should be in `storage`, ordered by the bytes of its key.

    An object that several recordings share comes once for each recording.
    """
    key, recording_id = "", ""
    while page := await read(engine, _page_of_copies(storage, key, recording_id)):
        for each in page:
            yield each
        key, recording_id = page[-1].key, page[-1].recording_id


def _page_of_copies(storage: str, key: str, recording_id: str) -> Callable[[Connection], list[Copy]]:
    def ask(conn: Connection) -> list[Copy]:
        behind, order = _by_bytes(conn, key, recording_id)
        rows = conn.execute(
            select(copy, recording.c.provider)
            .join(recording, recording.c.id == copy.c.recording_id)
            .where(copy.c.storage == storage, recording.c.state != State.DISPOSED, behind)
            .order_by(*order)
            .limit(PAGE)
        )
        return [
            Copy(row.storage, row.key, row.version_id, row.recording_id, row.provider, row.size, row.sealed_sha256,
                 LockMode.read(row.lock_mode, LockMode.COMPLIANCE), row.retain_until, row.stored_at)
            for row in rows
        ]  # fmt: skip

    return ask


def kept_statements(conn: Connection) -> list[StatementRow]:
    """All statements, in the form that verification needs."""
    return [
        StatementRow(
            row.provider, row.day.isoformat(), row.document, row.sha256, row.issued_at, row.revision, row.event_seq
        )
        for row in conn.execute(select(statement).order_by(statement.c.provider, statement.c.day))
    ]


def kept_windows(conn: Connection) -> list[WindowRow]:
    """All listings that were walked to their end, in the form that verification needs."""

    def iso(instant: datetime) -> str:
        return instant.strftime("%Y-%m-%dT%H:%M:%SZ")

    return [
        WindowRow(
            row.provider, unicodedata.normalize("NFC", row.scope), iso(row.since), iso(row.until), row.rows, row.total,
            row.digest, iso(row.completed_at),
        )
        for row in conn.execute(select(listing_window).order_by(listing_window.c.completed_at))
    ]  # fmt: skip


def kept_segments(conn: Connection) -> list[SegmentRow]:
    """All segments of the catalogue that the journal knows, in the form that verification needs."""
    return [
        SegmentRow(row.sealed_sha256, row.size, row.lines, row.retain_until, row.sealed_at)
        for row in conn.execute(select(catalogue_segment).order_by(catalogue_segment.c.sealed_at))
    ]


def log_findings(conn: Connection) -> list[Finding]:
    """Recorded forks, silent witnesses and silent time stamp authorities, as far as nobody has acknowledged them with a
    reason."""
    return [
        Finding(_OF_LOG[Code(str(each["code"]))], str(each["subject"]), str(each["detail"]))
        for each in register.open_gaps(conn, "")
        if each["code"] in _OF_LOG and each["acked_at"] is None and each["grade"] == Grade.OPEN
    ]


def _by_bytes(
    conn: Connection, key: str, recording_id: str
) -> tuple[ColumnElement[bool], Sequence[ColumnElement[Any] | TextClause]]:
    """The condition for rows behind this key and recording, and their order: a bucket's order, in any locale of PostgreSQL."""
    columns = copy.c
    if conn.dialect.name != "postgresql":
        behind = (columns.key > key) | ((columns.key == key) & (columns.recording_id > recording_id))
        return (columns.key >= key) & behind, (columns.key, columns.recording_id)
    after: ColumnElement[bool] = columns.key.op("~>~", is_comparison=True)(key)
    at_least: ColumnElement[bool] = columns.key.op("~>=~", is_comparison=True)(key)
    behind = after | ((columns.key == key) & (columns.recording_id > recording_id))
    return at_least & behind, (text("copy.key USING ~<~"), columns.recording_id)


async def broken_chains(engine: Engine) -> AsyncIterator[Gap]:
    """Yields the gaps of archived recordings with missing custody events, and of chains without a recording in the journal.

    Only counts events: `archiver verify` checks whether each event is unchanged.
    """
    last = ""
    while page := await read(engine, _page_of_archived(last)):
        for recording_id, provider, head, events in page:
            if head is None or head < 0:
                yield _broken(recording_id, provider, "archived, and no custody event says so")
            elif events < head + 1:
                detail = f"{head + 1} custody events were written, {events} are there"
                yield _broken(recording_id, provider, detail)
        last = page[-1][0]
    async for gap in _unknown(engine):
        yield gap


def _page_of_archived(last: str) -> Callable[[Connection], list[tuple[str, str, int | None, int]]]:
    def ask(conn: Connection) -> list[tuple[str, str, int | None, int]]:
        rows = conn.execute(
            select(recording.c.id, recording.c.provider, custody_subject.c.subject_no, custody_subject.c.head_seq)
            .outerjoin(custody_subject, custody_subject.c.subject == literal("rec:").concat(recording.c.id))
            .where(recording.c.id > last, recording.c.state == State.ARCHIVED)
            .order_by(recording.c.id)
            .limit(_CHAINS)
        ).all()
        events = _events(conn, [row.subject_no for row in rows if row.subject_no is not None])
        return [(row.id, row.provider, row.head_seq, events.get(row.subject_no, 0)) for row in rows]

    return ask


def _events(conn: Connection, numbers: Sequence[int]) -> dict[int, int]:
    """The number of events of each subject, in the log and in the queue; an event in both counts once."""
    if not numbers:
        return {}
    places = union_all(
        *(
            select(each.c.subject_no, each.c.seq).where(each.c.subject_no.in_(numbers))
            for each in (custody_subject_event, custody_pending)
        )
    ).subquery()
    rows = conn.execute(select(places.c.subject_no, func.count(places.c.seq.distinct())).group_by(places.c.subject_no))
    return {int(number): int(count) for number, count in rows}


async def _unknown(engine: Engine) -> AsyncIterator[Gap]:
    last = -1

    def ask(conn: Connection) -> list[tuple[int, str, bool]]:
        # One side is the bare column, so that the index is used: otherwise every subject would read every recording.
        known = select(recording.c.id).where(recording.c.id == func.substr(custody_subject.c.subject, 5)).exists()
        rows = conn.execute(
            select(custody_subject.c.subject_no, custody_subject.c.subject, known)
            .where(custody_subject.c.subject_no > last, custody_subject.c.subject.startswith("rec:"))
            .order_by(custody_subject.c.subject_no)
            .limit(PAGE)
        )
        return [(row[0], row[1], bool(row[2])) for row in rows]

    while page := await read(engine, ask):
        for _, subject, there in page:
            if not there:
                detail = "custody events tell of a recording that the journal does not know"
                yield Gap("", subject, Code.ORPHAN, Grade.OPEN, detail)
        last = page[-1][0]


def _broken(recording_id: str, provider: str, detail: str) -> Gap:
    return Gap(provider, f"rec:{recording_id}", Code.CHAIN_GAP, Grade.OPEN, detail)
