"""Hands recordings over with everything that proves them: the export is itself an event of every recording's chain.

Order of effects (docs/spec/evidence-bundle.md): the content is written and its digest goes into `export.prepared` of
each chain; once a published checkpoint covers those events, proofs are made and the bundle is closed; its digest goes
into `export.delivered`. A process that dies on the way leaves no bundle, and an `export.prepared` that tells of the
attempt.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.completeness import issue
from archiver.completeness.issue import Issued
from archiver.completeness.reconcile import CUSTODY
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Entry, Type, parse
from archiver.custody.ledger import Appended, Draft, Ledger
from archiver.database import Connection, Engine, Writer, read
from archiver.evidence import bundle, model
from archiver.ingest.journal import recatalogue
from archiver.seal.cipher import open_sealed
from archiver.seal.recipients import Identity
from archiver.store.port import ObjectStore
from archiver.translog import merkle, reader
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.keeper import Keeper, publish_through
from archiver.translog.note import VerifierKey, parse_note, parse_vkey
from archiver.translog.proof import LogProof
from archiver.translog.rotation import log_keys
from archiver.translog.tables import AnchorKind
from archiver.translog.tile import hashes_of
from archiver.verify import log_rows

_BEARING = frozenset(
    {Type.LOG_ANCHORED, Type.LOG_RESTORED, Type.DB_ROLLBACK, Type.LOG_KEY_ROTATED, Type.PROVIDER_RENAMED}
)


@dataclass(frozen=True, slots=True)
class Copy:
    """The place of one copy."""

    storage: str
    key: str
    version_id: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recording to hand over. `digest` is that of the audio by its signed events; None, without copies, where there
    is no audio."""

    id: str
    suffix: str
    digest: str | None
    copies: tuple[Copy, ...]

    @property
    def subject(self) -> str:
        return f"rec:{self.id}"


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools for an export. `ledger`'s session is enrolled already; with the host key, `retiring`, it is retired at
    the end."""

    engine: Engine
    writer: Writer
    ledger: Ledger
    keeper: Keeper
    log_id: int
    log_key: str
    hosts: frozenset[str]
    stores: Mapping[str, ObjectStore]
    identities: Sequence[Identity]
    retiring: Ed25519PrivateKey | None = None
    rotations: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """The choices for an export. `withheld` are private groups that stay closed; `known` is a checkpoint that the
    receiver has already; `period` the days that were asked for, whose completeness is stated also where no recording is
    handed over; `witnesses` are the archive's own, for a policy where none is given."""

    purpose: str
    withheld: frozenset[str] = frozenset()
    known: bytes | None = None
    policy: str | None = None
    period: Period | None = None
    witnesses: tuple[VerifierKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Period:
    """UTC days from `since` up to, not including, `until`; of every provider when `provider` is None."""

    provider: str | None
    since: date
    until: date


async def export(
    tools: Tools,
    target: Path,
    request: model.Request,
    wanted: Sequence[Wanted],
    options: Options,
    progress: Callable[[str], None],
) -> bundle.Bundle:
    """Write the bundle. Raises `VerificationError` when the archived recordings do not prove themselves,
    `UnavailableError` when no checkpoint covers the export in time, `NotAllowedError` when `target` exists already."""
    if options.known is not None:
        _earlier(tools, options.known)  # before anything is decrypted or appended to the log
    with await asyncio.to_thread(bundle.Draft, target, request) as draft:
        for number, each in enumerate(wanted, start=1):
            progress(f"{number} of {len(wanted)} recordings")
            await _content(tools, draft, each, options)
        stated = await read(tools.engine, lambda conn: _stated(conn, wanted, options))
        for one in stated:
            await asyncio.to_thread(draft.state, model.Statement(one.provider, one.day, one.document))
        manifest = await asyncio.to_thread(draft.prepare)
        last = await tools.writer.run(
            lambda conn: [
                _prepare(conn, tools.ledger, request.export, each, manifest, options.purpose) for each in wanted
            ]
        )
        progress("waiting until the log is published")
        await publish_through(tools.engine, tools.keeper, last)
        part = await read(tools.engine, lambda conn: _log_part(conn, tools, wanted, options, stated))
        made = await asyncio.to_thread(draft.close, part, tools.ledger.sign)
    told = model.delivered(request.export, made.bag_sha256)
    events = [Draft(each.subject, Type.EXPORT_DELIVERED, told, actor_kind="operator") for each in wanted]

    def deliver(conn: Connection) -> None:
        tools.ledger.append_many(conn, events)
        for each in wanted:
            recatalogue(conn, each.id)  # person and reason stand beside the events: a rebuild must find them, too

    await tools.writer.run(deliver)
    if (problem := await tools.keeper.catch_up(tools.retiring)) is not None:
        progress(f"the delivery is on record, and will be published later: {problem}")
    return made


def _earlier(tools: Tools, known: bytes) -> Checkpoint:
    """Return the receiver's checkpoint. Raises `VerificationError` when it is not this log's, or of no leaves."""
    try:
        earlier, _ = open_checkpoint(known, log_keys(parse_vkey(tools.log_key), tools.rotations))
    except errors.VerificationError as exc:
        raise errors.VerificationError(f"the receiver's checkpoint is foreign, or damaged: {exc.detail}") from exc
    if earlier.size == 0:
        raise errors.VerificationError("the receiver's checkpoint is of a log without leaves: nothing continues it")
    return earlier


async def _content(tools: Tools, draft: bundle.Draft, wanted: Wanted, options: Options) -> None:
    """Add the audio, from the first copy that opens, and the committed data that is not withheld."""
    failed: errors.ArchiverError | None = None
    for copy in wanted.copies:
        store = tools.stores.get(copy.storage)
        if store is None:
            continue
        try:
            await _audio(draft, wanted, copy, store, tools.identities)
        except (errors.VerificationError, errors.DestinationError, errors.NotFoundError) as problem:
            failed = problem
        else:
            failed = None
            break
    if failed is not None:
        raise failed
    disclosures, raw = await read(tools.engine, lambda conn: _private(conn, wanted.subject, options.withheld))
    await asyncio.to_thread(draft.add, wanted.id, raw, disclosures)


async def _audio(
    draft: bundle.Draft, wanted: Wanted, copy: Copy, store: ObjectStore, identities: Sequence[Identity]
) -> None:
    plaintext = open_sealed(lambda: store.read(copy.key, copy.version_id), identities, wanted.digest)
    async with aclosing(plaintext):
        first = await anext(plaintext, b"")  # comes once the whole is verified
        with draft.audio(wanted.id, wanted.suffix) as sink:
            await asyncio.to_thread(sink.write, first)
            async for piece in plaintext:
                await asyncio.to_thread(sink.write, piece)


def _private(conn: Connection, subject: str, withheld: frozenset[str]) -> tuple[list[model.Disclosure], bytes | None]:
    """Return the data of a subject's events that may be disclosed, and the provider's newest answer as it was
    received."""
    disclosures: list[model.Disclosure] = []
    answer: bytes | None = None
    for entry in history.entries(conn, subject):
        for group, private in history.private(conn, subject, entry.seq).items():
            if group in withheld:
                continue
            disclosures.append(model.Disclosure(entry.seq, group, private.salt, private.data))
            if group == "provider_meta":
                answer = base64.b64decode(str(private.data["row_base64"]))
    return disclosures, answer


def _prepare(conn: Connection, ledger: Ledger, export_id: str, wanted: Wanted, manifest: str, purpose: str) -> Appended:
    """Append `export.prepared`, which names the event before it."""
    head = history.head(conn, wanted.subject)
    if head is None:
        raise errors.NotFoundError(f"{wanted.id} has no custody events")
    data = model.prepared(export_id, purpose, manifest, head.seq, head.leaf_hash)
    appended = ledger.append(conn, wanted.subject, Type.EXPORT_PREPARED, data, actor_kind="operator")
    if appended.seq != head.seq + 1:
        raise errors.UnavailableError(f"{wanted.id} changed meanwhile; export it again")
    return appended


# --- the log's part ---------------------------------------------------------------------------------------------


def _log_part(
    conn: Connection, tools: Tools, wanted: Sequence[Wanted], options: Options, stated: Sequence[Issued]
) -> model.LogPart:
    newest = reader.newest_checkpoint(conn, tools.log_id, published=True)
    if newest is None:
        raise errors.UnavailableError("nothing of the log is published yet")
    note = newest.note.encode()
    hashes = hashes_of(reader.read_tile(conn, tools.log_id))

    def logged(subject: str, seq: int, entry: bytes) -> model.Logged | None:
        place = reader.index_of(conn, subject, seq)
        if place is None or place[0] != tools.log_id or place[1] >= newest.size:
            return None
        path = tuple(merkle.inclusion_proof(place[1], newest.size, hashes))
        return model.Logged(entry, LogProof(place[1], path, note).text.encode())

    chains = {each.id: _chain(conn, each.subject, logged) for each in wanted}
    archive = _archive(conn, wanted, stated, [each for chain in chains.values() for each in chain], logged)
    leaves = [each.index for chain in chains.values() for each in chain]
    stamps = _stamps(conn, tools.log_id, newest, hashes, leaves)
    known = None
    if options.known is not None:
        earlier = _earlier(tools, options.known)
        if earlier.size > newest.size:
            raise errors.VerificationError(
                f"the receiver's checkpoint is from the future: it has {earlier.size} leaves, the log {newest.size}"
            )
        known = model.Known(options.known, tuple(merkle.consistency_proof(earlier.size, newest.size, hashes)))
    return model.LogPart(
        note, tools.log_key, tuple(sorted(tools.hosts)), chains, archive, stamps,
        options.policy or policy_of(note, tools.log_key, options.witnesses), known, tools.rotations,
    )  # fmt: skip


def _chain(
    conn: Connection, subject: str, logged: Callable[[str, int, bytes], model.Logged | None]
) -> tuple[model.Logged, ...]:
    """Return every event up to the newest `export.prepared`, which is this export's; later events are not claimed."""
    entries = history.entries(conn, subject)
    last = max(each.seq for each in entries if parse(each.raw).type == Type.EXPORT_PREPARED)
    found = [logged(subject, each.seq, each.raw) for each in entries if each.seq <= last]
    if any(each is None for each in found):
        raise errors.UnavailableError(f"not every event of {subject} is published yet")
    return tuple(each for each in found if each is not None)


def _archive(
    conn: Connection,
    wanted: Sequence[Wanted],
    stated: Sequence[Issued],
    chained: Sequence[model.Logged],
    logged: Callable[[str, int, bytes], model.Logged | None],
) -> tuple[model.Logged, ...]:
    """Return the archive's own events that bear on the recordings: the enrolment of writers, anchors, the statements of
    the days in question, and the last comparison with the storages that hold the copies.

    Raises `UnavailableError` when the event of a statement is not published yet.
    """
    newest = {(each.provider, each.day.isoformat()): each.seq for each in stated}
    storages = {copy.storage for each in wanted for copy in each.copies} | {CUSTODY}
    compared: dict[str, Entry] = {}
    bearing: list[Entry] = []
    enrolments: list[tuple[object, Entry]] = []
    writers = {each.event.writer for each in chained}
    for each in history.entries(conn, ARCHIVE):
        event = parse(each.raw)
        if event.type in (Type.WRITER_ENROLLED, Type.WRITER_RETIRED):
            enrolments.append((event.data.get("writer"), each))
        elif event.type == Type.RECONCILED and event.data.get("kind") == "storage":
            if event.data.get("storage") in storages:
                compared[str(event.data["storage"])] = each
        elif event.type in _BEARING or (
            # Earlier revisions too: no statement is hidden. Later ones were made after this export.
            event.type == Type.RECONCILED
            and each.seq <= newest.get((str(event.data.get("provider")), str(event.data.get("day"))), -1)
        ):
            bearing.append(each)
    bearing += compared.values()
    writers |= {parse(each.raw).writer for each in bearing}
    bearing += [each for writer, each in enrolments if writer in writers]
    found = {each.seq: logged(ARCHIVE, each.seq, each.raw) for each in sorted(bearing, key=lambda each: each.seq)}
    if any(found.get(seq) is None for seq in newest.values()):
        raise errors.UnavailableError("not every completeness statement is published yet")
    return tuple(each for each in found.values() if each is not None)


def _stated(conn: Connection, wanted: Sequence[Wanted], options: Options) -> list[Issued]:
    """Return the archive's statements of the days of the recordings, and of the days that were asked for."""
    found = issue.of_recordings(conn, [each.id for each in wanted])
    if options.period is not None:
        found += issue.statements(conn, options.period.provider, options.period.since, options.period.until)
    return list({(each.provider, each.day): each for each in found}.values())


def policy_of(note: bytes, log_key: str, witnesses: Sequence[VerifierKey]) -> str | None:
    """Return the archive's witnesses as a C2SP tlog-policy. Its quorum is one witness where one has cosigned: the
    archive publishes with or without them, so a larger quorum is the reader's demand."""
    if not witnesses:
        return None
    names = [f"w{number}" for number in range(1, len(witnesses) + 1)]
    there = {(each.name, each.key_id) for each in parse_note(note).signatures}
    cosigned = any((each.name, each.key_id) in there for each in witnesses)
    lines = [f"log {log_key}"]
    lines += [f"witness {name} {each.vkey}" for name, each in zip(names, witnesses, strict=True)]
    lines += [f"group cosigners any {' '.join(names)}", f"quorum {'cosigners' if cosigned else 'none'}"]
    return "".join(f"{line}\n" for line in lines)


def _stamps(
    conn: Connection, log_id: int, newest: reader.Signed, hashes: merkle.Hashes, leaves: Collection[int]
) -> tuple[model.Stamp, ...]:
    """Return each authority's newest time stamp and, for every one of the `leaves`, the last before it and the first
    after: the event came into the log between those two. A stamp over an older checkpoint is tied to the bundle's
    checkpoint by a proof."""
    signed = {each.size: each for each in reader.checkpoints(conn, log_id)}
    sizes: dict[str, list[int]] = {}
    for size, anchors in log_rows.anchors(conn, log_id):
        for each in anchors:
            name, _, suffix = each.name.rpartition(".")
            if (each.kind, suffix) == (AnchorKind.TIMESTAMP, "tsr") and size <= newest.size and size in signed:
                sizes.setdefault(name, []).append(size)
    chosen = {name: neighbours(of, leaves) for name, of in sizes.items()}
    files: dict[tuple[str, int], dict[str, bytes]] = {}
    for size in sorted(set().union(*chosen.values())):
        for _, anchors in itertools.islice(log_rows.anchors(conn, log_id, size - 1), 1):
            for each in anchors:
                name, _, suffix = each.name.rpartition(".")
                if each.kind == AnchorKind.TIMESTAMP and size in chosen.get(name, ()):
                    files.setdefault((name, size), {})[suffix] = each.blob
    stamps = []
    for (name, size), kept in sorted(files.items(), key=lambda each: (each[0][0], -each[0][1])):
        own = size == newest.size
        stamps.append(
            model.Stamp(
                name if size == sizes[name][-1] else f"{name}-{size:012d}",
                kept["tsr"], request=kept.get("tsq"), chain=kept.get("pem"), crl=kept.get("crl"),
                checkpoint=None if own else signed[size].note.encode(),
                consistency=() if own else tuple(merkle.consistency_proof(size, newest.size, hashes)),
            )
        )  # fmt: skip
    return tuple(stamps)


def neighbours(sizes: Sequence[int], leaves: Collection[int]) -> set[int]:
    """Return the last of the ascending tree sizes and, for each leaf, the largest without it and the smallest with
    it."""
    chosen = set(sizes[-1:])
    for leaf in leaves:
        place = bisect.bisect_right(sizes, leaf)  # a tree of n leaves holds the leaves below n
        chosen.update(sizes[max(0, place - 1) : place + 1])
    return chosen
