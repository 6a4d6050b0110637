"""Keeps a gap for each party and call whose answers could not be understood, until the call has succeeded again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from archiver.clock import Chance
from archiver.completeness import register
from archiver.completeness.gap import Code, Gap, Grade
from archiver.custody.ledger import Ledger
from archiver.database import Connection
from archiver.recording import Json
from archiver.wall import Kind, Party, Trouble, Walls

SOURCE = "parties"
_RENEWED = timedelta(minutes=1)
_STALE = 3 * _RENEWED
_LONGEST_NAME = 64  # the length of the register's column `provider`


def gap_of(it: Trouble) -> Gap:
    """A trouble as a gap for the register. It has no span of time, and so makes no day incomplete by itself. Pure."""
    evidence: dict[str, Json] = {"kind": it.party.kind, "name": it.party.name, "call": it.call}
    subject = f"{it.party.kind}:{it.party.name}/{it.call}"
    return Gap(it.party.name[:_LONGEST_NAME], subject, Code.ANSWER_NOT_UNDERSTOOD, Grade.OPEN, it.problem, evidence)


def keep(
    conn: Connection,
    ledger: Ledger,
    chance: Chance,
    walls: Walls,
    now: datetime,
    configured: Mapping[Kind, frozenset[str]],
    *,
    ending: bool = False,
) -> register.Changes | None:
    """Bring the register up to date with the troubles of this process; None when there was nothing to write.

    A trouble that another process recorded stays, until the call has succeeded in this process and nobody has recorded
    the trouble again for three minutes, or until its party is not `configured` any more. `ending`: this process tries
    no call again.
    """
    seen = [gap_of(each) for each in walls.troubles(ending=ending)]
    known = {(str(row["provider"]), str(row["subject"])): row for row in register.of_source(conn, SOURCE)}
    ours = {(each.provider, each.subject) for each in seen}
    over = {name for name, row in known.items() if name not in ours and _is_over(row, walls, now, configured)}
    fresh = all(name in known and now - _seen_at(known[name]) < _RENEWED for name in ours)
    if fresh and not over:
        return None
    spared = known.keys() - ours - over
    return register.refresh(conn, ledger, chance, None, seen, now, source=SOURCE, spared=spared)


def _is_over(row: Mapping[str, Json], walls: Walls, now: datetime, configured: Mapping[Kind, frozenset[str]]) -> bool:
    evidence = cast("dict[str, str]", row["evidence"])
    kind, name = Kind(evidence["kind"]), evidence["name"]
    if kind in configured and name not in configured[kind]:
        return True
    return walls.worked(Party(kind, name), evidence["call"]) and now - _seen_at(row) >= _STALE


def _seen_at(row: Mapping[str, Json]) -> datetime:
    return datetime.fromisoformat(str(row["seen_at"]))
