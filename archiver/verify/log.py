"""Whether the log in the database is whole: every leaf, tile, root, checkpoint, index row and refused row against the others.

Re-derives the tree from the stored entries alone and compares it with everything that claims to know it. Reads only; shares with
the writing side nothing but the pure formats. Each finding names the row, leaf or tile.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field

from sqlalchemy import Connection

from archiver.custody import history, log, merkle, rows
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.checkpoint import Checkpoint, open_checkpoint
from archiver.custody.event import ARCHIVE, Event, Type, leaf_hash, parse, verify
from archiver.custody.log import Signed
from archiver.custody.log_tables import TYPE_NUMBERS
from archiver.custody.note import VerifierKey
from archiver.custody.tile import WIDTH, Tile, hashes_of
from archiver.errors import NotFoundError, VerificationError
from archiver.verify.finding import Finding, Kind, Verification
from archiver.verify.regrown import Regrown

_BY_HOST = frozenset({Type.WRITER_ENROLLED, Type.WRITER_RETIRED})
_REFUSED = frozenset({Type.BAD_WRITER_SIG, Type.CHAIN_FORK})


@dataclass(frozen=True, slots=True)
class Trust:
    """What the checker believes: the log's public key and the host keys that may enrol writers, in hex."""

    log_key: VerifierKey
    hosts: frozenset[str]


@dataclass(slots=True)
class _Walk:
    """What a walk over the leaves has come to know."""

    size: int = 0
    broken: bool = False
    roots: dict[int, bytes] = field(default_factory=dict)
    writers: dict[str, tuple[str, int, int | None]] = field(default_factory=dict)  # key → host, enrolled, retired
    refused: dict[str, int] = field(default_factory=dict)  # leaf hash of a refused entry → the leaf that says so


def check_log(conn: Connection, log_id: int, trust: Trust, result: Verification) -> None:
    """Everything of one log in the database. Linear in its size; keeps one batch and the path of one tile in memory."""
    found = _Findings(result, f"log {log_id}")
    signed = list(log.checkpoints(conn, log_id))
    stated_size, stated_root = log.tree(conn, log_id)
    walk = _walk(conn, log_id, trust, {each.size for each in signed} | {stated_size}, found, result)
    if walk.size != stated_size:
        found(Kind.LOG_TREE, f"custody_tree says {stated_size} leaves, custody_event has {walk.size}")
    elif not walk.broken and walk.roots.get(stated_size) != stated_root:
        found(Kind.LOG_TREE, f"custody_tree has another root than its {stated_size} leaves")
    _check_origin(conn, log_id, trust, found)
    _check_checkpoints(signed, walk, trust, found)
    _check_places(conn, log_id, walk, found)
    _check_writers(conn, walk, found)
    _check_queue(conn, trust, walk, found)
    _check_quarantine(conn, walk, found)
    _check_anchors(conn, log_id, {each.size: each for each in signed}, found)
    for subject, seq, group in rows.private_without_event(conn):
        found(Kind.COMMITMENT, f"custody_private: {subject} event {seq} commits to no group {group!r}")
    result.leaves += walk.size


def check_edge(conn: Connection, log_id: int, trust: Trust, result: Verification) -> None:
    """The quick check, for every start: the tree's root and the newest checkpoint's, from the tiles at the edge."""
    found = _Findings(result, f"log {log_id}")
    size, root = log.tree(conn, log_id)
    hashes = hashes_of(log.read_tile(conn, log_id))
    try:
        if merkle.root(size, hashes) != root:
            found(Kind.LOG_TREE, f"custody_tree has another root than the tiles of {size} leaves")
    except VerificationError as exc:
        found(Kind.LOG_TILE, exc.detail)
    newest = log.newest_checkpoint(conn, log_id)
    if newest is None:
        return
    if (checkpoint := _opened(newest, trust, found)) is None:
        return
    if checkpoint.size > size:
        found(Kind.LOG_ROLLBACK, f"{checkpoint.size} leaves were signed, the tree has {size}")
        return
    _same_root(checkpoint, hashes, found)


