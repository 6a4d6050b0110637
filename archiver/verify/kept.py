"""Compares the database's rows beside the log with signed events: statements, listings, segments, pages in quarantine.

Pure: rows and events in, findings out. Each finding names its row; values that no event can confirm are not judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.custody.event import Type
from archiver.recording import Json
from archiver.verify.finding import Claimed, Finding, Kind, at_copy

_SLACK = timedelta(hours=1)  # the most between an event and the row that was written with it


@dataclass(frozen=True, slots=True)
class Said:
    """An event of the archive's own chain."""

    seq: int
    at: datetime
    data: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A row of `statement`. The document is empty where it was lost with the database, and the log gave the rest."""

    provider: str
    day: str
    document: bytes
    sha256: str
    issued_at: datetime | None
    revision: int
    event_seq: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.document).hexdigest() if self.document else self.sha256


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A row of `listing_window`, with times in the form of a statement."""

    provider: str
    scope: str
    since: str
    until: str
    rows: int
    total: int | None
    digest: str
    completed_at: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A row of `catalogue_segment`."""

    sealed_sha256: str
    size: int
    lines: int
    retain_until: datetime | None
    sealed_at: datetime | None


def statement_findings(
    rows: Iterable[StatementRow], events: Mapping[int, Said], renames: Sequence[Said] = ()
) -> Iterator[Finding]:
    """Yield a finding for each statement that is not the document its event names, of the same provider, day and
    revision.

    `renames`: the events that gave a provider another name; its rows were renamed too.
    """
    for row in rows:
        name = f"statement {row.provider} {row.day}"
        digest, said = row.digest, events.get(row.event_seq)
        if digest != row.sha256:
            yield Finding(Kind.KEPT_DIFFERS, name, "its digest is not its document's", row.provider)
        if said is None or said.data.get("kind") != "completeness":
            yield Finding(Kind.KEPT_DIFFERS, name, f"event {row.event_seq} does not state this", row.provider)
            continue
        told = {key: said.data.get(key) for key in ("provider", "day", "revision", "statement_sha256")}
        told["provider"] = _now_called(told["provider"], said.seq, renames)
        ours = {"provider": row.provider, "day": row.day, "revision": row.revision, "statement_sha256": digest}
        for key, value in ours.items():
            if told[key] != value:
                detail = f"the signed event {row.event_seq} has another {key}: {told[key]}"
                yield Finding(Kind.KEPT_DIFFERS, name, detail, row.provider)
        if _apart(row.issued_at, said.at):
            yield Finding(Kind.KEPT_DIFFERS, name, "it was not issued when its event says", row.provider)


def _now_called(provider: Json, seq: int, renames: Sequence[Said]) -> Json:
    for each in sorted(renames, key=lambda it: it.seq):
        if each.seq > seq and each.data.get("from") == provider:
            provider = each.data.get("to")
    return provider


def window_findings(statements: Iterable[StatementRow], windows: Iterable[WindowRow]) -> Iterator[Finding]:
    """Yield a finding for each listing without the digest and the numbers of the statement that names it.

    The statement's document is signed for; a listing that no statement names yet has nothing to be compared with.
    """
    known = {(each.provider, each.scope, each.since, each.until, each.completed_at): each for each in windows}
    oldest: dict[str, str] = {}  # by provider: a rebuilt journal has no older listings
    for place in known:
        oldest[place[0]] = min(oldest.get(place[0], place[-1]), place[-1])
    said: set[tuple[str, ...]] = set()
    for statement in statements:
        for listing in _listings(statement.document):
            provider, completed_at = statement.provider, str(listing.get("completed_at"))
            scope, since, until = (str(listing.get(key)) for key in ("scope", "since", "until"))
            place = (provider, scope, since, until, completed_at)
            if place in said or completed_at < oldest.get(provider, "9"):
                continue
            said.add(place)
            name = f"listing {provider} {scope} {since} to {until}"
            row = known.get(place)
            if row is None:
                detail = f"the one that was completed at {completed_at} is missing; a statement names it"
                yield Finding(Kind.KEPT_DIFFERS, name, detail, provider)
                continue
            for key, ours in (("sha256", row.digest), ("rows", row.rows), ("total", row.total)):
                if listing.get(key) != ours:
                    detail = f"the signed statement of {statement.day} has another {key}: {listing.get(key)}"
                    yield Finding(Kind.KEPT_DIFFERS, name, detail, provider)


def _listings(document: bytes) -> Sequence[Mapping[str, Json]]:
    try:
        found = json.loads(document).get("listings")
    except (ValueError, AttributeError):
        return ()  # reported already: the document's digest differs
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else ()


def segment_findings(rows: Iterable[SegmentRow], events: Iterable[Said]) -> Iterator[Finding]:
    """Yield a finding for each catalogue segment in the journal that no event records with the same numbers."""
    told = {str(each.data.get("ct_sha256")): each for each in events}
    for row in rows:
        name, said = f"segment {row.sealed_sha256}", told.get(row.sealed_sha256)
        if said is None:
            yield Finding(Kind.KEPT_DIFFERS, name, "the journal has a segment of which no event tells")
            continue
        for key, ours in (("ct_bytes", row.size), ("lines", row.lines)):
            if said.data.get(key) != ours:
                yield Finding(Kind.KEPT_DIFFERS, name, f"the signed event has another {key}: {said.data.get(key)}")
        if row.retain_until is None or _instant(said.data.get("retain_until")) != row.retain_until:
            yield Finding(Kind.KEPT_DIFFERS, name, f"the signed event locks it until {said.data.get('retain_until')}")
        if _apart(row.sealed_at, said.at):
            yield Finding(Kind.KEPT_DIFFERS, name, "it was not sealed when its event says")


def page_findings(claimed: Claimed, events: Iterable[tuple[str, Mapping[str, Json]]]) -> Iterator[Finding]:
    """Yield a finding for each copy of a page in quarantine that no event records as kept."""
    kept: set[tuple[Json, Json, Json]] = set()
    for kind, data in events:
        listed = data.get("kept") if kind == Type.AUDIO_INVALID else None
        for each in listed if isinstance(listed, list) else []:
            if isinstance(each, dict):
                kept.add((each.get("storage"), each.get("key"), each.get("ct_sha256")))
    for copy in claimed.copies:
        if (copy.storage, copy.key, copy.sealed_sha256) not in kept:
            yield at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, "no event says that this page was kept")


def _apart(row: datetime | None, event: datetime) -> bool:
    return row is None or abs(row - event) > _SLACK


def _instant(text: Json) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
