"""Keeps the results of `archiver verify`: a signed event of subject `archive`, and a row for frequent questions.

The rows are in the table `reconciliation`, under names that no storage can have.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from archiver.completeness.tables import reconciliation
from archiver.custody.event import ARCHIVE, Type
from archiver.custody.ledger import Ledger
from archiver.recording import Json


class Depth(enum.StrEnum):
    """The depth of a verification. PARTLY: everything was asked for, and not everything could be read. ROLLING: the
    daemon's own reading of the copies that were read longest ago."""

    FULL = "full"
    PARTLY = "partly"
    SAMPLE = "sample"
    NAMED = "named"
    ROLLING = "rolling"


@dataclass(frozen=True, slots=True)
class Verified:
    """One verification: `recordings` were asked for, `objects` were read and re-hashed; `failures` counts them by
    kind."""

    depth: Depth
    started_at: datetime
    finished_at: datetime
    recordings: int
    objects: int
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Integrity:
    """The state of integrity. `full`: the last verification of everything; `last`: the last of any depth.

    `failures`: the failures that still count, the highest number of each kind. Only a verification of everything ends a
    failure found by another one: a sample may have looked elsewhere.
    """

    full: Verified | None = None
    last: Verified | None = None
    failures: Mapping[str, int] = field(default_factory=dict)


def keep(
    conn: Connection, ledger: Ledger, it: Verified, details: Mapping[str, Json], actor_kind: str = "worker"
) -> None:
    """Record the verification in custody, and keep it for `integrity`. `details`: more figures for the event, not
    personal."""
    failures: dict[str, Json] = dict(sorted(it.failures.items()))
    data: dict[str, Json] = {
        **details,
        "kind": "verification",
        "depth": str(it.depth),
        "recordings": it.recordings,
        "objects_read": it.objects,
        "failures": failures,
    }
    outcome = "failed" if failures else "ok"
    said = ledger.append(
        conn, ARCHIVE, Type.RECONCILED, data, op=_name(it.depth), outcome=outcome, actor_kind=actor_kind
    )
    conn.execute(
        insert(reconciliation).values(
            id=f"verify-{said.seq:012d}",  # the chain gives the order of verifications, since a clock may be wrong
            storage=_name(it.depth),
            started_at=it.started_at,
            finished_at=it.finished_at,
            copies=it.recordings,
            versions=it.objects,
            findings=json.dumps(failures),
        )
    )


def integrity(conn: Connection, now: datetime) -> Integrity:
    """The state of integrity by the verifications on record.

    A verification dated after `now` proves nothing, but its failures count.
    """
    columns = reconciliation.c
    newest = [row for depth in Depth if (row := _newest(conn, depth, now)) is not None]
    full = next((row for row in newest if row.storage == _name(Depth.FULL)), None)
    bad = select(columns.findings).where(
        columns.storage.in_([_name(each) for each in Depth]),
        columns.findings != "{}",
        columns.id >= ("" if full is None else full.id),
    )
    failures: dict[str, int] = {}
    for found in conn.execute(bad).scalars():
        for kind, count in json.loads(found).items():
            failures[kind] = max(failures.get(kind, 0), count)
    return Integrity(_verified(full), _verified(max(newest, key=lambda row: row.id, default=None)), failures)


def _newest(conn: Connection, depth: Depth, now: datetime) -> Row[Any] | None:
    columns = reconciliation.c
    ours = select(reconciliation).where(columns.storage == _name(depth), columns.finished_at <= now)
    return conn.execute(ours.order_by(columns.id.desc()).limit(1)).one_or_none()


def _verified(row: Row[Any] | None) -> Verified | None:
    if row is None:
        return None
    depth = Depth(row.storage.partition(":")[2])
    return Verified(depth, row.started_at, row.finished_at, row.copies, row.versions, json.loads(row.findings))


def _name(depth: Depth) -> str:
    """The name of a depth's rows, which no storage can have: ids of storages have no colon."""
    return f"verify:{depth}"
