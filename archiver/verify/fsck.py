"""Re-derive every claim from the storage's bytes and the signed events; believe nothing that the journal says by itself."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from archiver import errors
from archiver.custody import history
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE, Event, commitment, parse
from archiver.recording import Stored
from archiver.seal.cipher import verify_sealed
from archiver.seal.recipients import Identity
from archiver.store.port import ObjectStore
from archiver.verify.finding import (
    Claimed,
    Finding,
    Kind,
    Verification,
    at_copy,
    justification_findings,
    lock_findings,
)


@dataclass(frozen=True, slots=True)
class Instruments:
    """What verification may use: storages to read, keys to open with (if any), and who may enrol writers."""

    stores: Mapping[str, ObjectStore]
    identities: Sequence[Identity]
    hosts: frozenset[str]


async def check_objects(
    claims: Iterable[Claimed],
    tools: Instruments,
    result: Verification,
    *,
    concurrency: int = 4,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Read every copy of every claim, `concurrency` at a time, comparing digests, locks and what opens."""
    places = asyncio.Semaphore(concurrency)

    async def one(claimed: Claimed) -> None:
        async with places:
            await _check_recording(claimed, tools, result)
            result.recordings += 1
            progress(result.recordings)

    async with asyncio.TaskGroup() as group:
        for claimed in claims:
            await places.acquire()
            places.release()
            group.create_task(one(claimed))


async def _check_recording(claimed: Claimed, tools: Instruments, result: Verification) -> None:
    if not claimed.copies:
        result.findings.append(
            Finding(Kind.NO_COPY, claimed.subject, "called archived, but no copy is on record", claimed.provider)
        )
    for copy in claimed.copies:
        store = tools.stores.get(copy.storage)
        if store is None:
            result.unchecked[f"copies in {copy.storage}, which is not in the configuration"] += 1
            continue
        try:
            result.findings.extend(await _check_copy(claimed, copy, store, tools, result))
        except errors.DestinationError as failed:
            result.unreachable[f"{copy.storage}: {failed.detail}"] += 1


async def _check_copy(
    claimed: Claimed, copy: Stored, store: ObjectStore, tools: Instruments, result: Verification
) -> list[Finding]:
    seen = await store.inspect(copy.key, copy.version_id)
    if seen is None:
        return [at_copy(claimed, copy, Kind.MISSING, "the storage does not have this version")]
    found = list(lock_findings(claimed, copy, seen))
    result.locks += 1
    if seen.size != copy.size:
        found.append(at_copy(claimed, copy, Kind.SIZE, f"{copy.size} bytes were stored, {seen.size} are there"))
    found += await _check_bytes(claimed, copy, store, tools, result)
    found += [each async for each in _check_versions(claimed, copy, store)]
    return found


async def _check_bytes(
    claimed: Claimed, copy: Stored, store: ObjectStore, tools: Instruments, result: Verification
) -> list[Finding]:
    """Hash the copy as it lies there, and open it when a key is at hand: one read for both."""
    digest = hashlib.sha256()
    size = 0

    async def reading() -> AsyncIterator[bytes]:
        nonlocal size
        async for piece in store.read(copy.key, copy.version_id):
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
        digest, size = await _digest(store.read(copy.key, copy.version_id))
    except errors.VerificationError as failed:
        found.append(at_copy(claimed, copy, Kind.DOES_NOT_OPEN, failed.detail))
        digest, size = await _digest(store.read(copy.key, copy.version_id))
    result.objects_read += 1
    result.bytes_read += size
    if digest.hexdigest() != claimed.sealed_sha256:
        detail = f"expected {claimed.sealed_sha256[:16]}…, got {digest.hexdigest()[:16]}…"
        found.append(at_copy(claimed, copy, Kind.SEALED_DIGEST, detail))
    elif plaintext is not None and plaintext != claimed.plaintext_sha256:
        detail = f"expected {claimed.plaintext_sha256[:16]}…, got {plaintext[:16]}…"
        found.append(at_copy(claimed, copy, Kind.PLAINTEXT_DIGEST, detail))
    return found


async def _digest(pieces: AsyncIterator[bytes]) -> tuple[hashlib._Hash, int]:
    digest, size = hashlib.sha256(), 0
    async for piece in pieces:
        await asyncio.to_thread(digest.update, piece)
        size += len(piece)
    return digest, size


async def _check_versions(claimed: Claimed, copy: Stored, store: ObjectStore) -> AsyncIterator[Finding]:
    """The lock protects versions, not names: something newer over the key hides the evidence from careless readers."""
    if copy.version_id is None:
        return
    async for version in store.versions(copy.key):
        if version.key != copy.key or version.version_id == copy.version_id:
            continue
        if version.is_delete_marker:
            yield at_copy(
                claimed, copy, Kind.DELETE_MARKER, "a delete marker covers this key; the version is still there"
            )
        else:
            yield at_copy(
                claimed, copy, Kind.LATER_VERSION, f"another version, {version.version_id}, stands under this key"
            )


def check_chains(
    conn: Connection, claims: Mapping[str, Claimed], tools: Instruments, result: Verification, *, whole: bool
) -> None:
    """Walk the event chains: of every subject when `whole`, otherwise of the claims'. Compare them with the journal."""
    archive = history.entries(conn, ARCHIVE)
    writers = enrolled_writers(archive, tools.hosts)
    subjects = history.subjects(conn) if whole else [ARCHIVE, *(each.subject for each in claims.values())]
    by_subject = {each.subject: each for each in claims.values()}
    for subject in subjects:
        entries = history.entries(conn, subject)
        result.chains += 1
        result.events += len(entries)
        claimed = by_subject.get(subject)
        problems = check_chain(subject, entries, writers, tools.hosts, history.head(conn, subject))
        result.findings += [
            Finding(Kind.CHAIN, subject, f"event {each.seq}: {each.detail}", claimed.provider if claimed else None)
            for each in problems
        ]
        if claimed is not None and not problems:
            events = [parse(entry.raw) for entry in entries]
            result.findings += justification_findings(claimed, [(event.type, event.data) for event in events])
            result.findings += _check_private(conn, claimed, events, result)
    if not whole:
        result.unchecked["event chains of other recordings"] += 1


def _check_private(
    conn: Connection, claimed: Claimed, events: Sequence[Event], result: Verification
) -> Iterable[Finding]:
    """Whether the deletable private data are those that the events committed to. Deleted data are not a failure."""
    for event in events:
        if not event.priv:
            continue
        kept = history.private(conn, claimed.subject, event.seq)
        for group, committed in event.priv.items():
            if group not in kept:
                result.unchecked["private data that has been erased"] += 1
            elif commitment(kept[group].salt, kept[group].data) != committed:
                detail = f"event {event.seq}: {group} is not what was committed to"
                yield Finding(Kind.COMMITMENT, claimed.subject, detail, claimed.provider)
