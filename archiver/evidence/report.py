"""Collects the facts of a report: every line comes from an event in the log, with its file and leaf. Pure: no I/O, no
clock."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from archiver.custody import canonical
from archiver.custody.event import Event, Type, leaf_hash
from archiver.custody.person import GROUP, described
from archiver.documents.phrases import EVENTS, elapsed, format_instant
from archiver.errors import VerificationError
from archiver.evidence.manifest import File
from archiver.evidence.model import Logged, LogPart, Recording, Request, Statement
from archiver.recording import Json
from archiver.translog.checkpoint import Checkpoint, parse_checkpoint
from archiver.translog.note import VerifierKey, open_note, parse_note, parse_vkey

_LOCKED: Mapping[str, str] = {
    "compliance": "Written to a storage under Object Lock, compliance mode",
    "governance": "Written to a storage under Object Lock, governance mode: its administrators can lift it",
    "off": "Written to a storage that does not lock",
}
_RECONCILED: Mapping[str, str] = {
    "storage": "Compared with a storage",
    "completeness": "The completeness of a day was stated",
    "verification": "The archive was verified",
}
# Private groups about the person who acted, not about the speakers of a recording.
_WHO = frozenset({"access", "ack", GROUP})
STATED_LIMITS = (
    "These statements say how things stood when they were made. They count by the provider's own lists and totals: that those "
    "showed everything that the provider had, they cannot prove; nor do they speak of days that are not in the table."
)
_MILESTONES: Mapping[str, str] = {
    Type.DISCOVERED: "Listed",
    Type.DOWNLOADED: "Downloaded",
    Type.SEALED: "Encrypted",
    Type.STORED: "Stored",
    Type.STORE_VERIFIED: "Read back",
    Type.ACCESSED: "Opened",
    Type.HOLD_PLACED: "Held",
    Type.PROVIDER_DELETED: "Deleted there",
    Type.PURGED: "Removed",
    Type.EXPORT_PREPARED: "Exported",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One event: its time, its title and statements, and its place in the bundle."""

    at: datetime
    title: str
    type: str
    actor: str
    details: tuple[tuple[str, str], ...]
    file: str
    leaf: int
    trouble: bool
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Milestone:
    """One station on the time line. `after` is the time since the station before, with a minus where the clock had been
    set back; `by` names the person who acted, where a person did and the name was disclosed."""

    label: str
    at: datetime
    after: str
    trouble: bool
    by: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One recording."""

    id: str
    audio: File | None
    disclosed: tuple[tuple[str, str], ...]
    milestones: tuple[Milestone, ...]
    lines: tuple[Line, ...]
    head: str


@dataclass(frozen=True, slots=True)
class Stated:
    """The archive's statement of one provider account and day, in words; `leaf` is that of the event that signs the
    statement."""

    provider: str
    day: str
    complete: bool
    words: tuple[str, ...]
    at: datetime
    file: str
    leaf: int


@dataclass(frozen=True, slots=True)
class Report:
    """All facts of the report, the certificate and the readme. `stamps` are names, and the files that they cover.

    `witnesses` are those whose keys the archive's policy names and whose cosignatures hold; `unchecked` are other names
    under the checkpoint: anybody can write a name there.
    """

    request: Request
    log_key: str
    hosts: tuple[str, ...]
    checkpoint: Checkpoint
    witnesses: tuple[str, ...]
    stamps: tuple[tuple[str, str], ...]
    chapters: tuple[Chapter, ...]
    archive: tuple[Line, ...]
    statements: tuple[Stated, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def set_back(self) -> bool:
        """True when the archive's clock went backwards between two stations of a time line."""
        return any(stop.after.startswith("−") for chapter in self.chapters for stop in chapter.milestones)

    @property
    def events(self) -> int:
        return sum(len(chapter.lines) for chapter in self.chapters)


