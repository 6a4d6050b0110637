"""Checks that the log in the database is whole: leaves, tiles, roots, checkpoints, index rows and refused rows must
agree.

Re-derives the tree from the stored entries alone and compares the tree with every table that describes it. Reads only;
shares with the writing side nothing but the pure formats. Each finding names the row, leaf or tile. Time is linear in
the log's size; memory holds a page of each table and one path of the tree.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from archiver.custody.event import leaf_hash
from archiver.database import Connection
from archiver.errors import VerificationError
from archiver.translog import merkle
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.tables import AnchorKind
from archiver.translog.timestamp import stamped_at, verify_token
from archiver.verify import log_rows, subject_rows
from archiver.verify.anchors import anchor_problems
from archiver.verify.finding import Kind, Verification
from archiver.verify.leaves import Enrolment, Findings, Leaves, Refusal, Trust, refusal
from archiver.verify.raw import LOWEST
from archiver.verify.regrown import Regrown
from archiver.verify.stated import problems
from archiver.verify.subjects import check_subjects

_QUEUE_LOG = 1  # custody_pending.log_id
# The most by which the clocks of writers and signers may differ, and for which an event may wait.
_CLOCKS = timedelta(hours=1)

__all__ = ["Trust", "check_log", "find_log"]


def find_log(conn: Connection, trust: Trust) -> int | None:
    """Return the number of the log with the key's name, or of the newest log if none has that name; None without any
    log."""
    logs = log_rows.logs(conn)
    named = [each.log_id for each in logs if each.origin == trust.log_key.name]
    return named[0] if named else logs[-1].log_id if logs else None


def check_log(conn: Connection, log_id: int | None, trust: Trust, result: Verification) -> list[tuple[int, int]]:
    """Check all of one log in the database, and the queue. `log_id` None: there is no log yet, so only the queue is
    checked.

    Returns the spans of sizes, (from, to), that were recovered from a storage.
    """
    found = Findings(result, "the queue" if log_id is None else f"log {log_id}")
    heard = Leaves(trust, found)
    size = 0
    if log_id is None:
        result.unchecked["the log: the daemon has not run on this database yet"] += 1
        check_logs(conn, 0, trust, found)
    else:
        check_logs(conn, log_id, trust, found)
        size = _check_tree(conn, log_id, heard, found)
        check_writers(conn, log_id, heard.writers, found)
    check_queue(conn, size, heard)
    for day, problem in problems(heard.statements, heard.renamed):
        found(Kind.STATEMENTS, f"completeness of {day}: {problem}")
    _check_quarantine(conn, heard, found)
    if log_id is not None:
        check_anchors(conn, log_id, heard, found)
        right = check_subjects(conn, log_id, found)
        if right != size:
            for leaf in subject_rows.unplaced(conn, log_id):
                found(Kind.LOG_INDEX, f"custody_subject_event has no row for leaf {leaf}")
    else:
        check_subjects(conn, None, found)
    result.leaves += size
    result.events += size
    return heard.lost


def check_logs(conn: Connection, log_id: int, trust: Trust, found: Findings) -> None:
    """Check that the log has the key's name and is the only open one, and that no table has rows of an unknown log."""
    known = {log_id}
    for each in log_rows.logs(conn):
        if each.log_id == log_id:
            if each.origin != trust.log_key.name:
                found(Kind.LOG_TREE, f"custody_log names it {each.origin!r}, its key {trust.log_key.name!r}")
        elif each.closed:
            known.add(each.log_id)
            found.result.unchecked[f"closed log {each.log_id}, {each.origin}"] += 1
        else:
            found(Kind.LOG_TREE, f"custody_log has another open log, {each.log_id}, {each.origin!r}")
    for table, number in log_rows.foreign(conn, log_id):
        if number not in known:
            found(Kind.LOG_TREE, f"{table} has rows of log {number}, which is not there")


# --- leaves, tiles, checkpoints -----------------------------------------------------------------------------------