def check_window(conn: Connection, log_id: int, trust: Trust, start: int, result: Verification) -> None:
    """The leaves from number `start` on: each entry, its hash in its tile, its subject's chain; and what was signed since."""
    found = _Findings(result, f"log {log_id}")
    size, _ = log.tree(conn, log_id)
    hashes = hashes_of(log.read_tile(conn, log_id))
    walk = _Walk(size=start, writers=_enrolled(conn, log_id, trust, found))
    touched: set[str] = set()
    for row in rows.leaves(conn, log_id, start):
        if row.index != walk.size:
            found(Kind.LOG_LEAF, f"custody_event has no leaf {walk.size}: the next is {row.index}")
        walk.size = row.index + 1
        _judge(row, trust, walk, found)
        if row.index < size and _disagrees(hashes, row, found):
            found(Kind.LOG_TILE, f"{Tile(0, row.index // WIDTH).path} disagrees with leaf {row.index}")
        with contextlib.suppress(VerificationError):  # said already
            touched.add(parse(row.entry).subject)
    if walk.size != max(size, start):
        found(Kind.LOG_TREE, f"custody_tree says {size} leaves, custody_event has {walk.size}")
    result.leaves += walk.size - start
    for signed in log.checkpoints(conn, log_id, after=start):
        checkpoint = _opened(signed, trust, found)
        if checkpoint is not None and checkpoint.size <= size:
            _same_root(checkpoint, hashes, found)
    archive = history.entries(conn, ARCHIVE)
    writers = enrolled_writers(archive, trust.hosts)
    for subject in sorted(touched):
        problems = check_chain(
            subject, history.entries(conn, subject), writers, trust.hosts, history.head(conn, subject)
        )
        result.chains += 1
        for each in problems:
            result.findings.append(Finding(Kind.CHAIN, subject, f"event {each.seq}: {each.detail}"))


def _disagrees(hashes: merkle.Hashes, row: rows.LeafRow, found: _Findings) -> bool:
    try:
        return hashes(0, row.index) != leaf_hash(row.entry)
    except VerificationError as exc:
        found(Kind.LOG_TILE, exc.detail)
        return False


def _same_root(checkpoint: Checkpoint, hashes: merkle.Hashes, found: _Findings) -> None:
    try:
        if merkle.root(checkpoint.size, hashes) != checkpoint.root:
            found(Kind.LOG_CHECKPOINT, f"checkpoint {checkpoint.size} has another root than the tiles of that size")
    except VerificationError as exc:
        found(Kind.LOG_TILE, exc.detail)


def _enrolled(conn: Connection, log_id: int, trust: Trust, found: _Findings) -> dict[str, tuple[str, int, int | None]]:
    """The index of session keys, as far as the leaves that it names bear it out."""
    writers = {}
    for row in rows.writers(conn):
        try:
            event = verify(log.entry(conn, log_id, row.enrolled))
        except (VerificationError, NotFoundError):
            event = None
        if event is None or event.writer not in trust.hosts or event.data.get("writer") != row.key:
            found(Kind.LOG_INDEX, f"custody_writer {row.key[:16]}…: leaf {row.enrolled} does not enrol it")
        else:
            writers[row.key] = (row.host, row.enrolled, row.retired)
    return writers


@dataclass(frozen=True, slots=True)
class _Findings:
    """Adds findings, all of one log."""

    result: Verification
    subject: str

    def __call__(self, kind: Kind, detail: str) -> None:
        self.result.findings.append(Finding(kind, self.subject, detail))


# --- leaves and tiles -------------------------------------------------------------------------------------------


def _walk(
    conn: Connection, log_id: int, trust: Trust, sizes: set[int], found: _Findings, result: Verification
) -> _Walk:
    """Every entry by itself, its hash in its tile, and the roots at `sizes`."""
    walk = _Walk()
    tree = Regrown(conn, log_id, lambda detail: found(Kind.LOG_TILE, detail))
    if 0 in sizes:
        walk.roots[0] = merkle.EMPTY_ROOT
    for row in rows.leaves(conn, log_id):
        if row.index != walk.size:
            if not walk.broken:
                found(Kind.LOG_LEAF, f"custody_event has no leaf {walk.size}: the next is {row.index}")
            walk.broken = True
            walk.size = row.index
        _judge(row, trust, walk, found)
        walk.size += 1
        if not walk.broken:
            tree.add(leaf_hash(row.entry))
            if walk.size in sizes:
                walk.roots[walk.size] = tree.root()
    if not walk.broken:
        tree.close()
    return walk


