"""Rebuilds a recording's journal columns from its custody events. Pure: no I/O, no clock.

Events are signed and proved by the log, a catalogue line is neither: where the two disagree, the events are right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from archiver.custody.event import Event, Type
from archiver.recording import State
from archiver.recovery.segment import CatalogueLine

FINAL = frozenset({State.ARCHIVED, State.ABSENT, State.GONE, State.DISPOSED})
UNCATALOGUED = "its call metadata was not catalogued when the database was lost; only its custody events tell of it"
BEHIND = "brought up to the custody log; its call metadata is that of a restored backup, or of nothing newer"
NAMELESS = (
    "discovered before the database was lost, and not described since: it waits for its provider to list it again"
)
UNLOGGED = "its call metadata comes from a catalogue segment that the log does not tell of"

_PROVED = ("plaintext_sha256", "plaintext_bytes", "sealed_sha256", "sealed_bytes")


@dataclass(slots=True)
class ReplayedRecording:
    """The state of a recording by its events: `row` holds the journal's columns, `copies` the columns of its copies by
    storage.

    `twin` is the subject whose copies stand for this recording; `quarantine` has (storage, key) of each page kept
    instead of a recording. `attempts`: the least number of attempts; for a call that never had audio, no event mentions
    any.
    """

    state: State = State.LISTED
    row: dict[str, Any] = field(default_factory=dict)
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: int = 0
    twin: str | None = None
    quarantine: set[tuple[str, str]] = field(default_factory=set)


def replay(events: Iterable[Event], state: State = State.LISTED) -> ReplayedRecording:
    """Follow a recording from `state` through its events, given in order.

    Unknown types and members are ignored. An archived recording stays archived until it is disposed of.
    """
    replayed = ReplayedRecording(state)
    for event in events:
        follow = _HANDLERS.get(event.type)
        if event.type in _TRIED or (event.type == Type.GAP and "reason" in event.data):
            replayed.attempts = max(replayed.attempts + 1, _number(event.data, "attempt"))
        if follow is not None and (replayed.state is not State.ARCHIVED or event.type in _AFTER_ARCHIVED):
            follow(replayed, event)
    return replayed


def changes_a_row(event: Event) -> bool:
    """Say whether the event may change the state of its recording."""
    return event.type in _HANDLERS and (event.type != Type.GAP or "reason" in event.data)


def _discovered(replayed: ReplayedRecording, event: Event) -> None:
    created = event.data.get("provider_created")
    replayed.row |= {
        "provider": event.data.get("provider"),
        "variant": event.data.get("variant") or "",
        "call_started_at": datetime.fromisoformat(str(created)) if created else None,
        "listed_at": event.at,
    }


def _downloaded(replayed: ReplayedRecording, event: Event) -> None:
    data = event.data
    for name in _PROVED:  # any earlier sealed object is lost, or the recording would not have been fetched again
        replayed.row.pop(name, None)
    replayed.row |= {
        "plaintext_sha256": data.get("pt_sha256"),
        "plaintext_bytes": data.get("bytes"),
        "content_type": data.get("content_type"),
    }
    replayed.state = State.LISTED
    if isinstance(twin := data.get("same_content_as"), str):
        replayed.twin, replayed.state = twin, State.ARCHIVED
        replayed.row["archived_at"] = event.at


def _verified(replayed: ReplayedRecording, event: Event) -> None:
    media = {name: event.data.get(name) for name in ("container", "codec", "rate", "channels", "duration_ms")}
    replayed.row |= {
        "media": json.dumps(media, sort_keys=True),
        "flags": json.dumps(event.data.get("flags") or []),
        "duration_ms": event.data.get("provider_duration_ms"),
    }


def _sealed(replayed: ReplayedRecording, event: Event) -> None:
    replayed.row |= {
        "recipients": json.dumps(event.data.get("recipients")),
        "sealed_sha256": event.data.get("ct_sha256"),
        "sealed_bytes": event.data.get("ct_bytes"),
    }


def _stored(replayed: ReplayedRecording, event: Event) -> None:
    data = event.data
    until = data.get("retain_until")
    copy = {
        "storage": str(data.get("storage")),
        "bucket": str(data.get("bucket")),
        "key": str(data.get("key")),
        "version_id": data.get("version_id"),
        "size": _number(data, "ct_bytes"),
        "sealed_sha256": str(data.get("ct_sha256")),
        "lock_mode": str(data.get("lock_mode")),
        "retain_until": datetime.fromisoformat(str(until)) if until else None,
        "legal_hold": False,
        "checked_by": "",
        "stored_at": event.at,
    }
    replayed.copies[str(data.get("storage"))] = copy
    if "retention_rule" not in replayed.row:  # a copy made later repeats the object, not the rule
        replayed.row |= {"retention_rule": data.get("rule"), "retain_until": copy["retain_until"]}


def _store_verified(replayed: ReplayedRecording, event: Event) -> None:
    if (copy := replayed.copies.get(str(event.data.get("storage")))) is not None:
        copy["checked_by"] = str(event.data.get("method"))
    if replayed.state is not State.ARCHIVED:
        replayed.state = State.ARCHIVED
        replayed.row["archived_at"] = event.at


def _denied(replayed: ReplayedRecording, event: Event) -> None:
    replayed.row |= {"denials": event.data.get("confirmation"), "denied_at": event.at}
    if _number(event.data, "confirmation") >= _number(event.data, "of"):
        replayed.state = State.GONE


def _no_recording(replayed: ReplayedRecording, event: Event) -> None:
    if event.data.get("reason") in {"no_recording", "no_separate_original"}:
        replayed.state = State.ABSENT


def _quarantined(replayed: ReplayedRecording, event: Event) -> None:
    kept = event.data.get("kept")
    for each in kept if isinstance(kept, list) else []:
        if isinstance(each, dict):
            replayed.quarantine.add((str(each.get("storage")), str(each.get("key"))))


def _disposed(replayed: ReplayedRecording, _event: Event) -> None:
    replayed.state = State.DISPOSED


_HANDLERS: Mapping[str, Callable[[ReplayedRecording, Event], None]] = {
    Type.DISCOVERED: _discovered,
    Type.DOWNLOADED: _downloaded,
    Type.VERIFIED: _verified,
    Type.SEALED: _sealed,
    Type.STORED: _stored,
    Type.STORE_VERIFIED: _store_verified,
    Type.MISSING_AT_PROVIDER: _denied,
    Type.GAP: _no_recording,
    Type.AUDIO_INVALID: _quarantined,
    Type.SHREDDED: _disposed,
    Type.PURGED: _disposed,
}
_TRIED = frozenset({Type.DOWNLOADED, Type.MISSING_AT_PROVIDER, Type.AUDIO_INVALID})
_AFTER_ARCHIVED = frozenset({Type.STORED, Type.STORE_VERIFIED, Type.SHREDDED, Type.PURGED})


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0


# --- a row for the journal ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RebuiltRow:
    """A recording's row for a new journal. `findings`: each disagreement between line and events, as a sentence.

    `current`: the line is complete, so that the recording need not be catalogued anew.
    """

    row: dict[str, Any]
    copies: list[dict[str, Any]]
    findings: list[str]
    current: bool


def rebuild_row(
    line: CatalogueLine | None, events: Sequence[Event], recording_id: str, copies: Mapping[str, Mapping[str, Any]]
) -> RebuiltRow:
    """Return the row of a recording from all its events, and from `line` if a line describes it.

    `copies`: its copies by its events, by storage: its own, or its twin's.
    """
    replayed = replay(events)
    findings: list[str] = []
    current = False
    if line is None or replayed.state is State.DISPOSED:
        # A disposed recording must not come back from a segment whose lock outlived it.
        line, row = None, _minimal_row(recording_id, replayed)
        row["last_error"] = _LACKS.get(replayed.state, NAMELESS)
        # Only a copy's events describe an object shared with a twin.
        for each in copies.values() if _archived(replayed) else ():
            row = {
                "sealed_sha256": each["sealed_sha256"],
                "sealed_bytes": each["size"],
                "retain_until": each["retain_until"],
            } | row
    else:
        row = dict(line.row)
        news = events[line.seq + 1 :]
        later = replay(news, State(row["state"]))
        if later.state != row["state"]:
            row |= {name: value for name, value in later.row.items() if value is not None} | {"state": later.state}
        signed = replayed.row if _archived(replayed) else {}
        proved = {name: signed[name] for name in _PROVED if signed.get(name) is not None}
        wrong = sorted(name for name in proved if row.get(name) != proved[name])
        findings += [f"rec:{recording_id}: the catalogue's {name} is not the one that custody tells" for name in wrong]
        row |= proved
        current = not wrong and not any(event.priv or event.type in _HANDLERS for event in news)
    row |= {"id": recording_id, "ready": False, "last_seen_at": row["listed_at"], "token": 0}
    row["attempts"] = max(_number(row, "attempts"), replayed.attempts)
    if row["state"] not in FINAL:
        row |= {"state": State.LISTED, "reason": None, "ready": line is not None, "attempts": 0}
    kept = _copies(line.copies if line is not None else (), copies if _archived(replayed) else {}, replayed.quarantine)
    known = {each["storage"] for each in kept}
    for each in line.copies if line is not None else ():
        if each["storage"] not in known:
            findings.append(
                f"rec:{recording_id}: no event tells of the copy in {each['storage']} that the catalogue names"
            )
    return RebuiltRow(row, kept, findings, current and not findings)


def _archived(replayed: ReplayedRecording) -> bool:
    return replayed.state is State.ARCHIVED


def _copies(
    described: Iterable[Mapping[str, Any]], proved: Mapping[str, Mapping[str, Any]], quarantine: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Combine copies: events prove what was stored and how it was locked; only the journal knew times of writing and
    legal holds.
    """
    copies = {storage: dict(each) for storage, each in proved.items()}
    for each in described:
        storage = each["storage"]
        proved_copy = proved.get(storage)
        if proved_copy is not None and all(
            proved_copy[name] == each[name] for name in ("key", "version_id", "sealed_sha256")
        ):
            ours = {name: value for name, value in each.items() if name in _UNSIGNED or name not in proved_copy}
            copies[storage] = {**proved_copy, **ours}
        elif proved_copy is None and (storage, each["key"]) in quarantine:
            copies[storage] = dict(each)
    return list(copies.values())


_LACKS: Mapping[State, str | None] = dict.fromkeys(FINAL, UNCATALOGUED) | {State.DISPOSED: None}
_UNSIGNED = frozenset({"stored_at", "legal_hold"})


# The only columns that count before there is an outcome.
_LISTED = frozenset({"provider", "variant", "call_started_at", "listed_at"})


def _minimal_row(recording_id: str, replayed: ReplayedRecording) -> dict[str, Any]:
    """Return the row without a line. The provider's id is personal, so no event has it: the row waits to be listed
    again."""
    unknown = hashlib.sha256(f"uncatalogued/{recording_id}".encode()).hexdigest()
    row: dict[str, Any] = {
        "identity": unknown,
        "revision": unknown,
        "provider": "",
        "account": "",
        "provider_recording_id": "",
        "variant": "",
        "flags": "[]",
        "denials": 0,
        "metadata": "{}",
        "raw": b"{}",
        "stable_digest": "",
    }
    known = {
        name: value
        for name, value in replayed.row.items()
        if value is not None and (name in _LISTED or replayed.state in FINAL)
    }
    return row | known | {"state": replayed.state}
