"""Compares the journal with storages and custody: one ordered pass each, linear in time, bounded in memory.

Changes no object.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine, insert

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.completeness import records, register
from archiver.completeness.compare import joined, judge, lock, missing, unseen
from archiver.completeness.gap import Gap
from archiver.completeness.tables import reconciliation
from archiver.custody.event import ARCHIVE, Type
from archiver.custody.ledger import Ledger
from archiver.database import Writer
from archiver.ingest.journal_pages import ClaimedCopy
from archiver.instants import precise
from archiver.recording import Json
from archiver.store.port import ObjectStore, Version

log = structlog.get_logger("archiver.reconcile")

CUSTODY = "custody"
_OURS = ("quarantine/", "recordings/")  # in the order of a listing
_MOST = 10_000
_AT_ONCE = 16


@dataclass(slots=True)
class Reconciled:
    """The comparison of one storage, or of the custody log, with the journal.

    `found` holds the first 10,000 gaps; `counts` counts all.
    """

    storage: str
    started_at: datetime
    finished_at: datetime
    copies: int = 0
    versions: int = 0
    locks: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    found: dict[tuple[str, str], Gap] = field(default_factory=dict)
    unreachable: str | None = None

    @property
    def whole(self) -> bool:
        """True when everything was compared and every gap is in `found`."""
        return self.unreachable is None and sum(self.counts.values()) <= _MOST

    def note(self, each: Gap) -> None:
        self.counts[each.code] += 1
        if len(self.found) < _MOST:
            self.found.setdefault((each.provider, each.subject), each)

    def as_json(self) -> dict[str, Json]:
        counts: dict[str, Json] = dict(sorted(self.counts.items()))
        return {
            "storage": self.storage,
            "started_at": precise(self.started_at),
            "finished_at": precise(self.finished_at),
            "copies": self.copies,
            "versions": self.versions,
            "locks_read": self.locks,
            "findings": counts,
            "unreachable": self.unreachable,
        }


async def reconcile_store(engine: Engine, store: ObjectStore, clock: Clock, *, lock_share: int = 30) -> Reconciled:
    """Compares every copy that the journal claims in `store` with every version that is there.

    Each lock costs a request: of every `lock_share` keys one is asked for, another one each day, so that all are asked
    for within `lock_share` days; 1 asks for all, 0 for none. A copy that a listing does not show is asked for by name
    before it is called missing.
    """
    began = clock.now()
    result = Reconciled(store.id, began, began)
    turn = began.date().toordinal()
    asked: list[ClaimedCopy] = []
    try:
        async for key, claimed, there in joined(records.copies(engine, store.id), _versions(store)):
            result.copies += len(claimed)
            result.versions += len(there)
            for gap in judge(store.id, key, claimed, there, began):
                result.note(gap)
            asked += claimed if _chosen(key, lock_share, turn) else unseen(claimed, there)
            if len(asked) >= _AT_ONCE:
                await _ask(store, asked, result)
                asked.clear()
        await _ask(store, asked, result)
    except (errors.DestinationError, errors.VerificationError) as failed:
        result.unreachable = str(failed)
    result.finished_at = clock.now()
    return result


async def reconcile_custody(engine: Engine, clock: Clock) -> Reconciled:
    """Checks that every archived recording has its custody events, and every chain its recording."""
    began = clock.now()
    result = Reconciled(CUSTODY, began, began)
    async for gap in records.broken_chains(engine):
        result.note(gap)
    result.finished_at = clock.now()
    return result


async def keep(
    writer: Writer, ledger: Ledger, chance: Chance, results: Sequence[Reconciled], actor_kind: str = "worker"
) -> None:
    """Records each comparison in custody, and brings the register up to date. Nothing is recorded of unreachable
    storages."""

    def write(conn: Connection, result: Reconciled) -> register.Changes:
        conn.execute(
            insert(reconciliation).values(
                id=chance.uuid(),
                storage=result.storage,
                started_at=result.started_at,
                finished_at=result.finished_at,
                copies=result.copies,
                versions=result.versions,
                findings=json.dumps(result.counts, sort_keys=True),
            )
        )
        op = f"reconcile:{result.storage}"
        ledger.append(conn, ARCHIVE, Type.RECONCILED, _summary(result), op=op, actor_kind=actor_kind)
        return register.refresh(
            conn, ledger, chance, None, result.found.values(), result.finished_at,
            source=f"reconcile:{result.storage}", whole=result.whole,
        )  # fmt: skip

    for result in results:
        if result.unreachable is not None:
            log.warning("reconcile.unreachable", storage=result.storage, problem=result.unreachable)
            continue
        changes = await writer.run(lambda conn, it=result: write(conn, it))  # type: ignore[misc]
        log.info(
            "reconcile.completed", storage=result.storage, copies=result.copies, versions=result.versions,
            findings=sum(result.counts.values()), opened=changes.opened, closed=changes.closed,
        )  # fmt: skip


def _summary(result: Reconciled) -> dict[str, Json]:
    findings: dict[str, Json] = dict(sorted(result.counts.items()))
    return {
        "kind": "storage",
        "storage": result.storage,
        "copies": result.copies,
        "versions": result.versions,
        "locks_read": result.locks,
        "findings": findings,
    }


async def _versions(store: ObjectStore) -> AsyncIterator[Version]:
    for prefix in _OURS:
        async for each in store.versions(prefix):
            yield each


def _chosen(key: str, share: int, turn: int) -> bool:
    if share <= 1:
        return share == 1
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") + turn) % share == 0


async def _ask(store: ObjectStore, asked: Sequence[ClaimedCopy], result: Reconciled) -> None:
    seen = await asyncio.gather(*(store.inspect(each.key, each.version_id) for each in asked))
    for each, shown in zip(asked, seen, strict=True):
        if shown is None:
            result.note(missing(each))
            continue
        result.locks += 1
        for gap in lock(each, shown, result.started_at):
            result.note(gap)
