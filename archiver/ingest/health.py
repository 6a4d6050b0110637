"""Records the health of storages and disks, so that a later question, or one from another host, gets the same
answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from archiver import errors
from archiver.clock import Clock
from archiver.database import Writer, db_now
from archiver.ingest import journal, owed_copies
from archiver.ingest.destination import Destination, Outage
from archiver.ingest.storage_proofs import keep_proof, reusable_proof
from archiver.ingest.tables import host_state, storage_fault
from archiver.recording import Reason
from archiver.schedule.tables import replica
from archiver.store.port import ProbeReport

log = structlog.get_logger("archiver.health")

STANDS = timedelta(seconds=20)
"""The shortest outage that counts: a failure that is gone by the next try is none."""
GRACE = timedelta(seconds=5)
"""The time for which sealed recordings wait for the first probe before they are put off."""
SILENCE = timedelta(seconds=30)
"""The silence after which a storage under probe counts as hanging. A storage that still answers now and then is
slow."""
LONGEST = timedelta(minutes=10)
"""The longest time for the probe of a slow storage: a probe asks fifty questions or more."""
_FORGOTTEN = timedelta(days=2)
_PATIENCE, _LOOK = 20.0, 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Host:
    """The state of one host's disk. `no_room`: the reason that nothing more can be fetched there."""

    spool_id: str
    host: str
    seen_at: datetime
    spool_percent: int
    no_room: str | None
    clock_offset: timedelta


async def keep_probe(
    writer: Writer, destination: Destination, clock: Clock, *, force: bool = False, pace: timedelta | None = None
) -> None:
    """Probe the storage and record the result. A storage that cannot be asked keeps its last report and becomes an
    outage.

    `pace`: for a process that ends after one sweep, the planned interval between sweeps. The proof of such a process is
    good for that interval, or for the time between the last two proofs. The process also accepts an earlier proof from
    the last hour, which keeps its date.
    """
    was_trusted = destination.report is not None and destination.report.trusted
    if destination.report is not None and not force:
        return
    began = clock.now()
    if destination.report is None:
        destination.word = asyncio.Event()
    if pace is not None and not force and await _resumed(writer, destination, clock.now()):
        if destination.word is not None:
            destination.word.set()
        return
    try:
        report = await _answer_of(destination)
    except (errors.DestinationError, errors.VerificationError) as unreachable:
        destination.failed(unreachable, clock.now(), doing="probe", since=began)
        log.warning("storage.unreachable", storage=destination.id, problem=str(unreachable))
        return
    destination.proved(report)
    await writer.run(lambda conn: keep_proof(conn, report, pace))
    if report.trusted and not was_trusted:
        destination.down_until = None
        await writer.run(lambda conn: journal.wake(conn, Reason.DESTINATION) + owed_copies.wake(conn, destination.id))


def unproved(destinations: Mapping[str, Destination]) -> Callable[[str], Awaitable[str | None]]:
    """Return a function for the prober that says why a storage is not trusted; None for a trusted storage."""

    async def doubt(storage: str) -> str | None:
        destination = destinations[storage]
        for _ in range(round(_PATIENCE / _LOOK)):  # a probe is under way: the log can wait for its result
            if destination.report is not None or destination.problem is not None:
                break
            await asyncio.sleep(_LOOK)
        if destination.report is None:
            return destination.problem or "it has not passed its probe so far"
        return None if destination.report.trusted else destination.problem or "it did not prove itself"

    return doubt


async def _resumed(writer: Writer, destination: Destination, now: datetime) -> bool:
    """Take over an earlier proof if it serves: the same configuration, within the hour, and no fault on record
    since."""
    report = await writer.run(lambda conn: reusable_proof(conn, destination.id, now))
    if report is None or not destination.store.resume(report):
        return False
    destination.proved(report)
    await writer.run(lambda conn: journal.wake(conn, Reason.DESTINATION) + owed_copies.wake(conn, destination.id))
    log.info("storage.proof_kept", storage=destination.id, probed_at=report.probed_at.isoformat())
    return True


