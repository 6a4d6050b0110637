"""Rebuilds the database's log from a storage, after a restored backup, a failover that lost commits, or the loss of the
database.

Every imported leaf is proved against a tree that the notary signed, before the leaf is written. Nothing in the database
is replaced: its log must be a beginning of the published one, and grows to it. The last batch, the two events that
report the recovery, and the return of events written meanwhile to their chains (`rehome`) are one transaction; a death
before it leaves a shorter log, from which the next run continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, insert, select, update

from archiver.clock import Clock
from archiver.custody.event import ARCHIVE, Event, Type, commits, leaf_hash, parse
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import custody_private, custody_subject
from archiver.database import Writer
from archiver.errors import ArchiverError, DestinationError, LeaseLostError, VerificationError
from archiver.recording import Json
from archiver.store.port import Shelf
from archiver.translog import enrolment, merkle, publication_rows, reader
from archiver.translog import tree as trees
from archiver.translog.notary import Notary
from archiver.translog.published_log import (
    PublishedCheckpoint,
    PublishedLog,
    checkpoint_size,
    newest_checkpoint,
    read_checkpoint,
)
from archiver.translog.rehome import Rehomed, rehome
from archiver.translog.tables import AnchorKind
from archiver.translog.tile import HEIGHT, hashes_of
from archiver.translog.timestamp import anchor_place, stamped_at
from archiver.translog.tree import Leaf

_BUNDLES = 4  # a transaction: some thousand events at most
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of a recovery: the database had `had` leaves, and has `size` now; the new ones came from the storage
    `shelf`.

    `rehomed` events that were written into the older database are in their chains again, `kept` events need no place in
    any chain; `checkpoints` is the number of checkpoints that were put back.
    """

    had: int
    size: int
    shelf: str
    rehomed: int = field(default=0, compare=False)
    kept: int = field(default=0, compare=False)
    checkpoints: int = field(default=0, compare=False)

    @property
    def told(self) -> bool:
        """True when the log tells of this recovery, in events of a session that is to be retired."""
        return self.size > self.had or bool(self.rehomed or self.kept)


@dataclass(frozen=True, slots=True)
class _Target:
    """The largest signed tree, and the newest checkpoint of each storage that could be asked."""

    size: int
    root: bytes
    published: list[tuple[Shelf, PublishedCheckpoint | None]]


async def recover(
    writer: Writer,
    notary: Notary,
    shelves: Sequence[Shelf],
    ledger: Ledger,
    host_key: Ed25519PrivateKey,
    clock: Clock,
    *,
    hosts: Collection[str] = (),
    follow: Callable[[Connection, Sequence[Event]], None] = lambda _conn, _events: None,
    moved: Callable[[Connection, Mapping[tuple[str, int], int]], None] | None = None,
) -> Recovered:
    """Brings the database's log up to the largest signed tree. No other process may write meanwhile. May be run again
    at any time.

    `ledger` has a fresh session; the session is enrolled here, when its chain is whole again, and only if there is
    something to report. `hosts` are the host keys besides this one, in hex; `moved` receives the new numbers of moved
    events, by subject and old number. `follow` receives the events of each batch, in order, in the transaction that
    imports them, so that all that follows from these events is there as soon as they are.

    Raises `VerificationError` when the storages' log is damaged, or the database's log has another history;
    `DestinationError` when no storage can be read.
    """
    log_id = await writer.run(lambda conn: trees.open_log(conn, notary.key.name, clock.now()))
    had, root = await writer.run(lambda conn: reader.tree(conn, log_id))
    target = await _target(notary, shelves)
    known = {public_hex(host_key), *hosts}
    home = Rehomed()

    def bring_home(conn: Connection, first: Sequence[Draft] = ()) -> None:
        nonlocal home
        home = rehome(conn, ledger, host_key, known, first) or home
        if home.moved and moved is not None:
            moved(conn, home.moved)

    if target.size <= had:
        put_back = await _checkpoints_back(writer, log_id, notary, target, clock)
        await writer.run(bring_home)
        return Recovered(had, had, "", home.rehomed, home.kept, put_back)
    published_log = await _open(target)
    shelf = published_log.shelf
    if await published_log.root_at(had) != root:
        raise VerificationError(
            f"the database's {had} leaves are not a beginning of those of {shelf.id}; use an empty database"
        )
    put_back = await _import_beside(writer, log_id, notary, published_log, had, clock)

    def tell(conn: Connection) -> None:
        rollback: dict[str, Json] = {"had": had, "published": target.size}
        restored: dict[str, Json] = {"size": target.size, "root": target.root.hex(), "storage": shelf.id}
        said = ((Type.DB_ROLLBACK, rollback), (Type.LOG_RESTORED, restored))
        bring_home(conn, [Draft(ARCHIVE, type_, data, actor_kind="operator") for type_, data in said])

    start = had
    while start < target.size:
        first = start >> HEIGHT
        bundles = range(first, min(first + _BUNDLES, (target.size - 1 >> HEIGHT) + 1))
        entries = [entry for index in bundles for entry in await published_log.entries(index)][
            start - (first << HEIGHT) :
        ]
        last = tell if start + len(entries) == target.size else None
        await writer.run(lambda conn: _import(conn, log_id, start, entries, follow, last))  # noqa: B023  done before they change
        start += len(entries)
    return Recovered(had, target.size, shelf.id, home.rehomed, home.kept, put_back)