def _judge(row: rows.LeafRow, trust: Trust, walk: _Walk, found: _Findings) -> None:
    try:
        event = verify(row.entry)
    except VerificationError as exc:
        found(Kind.LOG_LEAF, f"leaf {row.index}: {exc.detail}")
        return
    if event.type in _BY_HOST:
        if event.writer not in trust.hosts:
            found(Kind.LOG_LEAF, f"leaf {row.index}: {event.type} is not signed by a host that we trust")
            return
        _note_writer(row.index, event, walk)
        return
    known = walk.writers.get(event.writer)
    if known is None:
        found(Kind.LOG_LEAF, f"leaf {row.index}: its writer {event.writer[:16]}… was not enrolled before it")
    elif known[2] is not None:
        found(Kind.LOG_LEAF, f"leaf {row.index}: its writer {event.writer[:16]}… was retired at leaf {known[2]}")
    _note_refusal(row.index, event, walk)


def _note_refusal(index: int, event: Event, walk: _Walk) -> None:
    if event.subject == ARCHIVE and event.type in _REFUSED and isinstance(refused := event.data.get("leaf_hash"), str):
        walk.refused[refused] = index


def _note_writer(index: int, event: Event, walk: _Walk) -> None:
    key = event.data.get("writer")
    if event.subject != ARCHIVE or not isinstance(key, str):
        return
    known = walk.writers.get(key)
    if event.type == Type.WRITER_ENROLLED and known is None:
        walk.writers[key] = (event.writer, index, None)
    elif event.type == Type.WRITER_RETIRED and known is not None and known[2] is None:
        walk.writers[key] = (known[0], known[1], index)


# --- what was signed --------------------------------------------------------------------------------------------


def _check_origin(conn: Connection, log_id: int, trust: Trust, found: _Findings) -> None:
    for each in log.logs(conn):
        if each.log_id == log_id and each.origin != trust.log_key.name:
            found(Kind.LOG_TREE, f"custody_log names it {each.origin!r}, its key {trust.log_key.name!r}")


def _check_checkpoints(signed: list[Signed], walk: _Walk, trust: Trust, found: _Findings) -> None:
    for each in signed:
        checkpoint = _opened(each, trust, found)
        if checkpoint is None:
            continue
        if checkpoint.size > walk.size:
            found(Kind.LOG_ROLLBACK, f"checkpoint {checkpoint.size} was signed, custody_event has {walk.size} leaves")
        elif not walk.broken and walk.roots.get(checkpoint.size) != checkpoint.root:
            found(
                Kind.LOG_CHECKPOINT, f"checkpoint {checkpoint.size} was signed over another tree than the leaves give"
            )


def _opened(signed: Signed, trust: Trust, found: _Findings) -> Checkpoint | None:
    try:
        checkpoint, _ = open_checkpoint(signed.note.encode(), trust.log_key)
    except VerificationError as exc:
        found(Kind.LOG_CHECKPOINT, f"checkpoint {signed.size}: {exc.detail}")
        return None
    if (checkpoint.size, checkpoint.root) != (signed.size, signed.root):
        found(
            Kind.LOG_CHECKPOINT, f"checkpoint {signed.size}: the row says another tree than its note, {checkpoint.size}"
        )
    return checkpoint


def _check_anchors(conn: Connection, log_id: int, signed: dict[int, Signed], found: _Findings) -> None:
    for each in rows.anchors(conn, log_id):
        if each.size not in signed:
            found(
                Kind.LOG_ANCHOR, f"{each.name} is over checkpoint {each.size}, which custody_checkpoint does not have"
            )


# --- index, writers, queue --------------------------------------------------------------------------------------


