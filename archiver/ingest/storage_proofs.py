"""Keeps the result of each storage's last probe: whether the storage proved that it keeps what it promises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from archiver.ingest.tables import storage_fault, storage_state
from archiver.store.port import Check, ProbeReport

PROBE_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a storage's last probe. `every`: the time until the next one; None: within the hour."""

    trusted: bool
    probed_at: datetime
    checks: tuple[Check, ...]
    every: timedelta | None


def read_proofs(conn: Connection) -> dict[str, Proof]:
    """Return the result of each storage's last probe."""
    return {
        row.storage: Proof(
            trusted=row.trusted,
            probed_at=row.probed_at,
            checks=_checks(row.report),
            every=None if row.every_s is None else timedelta(seconds=row.every_s),
        )
        for row in conn.execute(select(storage_state))
    }


def doubt(conn: Connection, storage: str) -> str | None:
    """Return why the last probe on record does not trust a storage. A storage without a probe on record has no doubt
    against it.
    """
    row = conn.execute(select(storage_state).where(storage_state.c.storage == storage)).one_or_none()
    if row is None or row.trusted:
        return None
    failed = [f"{each.name}: {each.detail}" for each in _checks(row.report) if each.fatal and not each.ok]
    return failed[0] if failed else "it did not prove itself"


def reusable_proof(conn: Connection, storage: str, now: datetime) -> ProbeReport | None:
    """Return the last proof while it may still be used. A proof from the future does not count: a clock was wrong."""
    row = conn.execute(select(storage_state).where(storage_state.c.storage == storage)).one_or_none()
    if row is None or not row.trusted or row.ways is None or not timedelta(0) <= now - row.probed_at < PROBE_EVERY:
        return None
    if conn.execute(select(storage_fault.c.at).where(storage_fault.c.storage == storage)).first() is not None:
        return None
    return ProbeReport(storage, _checks(row.report), row.probed_at, row.ways)


def keep_proof(conn: Connection, report: ProbeReport, pace: timedelta | None) -> None:
    """Record the result of a probe. `pace`: the planned interval between sweeps of a process that ends after one."""
    same = storage_state.c.storage == report.storage
    every = PROBE_EVERY
    if pace is not None:
        before = conn.execute(select(storage_state.c.probed_at).where(same)).scalar()
        apart = timedelta(0) if before is None else report.probed_at - before
        every = max(every, pace, min(apart, timedelta(days=7)))
    checks = json.dumps([_dump(each) for each in report.checks])
    values = {
        "trusted": report.trusted, "report": checks, "probed_at": report.probed_at, "every_s": round(every.total_seconds()),
        "ways": report.ways or None,
    }  # fmt: skip
    if conn.execute(update(storage_state).where(same).values(**values)).rowcount == 0:
        conn.execute(insert(storage_state).values(storage=report.storage, **values))


def _dump(check: Check) -> dict[str, object]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail, "fatal": check.fatal}


def _checks(report: str) -> tuple[Check, ...]:
    return tuple(Check(**each) for each in json.loads(report))
