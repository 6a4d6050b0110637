"""Fills the journal again from log and catalogue: all of it after a loss, the later part after a rollback.

Order: first the events' facts go into the existing rows and the register, in the transaction that brings the events
back; then come the segments that the log tells of, the newest first, so that the first line met for a recording is the
one that counts; then segments that the log does not tell of, for recordings still missing; then facts that only events
tell. Every step only adds missing rows or brings older ones up to date: after a death, or with a storage away, run it
again.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.clock import Clock
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Entry, Event, Type, commits, parse
from archiver.custody.ledger import Ledger
from archiver.database import Connection, Engine, Writer, read
from archiver.ingest import provider_names
from archiver.recording import Json
from archiver.recovery import completeness_replay, restore
from archiver.recovery.catalogue import read_segment, segment_versions
from archiver.recovery.recording_replay import FINAL, UNLOGGED, rebuild_row, replay
from archiver.recovery.segment import CatalogueLine, load
from archiver.seal.cipher import open_sealed
from archiver.seal.recipients import Identity
from archiver.store import layout
from archiver.store.bounded import at_most
from archiver.store.port import ObjectStore, Version
from archiver.translog.notary import Notary
from archiver.translog.recover import restore_private

_AT_ONCE = 8
_PAGE = 500
_NAMED = 1000
_LAST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools for filling. `ledger` has a fresh session, which is not enrolled yet."""

    engine: Engine
    writer: Writer
    notary: Notary
    stores: Mapping[str, ObjectStore]
    ledger: Ledger
    host_key: Ed25519PrivateKey
    identities: Sequence[Identity]
    clock: Clock


