"""Does the quick and the medium check of the log in the database: its edge at every start, the last hours every hour.

`log.check_log` checks the rest. Both read only.
"""

from __future__ import annotations

from datetime import datetime

from archiver.custody.event import Type, leaf_hash, verify
from archiver.database import Connection
from archiver.errors import VerificationError
from archiver.translog import merkle
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.merkle import Hashes
from archiver.translog.tile import HEIGHT, Tile, hashes_of
from archiver.verify import log_rows, subject_rows
from archiver.verify.finding import Kind, Verification
from archiver.verify.leaves import Enrolment, Findings, Leaves, Trust, key_in
from archiver.verify.log import check_anchors, check_logs, check_queue, opened
from archiver.verify.subjects import check_subjects


def check_edge(conn: Connection, log_id: int, trust: Trust, result: Verification) -> None:
    """Check the tree's root by the tiles at its edge, its last leaf, and the newest checkpoint."""
    found = Findings(result, f"log {log_id}")
    check_logs(conn, log_id, trust, found)
    stated = log_rows.tree(conn, log_id)
    if stated is None:
        found(Kind.LOG_TREE, f"custody_tree has no row for log {log_id}")
        return
    size, hashes = stated.size, _hashes(conn, log_id)
    try:
        if size < 0 or merkle.root(size, hashes) != stated.root:
            found(Kind.LOG_TREE, f"custody_tree has another root than the tiles of {size} leaves")
    except VerificationError as exc:
        found(Kind.LOG_TILE, exc.detail)
    last = log_rows.last_leaf(conn, log_id)
    if last != size - 1:
        found(Kind.LOG_LEAF, f"custody_event ends with leaf {last}, the tree with leaf {size - 1}")
    elif size and (entry := log_rows.leaf(conn, log_id, last)) is not None:
        _same_leaf(last, entry, hashes, found)
    newest = log_rows.newest_checkpoint(conn, log_id)
    checkpoint = None if newest is None else opened(newest, trust, found)
    if checkpoint is not None:
        _continued(checkpoint, size, hashes, found)


def check_window(conn: Connection, log_id: int, trust: Trust, since: datetime, result: Verification) -> None:
    """Check the log since an instant: entries, hashes up to the root, their subjects' chains, checkpoints, anchors; and
    the queue.

    Times are those of the signed events, not of the database's columns. `check_edge` comes first.
    """
    found = Findings(result, f"log {log_id}")
    stated = log_rows.tree(conn, log_id)
    size = 0 if stated is None else max(0, stated.size)
    hashes = _hashes(conn, log_id)
    heard = Leaves(trust, found, _writers(conn, log_id, trust, found))
    start = at = _first_since(conn, log_id, size, since)
    touched: set[str] = set()
    for row in log_rows.leaves(conn, log_id, start):
        if row.index >= size:
            break  # reported by the quick check
        if row.index != at:
            found(Kind.LOG_LEAF, f"custody_event has no leaf {at}: the next is {row.index}")
        at = row.index + 1
        event = heard.hear(row.index, row.entry, Kind.LOG_LEAF, f"leaf {row.index}")
        if event is not None:
            touched.add(event.subject)
        _same_leaf(row.index, row.entry, hashes, found)
        _same_parents(at, hashes, found)
    check_queue(conn, size, heard)
    for point in log_rows.checkpoints(conn, log_id, start):
        checkpoint = opened(point, trust, found)
        if checkpoint is not None:
            _continued(checkpoint, size, hashes, found)
    _check_subjects(conn, log_id, touched, found)
    check_anchors(conn, log_id, heard, found, start)
    _check_refused(conn, heard, found)
    result.leaves += at - start
    result.events += at - start


def _hashes(conn: Connection, log_id: int) -> Hashes:
    return hashes_of(lambda level, index: log_rows.tile(conn, log_id, level, index))


