"""Re-derives every claim from the storage's bytes and the signed events; believes no statement of the journal by
itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from archiver import errors
from archiver.custody import history
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE, Entry, Event, Type, commitment_to_bytes, parse
from archiver.database import Connection
from archiver.recording import Stored
from archiver.seal.cipher import verify_sealed
from archiver.seal.recipients import Identity
from archiver.store.bounded import at_most
from archiver.store.port import ObjectStore
from archiver.verify import subject_rows
from archiver.verify.beside import Beside, look_beside
from archiver.verify.finding import (
    Claimed,
    Finding,
    Kind,
    Verification,
    at_copy,
    justification_findings,
    lacking_findings,
    lock_findings,
)
from archiver.verify.kept import (
    Said,
    SegmentRow,
    StatementRow,
    WindowRow,
    page_findings,
    segment_findings,
    statement_findings,
    window_findings,
)


@dataclass(frozen=True, slots=True)
class Instruments:
    """The means of verification: the storages to read, the keys to open with (if any), and the hosts that may enrol
    writers.

    `at`: a recording kept beyond this instant must have a copy in every storage, by policy; None demands no such copy.
    `by_pages`: listing all versions costs less than asking for each key.
    """

    stores: Mapping[str, ObjectStore]
    identities: Sequence[Identity]
    hosts: frozenset[str]
    at: datetime | None = None
    by_pages: bool = False


async def check_objects(
    claims: Sequence[Claimed],
    tools: Instruments,
    result: Verification,
    *,
    concurrency: int = 4,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Read every copy of every claim, `concurrency` at a time: compare digests and locks, and open with the keys at
    hand."""
    places = asyncio.Semaphore(concurrency)
    beside = await look_beside(claims, tools.stores) if tools.by_pages else Beside()

    async def one(claimed: Claimed) -> None:
        async with places:
            await _check_recording(claimed, tools, beside, result)
            result.recordings += 1
            progress(result.recordings)

    async with asyncio.TaskGroup() as group:
        for claimed in claims:
            await places.acquire()
            places.release()
            group.create_task(one(claimed))


async def _check_recording(claimed: Claimed, tools: Instruments, beside: Beside, result: Verification) -> None:
    if not claimed.copies:
        result.findings.append(
            Finding(Kind.NO_COPY, claimed.subject, "called archived, but no copy is on record", claimed.provider)
        )
    if claimed.archived:
        result.findings += lacking_findings(claimed, tools.stores, tools.at)
    result.findings += [at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, said) for copy, said in claimed.odd]
    for copy in claimed.copies:
        if copy.sealed_sha256 != claimed.sealed_sha256:
            said = "the journal has another digest of this copy than of what was sealed"
            result.findings.append(at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, said))
        store = tools.stores.get(copy.storage)
        if store is None:
            result.unchecked[f"copies in {copy.storage}, which is not in the configuration"] += 1
            continue
        try:
            found = await _check_copy(claimed, copy, store, tools, beside, result)
        except errors.DestinationError as failed:
            result.unreachable[f"{copy.storage}: {failed.detail}"] += 1
            continue
        result.findings += found
        if not found:
            result.sound.setdefault(copy.storage, []).append(claimed.id)


async def _check_copy(
    claimed: Claimed, copy: Stored, store: ObjectStore, tools: Instruments, beside: Beside, result: Verification
) -> list[Finding]:
    seen = await store.inspect(copy.key, copy.version_id)
    if seen is None:
        return [at_copy(claimed, copy, Kind.MISSING, "the storage does not have this version")]
    found = list(lock_findings(claimed, copy, seen))
    result.locks += 1
    if seen.size != copy.size:
        found.append(at_copy(claimed, copy, Kind.SIZE, f"{copy.size} bytes were stored, {seen.size} are there"))
    found += await _check_bytes(claimed, copy, store, tools, result)
    found += await _check_beside(claimed, copy, store, beside, result)
    return found


async def _check_bytes(
    claimed: Claimed, copy: Stored, store: ObjectStore, tools: Instruments, result: Verification
) -> list[Finding]:
    """Hash the stored copy, and open it when a key is at hand: one read serves both."""
    digest = hashlib.sha256()
    size = 0

    async def reading() -> AsyncIterator[bytes]:
        nonlocal size
        async for piece in at_most(store.read(copy.key, copy.version_id), copy.size):
            await asyncio.to_thread(digest.update, piece)
            size += len(piece)
            yield piece

    found: list[Finding] = []
    plaintext: str | None = None
    try:
        if tools.identities:
            facts = await verify_sealed(reading(), tools.identities)
            plaintext = facts.plaintext_sha256
            result.opened += 1
        else:
            result.unchecked["opening: no private key on this host"] += 1
            async for _ in reading():
                pass
    except errors.NotFoundError:
        return [at_copy(claimed, copy, Kind.MISSING, "the storage lists this version and does not give it out")]
    except errors.KeyUnavailableError as failed:
        result.unchecked[f"opening: {failed.detail}"] += 1
        digest, size = await _digest(at_most(store.read(copy.key, copy.version_id), copy.size))
    except errors.VerificationError as failed:
        found.append(at_copy(claimed, copy, Kind.DOES_NOT_OPEN, failed.detail))
        digest, size = await _digest(at_most(store.read(copy.key, copy.version_id), copy.size))
    result.objects_read += 1
    result.bytes_read += size
    if digest.hexdigest() != claimed.sealed_sha256:
        detail = f"expected {str(claimed.sealed_sha256)[:16]}…, got {digest.hexdigest()[:16]}…"
        found.append(at_copy(claimed, copy, Kind.SEALED_DIGEST, detail))
    elif plaintext is not None and plaintext != claimed.plaintext_sha256:
        detail = f"expected {str(claimed.plaintext_sha256)[:16]}…, got {plaintext[:16]}…"
        found.append(at_copy(claimed, copy, Kind.PLAINTEXT_DIGEST, detail))
    return found


