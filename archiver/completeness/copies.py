"""Finds copies that policy demands and that are still missing: one gap for each provider and storage, with number and
age."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Connection, select

from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.tables import gap
from archiver.ingest import owed_copies
from archiver.ingest.owed_copies import Lack

SOURCE = "copies"


def observe(conn: Connection) -> list[Gap]:
    """All gaps of missing copies."""
    return gaps(owed_copies.lacks(conn))


def counted(conn: Connection) -> dict[str, int]:
    """The number of copies that each storage lacks, as the register says, which each pass updates: no row is
    counted."""
    found: dict[str, int] = {}
    for evidence in conn.execute(
        select(gap.c.evidence).where(gap.c.source == SOURCE, gap.c.closed_at.is_(None))
    ).scalars():
        said = json.loads(evidence)
        found[said["storage"]] = found.get(said["storage"], 0) + int(said["recordings"])
    return found


def gaps(lacks: Iterable[Lack]) -> list[Gap]:
    """The missing copies as gaps for the register. Pure."""
    return [
        Gap(
            each.provider,
            f"copies:{each.storage}",
            Code.COPY_MISSING,
            Grade.OPEN,
            f"{each.count} archived recording(s) have no copy in {each.storage}"
            + (f": {each.problem}" if each.problem else ""),
            # No span of time: a missing second copy makes no day incomplete.
            {"storage": each.storage, "recordings": each.count, "oldest": f"{each.since:%Y-%m-%dT%H:%M:%SZ}"},
        )
        for each in lacks
    ]
