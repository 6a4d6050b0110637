"""Keeps listed rows that were not understood: each once, however often it is listed, until it is understood.

A row is recognised by `Reject.identity`, not by its bytes: signed links, ages and costs change with each listing. One
provider can make us keep only so many rows in a day; the rest are only counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from archiver.ingest import daily_budget
from archiver.ingest.tables import reject
from archiver.providers.rows import digest, moment_identity
from archiver.recording import Listing, Reject

KEPT_A_DAY = 100
"""The number of rows of one provider and day that are kept with their bytes, each a gap of its own."""
COUNTED_A_DAY = 10_000
"""The number of rows of one provider and day that are kept apart at all. With more, the listing itself is at fault."""
_ID_LENGTH = 1024


def pieces(scope: str, rejects: Sequence[Reject], most: int) -> list[list[Reject]]:
    """Divide a page's rejects into pieces: one reject for each name, and none beyond a day's limit."""
    named = list({key(scope, each): each for each in rejects}.values())[: COUNTED_A_DAY + 1]
    return [named[at : at + most] for at in range(0, len(named), most)]


def note(conn: Connection, provider: str, scope: str, rejects: Iterable[Reject], now: datetime) -> None:
    """Write down rows that could not be understood; known rows are marked as seen again.

    The first `KEPT_A_DAY` new rows of a day are kept with their bytes; those behind them, up to `COUNTED_A_DAY`,
    without.
    """
    named = {key(scope, each): each for each in rejects}
    if not named:
        return
    known = set(
        conn.execute(
            select(reject.c.digest).where(reject.c.provider == provider, reject.c.digest.in_(list(named)))
        ).scalars()
    )
    if known:
        again = [{"of": provider, "row": name, "now": now, "why": named[name].problem} for name in sorted(known)]
        conn.execute(_SEEN, again)
    fresh = [name for name in named if name not in known]
    if not fresh:
        return
    # Counted by the day, not by the rows kept: a row that is understood and odd in turn would otherwise be new each
    # time.
    _, counted = daily_budget.spend(conn, provider, now, rejects=len(fresh))
    values = [
        {
            "provider": provider,
            "digest": name,
            "raw": named[name].raw if counted + n < KEPT_A_DAY else b"",
            "problem": named[name].problem,
            "provider_recording_id": named[name].recording_id,
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for n, name in enumerate(fresh)
        if counted + n < COUNTED_A_DAY
    ]
    if values:
        _forget_older_names(conn, provider, fresh, named)
        conn.execute(insert(reject), values)


def understood(conn: Connection, provider: str, scope: str, listings: Sequence[Listing], before: datetime) -> int:
    """Forget the rejects that these listings show to be understood by now; return their count.

    Only rows last seen earlier than `before` are forgotten: one id may stand for two rows of one walk, of which one is
    not understood.
    """
    ours = (reject.c.provider == provider, reject.c.last_seen_at < before)
    if not listings or conn.execute(select(reject.c.digest).where(*ours).limit(1)).first() is None:
        return 0
    ids = {each.ref.recording_id[:_ID_LENGTH] for each in listings}
    names = {digest("id", each) for each in ids}
    nameless = select(reject.c.digest).where(*ours, reject.c.provider_recording_id.is_(None)).limit(1)
    if conn.execute(nameless).first() is not None:
        moments = (moment_identity(json.loads(each.raw)) for each in listings)
        names |= {_scoped(scope, each) for each in moments if each is not None}
    known = or_(reject.c.digest.in_(sorted(names)), reject.c.provider_recording_id.in_(sorted(ids)))
    return conn.execute(delete(reject).where(*ours, known)).rowcount


def key(scope: str, rejected: Reject) -> str:
    """Return a row's name in the journal: by its id, the same in every listing; without an id, within the listing
    `scope`."""
    if rejected.recording_id is not None and rejected.identity:
        return rejected.identity
    return _scoped(scope, rejected.identity or digest("bytes", rejected.raw.decode(errors="replace")))


def _scoped(scope: str, identity: str) -> str:
    return digest(scope, identity)


def _forget_older_names(conn: Connection, provider: str, fresh: Sequence[str], named: dict[str, Reject]) -> None:
    """Delete names from earlier versions, which named a row by its bytes: a row whose figures change has many such
    names."""
    ids = [recording_id for name in fresh if (recording_id := named[name].recording_id) is not None]
    if ids:
        conn.execute(delete(reject).where(reject.c.provider == provider, reject.c.provider_recording_id.in_(ids)))


_SEEN = (
    update(reject)
    .where(reject.c.provider == bindparam("of"), reject.c.digest == bindparam("row"))
    .values(last_seen_at=bindparam("now", type_=reject.c.last_seen_at.type), problem=bindparam("why"))
)