async def _target(notary: Notary, shelves: Sequence[Shelf]) -> _Target:
    published: list[tuple[Shelf, PublishedCheckpoint | None]] = []
    away: DestinationError | None = None
    for shelf in shelves:
        try:
            published.append((shelf, await newest_checkpoint(shelf, notary.keys)))
        except DestinationError as failed:
            away = failed
    if away is not None and not published:
        raise away
    # A tree that was signed and not yet published has its pieces on the storages: they go there first.
    size, root = await asyncio.to_thread(notary.last, notary.key.name)
    for _, found in published:
        if found is not None and found.checkpoint.size > size:
            size, root = found.checkpoint.size, found.checkpoint.root
    return _Target(size, root, published)


async def _open(target: _Target) -> PublishedLog:
    """Returns the target's tree on the first storage that has its whole edge; storages with the newest checkpoint come
    first."""
    failure: ArchiverError = VerificationError("no storage has the log")
    for shelf, _ in sorted(target.published, key=lambda each: -each[1].checkpoint.size if each[1] else 0):
        try:
            return await PublishedLog.open(shelf, target.size, target.root)
        except (VerificationError, DestinationError) as failed:
            failure = failed
    raise failure


def _import(
    conn: Connection,
    log_id: int,
    start: int,
    entries: Sequence[bytes],
    follow: Callable[[Connection, Sequence[Event]], None],
    tell: Callable[[Connection], None] | None,
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
    follow(conn, events)
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
    """Returns the row numbers of these subjects, and makes rows where there are none."""
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
    writer: Writer, log_id: int, notary: Notary, published_log: PublishedLog, had: int, clock: Clock
) -> int:
    """Puts back the checkpoints that the database lacks, and the anchors over those that it lost. Returns the number of
    checkpoints."""
    shelf, anchors = published_log.shelf, dict[int, dict[str, bytes]]()
    async for name in shelf.names("anchors/"):
        place = anchor_place(name)
        if place is not None and had < place[0] <= published_log.size:
            anchors.setdefault(place[0], {})[place[1]] = await shelf.read(name) or b""
    return await _put_back(writer, log_id, notary, published_log, anchors, clock)


async def _checkpoints_back(writer: Writer, log_id: int, notary: Notary, target: _Target, clock: Clock) -> int:
    """Puts back the checkpoints that the database lacks, when nothing else is missing, from the storage that has the
    most."""
    for shelf, found in sorted(target.published, key=lambda each: -each[1].checkpoint.size if each[1] else 0):
        if found is not None and found.checkpoint.size:
            size, root = found.checkpoint.size, found.checkpoint.root
            ours = await writer.run(lambda conn: merkle.root(size, hashes_of(reader.read_tile(conn, log_id))))  # noqa: B023
            if ours == root:  # else there are two histories, which `Publisher.start` reports
                published_log = await PublishedLog.open(shelf, size, root)
                return await _put_back(writer, log_id, notary, published_log, {}, clock)
    return 0


async def _put_back(
    writer: Writer,
    log_id: int,
    notary: Notary,
    published_log: PublishedLog,
    anchors: Mapping[int, Mapping[str, bytes]],
    clock: Clock,
) -> int:
    """Puts back every checkpoint of the storage that belongs to this tree and that the database does not have. Returns
    their number."""
    kept = await writer.run(lambda conn: {each.size for each in reader.checkpoints(conn, log_id)})
    lacking: list[str] = []
    count = 0

    async def fetch() -> None:
        nonlocal count
        found = await asyncio.gather(*(read_checkpoint(published_log.shelf, notary.keys, name) for name in lacking))
        good = [each for each in found if each is not None and await _in_tree(each, published_log)]
        now = clock.now()

        def keep(conn: Connection) -> None:
            for each in good:
                _keep(conn, log_id, each, anchors.get(each.checkpoint.size, {}), now)

        await writer.run(keep)
        count += len(good)
        lacking.clear()

    async for name in published_log.shelf.names("checkpoints/"):
        size = checkpoint_size(name)
        if size is not None and size <= published_log.size and size not in kept:
            lacking.append(name)
        if len(lacking) >= _AT_ONCE:
            await fetch()
    await fetch()
    return count


async def _in_tree(found: PublishedCheckpoint, published_log: PublishedLog) -> bool:
    return await published_log.root_at(found.checkpoint.size) == found.checkpoint.root


def _keep(
    conn: Connection, log_id: int, found: PublishedCheckpoint, anchors: Mapping[str, bytes], now: datetime
) -> None:
    size = found.checkpoint.size
    publication_rows.keep_signed(conn, log_id, found.checkpoint, found.note.decode(), now)
    publication_rows.keep_published(conn, log_id, size, now)
    tokens = [content for name, content in anchors.items() if name.endswith(".tsr")]
    if tokens:
        publication_rows.keep_anchor(conn, log_id, AnchorKind.TIMESTAMP, anchors, size, stamped_at(tokens[0]))


def restore_private(
    conn: Connection, subject: str, events: Sequence[Event], groups: Iterable[tuple[int, str, bytes, bytes]]
) -> list[str]:
    """Keeps these private groups, (seq, name, salt, canonical bytes), each only if its event commits to it.

    Returns a sentence for each refused group. Groups that are there already stay.
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
