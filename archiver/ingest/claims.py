"""Defines what a worker knows of a recording that it works on, as the journal's row says. Pure: no I/O, no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from archiver.ingest.plan import Situation, Step, next_step
from archiver.recording import DOUBTS, Flag, Json, Reason, RecordingRef, Sealed, State

OF_A_PAGE = frozenset({Flag.QUARANTINED, Flag.NOT_AUDIO})
"""The flags of an error page in a recording's place; they go when other content comes."""

OF_THE_BYTES = DOUBTS | OF_A_PAGE | {Flag.CONTENT_ENCODED}
"""The flags that describe the received bytes; they go when other bytes come."""

SETTLED_BY_CONTENT = OF_THE_BYTES | {Flag.LINK_NOT_UNDERSTOOD, Flag.TOO_LARGE}
"""The flags that no longer apply once a recording has come."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """The sealed object of a recording in one host's spool, where it waits for a storage."""

    spool_id: str
    name: str
    size: int
    sha256: str
    plaintext_size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One recording that this replica may work on until it settles the outcome."""

    id: str
    token: int
    owner: str
    ref: RecordingRef
    identity: str
    revision: str
    silent: bool  # only ever listed without audio
    situation: Situation
    listed_at: datetime
    format: str | None
    duration: timedelta | None
    of_call: bool  # `duration` is the whole call's: the recording may be shorter
    attributes: Mapping[str, Json]  # in the form that `archiver.vocabulary` reads
    flags: frozenset[Flag]
    spooled: Spooled | None  # the sealed object that waits for a storage
    last_error: str | None
    plaintext_sha256: str | None  # of the archived content, or of the page in quarantine
    delete_at: datetime | None
    archived_at: datetime | None = None
    measured: timedelta | None = None  # the measured length of the received audio

    @property
    def subject(self) -> str:
        return f"rec:{self.id}"

    def is_spooled_in(self, spool_id: str) -> bool:
        """Say whether the sealed object lies in this spool."""
        return self.spooled is not None and self.spooled.spool_id == spool_id

    def step(self, spool_id: str) -> Step:
        """Return the next step for the holder of this spool."""
        return next_step(None if self.spooled is None else self.spooled.spool_id, spool_id)

    def with_sealed(self, sealed: Sealed, flags: frozenset[Flag], spool_id: str) -> Claim:
        """Return the claim after content with these flags was sealed into the spool."""
        spooled = Spooled(spool_id, sealed.path.name, sealed.size, sealed.sealed_sha256, sealed.plaintext_size)
        situation = replace(self.situation, state=State.SPOOLED, spooled=True)
        return replace(self, flags=self.flags - OF_THE_BYTES | flags, spooled=spooled, situation=situation)

    def without_spooled(self) -> Claim:
        """Return the claim without its spool file, which is lost or stored: the provider's denial counts again."""
        return replace(self, spooled=None, situation=replace(self.situation, spooled=False))


def claim_of(row: Any) -> Claim:
    """Return the claim that a row of the journal gives."""
    spooled = None
    if row.spool_name is not None and row.sealed_sha256 is not None:
        spooled = Spooled(row.spool_id, row.spool_name, row.sealed_bytes, row.sealed_sha256, row.plaintext_bytes)
    attributes: dict[str, Json] = json.loads(row.metadata)
    return Claim(
        id=row.id,
        token=row.token,
        owner=row.owner,
        ref=RecordingRef(row.provider, row.provider_recording_id, row.variant, row.account),
        identity=row.identity,
        revision=row.revision,
        silent=is_silent(row),
        situation=Situation(
            state=State(row.state),
            attempts=row.attempts,
            denials=row.denials,
            denied_at=row.denied_at,
            called_at=row.call_ended_at or row.call_started_at or row.listed_at,
            archive_by=row.archive_by,
            spooled=row.spool_name is not None,
        ),
        listed_at=row.listed_at,
        format=row.format,
        duration=None if row.duration_ms is None else timedelta(milliseconds=row.duration_ms),
        of_call=is_of_call(row.duration_ms, attributes),
        attributes={**attributes, "provider": row.provider, "variant": row.variant, "account": row.account},
        flags=load_flags(row.flags),
        spooled=spooled,
        last_error=row.last_error,
        plaintext_sha256=row.plaintext_sha256,
        delete_at=row.delete_at,
        archived_at=row.archived_at,
        measured=media_length(row.media),
    )


def refetched(digest: str) -> str:
    """Return the revision of a row that no listing showed, only a second download. A listing's revision is plain
    hex."""
    return f"refetched:{digest[:54]}"


def is_refetched(revision: str) -> bool:
    return revision.startswith("refetched:")


def is_silent(row: Any) -> bool:
    """Say whether this row, given its `state` and `reason`, has never had audio that could be fetched."""
    return row.state == State.ABSENT or (row.state == State.WAITING and row.reason in _WITHOUT_AUDIO)


_WITHOUT_AUDIO = frozenset({Reason.NOT_READY, Reason.NOT_UNDERSTOOD})


def is_of_call(duration_ms: int | None, metadata: Mapping[str, Json]) -> bool:
    """Say whether the only stated length is the whole call's; the recording may be shorter."""
    return (
        duration_ms is not None
        and metadata.get("call_duration_ms") == duration_ms
        and metadata.get("recording_duration_ms") is None
    )


def media_length(media: str | None) -> timedelta | None:
    """Return the length of the received audio, as the row recorded it."""
    milliseconds = json.loads(media).get("duration_ms") if media else None
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def load_flags(text: str) -> frozenset[Flag]:
    return frozenset(Flag(name) for name in json.loads(text))


def dump_flags(flags: Iterable[Flag]) -> str:
    return json.dumps(sorted(flags))
