"""The completeness statement of one provider and day: what was listed, what is archived, every gap and its reason. Pure.

The document is canonical JSON; a signed custody event of subject `archive` names its SHA-256 and repeats the main figures: both
together verify offline (docs/spec/completeness-statement.md).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from archiver.custody import canonical
from archiver.errors import VerificationError
from archiver.recording import Json, Window

SCHEMA = "archiver.completeness/v1"


@dataclass(frozen=True, slots=True)
class Enumerated:
    """One listing to its last page: `digest` is over the digests of its raw pages."""

    scope: str
    window: Window
    rows: int
    total: int | None
    digest: str
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A gap that touches the day, as the register has it."""

    subject: str
    code: str
    grade: str
    since: datetime | None
    until: datetime | None
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Day:
    """All that a statement rests on. `states` counts recordings by state, `silent` calls that the provider says have no audio."""

    provider: str
    day: date
    states: Mapping[str, int]
    silent: int
    archived_bytes: int
    archived_ms: int
    rejects: int
    holes: Mapping[str, Sequence[Window]]
    listings: Sequence[Enumerated]
    gaps: Sequence[Standing]


def facts(of: Day) -> dict[str, Json]:
    """What the statement says of the day; the same facts are not stated twice."""
    listed = sum(of.states.values())
    states: dict[str, Json] = dict(sorted(of.states.items()))
    holes: list[Json] = [
        {"scope": _text(scope), "since": _iso(each.since), "until": _iso(each.until)}
        for scope, spans in sorted(of.holes.items())
        for each in spans
    ]
    gaps: list[Json] = [
        {
            "subject": _text(each.subject),
            "code": each.code,
            "grade": each.grade,
            "since": _iso(each.since),
            "until": _iso(each.until),
            "acknowledged": each.acknowledged,
        }
        for each in sorted(of.gaps, key=lambda each: (each.subject, each.code))
    ]
    return {
        "listed": listed,
        "states": states,
        "without_audio": of.silent,
        "archived_bytes": of.archived_bytes,
        "archived_ms": of.archived_ms,
        "rejects": of.rejects,
        "holes": holes,
        "gaps": gaps,
        "complete": is_complete(of),
    }


def is_complete(of: Day) -> bool:
    """Every minute was listed to its last page, and everything listed is archived, without audio, or acknowledged."""
    settled = of.states.get("archived", 0) + of.states.get("disposed", 0) + of.silent
    excused = sum(1 for each in of.gaps if each.acknowledged and each.subject.startswith("rec:"))
    unexcused = any(each.grade == "open" and not each.acknowledged for each in of.gaps)
    return not (unexcused or any(of.holes.values())) and settled + excused >= sum(of.states.values())


def document(of: Day, revision: int) -> bytes:
    """The statement in full, as canonical bytes. `revision` counts from 1: a late recording makes a new one."""
    return canonical.dumps(
        {
            "schema": SCHEMA,
            "provider": of.provider,
            "day": of.day.isoformat(),
            "revision": revision,
            **facts(of),
            "listings": [
                {
                    "scope": _text(each.scope),
                    "since": _iso(each.window.since),
                    "until": _iso(each.window.until),
                    "rows": each.rows,
                    "total": each.total,
                    "sha256": each.digest,
                    "completed_at": _iso(each.completed_at),
                }
                for each in sorted(of.listings, key=lambda each: (each.scope, each.window.since))
            ],
        }
    )


def summary(of: Day, revision: int, raw: bytes) -> dict[str, Json]:
    """What the signed event says: a kilobyte, whatever the day was like."""
    reasons: dict[str, Json] = dict(sorted(Counter(each.code for each in of.gaps).items()))
    return {
        "kind": "completeness",
        "provider": of.provider,
        "day": of.day.isoformat(),
        "revision": revision,
        "statement_sha256": hashlib.sha256(raw).hexdigest(),
        "statement_bytes": len(raw),
        "complete": is_complete(of),
        "listed": sum(of.states.values()),
        "archived": of.states.get("archived", 0),
        "without_audio": of.silent,
        "gaps": reasons,
        "listings": len(of.listings),
    }


def check(raw: bytes, event: Mapping[str, Json]) -> Mapping[str, Json]:
    """The statement in `raw`, which the signed event's data must name. Raises `VerificationError`."""
    if hashlib.sha256(raw).hexdigest() != event.get("statement_sha256"):
        raise VerificationError("the statement is not the one that was signed")
    value = canonical_loads(raw)
    for name in ("provider", "day", "revision", "complete", "listed"):
        if value.get(name) != event.get(name):
            raise VerificationError(f"the statement and its signed event differ in {name}")
    return value


def canonical_loads(raw: bytes) -> Mapping[str, Json]:
    """The statement as a value. Raises `VerificationError`."""
    value = canonical.loads(raw)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise VerificationError("not a completeness statement")
    return value


def _text(name: str) -> str:
    """As the canonical form wants it; a scope may hold what an operator typed."""
    return unicodedata.normalize("NFC", name)


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")