def report(
    request: Request, recordings: Iterable[Recording], log: LogPart, statements: Iterable[Statement] = ()
) -> Report:
    """Collect the facts of a bundle. Raises `VerificationError` for entries, proofs or statements that cannot be
    read."""
    note = parse_note(log.checkpoint)
    checkpoint = parse_checkpoint(note.text)
    own = parse_vkey(log.log_key)
    keys = _witness_keys(log.policy or "")
    known = {(each.name, each.key_id) for each in (own, *keys)}
    return Report(
        request=request,
        log_key=log.log_key,
        hosts=log.hosts,
        checkpoint=checkpoint,
        witnesses=tuple(_cosigned(log.checkpoint, keys)),
        unchecked=tuple(each.name for each in note.signatures if (each.name, each.key_id) not in known),
        stamps=tuple((stamp.name, stamp.path) for stamp in log.stamps),
        chapters=tuple(
            _chapter(each, log.events.get(each.id, ()), request)
            for each in sorted(recordings, key=lambda each: each.id)
        ),
        archive=tuple(
            _line(logged.event, f"data/log/archive-events/{logged.index:012d}.json", logged.index)
            for logged in log.archive
        ),
        statements=tuple(_stated(each, log) for each in sorted(statements, key=lambda each: (each.provider, each.day))),
    )


def _stated(statement: Statement, log: LogPart) -> Stated:
    digest = hashlib.sha256(statement.document).hexdigest()
    signs = next((each for each in log.archive if each.event.data.get("statement_sha256") == digest), None)
    said: Any = canonical.loads(statement.document)
    if signs is None:
        raise VerificationError(f"no event states the completeness of {statement.provider} on {statement.day}")
    try:
        words = _in_words(said)
    except (KeyError, TypeError, AttributeError) as exc:
        raise VerificationError(f"{statement.path} is no completeness statement") from exc
    return Stated(
        provider=statement.provider,
        day=statement.day.isoformat(),
        complete=said["complete"] is True,
        words=words,
        at=signs.event.at,
        file=statement.path,
        leaf=signs.index,
    )


def _in_words(said: Any) -> tuple[str, ...]:
    """Describe a statement: the recordings that the provider listed for the day, their states, and the gaps with their
    reasons."""
    states: dict[str, int] = dict(said["states"])
    archived, silent = states.pop("archived", 0), said["without_audio"]
    states["absent"] = states.get("absent", 0) - silent
    words = [f"{said['listed']} listed", f"{archived} archived", f"{silent} without audio at the provider"]
    words += [f"{count} {state}" for state, count in sorted(states.items()) if count]
    if said["rejects"]:
        words.append(f"{said['rejects']} listed rows not understood")
    words += [f"not listed in full from {each['since']} to {each['until']}" for each in said["holes"]]
    gaps = Counter((gap["code"], gap["acknowledged"]) for gap in said["gaps"])
    for (code, acknowledged), count in sorted(gaps.items()):
        words.append(f"{count} gap: {code.replace('_', ' ')}{', acknowledged' if acknowledged else ''}")
    return tuple(words)


def _witness_keys(policy: str) -> list[VerifierKey]:
    """Return the witnesses' keys of a C2SP tlog-policy."""
    lines = [line.split() for line in policy.splitlines()]
    return [parse_vkey(words[2]) for words in lines if len(words) > 2 and words[0] == "witness"]


def _cosigned(checkpoint: bytes, keys: Iterable[VerifierKey]) -> Iterator[str]:
    """Yield the witnesses that truly cosigned the checkpoint, with the time. Raises `VerificationError` for a false
    cosignature in a witness's name."""
    signers = {(each.name, each.key_id) for each in parse_note(checkpoint).signatures}
    for key in keys:
        if (key.name, key.key_id) in signers:
            ((_, time),) = open_note(checkpoint, [key]).verified
            at = "" if time is None else f", {format_instant(datetime.fromtimestamp(time, UTC))}"
            yield f"{key.name} (key {key.key_id.hex()}{at})"


