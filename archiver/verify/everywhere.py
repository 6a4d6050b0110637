"""Checks the custody log wherever it is: in the database, in each storage, and in the notary's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from archiver.database import Connection, Engine, read
from archiver.errors import UnavailableError, VerificationError
from archiver.store.port import ObjectStore
from archiver.translog.notary import Notary
from archiver.verify.finding import Finding, Kind, Verification
from archiver.verify.leaves import Trust
from archiver.verify.log import check_log, find_log
from archiver.verify.protection import ExpectedLock
from archiver.verify.published_log import check_published_log
from archiver.verify.recent import check_edge, check_window
from archiver.verify.recorded_log import RecordedLog, recorded_log


async def check_everywhere(
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    trust: Trust,
    result: Verification,
    *,
    notary: Notary | None,
    on_record: Sequence[Finding],
    locks: Mapping[str, ExpectedLock],
    level: str,
    since: datetime | None = None,
) -> None:
    """Check the log at this level: in the database, on every storage, and in the memory of the notary, if it is on this
    host.

    `on_record` are the findings that the archive's register of gaps has about the log already.
    """
    log_id = await read(engine, lambda conn: find_log(conn, trust))
    lost = await read(engine, lambda conn: _database(conn, log_id, trust, result, level, since))
    result.findings += on_record
    recorded = None if log_id is None else await recorded_log(engine, log_id, lost)
    for name, store in stores.items():
        await check_published_log(
            store.shelf(in_passing=True), trust, recorded, result, whole=level == "full", expected=locks.get(name)
        )
    if notary is None:
        result.unchecked["the notary: its state is not on this host"] += 1
    elif recorded is not None:
        await _check_notary(notary, recorded, result)


def _database(
    conn: Connection, log_id: int | None, trust: Trust, result: Verification, level: str, since: datetime | None
) -> list[tuple[int, int]]:
    """Check the log in the database; return the spans of sizes that were recovered from a storage, as far as its leaves
    tell."""
    if level == "full" or log_id is None:
        return check_log(conn, log_id, trust, result)
    check_edge(conn, log_id, trust, result)
    if level == "window" and since is not None:
        check_window(conn, log_id, trust, since, result)
    return []


async def _check_notary(notary: Notary, recorded: RecordedLog, result: Verification) -> None:
    """Check that the newest checkpoint signed by the notary on this host is in the database's history."""
    try:
        last = notary.last(notary.key.name)
    except UnavailableError as failed:
        result.unreachable[str(failed)] += 1
        return
    has = await recorded.size()
    if last.size > has:
        detail = f"the notary signed {last.size} leaves, the database has {has}"
        result.findings.append(Finding(Kind.LOG_ROLLBACK, "notary", detail))
        return
    try:
        if await recorded.root_at(last.size) != last.root:
            detail = f"the notary signed another tree of {last.size} leaves than the database has"
            result.findings.append(Finding(Kind.LOG_NOTARY, "notary", detail))
    except VerificationError as exc:
        result.findings.append(Finding(Kind.LOG_TILE, "notary", exc.detail))
