"""The database's log, made anew from a storage: after a restored backup, a failover that lost commits, or the loss of it all.

What is imported is proved leaf by leaf against a tree that the notary signed, before it is written. Nothing in the database is
replaced: its log must be a beginning of the published one, and grows to it. The last batch and the two events that tell of
all this are one transaction; a death before it leaves a shorter log, from which the next run goes on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, insert, select, update

from archiver.clock import Clock
from archiver.custody import enrolment, log, publication
from archiver.custody import tree as trees
from archiver.custody.event import ARCHIVE, Event, Type, commitment, leaf_hash, parse, private_bytes
from archiver.custody.ledger import Ledger
from archiver.custody.notary import Notary
from archiver.custody.publication import Kind
from archiver.custody.shelved import Published, ShelvedLog, checkpoint_name, newest_checkpoint, read_checkpoint
from archiver.custody.tables import custody_private, custody_subject
from archiver.custody.tile import HEIGHT
from archiver.custody.timestamp import anchor_place, stamped_at
from archiver.custody.tree import Leaf
from archiver.database import Writer
from archiver.errors import ArchiverError, DestinationError, LeaseLostError, VerificationError
from archiver.recording import Json
from archiver.store.port import Shelf

_BUNDLES = 4  # a transaction: some thousand events at most


@dataclass(frozen=True, slots=True)
class Recovered:
    """The database had `had` leaves, and has `size` now; they came from the storage `shelf`."""

    had: int
    size: int
    shelf: str


@dataclass(frozen=True, slots=True)
class _Target:
    """The largest tree that was signed, and what each storage that could be asked has of it."""

    size: int
    root: bytes
    published: list[tuple[Shelf, Published | None]]


async def recover(
    writer: Writer,
    notary: Notary,
    shelves: Sequence[Shelf],
    ledger: Ledger,
    host_key: Ed25519PrivateKey,
    clock: Clock,
) -> Recovered:
    """Bring the database's log up to what was signed. No other process may write meanwhile. May be run again at any time.

    `ledger` has a fresh session; it is enrolled here, when its chain is whole again, and only if something was missing. Raises
    `VerificationError` when the storages' log is damaged, or the database's has another history; `DestinationError` when no
    storage can be read.
    """
    log_id = await writer.run(lambda conn: trees.open_log(conn, notary.key.name, clock.now()))
    had, root = await writer.run(lambda conn: log.tree(conn, log_id))
    target = await _target(notary, shelves)
    if target.size <= had:
        return Recovered(had, had, "")
    shelved = await _open(target)
    shelf = shelved.shelf
    if await shelved.root_at(had) != root:
        raise VerificationError(
            f"the database's {had} leaves are not a beginning of those of {shelf.id}; use an empty database"
        )
    await _import_beside(writer, log_id, notary, shelved, had, clock)

    def tell(conn: Connection) -> None:
        ledger.enroll(conn, host_key)
        rollback: dict[str, Json] = {"had": had, "published": target.size}
        ledger.append(conn, ARCHIVE, Type.DB_ROLLBACK, rollback, actor_kind="operator")
        restored: dict[str, Json] = {"size": target.size, "root": target.root.hex(), "storage": shelf.id}
        ledger.append(conn, ARCHIVE, Type.LOG_RESTORED, restored, actor_kind="operator")

    start = had
    while start < target.size:
        first = start >> HEIGHT
        bundles = range(first, min(first + _BUNDLES, (target.size - 1 >> HEIGHT) + 1))
        entries = [entry for index in bundles for entry in await shelved.entries(index)][start - (first << HEIGHT) :]
        last = tell if start + len(entries) == target.size else None
        await writer.run(lambda conn: _import(conn, log_id, start, entries, last))  # noqa: B023  done before they change
        start += len(entries)
    return Recovered(had, target.size, shelf.id)


async def _target(notary: Notary, shelves: Sequence[Shelf]) -> _Target:
    published: list[tuple[Shelf, Published | None]] = []
    away: DestinationError | None = None
    for shelf in shelves:
        try:
            published.append((shelf, await newest_checkpoint(shelf, notary.key)))
        except DestinationError as failed:
            away = failed
    if away is not None and not published:
        raise away
    # A tree that was signed and not yet published has its pieces on the shelves: they go there first.
    size, root = await asyncio.to_thread(notary.last, notary.key.name)
    for _, found in published:
        if found is not None and found.checkpoint.size > size:
            size, root = found.checkpoint.size, found.checkpoint.root
    return _Target(size, root, published)


async def _open(target: _Target) -> ShelvedLog:
    """The target's tree on the first shelf that has all its edge, those with the newest checkpoint first."""
    failure: ArchiverError = VerificationError("no storage has the log")
    for shelf, _ in sorted(target.published, key=lambda each: -each[1].checkpoint.size if each[1] else 0):
        try:
            return await ShelvedLog.open(shelf, target.size, target.root)
        except (VerificationError, DestinationError) as failed:
            failure = failed
    raise failure


