"""Who vouches for the log, and whether they still do: heads that contradict each other, and those who have fallen silent.

A silence is read from what is kept, never remembered: the newest checkpoints that lack a witness's line, the age of the last time
stamp. Pure, but for the reading at the end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from archiver.custody import log, publication
from archiver.custody.log import Signed
from archiver.custody.note import VerifierKey, parse_note
from archiver.custody.publication import Kind
from archiver.errors import ForkedError, VerificationError

_MISSED = 3  # checkpoints that a witness lacks before anything is said of it
_HEAD = 4000  # characters of a head that are kept: a note with all its lines fits, an event holds two


@dataclass(frozen=True, slots=True)
class Fork:
    """`where` shows another history of the log than the database has; both heads, as they were signed or said."""

    where: str
    ours: str
    theirs: str
    detail: str


def fork(error: ForkedError) -> Fork:
    """What is kept of a fork for ever: texts that an event may hold."""
    return Fork(error.where, _kept(error.ours), _kept(error.theirs), error.detail)


def _kept(head: str) -> str:
    return unicodedata.normalize("NFC", head.encode("utf-8", "replace").decode())[:_HEAD]


@dataclass(frozen=True, slots=True)
class Silence:
    """A witness, or a time stamping authority, has not vouched since `since`. `lasting`: longer than anybody's patience."""

    name: str
    witness: bool
    since: datetime
    never: bool
    lasting: bool


def witness_silence(
    newest_first: Iterable[Signed], key: VerifierKey, now: datetime, patience: timedelta
) -> Silence | None:
    """Whether this witness has fallen silent, from the log's checkpoints; None while it cosigns, or lacks hardly any.

    It lasts when the first one that it lacks is older than `patience`, or when it never cosigned any.
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
    """Whether the authority has failed to stamp a log that has grown since its `last` stamp; `begun`: the first checkpoint."""
    due = begun if last is None else last + every
    if now - due <= patience:
        return None
    return Silence(name, False, due, never=last is None, lasting=True)


def cosigned(note: str, key: VerifierKey) -> bool:
    """Whether the note carries a line by this key. Its signature was verified before it was kept."""
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
    """Everyone who is to vouch for this log and has fallen silent. `stamping`: the authority's name, and how often it stamps."""
    found = [witness_silence(log.newest_first(conn, log_id), each, now, patience) for each in witnesses]
    if stamping is not None:
        name, every = stamping
        newest = log.newest_checkpoint(conn, log_id, published=True)
        last = publication.newest_anchor(conn, log_id, Kind.TIMESTAMP, f"{name}.tsr")
        if newest is not None and (last is None or last.size < newest.size):
            first = next(log.checkpoints(conn, log_id), newest)
            at = None if last is None else min(last.at, now)
            found.append(stamp_silence(name, at, first.signed_at, every, now, patience))
    return [each for each in found if each is not None]


def last_cosigned(conn: Connection, log_id: int, key: VerifierKey, look_back: int = 1000) -> int:
    """The size of the newest tree that this witness cosigned, of the last so many; 0 when none is known."""
    for number, each in enumerate(log.newest_first(conn, log_id)):
        if number == look_back:
            break
        if cosigned(each.note, key):
            return each.size
    return 0
