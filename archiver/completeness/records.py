"""Reads the journal and the custody log in order, a page at a time, each page in a short transaction of its own."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from sqlalchemy import select

from archiver.completeness import register
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.tables import statement
from archiver.custody import queries
from archiver.custody.queries import ChainLength
from archiver.database import Connection, Engine, read
from archiver.ingest import journal_pages
from archiver.ingest.journal_pages import PAGE, ClaimedCopy
from archiver.verify.finding import Finding, Kind
from archiver.verify.kept import SegmentRow, StatementRow, WindowRow

_OF_LOG = {
    Code.LOG_FORKED: Kind.LOG_FORKED,
    Code.WITNESS_SILENT: Kind.LOG_VOUCHER,
    Code.TIMESTAMP_SILENT: Kind.LOG_VOUCHER,
}
_CHAINS = 400  # subjects at a time, below either database's limit on parameters


async def copies(engine: Engine, storage: str) -> AsyncIterator[ClaimedCopy]:
    """Yields every copy that should be in `storage`, ordered by the bytes of its key.

    An object that several recordings share comes once for each recording.
    """
    key, recording_id = "", ""
    while page := await read(engine, _page_of_copies(storage, key, recording_id)):
        for each in page:
            yield each
        key, recording_id = page[-1].key, page[-1].recording_id


def _page_of_copies(storage: str, key: str, recording_id: str) -> Callable[[Connection], list[ClaimedCopy]]:
    return lambda conn: journal_pages.copies(conn, storage, key, recording_id)


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
        for row in journal_pages.listings(conn)
    ]  # fmt: skip


def kept_segments(conn: Connection) -> list[SegmentRow]:
    """All segments of the catalogue that the journal knows, in the form that verification needs."""
    return [
        SegmentRow(row.sealed_sha256, row.size, row.lines, row.retain_until, row.sealed_at)
        for row in journal_pages.segments(conn)
    ]


def log_findings(conn: Connection) -> list[Finding]:
    """Recorded forks, silent witnesses and silent time stamp authorities, as far as nobody has acknowledged them with a
    reason."""
    return [
        Finding(_OF_LOG[Code(str(each["code"]))], str(each["subject"]), str(each["detail"]))
        for each in register.open_gaps(conn, "")
        if each["code"] in _OF_LOG and each["acked_at"] is None and each["grade"] == Grade.OPEN
    ]


async def broken_chains(engine: Engine) -> AsyncIterator[Gap]:
    """Yields the gaps of archived recordings with missing custody events, and of chains without a recording in the
    journal.

    Only counts events: `archiver verify` checks whether each event is unchanged.
    """
    last = ""
    while page := await read(engine, _page_of_archived(last)):
        for recording_id, provider, chain in page:
            if chain is None or chain.head < 0:
                yield _broken(recording_id, provider, "archived, and no custody event says so")
            elif chain.events < chain.head + 1:
                detail = f"{chain.head + 1} custody events were written, {chain.events} are there"
                yield _broken(recording_id, provider, detail)
        last = page[-1][0]
    async for gap in _unknown(engine):
        yield gap


def _page_of_archived(last: str) -> Callable[[Connection], list[tuple[str, str, ChainLength | None]]]:
    def ask(conn: Connection) -> list[tuple[str, str, ChainLength | None]]:
        page = journal_pages.archived(conn, last, _CHAINS)
        chains = queries.lengths(conn, [f"rec:{recording_id}" for recording_id, _ in page])
        return [(recording_id, provider, chains.get(f"rec:{recording_id}")) for recording_id, provider in page]

    return ask


async def _unknown(engine: Engine) -> AsyncIterator[Gap]:
    last = -1

    def ask(conn: Connection) -> list[tuple[int, str, bool]]:
        page = queries.subjects_behind(conn, last, "rec:", PAGE)
        known = journal_pages.known(conn, [subject.removeprefix("rec:") for _, subject in page])
        return [(number, subject, subject.removeprefix("rec:") in known) for number, subject in page]

    while page := await read(engine, ask):
        for _, subject, there in page:
            if not there:
                detail = "custody events tell of a recording that the journal does not know"
                yield Gap("", subject, Code.ORPHAN, Grade.OPEN, detail)
        last = page[-1][0]


def _broken(recording_id: str, provider: str, detail: str) -> Gap:
    return Gap(provider, f"rec:{recording_id}", Code.CHAIN_GAP, Grade.OPEN, detail)
