"""Finds recordings by what a person knows of them: ids, numbers, agents, digests, metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select, union

from archiver import vocabulary
from archiver.ingest.tables import FLAGGED, recording
from archiver.vocabulary import VOCABULARY

# An id that begins with some letters lies between these, filled up: a range is what an index answers in any locale,
# LIKE is not.
_ENDS = tuple(f"{c * 8}-{c * 4}-{c * 4}-{c * 4}-{c * 12}" for c in "0f")


@dataclass(frozen=True, slots=True)
class Search:
    """The filters of a list of recordings; every field narrows. `text` matches ids, numbers, agents and digests."""

    provider: str | None = None
    state: str | None = None
    flag: str | None = None
    number: str | None = None
    agent: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    limit: int | None = None


def matching(search: Search, *columns: Any) -> Select[Any]:
    """Return the query for `columns` of the recordings that the filters leave, oldest call first."""
    wanted = (
        select(*columns)
        .where(*_conditions(search))
        .order_by(recording.c.call_started_at.nulls_last(), recording.c.listed_at, recording.c.id)
    )
    return wanted if search.limit is None else wanted.limit(search.limit)


def ids(conn: Connection, search: Search) -> list[str]:
    """Return our ids of the recordings that the filters leave, oldest call first."""
    return [str(each) for each in conn.execute(matching(search, recording.c.id)).scalars()]


def find(conn: Connection, wanted: str) -> list[str]:
    """Return our ids that begin with `wanted`, or whose provider id or digest is `wanted`."""
    columns = recording.c
    lowest, highest = (wanted.lower() + end[len(wanted) :] for end in _ENDS)
    named = [
        columns.id.between(lowest, highest),
        columns.provider_recording_id == wanted,
        columns.plaintext_sha256 == wanted.lower(),
        columns.sealed_sha256 == wanted.lower(),
    ]
    ids = union(*(select(columns.id).where(each).limit(50).subquery().select() for each in named))
    return [str(each) for each in conn.execute(ids.limit(50)).scalars()]


def _conditions(search: Search) -> list[ColumnElement[bool]]:
    """Return the conditions on a row that the filters make."""
    columns, wanted = recording.c, []
    if search.provider:
        wanted.append(columns.provider == search.provider)
    if search.state:
        wanted.append(columns.state == search.state)
    if search.flag:
        wanted += [FLAGGED, columns.flags.contains(f'"{search.flag}"', autoescape=True)]
    if search.number:
        spellings = _spellings(search.number)
        wanted.append(or_(columns.from_number.in_(spellings), columns.to_number.in_(spellings)))
    if search.agent:
        pairs = [_pair(name, search.agent) for name in VOCABULARY["agent"].keys]
        named = [columns.metadata.contains(each, autoescape=True) for each in pairs]
        wanted.append(or_(columns.agent == search.agent, *named))
    if search.since:
        wanted.append(columns.call_started_at >= search.since)
    if search.until:
        wanted.append(columns.call_started_at < search.until)
    for name, value in search.metadata:
        wanted.append(columns.metadata.contains(_pair(name, value), autoescape=True))
    if search.text:
        wanted.append(
            or_(
                columns.id.startswith(search.text, autoescape=True),
                columns.provider_recording_id.contains(search.text, autoescape=True),
                columns.plaintext_sha256 == search.text.lower(),
                columns.sealed_sha256 == search.text.lower(),
                columns.metadata.contains(json.dumps(search.text, ensure_ascii=False)[1:-1], autoescape=True),
            )
        )
    return wanted


def _pair(name: str, value: str) -> str:
    """Return a name and its value in the spelling of the journal's metadata."""
    return json.dumps({name: value}, ensure_ascii=False)[1:-1]


def _spellings(number: str) -> list[str]:
    """Return a telephone number as given, and as providers write it: with and without an international prefix."""
    digits = vocabulary.number(number)
    return [number, digits, f"+{digits}", f"00{digits}"]