@dataclass(slots=True)
class Named:
    """A count of names, and the first thousand of them."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def note(self, *names: str) -> None:
        self.count += len(names)
        self.names += names[: _NAMED - len(self.names)]

    def as_json(self) -> dict[str, Json]:
        return {"count": self.count, "named": list(self.names)}


@dataclass(slots=True)
class Refilled:
    """The result of filling: the parts that came back, and the missing ones.

    `uncatalogued` recordings are final by their events and described by no segment; `unlogged` ones are described by a
    segment that the log does not tell of; `unfinished` ones were discovered and never archived, as far as events tell:
    they wait, without a name, for their provider to list them again. `unopened` segments are sealed for keys that are
    not configured here. `findings` contradict signed statements.
    """

    segments: int = 0
    private: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    uncatalogued: Named = field(default_factory=Named)
    unlogged: Named = field(default_factory=Named)
    unfinished: Named = field(default_factory=Named)
    unopened: Named = field(default_factory=Named)
    findings: Named = field(default_factory=Named)

    @property
    def exit_code(self) -> errors.Exit:
        if self.findings.count:
            return errors.Exit.INTEGRITY
        if self.unopened.count:
            return errors.Exit.UNAVAILABLE
        return errors.Exit.LOST if self.uncatalogued.count else errors.Exit.OK

    def as_json(self) -> dict[str, Json]:
        return {
            "segments": self.segments,
            "private_groups": self.private,
            "rows": dict(sorted(self.rows.items())),
            "uncatalogued": self.uncatalogued.as_json(),
            "untold": self.unlogged.as_json(),
            "unfinished": self.unfinished.as_json(),
            "unopened": self.unopened.as_json(),
            "findings": self.findings.as_json(),
        }


def follow(conn: Connection, events: Sequence[Event]) -> None:
    """Apply the other facts of these events as they come back into the log: about existing rows, gaps, statements."""
    restore.advance(conn, events)
    completeness_replay.follow(conn, events)


async def refill(tools: Tools, result: Refilled, progress: Callable[[str], None]) -> None:
    """Fill the journal from a complete log. Without identities, only facts from events are used."""
    await _logged_segments(tools, result, progress)
    if tools.identities:
        await _unlogged_segments(tools, result, progress)
    progress("recordings that no segment describes")
    await _undescribed(tools, result)
    await tools.writer.run(provider_names.replay)
    await tools.writer.run(completeness_replay.restore_reasons)
    if not result.unopened.count:
        await tools.writer.run(restore.settle)
    result.rows = await read(tools.engine, restore.counts)


# --- segments -------------------------------------------------------------------------------------------------


async def _logged_segments(tools: Tools, result: Refilled, progress: Callable[[str], None]) -> None:
    """Read the segments that the log tells of, newest first."""
    before = _LAST

    def next_page(conn: Connection) -> list[Entry]:
        return history.of_type(conn, ARCHIVE, Type.CATALOGUED, before, _PAGE)

    while page := await read(tools.engine, next_page):
        before = page[-1].seq
        events = [parse(each.raw) for each in page]
        for batch in (events[start : start + _AT_ONCE] for start in range(0, len(events), _AT_ONCE)):
            contents = await asyncio.gather(*(_content(tools, result, each) for each in batch))
            for event, content in zip(batch, contents, strict=True):
                if content is not None:
                    await _describe(tools, result, event, content)
        progress(f"{result.segments} segments of the catalogue")


async def _content(tools: Tools, result: Refilled, event: Event) -> list[CatalogueLine] | None:
    """Return the lines of a segment; None when an earlier run read it, or it cannot be read."""
    digest = str(event.data["ct_sha256"])
    if await read(tools.engine, lambda conn: restore.has_segment(conn, digest)):
        return None
    if not tools.identities:
        result.unopened.note(digest)
        return None
    sealed = await _sealed(tools, digest)
    if sealed is None:
        # After the end of its lock the segment may have been removed: its recordings are gone, or newer segments
        # describe them.
        if datetime.fromisoformat(str(event.data["retain_until"])) > tools.clock.now():
            result.findings.note(f"segment {digest} of the catalogue is in no storage")
        return None
    return await _lines(tools, result, digest, sealed)


async def _sealed(tools: Tools, digest: str) -> bytes | None:
    away: errors.DestinationError | None = None
    for store in tools.stores.values():
        try:
            if (sealed := await read_segment(store, digest)) is not None:
                return sealed
        except errors.DestinationError as failed:
            away = failed
    if away is not None:
        raise away
    return None


async def _lines(tools: Tools, result: Refilled, digest: str, sealed: bytes) -> list[CatalogueLine] | None:
    async def chunks() -> AsyncIterator[bytes]:
        yield sealed

    try:
        content = b"".join([piece async for piece in open_sealed(chunks, tools.identities, None)])
        return list(load(content))
    except errors.KeyUnavailableError:
        result.unopened.note(digest)
    except errors.VerificationError as wrong:
        result.findings.note(f"segment {digest} of the catalogue: {wrong.detail}")
    return None


async def _describe(tools: Tools, result: Refilled, event: Event, lines: Sequence[CatalogueLine]) -> None:
    data = event.data
    digest, size = str(data["ct_sha256"]), int(str(data["ct_bytes"]))
    until, storages = datetime.fromisoformat(str(data["retain_until"])), json.dumps(data["storages"])

    def write(conn: Connection) -> _Written:
        restore.keep_segment(conn, digest, size, len(lines), until, storages, event.at)
        return _write_lines(conn, lines, digest, event.at)

    _add(result, await tools.writer.run(write))


async def _unlogged_segments(tools: Tools, result: Refilled, progress: Callable[[str], None]) -> None:
    """Read stored segments that no published event tells of: used where nothing better is known, and marked so.

    Anybody who may write to the storage can put one there; so a line counts only as far as signed events confirm it.
    """
    known = await read(tools.engine, restore.known_segment_keys)
    known |= {layout.catalogue_key(each) for each in result.unopened.names}
    for store in tools.stores.values():
        versions: list[Version] = [each async for each in segment_versions(store) if each.key not in known]
        for each in sorted(versions, key=lambda version: version.modified_at, reverse=True):
            sealed = b"".join([piece async for piece in at_most(store.read(each.key, each.version_id), each.size)])
            lines = await _lines(tools, result, each.key, sealed)
            if lines is not None:
                written = await tools.writer.run(lambda conn: _write_lines(conn, lines, None, None))  # noqa: B023
                result.unlogged.note(*written.ids)
                _add(result, written)
    if result.unlogged.count:
        progress(f"{result.unlogged.count} recordings from segments that the log does not tell of")


# --- recordings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Written:
    ids: list[str]
    private: int
    findings: list[str]


def _add(result: Refilled, written: _Written) -> None:
    result.segments += 1
    result.private += written.private
    result.findings.note(*written.findings)


def _write_lines(
    conn: Connection, lines: Sequence[CatalogueLine], segment: str | None, sealed_at: datetime | None
) -> _Written:
    """Write the recordings of a segment that are missing or older in the journal, with the data that their events
    commit to.

    `segment` and `sealed_at` are None when the log does not tell of the segment.
    """
    ids = [line.id for line in lines]
    old = set() if sealed_at is None else restore.behind(conn, ids, sealed_at)
    wanted = old.union(restore.missing(conn, ids))
    rows, copies, findings, private = [], dict[str, list[dict[str, Any]]](), list[str](), 0
    for line in lines:
        events = restore.chain_of(conn, line.subject) if line.id in wanted else []
        if not events or (segment is None and not _vouched(line, events)):
            continue
        made = rebuild_row(line, events, line.id, restore.copies_of(conn, replay(events)))
        made.row["segment"] = segment if made.current else None
        if segment is None:
            made.row["last_error"] = UNLOGGED
        if line.id in old:
            restore.replace(conn, made.row, made.copies)
        else:
            rows.append(made.row)
            copies[line.id] = made.copies
        findings += made.findings
        if made.row["state"] != "disposed":
            groups = [(each.seq, each.group, each.salt, each.data) for each in line.private]
            refused = restore_private(conn, line.subject, events, groups)
            private += len(groups) - len(refused)
            findings += refused
    return _Written(sorted(restore.write(conn, rows, copies)), private, findings)


def _vouched(line: CatalogueLine, events: Sequence[Event]) -> bool:
    """Tell whether the provider's row in the line is the one that custody committed to last."""
    committed = [each for each in line.private if each.group == "provider_meta"]
    sworn = [event.seq for event in events if "provider_meta" in event.priv]
    if not committed or not sworn or committed[-1].seq != sworn[-1]:
        return False
    newest = committed[-1]
    promised = events[newest.seq].priv["provider_meta"]
    return commits(promised, newest.salt, newest.data) and base64.b64decode(
        str(json.loads(newest.data).get("row_base64"))
    ) == line.row.get("raw")


async def _undescribed(tools: Tools, result: Refilled) -> None:
    """Make a row for every recording that the log knows and no segment describes."""
    after = ""

    def next_page(conn: Connection) -> list[str]:
        return history.subjects(conn, prefix="rec:", after=after, limit=_PAGE)

    while page := await read(tools.engine, next_page):
        after = page[-1]

        def write(conn: Connection, page: Sequence[str] = page) -> tuple[set[str], set[str]]:
            rows, copies, unfinished = [], dict[str, list[dict[str, Any]]](), set[str]()
            for recording_id in restore.missing(conn, [each.removeprefix("rec:") for each in page]):
                events = restore.chain_of(conn, f"rec:{recording_id}")
                replayed = replay(events)
                if replayed.state not in FINAL:
                    unfinished.add(recording_id)
                if "listed_at" not in replayed.row:
                    continue  # its first event is missing: no row can be made
                made = rebuild_row(None, events, recording_id, restore.copies_of(conn, replayed))
                rows.append(made.row)
                copies[recording_id] = made.copies
            return restore.write(conn, rows, copies), unfinished

        written, unfinished = await tools.writer.run(write)
        result.uncatalogued.note(*sorted(written - unfinished))
        result.unfinished.note(*sorted(unfinished))