async def _answer_of(destination: Destination) -> ProbeReport:
    """Run the probe and return its report. Also raises `DestinationError` when the storage falls silent or takes too
    long.

    A call that hangs goes on in its thread until it ends by itself, which is safe: a probe may be done twice.
    """
    store, word = destination.store, destination.word
    asked = asyncio.ensure_future(store.probe())
    left = LONGEST
    try:
        await asyncio.wait({asked}, timeout=GRACE.total_seconds())
        if word is not None:
            word.set()
        while not asked.done():
            heard = store.answers
            await asyncio.wait({asked}, timeout=SILENCE.total_seconds())
            left -= SILENCE
            if not asked.done() and (store.answers == heard or left <= timedelta(0)):
                problem = (
                    f"it has said nothing for {SILENCE.seconds} s" if store.answers == heard else "it takes too long"
                )
                raise errors.DestinationError(f"the probe has no end: {problem}")
        return asked.result()
    finally:
        asked.cancel()
        if word is not None:
            word.set()


def record(
    conn: Connection, here: Host, destinations: Sequence[Destination], *, stands: timedelta = timedelta(0)
) -> None:
    """Record each storage's refusals and the state of this host's disk. An outage counts once it has lasted for
    `stands`."""
    for each in destinations:
        ours = (storage_fault.c.storage == each.id, storage_fault.c.spool_id == here.spool_id)
        outage = each.outage
        if outage is not None and outage.at - outage.since >= stands:
            _put_outage(conn, each.id, here.spool_id, outage)
        elif outage is None and each.report is not None:  # a storage that was not asked yet gave no answer
            conn.execute(delete(storage_fault).where(*ours))
    values = {
        "host": here.host, "seen_at": here.seen_at, "spool_percent": here.spool_percent, "no_room": here.no_room,
        "clock_offset_ms": round(here.clock_offset.total_seconds() * 1000),
    }  # fmt: skip
    if conn.execute(update(host_state).where(host_state.c.spool_id == here.spool_id).values(**values)).rowcount == 0:
        conn.execute(insert(host_state).values(spool_id=here.spool_id, **values))
    alive = select(replica.c.spool_id).where(replica.c.alive_until > db_now())
    replaced = and_(
        host_state.c.host == here.host, host_state.c.spool_id != here.spool_id, host_state.c.spool_id.not_in(alive)
    )
    conn.execute(delete(host_state).where(or_(replaced, host_state.c.seen_at < here.seen_at - _FORGOTTEN)))


def outages(conn: Connection) -> dict[str, Outage]:
    """Return each storage's refusal as the latest observer saw it, dated from the first observer."""
    latest: dict[str, Outage] = {}
    for row in conn.execute(select(storage_fault).order_by(storage_fault.c.at)):
        since = min(row.since, latest[row.storage].since) if row.storage in latest else row.since
        latest[row.storage] = Outage(since, row.at, row.problem)
    return latest


def hosts(conn: Connection) -> list[Host]:
    """Return each host's last recorded state."""
    return [
        Host(row.spool_id, row.host, row.seen_at, row.spool_percent, row.no_room, timedelta(milliseconds=row.clock_offset_ms))
        for row in conn.execute(select(host_state).order_by(host_state.c.host, host_state.c.spool_id))
    ]  # fmt: skip


def _put_outage(conn: Connection, storage: str, spool_id: str, outage: Outage) -> None:
    ours = (storage_fault.c.storage == storage, storage_fault.c.spool_id == spool_id)
    known = conn.execute(select(storage_fault.c.since).where(*ours)).scalar()
    values = {
        "since": outage.since if known is None else min(known, outage.since),
        "at": outage.at,
        "problem": outage.problem,
    }
    if known is None:
        conn.execute(insert(storage_fault).values(storage=storage, spool_id=spool_id, **values))
    else:
        conn.execute(update(storage_fault).where(*ours).values(**values))