def _same_leaf(index: int, entry: bytes, hashes: Hashes, found: Findings) -> None:
    try:
        if hashes(0, index) != leaf_hash(entry):
            found(Kind.LOG_TILE, f"{Tile(0, index >> HEIGHT).path} disagrees with leaf {index}")
    except VerificationError as exc:
        found(Kind.LOG_TILE, exc.detail)


def _same_parents(size: int, hashes: Hashes, found: Findings) -> None:
    """Check that each tile that is full at `size` gives its hash in the tile above."""
    level = 0
    while size and size % (1 << HEIGHT * (level + 1)) == 0:
        level += 1
        index = (size >> HEIGHT * level) - 1
        below = HEIGHT * level - 1
        try:
            if hashes(below + 1, index) != merkle.node_hash(hashes(below, 2 * index), hashes(below, 2 * index + 1)):
                above = Tile(level, index >> HEIGHT).path
                found(Kind.LOG_TILE, f"{above} disagrees with {Tile(level - 1, index).path}")
        except VerificationError as exc:
            found(Kind.LOG_TILE, exc.detail)


def _continued(checkpoint: Checkpoint, size: int, hashes: Hashes, found: Findings) -> None:
    if checkpoint.size > size:
        found(Kind.LOG_ROLLBACK, f"checkpoint {checkpoint.size} was signed, the tree has {size} leaves")
        return
    try:
        if merkle.root(checkpoint.size, hashes) != checkpoint.root:
            said = f"checkpoint {checkpoint.size} was signed over another tree than the tiles give"
            found(Kind.LOG_CHECKPOINT, said)
    except VerificationError as exc:
        found(Kind.LOG_TILE, exc.detail)


def _first_since(conn: Connection, log_id: int, size: int, since: datetime) -> int:
    """Return the first leaf of the window, by bisection. A leaf without a readable time counts as young: then more is
    checked.
    """
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        try:
            old = verify(log_rows.leaf(conn, log_id, middle) or b"").at < since
        except VerificationError:
            old = False
        low, high = (middle + 1, high) if old else (low, middle)
    return low


def _writers(conn: Connection, log_id: int, trust: Trust, found: Findings) -> dict[str, Enrolment]:
    """Return the index of session keys, as far as the leaves that the index names confirm it."""
    writers = {}
    for row in log_rows.writers(conn):
        for leaf, what in ((row.enrolled, Type.WRITER_ENROLLED), (row.retired, Type.WRITER_RETIRED)):
            if leaf is None or (leaf, what) == (row.retired, Type.WRITER_ENROLLED):  # retired before it was enrolled
                continue
            try:
                event = verify(log_rows.leaf(conn, log_id, leaf) or b"")
            except VerificationError:
                event = None
            if event is None or event.writer not in trust.hosts or event.type != what or key_in(event.data) != row.key:
                found(Kind.LOG_INDEX, f"custody_writer {row.key[:16]}…: leaf {leaf} is not its {what}")
                break
        else:
            writers[row.key] = Enrolment(row.host, row.enrolled, row.retired)
    return writers


def _check_subjects(conn: Connection, log_id: int, touched: set[str], found: Findings) -> None:
    numbers = {subject: subject_rows.subject_number(conn, subject) for subject in touched}
    for subject, number in numbers.items():
        if number is None:
            found(Kind.LOG_INDEX, "custody_subject has no row for it, the log has events of it", subject)
    for number in sorted({each for each in numbers.values() if each is not None}):
        check_subjects(conn, log_id, found, number, number)


def _check_refused(conn: Connection, heard: Leaves, found: Findings) -> None:
    """Check that each refused event which the window's leaves record is kept."""
    wanted = {each.leaf_hash: leaf for each, leaf in heard.refused if not heard.rolled_back(leaf)}
    if wanted:
        for row in log_rows.refused(conn):
            wanted.pop(leaf_hash(row.entry).hex(), None)
    for digest, leaf in wanted.items():
        found(Kind.LOG_QUARANTINE, f"leaf {leaf} says that {digest[:16]}… was refused; custody_quarantine lacks it")