async def _digest(pieces: AsyncIterator[bytes]) -> tuple[hashlib._Hash, int]:
    digest, size = hashlib.sha256(), 0
    async for piece in pieces:
        await asyncio.to_thread(digest.update, piece)
        size += len(piece)
    return digest, size


async def _check_beside(
    claimed: Claimed, copy: Stored, store: ObjectStore, beside: Beside, result: Verification
) -> list[Finding]:
    """Look for other versions under the key: the lock protects versions, not names, and a newer one hides the
    evidence."""
    if copy.version_id is None:
        return []
    others = beside.of(copy)
    if others is None:
        try:
            versions = [each async for each in store.versions(copy.key) if each.key == copy.key]
        except errors.DestinationError as failed:
            result.unreachable[f"{copy.storage}: what else stands under the keys: {failed.detail}"] += 1
            return await _check_newest(claimed, copy, store)
        others = [each for each in versions if each.version_id != copy.version_id]
    return [_covered(claimed, copy, each.version_id, marker=each.is_delete_marker) for each in others]


async def _check_newest(claimed: Claimed, copy: Stored, store: ObjectStore) -> list[Finding]:
    """Check the newest version by the key alone, for a storage that does not list versions."""
    try:
        newest = await store.inspect(copy.key, None)
    except errors.DestinationError:
        return []  # reported already
    if newest is not None and newest.version_id in {copy.version_id, None}:
        return []
    return [_covered(claimed, copy, newest.version_id if newest else None, marker=newest is None)]


def _covered(claimed: Claimed, copy: Stored, version_id: str | None, *, marker: bool) -> Finding:
    if marker:
        return at_copy(claimed, copy, Kind.DELETE_MARKER, "a delete marker covers this key; the version is still there")
    return at_copy(claimed, copy, Kind.LATER_VERSION, f"another version, {version_id}, stands under this key")


def check_chains(
    conn: Connection, claims: Mapping[str, Claimed], tools: Instruments, result: Verification, *, whole: bool
) -> None:
    """Compare the journal's claims with the signed events. Walk the claims' chains too, unless `whole`: then
    `check_log` does.
    """
    writers = enrolled_writers(history.entries(conn, ARCHIVE), tools.hosts)
    by_subject: dict[str, Claimed | None] = {} if whole else {ARCHIVE: None}
    by_subject |= {each.subject: each for each in claims.values()}
    for subject, claimed in by_subject.items():
        entries = history.entries(conn, subject)
        provider = claimed.provider if claimed else None
        if not whole:
            result.chains += 1
            result.events += len(entries)
            problems = check_chain(subject, entries, writers, tools.hosts, history.head(conn, subject))
            result.findings += [
                Finding(Kind.CHAIN, subject, f"event {each.seq}: {each.detail}", provider) for each in problems
            ]
        events = _parsed(entries)
        if claimed is not None:
            justified = justification_findings if claimed.archived else page_findings
            result.findings += justified(claimed, [(each.type, each.data) for each in events.values()])
            result.findings += _check_private(conn, claimed, events, result, whole=whole)
    if not whole:
        result.unchecked["event chains of other recordings"] += 1
        result.unchecked["how the statements of completeness follow one another"] += 1


def check_kept(
    conn: Connection,
    statements: Sequence[StatementRow],
    windows: Sequence[WindowRow],
    segments: Sequence[SegmentRow],
    result: Verification,
) -> None:
    """Compare the journal's rows beside the log with the events of the archive's own chain."""
    events = _parsed(history.entries(conn, ARCHIVE))
    said = {seq: Said(seq, each.at, each.data) for seq, each in events.items() if each.type == Type.RECONCILED}
    told = [Said(seq, each.at, each.data) for seq, each in events.items() if each.type == Type.CATALOGUED]
    renames = [Said(seq, each.at, each.data) for seq, each in events.items() if each.type == Type.PROVIDER_RENAMED]
    result.findings += statement_findings(statements, said, renames)
    if lost := sum(not each.document for each in statements):
        result.unchecked["statements of which only the log tells, their documents are lost"] += lost
    result.findings += window_findings(statements, windows)
    result.findings += segment_findings(segments, told)


def _parsed(entries: Iterable[Entry]) -> dict[int, Event]:
    """Return the events by the numbers of their rows; invalid events are reported elsewhere."""
    events = {}
    for entry in entries:
        with contextlib.suppress(errors.VerificationError):
            events[entry.seq] = parse(entry.raw)
    return events


def _check_private(
    conn: Connection, claimed: Claimed, events: Mapping[int, Event], result: Verification, *, whole: bool
) -> Iterable[Finding]:
    """Yield a finding for deletable private data other than the events committed to. Deleted data are not a failure."""
    number = subject_rows.subject_number(conn, claimed.subject)
    groups = () if number is None else subject_rows.private(conn, number, number)
    kept = {(row.seq, row.group): commitment_to_bytes(row.salt, row.data) for row in groups}
    for seq, event in events.items():
        for group, committed in event.priv.items():
            if (seq, group) not in kept:
                result.unchecked["private data that has been erased"] += 1
            elif kept[seq, group] != committed and not whole:
                detail = f"event {seq}: {group} is not what was committed to"
                yield Finding(Kind.COMMITMENT, claimed.subject, detail, claimed.provider)