def _check_tree(conn: Connection, log_id: int, heard: Leaves, found: Findings) -> int:
    """Check every entry, its hash in its tile, the signed roots and the stored root. Return the log's size."""
    stated = log_rows.tree(conn, log_id)
    tree = Regrown(conn, log_id, lambda detail: found(Kind.LOG_TILE, detail))
    signed = _Signed(conn, log_id, heard.trust, found)
    size, broken = 0, False
    signed.reached(0, lambda: merkle.EMPTY_ROOT)
    for row in log_rows.leaves(conn, log_id, LOWEST + 1):
        if row.index != size:
            if row.index < 0 or (stated is not None and row.index >= max(stated.size, size)):
                found(Kind.LOG_LEAF, f"leaf {row.index} lies beyond the tree, which ends with leaf {size - 1}")
                continue
            lacking = f"leaf {size}" if row.index == size + 1 else f"leaves {size} to {row.index - 1}"
            found(Kind.LOG_LEAF, f"custody_event has no {lacking}")
            size, broken = row.index, True
        event = heard.hear(row.index, row.entry, Kind.LOG_LEAF, f"leaf {row.index}")
        signed.heard(None if event is None else event.at)
        size += 1
        if not broken:
            tree.add(leaf_hash(row.entry))
        signed.reached(size, None if broken else tree.root)
    signed.close(size)
    if not broken:
        tree.close()
    if stated is None:
        found(Kind.LOG_TREE, f"custody_tree has no row for log {log_id}")
    elif stated.size != size:
        found(Kind.LOG_TREE, f"custody_tree says {stated.size} leaves, custody_event has {size}")
    elif not broken and stated.root != tree.root():
        found(Kind.LOG_TREE, f"custody_tree has another root than its {size} leaves")
    return size


class _Signed:
    """The checkpoints; each is compared as soon as the tree has grown to its size."""

    def __init__(self, conn: Connection, log_id: int, trust: Trust, found: Findings) -> None:
        self._rows = log_rows.checkpoints(conn, log_id)
        self._next = next(self._rows, None)
        self._trust = trust
        self._found = found
        self._oldest: datetime | None = None  # the oldest event since the checkpoint before
        self._before: log_rows.CheckpointRow | None = None

    def heard(self, at: datetime | None) -> None:
        """Note the time of an event that the next checkpoint covers."""
        if at is not None:
            self._oldest = at if self._oldest is None else min(self._oldest, at)

    def _signed_at(self, row: log_rows.CheckpointRow) -> None:
        """Check the unsigned time of a checkpoint: not before the events that are new in it, and not after the next
        checkpoint.
        """
        name = f"checkpoint {row.size}"
        if row.signed_at is None or (self._oldest is not None and row.signed_at < self._oldest - _CLOCKS):
            self._found(Kind.LOG_CHECKPOINT, f"{name} says that it was signed before the events that are new in it")
        last = None if self._before is None else self._before.signed_at
        if self._before and last and row.signed_at and last > row.signed_at + _CLOCKS:
            self._found(Kind.LOG_CHECKPOINT, f"checkpoint {self._before.size} says that it was signed after {name}")
        self._before, self._oldest = row, None

    def reached(self, size: int, root: Callable[[], bytes] | None) -> None:
        while self._next is not None and self._next.size <= size:
            checkpoint = opened(self._next, self._trust, self._found)
            if checkpoint is not None and root is not None and checkpoint.root != root():
                name = f"checkpoint {self._next.size}"
                self._found(Kind.LOG_CHECKPOINT, f"{name} was signed over another tree than the leaves give")
            self._signed_at(self._next)
            self._next = next(self._rows, None)

    def close(self, size: int) -> None:
        while self._next is not None:
            if opened(self._next, self._trust, self._found) is not None:
                said = f"checkpoint {self._next.size} was signed, custody_event has {size} leaves"
                self._found(Kind.LOG_ROLLBACK, said)
            self._next = next(self._rows, None)


def opened(row: log_rows.CheckpointRow, trust: Trust, found: Findings) -> Checkpoint | None:
    """Return the checkpoint of a row, if the log signed it and the row says the same."""
    try:
        checkpoint, _ = open_checkpoint(row.note, trust.log_key)
    except VerificationError as exc:
        found(Kind.LOG_CHECKPOINT, f"checkpoint {row.size}: {exc.detail}")
        return None
    if (checkpoint.size, checkpoint.root) != (row.size, row.root):
        found(Kind.LOG_CHECKPOINT, f"checkpoint {row.size}: its note is over another tree, of {checkpoint.size} leaves")
        return None
    return checkpoint


# --- writers, queue, quarantine, anchors --------------------------------------------------------------------------


def check_writers(conn: Connection, log_id: int, heard: dict[str, Enrolment], found: Findings) -> None:
    """Check that the index of session keys agrees with the leaves."""
    stated = {}
    for row in log_rows.writers(conn):
        stated[row.key] = Enrolment(row.host, row.enrolled, row.retired)
        if row.log_id != log_id:
            found(Kind.LOG_INDEX, f"custody_writer {row.key[:16]}… is of log {row.log_id}")
    for key in sorted(stated.keys() | heard.keys()):
        row_says, leaves_say = stated.get(key), heard.get(key)
        if row_says != leaves_say:
            differ = f"says {row_says or 'nothing'}, the leaves {leaves_say or 'nothing'}"
            found(Kind.LOG_INDEX, f"custody_writer {key[:16]}… {differ}")


