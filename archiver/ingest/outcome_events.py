"""Defines the custody events that justify an outcome. Pure: no I/O, no clock."""

from __future__ import annotations

from datetime import timedelta

from archiver.custody.event import Type
from archiver.custody.ledger import Draft
from archiver.ingest.claims import Claim
from archiver.instants import precise_or_none
from archiver.recording import Json, Received, Sealed, Stored


def content_events(subject: str, claim: Claim, received: Received, sealed: Sealed) -> list[Draft]:
    """Return the three events about the content that came for `claim`: downloaded, verified, sealed."""
    took = received.finished_at - received.started_at
    downloaded: dict[str, Json] = {
        "bytes": received.size,
        "pt_sha256": received.plaintext_sha256,
        "http_status": received.status,
        "etag": _plain(received.etag),
        "content_type": _plain(received.content_type),
        "attempt": claim.situation.attempts,
        "duration_ms": _milliseconds(took),
    }
    verified: dict[str, Json] = {
        **media_facts(received),
        "provider_duration_ms": _milliseconds(claim.duration),
        "flags": [str(flag) for flag in sorted(received.flags)],
    }
    envelope: dict[str, Json] = {
        "alg": sealed.algorithm,
        "recipients": list(sealed.recipients),
        "wrapped_dek_sha256": sealed.wrapped_key_sha256,
        "pt_sha256": sealed.plaintext_sha256,
        "pt_bytes": sealed.plaintext_size,
        "ct_sha256": sealed.sealed_sha256,
        "ct_bytes": sealed.size,
    }
    return [
        Draft(subject, Type.DOWNLOADED, downloaded),
        Draft(subject, Type.VERIFIED, verified),
        Draft(subject, Type.SEALED, envelope),
    ]


def copy_events(subject: str, stored: Stored, number: int, rule: str) -> list[Draft]:
    """Return the two events that justify calling a copy stored: the bytes sent, and the storage's answer when asked."""
    sent: dict[str, Json] = {
        "storage": stored.storage,
        "bucket": stored.bucket,
        "key": stored.key,
        "version_id": stored.version_id,
        "ct_sha256": stored.sealed_sha256,
        "ct_bytes": stored.size,
        "lock_mode": stored.lock_mode,
        "retain_until": precise_or_none(stored.retain_until),
        "rule": rule,
        "copy_no": number,
    }
    shown: dict[str, Json] = {
        "storage": stored.storage,
        "method": stored.checked_by,
        "result": "ok",
        "ct_sha256": stored.sealed_sha256,
        "version_id": stored.version_id,
    }
    return [Draft(subject, Type.STORED, sent), Draft(subject, Type.STORE_VERIFIED, shown)]


def media_facts(received: Received) -> dict[str, Json]:
    """Return what was read from the received audio."""
    facts = received.media
    return {
        "container": facts.container,
        "codec": facts.codec,
        "rate": facts.sample_rate,
        "channels": facts.channels,
        "duration_ms": _milliseconds(facts.duration),
    }


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration.total_seconds() * 1000)


def _plain(text: str | None) -> str | None:
    """Keep printable ASCII of at most 200 characters: a header is a stranger's text and stands in signed evidence."""
    return None if text is None else "".join(c for c in text[:200] if " " <= c <= "~")
