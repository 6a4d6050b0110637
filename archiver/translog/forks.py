"""Finds checkpoints that contradict each other, and witnesses and authorities that have fallen silent.

A silence is derived from what is kept, never remembered: the newest checkpoints that lack a witness's line, the age of
the last time stamp. Pure, except for the reading functions at the end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.database import Connection
from archiver.errors import ForkedError, VerificationError
from archiver.translog import publication_rows, reader
from archiver.translog.note import VerifierKey, parse_note
from archiver.translog.reader import Signed
from archiver.translog.tables import AnchorKind

_MISSED = 3  # a witness is reported once it lacks so many checkpoints
_HEAD = 4000  # characters of a head that are kept: a note with all its lines fits, an event holds two


@dataclass(frozen=True, slots=True)
class Fork:
    """A fork: `where` shows another history of the log than the database has. Both heads are kept as they were signed
    or stated."""

    where: str
    ours: str
    theirs: str
    detail: str


def fork(error: ForkedError) -> Fork:
    """Returns the texts of a fork that are kept for ever, in a form that an event may hold."""
    return Fork(error.where, _kept(error.ours), _kept(error.theirs), error.detail)


def _kept(head: str) -> str:
    return unicodedata.normalize("NFC", head.encode("utf-8", "replace").decode())[:_HEAD]


@dataclass(frozen=True, slots=True)
class Silence:
    """The silence of a witness or a time stamping authority, which has not vouched since `since`. `lasting`: longer
    than the given patience."""

    name: str
    witness: bool
    since: datetime
    never: bool
    lasting: bool


def witness_silence(
    newest_first: Iterable[Signed], key: VerifierKey, now: datetime, patience: timedelta
) -> Silence | None:
    """Returns this witness's silence, derived from the log's checkpoints; None while the witness cosigns, or lacks
    hardly any.

    The silence is lasting when the first checkpoint that the witness lacks is older than `patience`, or when it never
    cosigned any.
    """
    since, missed = now, 0
    for each in newest_first:
        if cosigned(each.note, key):
            break
        since, missed = each.signed_at, missed + 1
        if now - since > patience:  # how much longer it has lasted changes nothing
            return Silence(key.name, True, since, never=False, lasting=True)
    else:
        return None if missed < _MISSED else Silence(key.name, True, since, never=True, lasting=True)
    return None if missed < _MISSED else Silence(key.name, True, since, never=False, lasting=False)


def stamp_silence(
    name: str, last: datetime | None, begun: datetime, every: timedelta, now: datetime, patience: timedelta
) -> Silence | None:
    """Returns the authority's silence, if it failed to stamp a log that has grown since its `last` stamp; `begun` is
    the first checkpoint's time."""
    due = begun if last is None else last + every
    if now - due <= patience:
        return None
    return Silence(name, False, due, never=last is None, lasting=True)


def cosigned(note: str, key: VerifierKey) -> bool:
    """Tells whether the note carries a line by this key. The line's signature was verified before the note was kept."""
    if f"\n— {key.name} " not in note:
        return False
    try:
        lines = parse_note(note.encode()).signatures
    except VerificationError:
        return False
    return any((each.name, each.key_id) == (key.name, key.key_id) for each in lines)


def silences(
    conn: Connection,
    log_id: int,
    witnesses: Sequence[VerifierKey],
    stamping: tuple[str, timedelta] | None,
    now: datetime,
    patience: timedelta,
) -> list[Silence]:
    """Returns the silences of this log's witnesses and time stamping authority. `stamping`: the authority's name, and
    how often it stamps."""
    found = [witness_silence(reader.newest_first(conn, log_id), each, now, patience) for each in witnesses]
    if stamping is not None:
        name, every = stamping
        newest = reader.newest_checkpoint(conn, log_id, published=True)
        last = publication_rows.newest_anchor(conn, log_id, AnchorKind.TIMESTAMP, f"{name}.tsr")
        if newest is not None and (last is None or last.size < newest.size):
            first = next(reader.checkpoints(conn, log_id), newest)
            at = None if last is None else min(last.at, now)
            found.append(stamp_silence(name, at, first.signed_at, every, now, patience))
    return [each for each in found if each is not None]


def last_cosigned(conn: Connection, log_id: int, key: VerifierKey, look_back: int = 1000) -> int:
    """Returns the size of the newest tree that this witness cosigned, among the last `look_back` checkpoints; 0 when
    none is known."""
    for number, each in enumerate(reader.newest_first(conn, log_id)):
        if number == look_back:
            break
        if cosigned(each.note, key):
            return each.size
    return 0