def _chapter(recording: Recording, chain: tuple[Logged, ...], request: Request) -> Chapter:
    folder = f"data/recordings/{recording.id}/events"
    people: dict[int, dict[str, Json]] = {}
    for each in recording.private:
        if each.group in _WHO:
            people[each.seq] = {**people.get(each.seq, {}), **each.data}
    lines = tuple(
        _line(logged.event, f"{folder}/{seq:04d}.json", logged.index, people.get(seq), request)
        for seq, logged in enumerate(chain)
    )
    disclosed = [
        (name.replace("_", " "), _text(value))
        for each in recording.private
        if each.group not in {"provider_meta", *_WHO}  # the provider's whole answer is in provider.json
        for name, value in sorted(each.data.items())
    ]
    return Chapter(
        id=recording.id,
        audio=recording.audio,
        disclosed=tuple(dict.fromkeys(disclosed)),
        milestones=_milestones(lines),
        lines=lines,
        head=leaf_hash(chain[-1].entry).hex() if chain else "",
    )


def title(event: Event, export: str | None = None) -> str:
    """Describe an event in words, and claim no more than the event does. `export` is the id of this bundle's own
    export."""
    data = event.data
    if event.type == Type.STORED:
        return _LOCKED.get(str(data.get("lock_mode")), EVENTS[event.type])
    if event.type == Type.RECONCILED:
        return _RECONCILED.get(str(data.get("kind")), EVENTS[event.type])
    if event.type in {Type.EXPORT_PREPARED, Type.EXPORT_DELIVERED} and export is not None:
        this = data.get("request") == export
        return "Exported: this bundle's content fixed" if this else f"{EVENTS[event.type]} (not this one)"
    return EVENTS.get(event.type) or event.type.replace("anomaly.", "Anomaly: ").replace("_", " ")


def _line(
    event: Event, file: str, leaf: int, who: Mapping[str, Json] | None = None, request: Request | None = None
) -> Line:
    details = [
        (name.replace("_", " "), _text(value)) for name, value in sorted(event.data.items()) if value is not None
    ]
    if event.outcome != "ok":
        details.insert(0, ("outcome", event.outcome))
    trouble = event.type.startswith("anomaly.") or event.outcome != "ok" or event.data.get("result") not in {None, "ok"}
    actor = f"{event.actor_kind} {event.user or ''}".strip() + f", key {event.writer[:16]}…"
    by, reason = ("", "") if who is None else (described(who), str(who.get("reason") or ""))
    if request is not None and event.type == Type.EXPORT_PREPARED and event.data.get("request") == request.export:
        # This event's private group was made after the content was fixed.
        by, reason = request.requested_by, request.reason
    export = None if request is None else request.export
    return Line(event.at, title(event, export), event.type, actor, tuple(details), file, leaf, trouble, by, reason)


def _milestones(lines: tuple[Line, ...]) -> tuple[Milestone, ...]:
    """Return the stations in order, repeats told once. Of more than fit on a line of paper, the ends and the faults
    between."""
    stations: list[tuple[str, Line]] = []
    for line in lines:
        label = "Anomaly" if line.trouble else _MILESTONES.get(line.type)
        if label is None:
            continue
        if stations and stations[-1][0] == label:
            stations.pop()
        stations.append((label, line))
    wrong = [station for station in stations[4:-3] if station[1].trouble]
    shown = stations if len(stations) <= 9 else [*stations[:4], *wrong[:2], *stations[-3:]]
    found: list[Milestone] = []
    for label, line in shown:
        span = line.at - found[-1].at if found else timedelta(0)
        back = round(span.total_seconds()) < 0
        after = "" if not found else f"− {elapsed(-span)}" if back else f"+ {elapsed(span)}"
        found.append(Milestone(label, line.at, after, line.trouble or back, line.by))
    return tuple(found)


def _text(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
