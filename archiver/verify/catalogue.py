"""Checks that a rebuild would find the catalogue: every logged segment, in every storage, whole and with true content.

Without a private key: each segment is there, with the digest that a signed event names, and locked as long as the event
says. With a private key: each segment opens and has its lines, and the lines agree with the recordings' own events and
with the journal. Reads only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from archiver import errors
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, Type, commitment_to_bytes, is_subject, parse
from archiver.database import Connection, Engine, read
from archiver.recording import LockMode
from archiver.seal.cipher import open_sealed
from archiver.seal.recipients import Identity
from archiver.store import layout
from archiver.store.port import ObjectStore
from archiver.verify.finding import Finding, Kind, Verification

_PAGE = 500
_LAST = 2**31 - 1
_LARGEST = 256 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its signed event; `storages` are all the storages that must have it now."""

    digest: str
    size: int
    lines: int
    until: datetime
    storages: frozenset[str]

    @property
    def key(self) -> str:
        return layout.catalogue_key(self.digest)


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal's data about its catalogue.

    `storages`: the storages that a segment was put into since its event. `rows`: those of some rows that a segment
    describes as they are, by id, in the form of a line. `segments`: the count of rows that each named segment
    describes; `undescribed`: the count of final rows that name no segment.
    """

    storages: Callable[[str], Awaitable[frozenset[str]]]
    rows: Callable[[str, Sequence[str]], Awaitable[Mapping[str, Mapping[str, Any]]]]
    segments: Callable[[], Awaitable[Mapping[str, int]]]
    undescribed: Callable[[], Awaitable[int]]


async def check_catalogue(
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    identities: Sequence[Identity],
    journal: Journal,
    now: datetime,
    result: Verification,
) -> None:
    """Read every copy of every segment, the newest first; open each segment once."""
    named = dict(await journal.segments())
    before = _LAST
    while True:
        page = await read(engine, lambda conn, last=before: _told(conn, last))  # type: ignore[misc]
        for event in page:
            segment = _segment(event, await journal.storages(str(event.data.get("ct_sha256"))))
            rows = named.pop(segment.digest, 0)
            await _check(engine, stores, identities, journal, segment, rows, now, result)
        if not page:
            break
        before = page[-1].seq
    for digest, rows in sorted(named.items()):
        said = f"{rows} recordings are said to be described by a segment of which no event tells"
        result.findings.append(Finding(Kind.CATALOGUE_DIFFERS, f"segment {digest}", said))
    if left := await journal.undescribed():
        result.unchecked["final recordings that no segment of the catalogue describes yet"] += left


def _told(conn: Connection, before: int) -> list[Event]:
    """Return a page of the logged events about segments; before the first page, also the events that wait for the
    log."""
    found = [parse(each.raw) for each in history.of_type(conn, ARCHIVE, Type.CATALOGUED, before, _PAGE)]
    if before == _LAST:
        known = {each.seq for each in found}
        waiting = (parse(each.raw) for each in history.waiting(conn, ARCHIVE))
        found = [each for each in waiting if each.type == Type.CATALOGUED and each.seq not in known][::-1] + found
    return found


def _segment(event: Event, storages: frozenset[str]) -> Segment:
    data = event.data
    told = data.get("storages")
    return Segment(
        digest=str(data.get("ct_sha256")),
        size=int(str(data.get("ct_bytes"))),
        lines=int(str(data.get("lines"))),
        until=datetime.fromisoformat(str(data.get("retain_until"))),
        storages=storages | frozenset(str(each) for each in (told if isinstance(told, list) else ())),
    )


async def _check(
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    identities: Sequence[Identity],
    journal: Journal,
    segment: Segment,
    rows: int,
    now: datetime,
    result: Verification,
) -> None:
    content: bytes | None = None
    for name in sorted(segment.storages):
        store = stores.get(name)
        if store is None:
            result.unchecked[f"segments of the catalogue in {name}, which is not in the configuration"] += 1
            continue
        try:
            content = await _copy(store, segment, now, result) or content
        except errors.DestinationError as failed:
            result.unreachable[f"the catalogue in {name}: {failed.detail}"] += 1
    if content is None:
        return
    result.segments += 1
    if not identities:
        result.unchecked["opening segments of the catalogue: no private key on this host"] += 1
        return
    lines = await _opened(segment, content, identities, result)
    if lines is not None:
        described = await journal.rows(segment.digest, sorted(lines))
        problems = await read(engine, lambda conn: list(_contradictions(conn, lines, described)))
        if rows > len(described):  # unless the rows changed meanwhile: a changed row no longer names this segment
            rows = (await journal.segments()).get(segment.digest, 0)
        if (lacking := rows - len(described)) > 0:
            problems.append(f"the journal says of {lacking} recordings more that they are described here")
        for problem in problems:
            result.findings.append(Finding(Kind.CATALOGUE_CONTRADICTS, f"segment {segment.digest}", problem))


# --- the copy in a storage ------------------------------------------------------------------------------------


async def _copy(store: ObjectStore, segment: Segment, now: datetime, result: Verification) -> bytes | None:
    """Return the segment as this storage has it. Without a good copy, add a finding and return None."""

    def found(kind: Kind, detail: str, version: str | None = None) -> None:
        result.findings.append(Finding(kind, f"segment {segment.digest}", detail, None, store.id, segment.key, version))

    content, version = await _content(store, segment.key, None), None
    other = content is not None
    if not _is(content, segment):
        content = None
        async for each in store.versions(segment.key):
            if each.key != segment.key or each.is_delete_marker:
                continue
            other, older = True, await _content(store, segment.key, each.version_id)
            if _is(older, segment):
                content, version = older, each.version_id
                break
    if content is None:
        if other:
            found(Kind.CATALOGUE_DIFFERS, "what lies there has another digest than the signed event names")
        elif segment.until > now:
            found(Kind.CATALOGUE_MISSING, "it is not there; a rebuild would lack what it says of calls")
        else:
            result.unchecked["segments of the catalogue that are gone, their lock was over"] += 1
        return None
    if version is not None:
        found(Kind.LATER_VERSION, "something newer, or a delete marker, lies over it", version)
    seen = await store.inspect(segment.key, version)
    if store.lock_mode is not LockMode.OFF and (
        seen is None or seen.retain_until is None or seen.retain_until < segment.until
    ):
        found(Kind.LOCK_SHORTER, f"it is not locked until {segment.until:%Y-%m-%d %H:%M}, as was told", version)
    return content


def _is(content: bytes | None, segment: Segment) -> bool:
    return content is not None and hashlib.sha256(content).hexdigest() == segment.digest


async def _content(store: ObjectStore, key: str, version_id: str | None) -> bytes | None:
    content = bytearray()
    try:
        async for piece in store.read(key, version_id):
            content += piece
            if len(content) > _LARGEST:
                break  # no segment is so large: its digest will differ
    except errors.NotFoundError:
        return None
    return bytes(content)


# --- the content ----------------------------------------------------------------------------------------------


async def _opened(
    segment: Segment, content: bytes, identities: Sequence[Identity], result: Verification
) -> dict[str, Mapping[str, Any]] | None:
    """Return the lines by their recording; None, and a finding or a note, when they cannot be read."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    def found(detail: str) -> None:
        result.findings.append(Finding(Kind.DOES_NOT_OPEN, f"segment {segment.digest}", detail, key=segment.key))

    try:
        plain = b"".join([piece async for piece in open_sealed(chunks, identities, None)])
    except errors.KeyUnavailableError as failed:
        result.unchecked[f"opening segments of the catalogue: {failed.detail}"] += 1
        return None
    except errors.VerificationError as failed:
        found(failed.detail)
        return None
    try:
        lines = {str(each["id"]): each for each in map(json.loads, plain.split(b"\n")[:-1])}
        good = all(each["v"] == 1 and each["row"].keys() and each["seq"] >= 0 for each in lines.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        good, lines = False, {}
    if not good or len(lines) != segment.lines:
        found(f"{segment.lines} lines were told of, {len(lines)} can be read")
        return None
    return lines


_ERASED: tuple[object, ...] = (None, "", "{}", "e30=", {}, [])  # "e30=": an empty object in the base64 of a raw row


def _is_erased(value: object) -> bool:
    """Say whether an erasure of personal data leaves this value in the journal: it contradicts no earlier line."""
    return value in _ERASED


def _contradictions(
    conn: Connection,
    lines: Mapping[str, Mapping[str, Any]],
    described: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    for recording_id, line in sorted(lines.items()):
        subject = f"rec:{recording_id}"
        events = [parse(each.raw) for each in history.entries(conn, subject)] if is_subject(subject) else []
        for problem in _line_problems(line, events):
            yield f"{subject}: {problem}"
    for recording_id, row in sorted(described.items()):
        said = lines[recording_id]
        names = sorted(
            name for name, value in row.items()
            if name in said["row"] and said["row"][name] != value and not _is_erased(value)
        )  # fmt: skip
        if names:
            yield f"rec:{recording_id}: the journal has another {', '.join(names)}"


def _line_problems(line: Mapping[str, Any], events: Sequence[Event]) -> Iterator[str]:
    """Yield a problem for each digest or private group of a line that the recording's events do not confirm."""
    if not events:
        yield "no event tells of this recording"
        return
    row, by_seq = line["row"], {each.seq: each for each in events}
    received = {each.data.get("pt_sha256") for each in events if each.type == Type.DOWNLOADED}
    shared = any("same_content_as" in each.data for each in events if each.type == Type.DOWNLOADED)
    sealed = {each.data.get("ct_sha256") for each in events if each.type == Type.SEALED}
    if row.get("state") == "archived":
        if row.get("plaintext_sha256") not in received:
            yield "no event tells of this plaintext_sha256"
        if row.get("sealed_sha256") not in sealed and not shared:
            yield "no event tells of this sealed_sha256"
    for each in line.get("private", ()):
        event = by_seq.get(each["seq"])
        committed = commitment_to_bytes(bytes.fromhex(each["salt"]), str(each["data"]).encode())
        if event is None or event.priv.get(each["group"]) != committed:
            yield f"event {each['seq']} did not commit to this private group {str(each['group'])[:64]}"
