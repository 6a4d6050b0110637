"""Copies that policy demands and that no storage has yet: one gap for each provider and storage, with how many and since when."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Connection, select

from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.tables import gap
from archiver.ingest import owed
from archiver.ingest.owed import Lack

SOURCE = "copies"


def observe(conn: Connection) -> list[Gap]:
    """Every gap of this kind."""
    return gaps(owed.lacks(conn))


def counted(conn: Connection) -> dict[str, int]:
    """How many copies each storage lacks by the register, which is brought up to date after each pass: no row is counted."""
    found: dict[str, int] = {}
    for evidence in conn.execute(
        select(gap.c.evidence).where(gap.c.source == SOURCE, gap.c.closed_at.is_(None))
    ).scalars():
        said = json.loads(evidence)
        found[said["storage"]] = found.get(said["storage"], 0) + int(said["recordings"])
    return found


def gaps(lacks: Iterable[Lack]) -> list[Gap]:
    """What is lacking, as the register keeps it. Pure."""
    return [
        Gap(
            each.provider,
            f"copies:{each.storage}",
            Code.COPY_MISSING,
            Grade.OPEN,
            f"{each.count} archived recording(s) have no copy in {each.storage}"
            + (f": {each.problem}" if each.problem else ""),
            # No span of time: that a second copy is lacking makes no day incomplete.
            {"storage": each.storage, "recordings": each.count, "oldest": f"{each.since:%Y-%m-%dT%H:%M:%SZ}"},
        )
        for each in lacks
    ]
