"""Signs, reads and verifies custody events of the frozen format v1 (docs/spec/custody-event.md). Pure: no I/O, no
clock."""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import instants
from archiver.custody import canonical
from archiver.custody.ed25519 import verifies
from archiver.errors import VerificationError
from archiver.recording import Json

PAYLOAD_TYPE = b"application/vnd.compliance-archiver.custody-event.v1+json"
MAX_ENTRY = 16 * 1024
ARCHIVE = "archive"
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Type(enum.StrEnum):
    """The types of events (PREMIS event types in brackets in the specification). The list only grows; readers accept
    unknown types."""

    DISCOVERED = "recording.discovered"
    SOURCE_REFRESHED = "recording.source_refreshed"
    DOWNLOADED = "recording.downloaded"
    VERIFIED = "recording.verified"
    SEALED = "recording.sealed"
    STORED = "recording.stored"
    STORE_VERIFIED = "recording.store_verified"
    FIXITY_CHECKED = "recording.fixity_checked"
    ACCESSED = "recording.accessed"
    REWRAPPED = "recording.rewrapped"
    SHREDDED = "recording.shredded"
    PURGED = "recording.purged"
    PROVIDER_DELETE_INTENDED = "provider.delete_intended"
    PROVIDER_DELETED = "provider.deleted"
    PROVIDER_DELETE_CONFIRMED = "provider.delete_confirmed"
    EXPORT_PREPARED = "export.prepared"
    EXPORT_DELIVERED = "export.delivered"
    HOLD_PLACED = "hold.placed"
    HOLD_RELEASED = "hold.released"
    RETENTION_SET = "retention.set"
    RETENTION_EXTENDED = "retention.extended"
    DISPOSITION_APPROVED = "disposition.approved"
    KEY_ROTATED = "key.rotated"
    CONTENT_DIFFERS = "anomaly.content_differs"
    MISSING_AT_PROVIDER = "anomaly.missing_at_provider"
    GAP = "anomaly.gap"
    AUDIO_INVALID = "anomaly.audio_invalid"
    STORE_MISMATCH = "anomaly.store_mismatch"
    CLOCK_SKEW = "anomaly.clock_skew"
    CHAIN_FORK = "anomaly.chain_fork"
    BAD_WRITER_SIG = "anomaly.bad_writer_sig"
    DB_ROLLBACK = "anomaly.db_rollback"
    RECONCILED = "reconcile.completed"
    WRITER_ENROLLED = "writer.enrolled"
    WRITER_RETIRED = "writer.retired"
    CONFIG_CHANGED = "config.changed"
    SCHEMA_MIGRATED = "schema.migrated"
    LOG_OPENED = "log.opened"
    LOG_HEARTBEAT = "log.heartbeat"
    LOG_ANCHORED = "log.anchored"
    LOG_KEY_ROTATED = "log.key_rotated"
    LOG_RESTORED = "log.restored"
    CATALOGUED = "catalogue.sealed"
    LOG_REHOMED = "log.rehomed"
    PROVIDER_RENAMED = "provider.renamed"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about one subject. `prev` is the leaf hash of the subject's event `seq` - 1, None where `seq` is 0.

    `writer` is the signing public key in hex, `user` an opaque id, `op` names the operation that several events belong
    to, `priv` holds commitments to personal data.
    """

    subject: str
    seq: int
    prev: str | None
    type: str
    at: datetime
    id: str
    writer: str
    actor_kind: str = "worker"
    user: str | None = None
    op: str | None = None
    outcome: str = "ok"
    data: Mapping[str, Json] = field(default_factory=lambda: _EMPTY)
    priv: Mapping[str, str] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event's bytes as kept, with the place where they were found: `subject` and `seq` are the row's claim, not yet
    the event's."""

    subject: str
    seq: int
    raw: bytes


