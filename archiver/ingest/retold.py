"""What the custody events of one recording say of it, in the journal's words. Pure: no I/O, no clock.

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
from archiver.ingest.catalogue_rows import Line
from archiver.recording import State

FINAL = frozenset({State.ARCHIVED, State.ABSENT, State.GONE, State.DISPOSED})
UNCATALOGUED = "its call metadata was not catalogued when the database was lost; only its custody events tell of it"
BEHIND = "brought up to the custody log; its call metadata is that of a restored backup, or of nothing newer"
NAMELESS = (
    "discovered before the database was lost, and not described since: it waits for its provider to list it again"
)
UNTOLD = "its call metadata comes from a catalogue segment that the log does not tell of"

_PROVED = ("plaintext_sha256", "plaintext_bytes", "sealed_sha256", "sealed_bytes")


@dataclass(slots=True)
class Told:
    """`row` holds the journal's columns that the events tell, `copies` those of its copies by storage.

    `twin` is the subject whose copies stand for it; `quarantine` has (storage, key) of what was kept instead of a recording.
    `attempts`: how often it was asked for at least; of a call that never had audio, no event tells of any.
    """

    state: State = State.LISTED
    row: dict[str, Any] = field(default_factory=dict)
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: int = 0
    twin: str | None = None
    quarantine: set[tuple[str, str]] = field(default_factory=set)


def told(events: Iterable[Event], state: State = State.LISTED) -> Told:
    """Follow a recording, which begins in `state`, through its events, which come in order.

    Types and members that are not known say nothing. What is archived stays so until it is disposed of.
    """
    it = Told(state)
    for event in events:
        follow = _STORY.get(event.type)
        if event.type in _TRIED or (event.type == Type.GAP and "reason" in event.data):
            it.attempts = max(it.attempts + 1, _number(event.data, "attempt"))
        if follow is not None and (it.state is not State.ARCHIVED or event.type in _AFTER_ARCHIVED):
            follow(it, event)
    return it


def bears(event: Event) -> bool:
    """Whether the event may change what becomes of its recording."""
    return event.type in _STORY and (event.type != Type.GAP or "reason" in event.data)


def _discovered(it: Told, event: Event) -> None:
    created = event.data.get("provider_created")
    it.row |= {
        "provider": event.data.get("provider"),
        "variant": event.data.get("variant") or "",
        "call_started_at": datetime.fromisoformat(str(created)) if created else None,
        "listed_at": event.at,
    }


def _downloaded(it: Told, event: Event) -> None:
    data = event.data
    for name in _PROVED:  # whatever was sealed of it before is lost, or it would not have been fetched again
        it.row.pop(name, None)
    it.row |= {
        "plaintext_sha256": data.get("pt_sha256"),
        "plaintext_bytes": data.get("bytes"),
        "content_type": data.get("content_type"),
    }
    it.state = State.LISTED
    if isinstance(twin := data.get("same_content_as"), str):
        it.twin, it.state = twin, State.ARCHIVED
        it.row["archived_at"] = event.at


def _verified(it: Told, event: Event) -> None:
    media = {name: event.data.get(name) for name in ("container", "codec", "rate", "channels", "duration_ms")}
    it.row |= {
        "media": json.dumps(media, sort_keys=True),
        "flags": json.dumps(event.data.get("flags") or []),
        "duration_ms": event.data.get("provider_duration_ms"),
    }


def _sealed(it: Told, event: Event) -> None:
    it.row |= {
        "recipients": json.dumps(event.data.get("recipients")),
        "sealed_sha256": event.data.get("ct_sha256"),
        "sealed_bytes": event.data.get("ct_bytes"),
    }


def _stored(it: Told, event: Event) -> None:
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
    it.copies[str(data.get("storage"))] = copy
    if "retention_rule" not in it.row:  # a copy made later repeats the object, not the rule
        it.row |= {"retention_rule": data.get("rule"), "retain_until": copy["retain_until"]}


def _store_verified(it: Told, event: Event) -> None:
    if (copy := it.copies.get(str(event.data.get("storage")))) is not None:
        copy["checked_by"] = str(event.data.get("method"))
    if it.state is not State.ARCHIVED:
        it.state = State.ARCHIVED
        it.row["archived_at"] = event.at


def _denied(it: Told, event: Event) -> None:
    it.row |= {"denials": event.data.get("confirmation"), "denied_at": event.at}
    if _number(event.data, "confirmation") >= _number(event.data, "of"):
        it.state = State.GONE


def _no_recording(it: Told, event: Event) -> None:
    if event.data.get("reason") in {"no_recording", "no_separate_original"}:
        it.state = State.ABSENT


def _quarantined(it: Told, event: Event) -> None:
    kept = event.data.get("kept")
    for each in kept if isinstance(kept, list) else []:
        if isinstance(each, dict):
            it.quarantine.add((str(each.get("storage")), str(each.get("key"))))


def _disposed(it: Told, _event: Event) -> None:
    it.state = State.DISPOSED


_STORY: Mapping[str, Callable[[Told, Event], None]] = {
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
class Remade:
    """A recording as it goes into the journal again. `findings`: what line and events disagree about, a sentence each.

    `current`: the line says all that there is to say, so that it need not be catalogued anew.
    """

    row: dict[str, Any]
    copies: list[dict[str, Any]]
    findings: list[str]
    current: bool


def remake(
    line: Line | None, events: Sequence[Event], recording_id: str, copies: Mapping[str, Mapping[str, Any]]
) -> Remade:
    """The row of a recording with these events, all from the first on, described by `line` if anything does.

    `copies` are what events tell of its copies, by storage: its own, or its twin's.
    """
    it = told(events)
    findings: list[str] = []
    current = False
    if line is None or it.state is State.DISPOSED:
        # What was disposed of must not come back from a segment whose lock outlived it.
        line, row = None, _bare(recording_id, it)
        row["last_error"] = _LACKS.get(it.state, NAMELESS)
        for each in copies.values() if _archived(it) else ():  # of a twin's object, only the copy tells
            row = {
                "sealed_sha256": each["sealed_sha256"],
                "sealed_bytes": each["size"],
                "retain_until": each["retain_until"],
            } | row
    else:
        row = dict(line.row)
        news = events[line.seq + 1 :]
        later = told(news, State(row["state"]))
        if later.state != row["state"]:
            row |= {name: value for name, value in later.row.items() if value is not None} | {"state": later.state}
        proved = {name: it.row[name] for name in _PROVED if it.row.get(name) is not None} if _archived(it) else {}
        wrong = sorted(name for name in proved if row.get(name) != proved[name])
        findings += [f"rec:{recording_id}: the catalogue's {name} is not the one that custody tells" for name in wrong]
        row |= proved
        current = not wrong and not any(event.priv or event.type in _STORY for event in news)
    row |= {"id": recording_id, "ready": False, "last_seen_at": row["listed_at"], "token": 0}
    row["attempts"] = max(_number(row, "attempts"), it.attempts)
    if row["state"] not in FINAL:
        row |= {"state": State.LISTED, "reason": None, "ready": line is not None, "attempts": 0}
    kept = _copies(line.copies if line is not None else (), copies if _archived(it) else {}, it.quarantine)
    known = {each["storage"] for each in kept}
    for each in line.copies if line is not None else ():
        if each["storage"] not in known:
            findings.append(
                f"rec:{recording_id}: no event tells of the copy in {each['storage']} that the catalogue names"
            )
    return Remade(row, kept, findings, current and not findings)


def _archived(it: Told) -> bool:
    return it.state is State.ARCHIVED


def _copies(
    described: Iterable[Mapping[str, Any]], proved: Mapping[str, Mapping[str, Any]], quarantine: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Signed is what was stored and how it was locked; when that was written down, and holds, only the journal knew."""
    found = {storage: dict(each) for storage, each in proved.items()}
    for each in described:
        storage = each["storage"]
        told_of = proved.get(storage)
        if told_of is not None and all(told_of[name] == each[name] for name in ("key", "version_id", "sealed_sha256")):
            ours = {name: value for name, value in each.items() if name in _UNSIGNED or name not in told_of}
            found[storage] = {**told_of, **ours}
        elif told_of is None and (storage, each["key"]) in quarantine:
            found[storage] = dict(each)
    return list(found.values())


_LACKS: Mapping[State, str | None] = dict.fromkeys(FINAL, UNCATALOGUED) | {State.DISPOSED: None}
_UNSIGNED = frozenset({"stored_at", "legal_hold"})


_LISTED = frozenset(
    {"provider", "variant", "call_started_at", "listed_at"}
)  # all that counts before there is an outcome


def _bare(recording_id: str, it: Told) -> dict[str, Any]:
    """What there is without a line. The provider's own id is personal, so no event has it: the row is nobody's until listed."""
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
        name: value for name, value in it.row.items() if value is not None and (name in _LISTED or it.state in FINAL)
    }
    return row | known | {"state": it.state}