def _import(
    conn: Connection, log_id: int, start: int, entries: Sequence[bytes], tell: Callable[[Connection], None] | None
) -> None:
    tree = trees.lock(conn, log_id)
    if tree.size != start:
        raise LeaseLostError("another process grows the log")
    events = [parse(entry) for entry in entries]
    numbers = _subject_numbers(conn, {event.subject for event in events})
    leaves = [
        Leaf(numbers[event.subject], event, entry, leaf_hash(entry))
        for event, entry in zip(events, entries, strict=True)
    ]
    trees.grow(conn, tree, leaves)
    _index_writers(conn, log_id, start, events)
    heads = {leaf.subject_no: {"no": leaf.subject_no, "seq": leaf.event.seq, "hash": leaf.hash} for leaf in leaves}
    # A head that is further on has events behind it that still wait in the queue; it stays.
    conn.execute(_ADVANCE, list(heads.values()))
    if tell is not None:
        tell(conn)


_NUMBERS = select(custody_subject.c.subject, custody_subject.c.subject_no).where(
    custody_subject.c.subject.in_(bindparam("subjects", expanding=True))
)
_ADVANCE = (
    update(custody_subject)
    .where(custody_subject.c.subject_no == bindparam("no"), custody_subject.c.head_seq < bindparam("seq"))
    .values(head_seq=bindparam("seq"), head_hash=bindparam("hash"))
)


def _subject_numbers(conn: Connection, subjects: set[str]) -> dict[str, int]:
    """The rows of these subjects, made where there is none."""
    known = {row.subject: row.subject_no for row in conn.execute(_NUMBERS, {"subjects": sorted(subjects)})}
    if missing := sorted(subjects - known.keys()):
        conn.execute(insert(custody_subject), [{"subject": subject, "head_seq": -1} for subject in missing])
        known |= {row.subject: row.subject_no for row in conn.execute(_NUMBERS, {"subjects": missing})}
    return known


def _index_writers(conn: Connection, log_id: int, start: int, events: Sequence[Event]) -> None:
    writers = enrolment.find(conn, enrolment.keys_of(events), None)
    told = (enrolment.learn(writers, event, leaf) for leaf, event in enumerate(events, start))
    enrolment.record(conn, log_id, [each for each in told if each is not None])


async def _import_beside(
    writer: Writer, log_id: int, notary: Notary, shelved: ShelvedLog, had: int, clock: Clock
) -> None:
    """The newest checkpoint and the anchored ones, with their anchors. The others stay where they are: on the shelf."""
    shelf, files = shelved.shelf, dict[int, dict[str, bytes]]()
    newest = await newest_checkpoint(shelf, notary.key)
    if newest is not None:
        files[newest.checkpoint.size] = {}
    async for name in shelf.names("anchors/"):
        place = anchor_place(name)
        if place is not None and had < place[0] <= shelved.size:
            content = await shelf.read(name)
            files.setdefault(place[0], {})[place[1]] = content or b""
    for size, anchors in files.items():
        found = await read_checkpoint(shelf, notary.key, checkpoint_name(size))
        if found is not None:
            now = clock.now()
            await writer.run(lambda conn: _keep(conn, log_id, found, anchors, now))  # noqa: B023  done before they change


def _keep(conn: Connection, log_id: int, found: Published, anchors: Mapping[str, bytes], now: datetime) -> None:
    size = found.checkpoint.size
    publication.keep_signed(conn, log_id, found.checkpoint, found.note.decode(), now)
    publication.keep_published(conn, log_id, size, now)
    tokens = [content for name, content in anchors.items() if name.endswith(".tsr")]
    if tokens:
        publication.keep_anchor(conn, log_id, Kind.TIMESTAMP, anchors, size, stamped_at(tokens[0]))


def restore_private(
    conn: Connection, subject: str, events: Sequence[Event], groups: Iterable[tuple[int, str, bytes, bytes]]
) -> list[str]:
    """Keep these private groups, (seq, name, salt, canonical bytes), each only if its event commits to it.

    Returns a sentence for each that was refused. What is there already stays.
    """
    refused, rows = [], []
    (number,) = _subject_numbers(conn, {subject}).values()
    known = {(row.seq, row.grp) for row in conn.execute(_GROUPS, {"of": number})}
    for seq, name, salt, data in groups:
        if not 0 <= seq < len(events) or not commits(events[seq].priv.get(name), salt, data):
            refused.append(
                f"{subject} event {seq}: its commitment is not to the group {name[:64]!r} that is offered for it"
            )
        elif (seq, name) not in known:
            known.add((seq, name))
            rows.append({"subject_no": number, "seq": seq, "grp": name, "salt": salt, "data": data})
    if rows:
        conn.execute(insert(custody_private), rows)
    return refused


_GROUPS = select(custody_private.c.seq, custody_private.c.grp).where(custody_private.c.subject_no == bindparam("of"))


def commits(promised: str | None, salt: bytes, data: bytes) -> bool:
    """Whether a commitment is to the private group with these canonical bytes."""
    try:
        group = json.loads(data)
        return promised == commitment(salt, group) and private_bytes(group) == data
    except (ValueError, TypeError, AttributeError):
        return False
