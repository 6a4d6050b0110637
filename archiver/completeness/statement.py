"""Makes the completeness statement of one provider and day: listed and archived recordings, every gap and its reason.
Pure.

The document is canonical JSON; a signed custody event of subject `archive` names its SHA-256 and repeats the main
figures: both together verify offline (docs/spec/completeness-statement.md).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType

from archiver.custody import canonical
from archiver.custody.event import ARCHIVE, Event, Type
from archiver.errors import VerificationError
from archiver.recording import Json, Window

SCHEMA = "archiver.completeness/v1"
_NOTHING: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Enumerated:
    """One listing to its last page. `digest` is computed over the digests of its raw pages."""

    scope: str
    window: Window
    rows: int
    total: int | None
    digest: str
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A gap in the register that touches the day."""

    subject: str
    code: str
    grade: str
    since: datetime | None
    until: datetime | None
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Day:
    """The facts of one day for its statement.

    `states` counts recordings by state; `silent` counts calls that have no audio by the provider's word.
    """

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


@dataclass(frozen=True, slots=True)
class Before:
    """The statement of the same day that a new revision follows. `said` is the data of its signed event."""

    revision: int
    sha256: str
    said: Mapping[str, Json] = field(default_factory=lambda: _NOTHING)


def facts(of: Day) -> dict[str, Json]:
    """The statement's facts about the day. A day is not stated again while its facts are the same."""
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
    """True when every minute was listed to the last page and each recording is archived, without audio, or
    acknowledged."""
    settled = of.states.get("archived", 0) + of.states.get("disposed", 0) + of.silent
    excused = sum(1 for each in of.gaps if each.acknowledged and each.subject.startswith("rec:"))
    unexcused = any(each.grade == "open" and not each.acknowledged for each in of.gaps)
    return not (unexcused or any(of.holes.values())) and settled + excused >= sum(of.states.values())


def document(of: Day, before: Before | None = None) -> bytes:
    """The full statement as canonical bytes. Its revision follows that of `before`; a day's first statement has 1."""
    return canonical.dumps(
        {
            "schema": SCHEMA,
            "provider": of.provider,
            "day": of.day.isoformat(),
            **_succession(of, before),
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


def summary(of: Day, raw: bytes, before: Before | None = None) -> dict[str, Json]:
    """The data of the signed event, about a kilobyte for any day. `raw` is the document, made with the same
    `before`."""
    return {
        "kind": "completeness",
        "provider": of.provider,
        "day": of.day.isoformat(),
        **_succession(of, before),
        "statement_sha256": hashlib.sha256(raw).hexdigest(),
        "statement_bytes": len(raw),
        "complete": is_complete(of),
        **_figures(of),
        "listings": len(of.listings),
    }


def _succession(of: Day, before: Before | None) -> dict[str, Json]:
    """The link to the statement before this one: its number and digest, and the reason why an incomplete day is
    complete now."""
    if before is None:
        return {"revision": 1, "previous": None, "because": {}}
    turned = is_complete(of) and not before.said.get("complete")
    return {
        "revision": before.revision + 1,
        "previous": {"revision": before.revision, "sha256": before.sha256},
        "because": because(before.said, _figures(of)) if turned else {},
    }


def because(before: Mapping[str, Json], now: Mapping[str, Json]) -> dict[str, Json]:
    """The reasons why an incomplete day is complete now, in figures of both signed events; at least one reason.

    Older events did not count holes and acknowledgements: a missing figure counts as 0.
    """
    closed = Counter(_counts(before, "gaps")) - Counter(_counts(now, "gaps"))
    reasons = {
        "gaps_closed": closed.total(),
        "gaps_acknowledged": _number(now, "acknowledged") - _number(before, "acknowledged"),
        "holes_listed": _number(before, "holes") - _number(now, "holes"),
        "recordings_settled": _settled(now) - _settled(before),
        "recordings_moved": _number(before, "listed") - _number(now, "listed"),
    }
    found: dict[str, Json] = {name: more for name, more in reasons.items() if more > 0}
    return found or {"gaps_regraded": 1}


def _figures(of: Day) -> dict[str, Json]:
    reasons: dict[str, Json] = dict(sorted(Counter(each.code for each in of.gaps).items()))
    return {
        "listed": sum(of.states.values()),
        "archived": of.states.get("archived", 0),
        "without_audio": of.silent,
        "gaps": reasons,
        "acknowledged": sum(each.acknowledged for each in of.gaps),
        "holes": sum(len(spans) for spans in of.holes.values()),
    }


def _counts(said: Mapping[str, Json], name: str) -> dict[str, int]:
    found = said.get(name)
    counts = found.items() if isinstance(found, dict) else ()
    return {code: count for code, count in counts if isinstance(count, int)}


def _number(said: Mapping[str, Json], name: str) -> int:
    found = said.get(name)
    return found if isinstance(found, int) else 0


def _settled(said: Mapping[str, Json]) -> int:
    return _number(said, "archived") + _number(said, "without_audio")


def told_of(event: Event) -> bool:
    """Tells whether the event signs a statement."""
    return (
        event.subject == ARCHIVE
        and event.type == Type.RECONCILED
        and event.data.get("kind") == "completeness"
        and {"provider", "day", "revision", "statement_sha256"} <= event.data.keys()
    )


def check(raw: bytes, event: Mapping[str, Json]) -> Mapping[str, Json]:
    """Returns the statement in `raw`, after comparing it with the signed event's data. Raises `VerificationError`."""
    if hashlib.sha256(raw).hexdigest() != event.get("statement_sha256"):
        raise VerificationError("the statement is not the one that was signed")
    value = canonical_loads(raw)
    for name in ("provider", "day", "revision", "complete", "listed"):
        if value.get(name) != event.get(name):
            raise VerificationError(f"the statement and its signed event differ in {name}")
    return value


def canonical_loads(raw: bytes) -> Mapping[str, Json]:
    """Parses the statement. Raises `VerificationError`."""
    value = canonical.loads(raw)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise VerificationError("not a completeness statement")
    return value


def _text(name: str) -> str:
    """The text in Unicode form NFC, as the canonical form demands; a scope may hold text that an operator typed."""
    return unicodedata.normalize("NFC", name)


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")
