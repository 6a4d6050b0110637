"""The values that travel through the archiver, one type per stage: Listing → Received → Sealed → Stored. Pure: no I/O,
no clock.

Each stage makes its own type. A `Stored` comes from a storage's own answer, or from the journal's record of one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

Scalar: TypeAlias = str | int | bool | None
Json: TypeAlias = "Scalar | list[Json] | dict[str, Json]"


ORIGINAL = "original"
"""The variant of a recording that is as it was before noise cancellation."""


class State(enum.StrEnum):
    """The state of a recording (ARCHITECTURE.md has a table of the states)."""

    LISTED = "listed"
    WAITING = "waiting"
    SPOOLED = "spooled"
    ARCHIVED = "archived"
    ABSENT = "absent"
    GONE = "gone"
    DISPOSED = "disposed"


PENDING = (State.LISTED, State.WAITING, State.SPOOLED)
"""The states of a recording that is not archived yet and can still be."""


class Reason(enum.StrEnum):
    """The reason why a recording waits."""

    NOT_READY = "not_ready"
    RETRY = "retry"
    DESTINATION = "destination"
    LINK = "link"
    NOT_UNDERSTOOD = "not_understood"
    ROOM = "room"


class Flag(enum.StrEnum):
    """Doubts about a recording, which never discard bytes."""

    DURATION_MISMATCH = "duration_mismatch"
    LENGTH_UNVERIFIED = "length_unverified"
    NOT_AUDIO = "not_audio"
    TRUNCATED = "truncated"
    ID_CONFLICT = "id_conflict"
    CONTENT_ENCODED = "content_encoded"
    TIME_IMPLAUSIBLE = "time_implausible"
    TOO_LARGE = "too_large"
    EGRESS_REFUSED = "egress_refused"
    QUARANTINED = "quarantined"
    NO_COPY = "no_copy"
    LINK_NOT_UNDERSTOOD = "link_not_understood"
    SUPERSEDED = "superseded"
    FIELD_MENDED = "field_mended"


DOUBTS = frozenset({Flag.NOT_AUDIO, Flag.TRUNCATED, Flag.DURATION_MISMATCH, Flag.LENGTH_UNVERIFIED})
"""Flags that mean: this may not be the recording, or not all of it. It is asked for again, and a gap stays open
meanwhile.

`superseded` ends that: the provider sent a sound body after all, and a row of its own holds it.
"""


class LockMode(enum.StrEnum):
    """Object Lock modes. `off` means that the storage protects nothing, and says so."""

    COMPLIANCE = "compliance"
    GOVERNANCE = "governance"
    OFF = "off"

    @classmethod
    def read(cls, text: str | None, otherwise: LockMode) -> LockMode:
        """Return the mode of this name in any case; `otherwise` for an unknown name."""
        try:
            return cls((text or "off").lower())
        except ValueError:
            return otherwise


class Secret:
    """A string that never shows itself: printing, formatting and `repr` give a mask; `reveal()` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "**redacted**"


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """Names one rendition of one recording at one provider account.

    `provider` is the id in our configuration. `recording_id` is the provider's own. `variant` is "" for the recording
    as the provider serves it by default, otherwise a name ("original", "child"). `account` is the provider's tenancy
    that owns the recording (a subaccount, a KAZOO account) and tells which credentials open it.
    """

    provider: str
    recording_id: str
    variant: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """The present address of the audio. Signed or not, it is treated as a secret: kept in memory, never stored.

    `guessed`: the provider's text had to be mended to be a link, so that "not found" there says nothing of the
    recording.
    """

    url: Secret
    obtained_at: datetime
    expires_at: datetime | None = None
    guessed: bool = False

    def half_spent(self, now: datetime) -> bool:
        """Tell whether more than half of the link's life is over: ask for a fresh one then."""
        return self.expires_at is not None and now - self.obtained_at >= (self.expires_at - self.obtained_at) / 2


class Audio(enum.StrEnum):
    """The state of a recording's audio, by its listing. `UNREADABLE`: the link cannot be read; never "none"."""

    PRESENT = "present"
    NOT_YET = "not_yet"
    NONE = "none"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Listing:
    """One recording as its provider lists it.

    `revision` tells apart two recordings that carry the same id: a digest over what the provider states of the content
    itself (format, start, duration), never over billing or tags. `metadata` is normalised and searchable; `raw` is the
    provider's row as canonical JSON, without tokens and the queries of links. `stable_digest` is a digest over the part
    of `raw` that does not change by itself (no storage-age or cost counters): it detects edits.
    """

    ref: RecordingRef
    revision: str
    audio: Audio
    started_at: datetime | None
    ended_at: datetime | None
    duration: timedelta | None
    raw: bytes
    stable_digest: str
    metadata: Mapping[str, Json] = field(default_factory=dict)
    link: Link | None = None
    format: str | None = None
    flags: frozenset[Flag] = frozenset()


@dataclass(frozen=True, slots=True)
class Reject:
    """A listed row that could not be understood: kept as bytes, shown to a person, never fatal to its page.

    `identity` names the row among all of its provider; it is the same at each listing although figures and signatures
    in the row change.
    """

    raw: bytes
    problem: str
    recording_id: str | None = None
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. `total` is the provider's own count for the window, where it states one."""

    listings: tuple[Listing, ...]
    digest: str
    rejects: tuple[Reject, ...] = ()
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open span [since, until) of provider time that one walk enumerates. Aware UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """The properties of the audio, read from the received bytes."""

    container: str | None
    codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A body that came in full, as far as anyone can tell. Times are this machine's.

    `cut`: the body is plainly incomplete, or longer than stated, and was kept because its deadline has come.
    """

    size: int
    plaintext_sha256: str
    status: int
    content_type: str | None
    etag: str | None
    media: MediaFacts
    flags: frozenset[Flag]
    started_at: datetime
    finished_at: datetime
    resumed: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file that holds a sealed object, with its size and digest: a storage needs no more to take it."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed object on disk, fsynced (docs/spec/sealed-object.md)."""

    path: Path
    size: int
    sealed_sha256: str
    plaintext_size: int
    plaintext_sha256: str
    recipients: tuple[str, ...]
    wrapped_key_sha256: str
    algorithm: str = "cms-authenveloped-aes-256-gcm"

    @property
    def file(self) -> SealedFile:
        """The sealed object as a storage takes it."""
        return SealedFile(self.path, self.size, self.sealed_sha256)


@dataclass(frozen=True, slots=True)
class Lock:
    """The protection that a storage must not undo."""

    mode: LockMode
    retain_until: datetime | None
    legal_hold: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """One copy of a sealed object in one storage, as that storage showed it when asked."""

    storage: str
    bucket: str
    key: str
    version_id: str | None
    size: int
    sealed_sha256: str
    lock_mode: LockMode
    retain_until: datetime | None
    legal_hold: bool = False
    checked_by: str = ""
