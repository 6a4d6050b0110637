"""Signs trees, and never two trees that do not continue one another.

The same class is the log's notary (it signs with the log's key) and a witness (it cosigns, c2sp.org/tlog-witness). The
last signed tree stands in a file of its own: somebody who can roll back the archive's database must not be able to roll
back this file with it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from archiver import errors
from archiver.clock import Clock
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.merkle import EMPTY_ROOT, verify_consistency
from archiver.translog.note import Cosigner, Signer
from archiver.translog.rotation import LogKeys

_BUSY_SECONDS = 30

# `note` is a courtesy to monitors, not state: the newest note that carries our signature.
_TABLE = """
CREATE TABLE IF NOT EXISTS signed (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB,
    CHECK (size >= 0 AND length(root) = 32)
) STRICT, WITHOUT ROWID
"""


class Conflict(errors.VerificationError):
    """The notary signed a tree of another size last."""

    def __init__(self, last_size: int) -> None:
        super().__init__(f"its last tree has {last_size} leaves")
        self.last_size = last_size


class Refused(errors.VerificationError):
    """The notary does not sign a tree that does not continue the last one."""


class Signed(NamedTuple):
    """The last signed tree of one log."""

    size: int
    root: bytes


class Notary:
    """Signs the checkpoints of any number of logs, each a continuation of that log's last one.

    The state file is one SQLite database, made at first use; any number of threads and processes may share it. A tree
    is recorded on disk before its signature exists, so that a crash can lose a signature but never the record of one.
    Raises `UnavailableError` when the file cannot be used.

    `keys` holds a log's key with its predecessors. `beside` also signs while a key is replaced, so that verifiers that
    only know the old key continue to work.

    With `remembers`, the notary signs nothing when its file is gone or empty: a witness, which nobody can tell what it
    signed, must not begin anew with the same key. `begin` makes the file.
    """

    def __init__(
        self,
        path: Path,
        signer: Signer | Cosigner,
        clock: Clock,
        *,
        remembers: bool = False,
        keys: LogKeys | None = None,
        beside: Signer | None = None,
    ) -> None:
        self._remembers = remembers
        self._path = path
        self._signer = signer
        self._clock = clock
        self._beside = beside
        self.key = signer.key
        self.keys = keys or LogKeys(signer.key)

    def begin(self) -> None:
        """Makes the file, with nothing signed yet; an existing file stays as it is."""
        with self._state(make=True):
            pass

    @property
    def begun(self) -> bool:
        """True when the file is there, and is a notary's."""
        try:
            with self._state(make=False):
                return True
        except errors.UnavailableError:
            return False

    def last(self, origin: str) -> Signed:
        """Returns the last signed tree of this log; the empty tree when there is none."""
        with self._state() as db:
            return _last(db, origin)

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> str:
        """Returns the signature line over `checkpoint`, whose tree continues that of `old_size`, as `proof` shows.

        `old_size` must be the last signed size, else `Conflict` names that size. Asking again for the last signed tree
        (with its size and no proof) signs it again. Raises `Refused` for a tree that does not continue the last one.
        """
        with self._state() as db:
            last = _last(db, checkpoint.origin)
            if old_size != last.size:
                raise Conflict(last.size)
            _check_continues(last, checkpoint, proof)
            _remember(db, checkpoint)
        # Committed. What if we die here? The next call is asked to continue this tree, or to sign it again.
        if isinstance(self._signer, Signer):
            also = "" if self._beside is None else self._beside.sign(checkpoint.body)
            return self._signer.sign(checkpoint.body) + also
        return self._signer.sign(checkpoint.body, int(self._clock.now().timestamp()))

    def catch_up(self, checkpoint: Checkpoint, proof: Sequence[bytes] = ()) -> None:
        """Records a checkpoint that carries our signature, as the caller has verified, and that the notary may have
        forgotten.

        This is how a state file from an old backup becomes safe again. `proof` leads to the checkpoint from `last`. A
        checkpoint that is older than `last` changes nothing. Raises `Refused` when both cannot be true: then two
        contradicting trees *were* signed.
        """
        with self._state() as db:
            last = _last(db, checkpoint.origin)
            if checkpoint.size >= last.size:
                _check_continues(last, checkpoint, proof)
                _remember(db, checkpoint)

    def keep(self, origin: str, size: int, note: bytes) -> None:
        """Keeps the signed note of the newest tree, for monitors that ask which tree we saw."""
        with self._state() as db:
            db.execute("UPDATE signed SET note = ? WHERE origin = ? AND size = ?", (note, origin, size))

    def kept(self, origin: str) -> bytes | None:
        """Returns the note kept last for this log."""
        with self._state() as db:
            row = db.execute("SELECT note FROM signed WHERE origin = ?", (origin,)).fetchone()
            return row[0] if row else None

    def origins(self) -> list[str]:
        """Returns the logs whose trees we signed."""
        with self._state() as db:
            return [origin for (origin,) in db.execute("SELECT origin FROM signed ORDER BY origin")]

    @contextlib.contextmanager
    def _state(self, make: bool | None = None) -> Iterator[sqlite3.Connection]:
        """Opens one exclusive transaction, which is on disk when the block succeeds; when the block fails, nothing has
        happened.

        With a rollback journal, only EXTRA makes a commit survive a power cut: it syncs the folder, too.
        """
        making = not self._remembers if make is None else make
        place = f"{self._path.absolute().as_uri()}?mode={'rwc' if making else 'rw'}"
        try:
            with contextlib.closing(
                sqlite3.connect(place, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
            ) as db:
                db.execute("PRAGMA synchronous = EXTRA")
                db.execute("PRAGMA trusted_schema = OFF")
                db.execute("BEGIN IMMEDIATE")
                db.execute(_TABLE if making else "SELECT count(*) FROM signed")
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as failed:
            raise errors.UnavailableError(f"the notary's state cannot be used: {type(failed).__name__}") from failed


def _last(db: sqlite3.Connection, origin: str) -> Signed:
    row = db.execute("SELECT size, root FROM signed WHERE origin = ?", (origin,)).fetchone()
    return Signed(*row) if row else Signed(0, EMPTY_ROOT)


def _remember(db: sqlite3.Connection, checkpoint: Checkpoint) -> None:
    db.execute(
        "INSERT INTO signed (origin, size, root) VALUES (?, ?, ?)"
        " ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root",
        (checkpoint.origin, checkpoint.size, checkpoint.root),
    )


def _check_continues(last: Signed, checkpoint: Checkpoint, proof: Sequence[bytes]) -> None:
    if checkpoint.size < last.size:
        raise Refused(f"a tree of {checkpoint.size} leaves after one of {last.size}")
    if last.size == 0:
        if proof:
            raise Refused("a proof that a tree continues the empty one is empty")
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            raise Refused("the empty tree has another root")
        return
    try:
        verify_consistency(last.size, last.root, checkpoint.size, checkpoint.root, proof)
    except errors.VerificationError as exc:
        raise Refused(exc.detail) from exc