def check_queue(conn: Connection, size: int, heard: Leaves) -> None:
    """Check that waiting events are signed by writers that a leaf, or an earlier waiting event, enrolled."""
    for number, row in enumerate(subject_rows.queue(conn)):
        heard.hear(size + number, row.entry, Kind.LOG_QUEUE, f"custody_pending {row.pid}")
        if row.log_id != _QUEUE_LOG:
            heard.found(Kind.LOG_QUEUE, f"custody_pending {row.pid} is of log {row.log_id}, which no writer says")


def _check_quarantine(conn: Connection, heard: Leaves, found: Findings) -> None:
    """Check that refused events are kept, and that events record the refusals, equally often and with the same
    values."""
    said: Counter[Refusal] = Counter(each for each, _ in heard.refused)
    for row in log_rows.refused(conn):
        each = refusal(leaf_hash(row.entry).hex(), row.reason, row.subject, row.seq)
        said[each] -= 1
        if said[each] < 0:
            found(Kind.LOG_QUARANTINE, f"custody_quarantine {row.id}: no event says that this was refused")
    for each, leaf in heard.refused:
        if said[each] <= 0:
            continue
        said[each] -= 1
        if heard.rolled_back(leaf):
            found.result.unchecked["refused rows, of a database that was rolled back"] += 1
        else:
            what = f"event {each.seq} of {each.subject or 'an unknown subject'}, {each.leaf_hash[:16]}…"
            found(Kind.LOG_QUARANTINE, f"leaf {leaf} says that {what}, was refused; custody_quarantine lacks it")


def check_anchors(conn: Connection, log_id: int, heard: Leaves, found: Findings, after: int = -1) -> None:
    """Check that each anchor beyond size `after` is over its checkpoint, and that no logged time stamp is missing."""
    lacking = {place: stamp for place, stamp in heard.stamps.items() if place[0] > after}
    for size, anchors in log_rows.anchors(conn, log_id, after):
        signed = log_rows.checkpoint(conn, log_id, size)
        for anchor in anchors:
            name = f"custody_anchor ({size}, {anchor.name})"
            if anchor.kind != AnchorKind.TIMESTAMP:
                found(Kind.LOG_ANCHOR, f"{name} is of kind {anchor.kind}, which none has")
            if signed is None:
                found(Kind.LOG_ANCHOR, f"{name}: custody_checkpoint has no checkpoint {size}")
        if signed is not None:
            _check_files(anchors, signed.note, heard, found)
        for anchor in anchors:
            lacking.pop((size, anchor.name.removesuffix(".tsr")), None)
    for (size, authority), stamp in lacking.items():
        if heard.rolled_back(stamp.leaf):
            found.result.unchecked["time stamps, of a database that was rolled back"] += 1
        else:
            found(
                Kind.LOG_ANCHOR, f"custody_anchor ({size}, {authority}.tsr) is missing; leaf {stamp.leaf} tells of it"
            )


def _check_files(anchors: list[log_rows.AnchorRow], note: bytes, heard: Leaves, found: Findings) -> None:
    size = anchors[0].size
    files = {anchor.name: anchor.blob for anchor in anchors if anchor.kind == AnchorKind.TIMESTAMP}
    logged = heard.logged(size)
    problems = dict(anchor_problems(files, note, heard.trust.roots, logged))
    for anchor in anchors:
        response = files.get(f"{anchor.name.rpartition('.')[0]}.tsr")
        with contextlib.suppress(VerificationError):  # reported with the response
            if response is not None and stamped_at(response) != anchor.at:
                problems.setdefault(anchor.name, "has another time than its time stamp")
    for file, problem in problems.items():
        found(Kind.LOG_ANCHOR, f"custody_anchor ({size}, {file}): {problem}")
    count_untrusted(files, note, heard.trust, logged, found.result)


def count_untrusted(
    files: Mapping[str, bytes], note: bytes, trust: Trust, logged: Mapping[str, str], result: Verification
) -> None:
    """Count unverified time stamps: logged ones that do not lead to the configured certificates, or all, where none are
    configured.
    """
    stamped = {file.removesuffix(".tsr") for file in files if file.endswith(".tsr")}
    if stamped and not trust.roots:
        result.unchecked["time stamps, whose authority was not verified: no custody.timestamp is configured"] += len(
            stamped
        )
    for authority in logged.keys() & stamped if trust.roots else ():
        try:
            verify_token(files[f"{authority}.tsr"], note, trust.roots)
        except VerificationError:
            result.unchecked["time stamps that do not lead to the configured certificates"] += 1