_HEX32 = re.compile(r"[0-9a-f]{64}")
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PRIVATE = b"custody-priv-v1\x00"
_SUBJECT = re.compile(rf"archive|rec:{_UUID}|hold:[A-Za-z0-9._-]{{1,64}}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_GROUP = re.compile(r"[a-z0-9_.]{1,64}")
_KNOWN = frozenset(Type)
_TYPE = re.compile(r"[a-z_]{1,32}\.[a-z_]{1,32}")

# Checked in this order, so that the first wrong field is named.
_FIELDS: Mapping[str, Callable[[Any], object]] = MappingProxyType(
    {
        "v": lambda v: v == 1 and v is not True,
        "subject": lambda v: isinstance(v, str) and _SUBJECT.fullmatch(v),
        "seq": lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
        "prev": lambda v: v is None or (isinstance(v, str) and _HEX32.fullmatch(v)),
        "type": lambda v: isinstance(v, str) and _TYPE.fullmatch(v),
        "at": lambda v: isinstance(v, str) and _TIME.fullmatch(v),
        "id": lambda v: isinstance(v, str) and re.fullmatch(_UUID, v),
        "op": lambda v: v is None or (isinstance(v, str) and 0 < len(v) <= 200),
        "outcome": lambda v: isinstance(v, str) and _WORD.fullmatch(v),
        "data": lambda v: isinstance(v, dict),
        "priv": lambda v: (
            isinstance(v, dict)
            and all(_GROUP.fullmatch(k) and isinstance(c, str) and _HEX32.fullmatch(c) for k, c in v.items())
        ),
        "actor": lambda v: isinstance(v, dict) and v.keys() == {"kind", "writer", "user"},
    }
)
_ACTOR: Mapping[str, Callable[[Any], object]] = MappingProxyType(
    {
        "kind": lambda v: isinstance(v, str) and _WORD.fullmatch(v),
        "writer": lambda v: isinstance(v, str) and _HEX32.fullmatch(v),
        "user": lambda v: v is None or (isinstance(v, str) and 0 < len(v) <= 200),
    }
)


def sign(event: Event, key: Ed25519PrivateKey) -> bytes:
    """Returns the entry: the canonical event and its signature. The result is deterministic.

    Raises ValueError when the event is outside the format, larger than 16 KiB, or `key` is not `event.writer`'s.
    """
    if event.writer != key.public_key().public_bytes_raw().hex():
        raise ValueError("the event names another writer than the signing key")
    value = _to_json(event)
    _check(value)
    body = canonical.dumps(value)
    signature = base64.b64encode(key.sign(_pae(body)))
    entry = b'{"ev":' + body + b',"sig":"' + signature + b'"}'
    if len(entry) > MAX_ENTRY:
        raise ValueError(f"the event has {len(entry)} bytes, more than {MAX_ENTRY}")
    return entry


def parse(entry: bytes) -> Event:
    """Returns the event in `entry`, without checking its signature. Raises `VerificationError` for anything but the
    exact format."""
    return _split(entry)[0]


def verify(entry: bytes) -> Event:
    """Returns the event in `entry` after checking the signature of the writer that it names. The caller decides whether
    that writer is ours.

    Raises `VerificationError`.
    """
    event, body, signature = _split(entry)
    if not verifies(bytes.fromhex(event.writer), _pae(body), signature):
        raise VerificationError("the signature is not the writer's")
    return event


def is_subject(text: str) -> bool:
    """Tells whether format v1 allows a subject of this name."""
    return _SUBJECT.fullmatch(text) is not None


def leaf_hash(entry: bytes) -> bytes:
    """Returns SHA-256(0x00 ‖ entry): the entry's leaf in the log's tree (RFC 6962 §2.1) and the next event's `prev`."""
    return hashlib.sha256(b"\x00" + entry).digest()


def commitment(salt: bytes, group: Mapping[str, Json]) -> str:
    """Returns an event's commitment to a private group: binding, and revealing nothing without the 32-byte salt.

    Raises ValueError for another salt size or a group outside the canonical profile (its strings need not be in NFC).
    """
    if len(salt) != 32:
        raise ValueError("a salt has 32 bytes")
    return commitment_to_bytes(salt, private_bytes(group))


def commitment_to_bytes(salt: bytes, data: bytes) -> str:
    """Returns the commitment to a private group as it is kept: whatever salt and bytes those are."""
    return hashlib.sha256(_PRIVATE + salt + data).hexdigest()


def private_bytes(group: Mapping[str, Json]) -> bytes:
    """Returns the canonical bytes of a private group. Raises ValueError outside the profile."""
    return canonical.dumps(group, normalised=False)


def commits(promised: str | None, salt: bytes, data: bytes) -> bool:
    """Tells whether `promised` is the commitment to the private group with these canonical bytes."""
    try:
        group = json.loads(data)
        return promised == commitment(salt, group) and private_bytes(group) == data
    except (ValueError, TypeError, AttributeError):
        return False


def format_time(at: datetime) -> str:
    """Returns the time as RFC 3339 text, in UTC with six digits of a second. Raises ValueError for a naive time."""
    return instants.precise(at)


def _to_json(event: Event) -> dict[str, Any]:
    if event.type not in _KNOWN:
        raise ValueError(f"unknown event type {event.type!r}")
    return {
        "actor": {"kind": event.actor_kind, "user": event.user, "writer": event.writer},
        "at": format_time(event.at),
        "data": dict(event.data),
        "id": event.id,
        "op": event.op,
        "outcome": event.outcome,
        "prev": event.prev,
        "priv": dict(event.priv),
        "seq": event.seq,
        "subject": event.subject,
        "type": str(event.type),
        "v": 1,
    }


def _check(value: Mapping[str, Any]) -> None:
    """Raises ValueError unless `value` is an `ev` object of format v1."""
    if value.keys() != _FIELDS.keys():
        raise ValueError("the event has other fields than v1 has")
    for name, good in _FIELDS.items():
        if not good(value[name]):
            raise ValueError(f"{name} is not as v1 has it")
    for name, good in _ACTOR.items():
        if not good(value["actor"][name]):
            raise ValueError(f"actor.{name} is not as v1 has it")
    if (value["seq"] == 0) is not (value["prev"] is None):
        raise ValueError("prev is null exactly where seq is 0")


def _split(entry: bytes) -> tuple[Event, bytes, bytes]:
    """Returns the event, its signed body and its signature."""
    if len(entry) > MAX_ENTRY:
        raise VerificationError(f"the entry has more than {MAX_ENTRY} bytes")
    value = canonical.loads(entry)
    if not isinstance(value, dict) or value.keys() != {"ev", "sig"}:
        raise VerificationError("the entry has other members than ev and sig")
    ev, sig = value["ev"], value["sig"]
    try:
        if not isinstance(ev, dict):
            raise TypeError("ev is not an object")  # noqa: TRY301
        _check(ev)
        event = _from_json(ev)
        signature = base64.b64decode(str(sig))
    except (ValueError, TypeError, binascii.Error) as exc:
        raise VerificationError(f"not a custody event: {exc}") from exc
    if not isinstance(sig, str) or len(signature) != 64 or base64.b64encode(signature).decode() != sig:
        raise VerificationError("the signature is not 64 bytes in canonical base64")
    # The entry is canonical, so the signed bytes are those between the fixed prefix and suffix.
    return event, entry[len(b'{"ev":') : -len(b',"sig":""}') - len(sig)], signature


def _from_json(ev: Mapping[str, Any]) -> Event:
    return Event(
        subject=ev["subject"],
        seq=ev["seq"],
        prev=ev["prev"],
        type=ev["type"],
        at=datetime.fromisoformat(ev["at"]),
        id=ev["id"],
        writer=ev["actor"]["writer"],
        actor_kind=ev["actor"]["kind"],
        user=ev["actor"]["user"],
        op=ev["op"],
        outcome=ev["outcome"],
        data=ev["data"],
        priv=ev["priv"],
    )


def _pae(body: bytes) -> bytes:
    """Returns the DSSE v1 pre-authentication encoding, which binds the signature to the payload's type and length."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(body), body)