def _check_places(conn: Connection, log_id: int, walk: _Walk, found: _Findings) -> None:
    pointed = 0
    last: tuple[int, int] | None = None
    for row in rows.places(conn, log_id):
        name = f"custody_subject_event ({row.subject_no}, {row.seq}, leaf {row.leaf})"
        if (row.subject_no, row.seq) == last:
            found(Kind.LOG_INDEX, f"{name}: two leaves claim this event of {row.subject}")
        last = (row.subject_no, row.seq)
        pointed += row.entry is not None
        problem = _misplaced(row)
        if problem:
            found(Kind.LOG_INDEX, f"{name} {problem}")
        elif row.entry is not None and row.subject is not None:
            _check_private(conn, row.subject, row.seq, row.entry, found)
    if pointed != walk.size:
        for leaf in rows.unplaced(conn, log_id):
            found(Kind.LOG_INDEX, f"custody_subject_event has no row for leaf {leaf}")


def _misplaced(row: rows.PlaceRow) -> str:
    """What is wrong with a row of the index; empty when it says what the entry says."""
    if row.entry is None:
        return "points to no leaf"
    try:
        event = parse(row.entry)
    except VerificationError:
        return ""  # said of the leaf already
    if row.subject is None:
        return f"belongs to no row of custody_subject; the leaf is of {event.subject}"
    if (event.subject, event.seq) != (row.subject, row.seq):
        return f"points to event {event.seq} of {event.subject}"
    if event.at != row.at:
        return f"says {row.at.isoformat()}, the event {event.at.isoformat()}"
    if row.type_no != TYPE_NUMBERS.get(event.type, 0):
        return f"has type {row.type_no}, the event is {event.type}"
    return ""


def _check_private(conn: Connection, subject: str, seq: int, entry: bytes, found: _Findings) -> None:
    """Erased groups are no fault; those that are there are what the event committed to."""
    event = parse(entry)
    for group, private in history.private(conn, subject, seq).items():
        committed = hashlib.sha256(b"custody-priv-v1\x00" + private.salt + private.raw).hexdigest()
        if committed != event.priv.get(group):
            found(Kind.COMMITMENT, f"custody_private: {subject} event {seq}: {group!r} is not what was committed to")


def _check_writers(conn: Connection, walk: _Walk, found: _Findings) -> None:
    stated = {row.key: (row.host, row.enrolled, row.retired) for row in rows.writers(conn)}
    for key in sorted(stated.keys() | walk.writers.keys()):
        if stated.get(key) != walk.writers.get(key):
            found(
                Kind.LOG_INDEX, f"custody_writer {key[:16]}… says {stated.get(key)}, the leaves {walk.writers.get(key)}"
            )


def _check_queue(conn: Connection, trust: Trust, walk: _Walk, found: _Findings) -> None:
    for row in rows.queue(conn):
        try:
            event = verify(row.entry)
        except VerificationError as exc:
            found(Kind.LOG_QUEUE, f"custody_pending {row.number}: {exc.detail}")
            continue
        if (event.subject, event.seq) != (row.subject, row.seq):
            found(Kind.LOG_QUEUE, f"custody_pending {row.number} is event {event.seq} of {event.subject}")
        if event.type in _BY_HOST:
            if event.writer in trust.hosts:
                _note_writer(walk.size, event, walk)
            else:
                found(
                    Kind.LOG_QUEUE, f"custody_pending {row.number}: {event.type} is not signed by a host that we trust"
                )
        elif event.writer not in walk.writers:
            found(Kind.LOG_QUEUE, f"custody_pending {row.number}: its writer {event.writer[:16]}… was not enrolled")
        _note_refusal(walk.size, event, walk)


def _check_quarantine(conn: Connection, walk: _Walk, found: _Findings) -> None:
    """What was refused is kept, and an event says that it was."""
    there = set()
    for row in rows.quarantine(conn):
        digest = leaf_hash(row.entry).hex()
        there.add(digest)
        if digest not in walk.refused:
            found(Kind.LOG_QUARANTINE, f"custody_quarantine {row.number}: no event says that it was refused")
    for digest, leaf in walk.refused.items():
        if digest not in there:
            found(Kind.LOG_QUARANTINE, f"leaf {leaf} says that {digest[:16]}… was refused; custody_quarantine lacks it")
