"""Defines the findings of verification, and the record of what was not checked. Pure: no I/O, no clock."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from archiver.custody.event import Type
from archiver.recording import Json, LockMode, Stored

LOCK_STRENGTH = {LockMode.OFF: 0, LockMode.GOVERNANCE: 1, LockMode.COMPLIANCE: 2}


class Kind(enum.StrEnum):
    """The kinds of findings, each with a fixed name; scripts rely on the names."""

    MISSING = "object_missing"
    SIZE = "size_differs"
    SEALED_DIGEST = "sealed_digest_differs"
    PLAINTEXT_DIGEST = "plaintext_digest_differs"
    DOES_NOT_OPEN = "does_not_open"
    LOCK_WEAKER = "lock_weaker"
    LOCK_SHORTER = "lock_shorter"
    LATER_VERSION = "later_version"
    DELETE_MARKER = "delete_marker"
    CHAIN = "custody_chain"
    CLAIM_UNJUSTIFIED = "claim_without_event"
    COMMITMENT = "private_data_differs"
    KEPT_DIFFERS = "kept_differs"
    NO_COPY = "no_copy"
    COPY_MISSING = "copy_missing"
    LOG_LEAF = "log_leaf"
    LOG_TILE = "log_tile"
    LOG_TREE = "log_tree"
    LOG_CHECKPOINT = "log_checkpoint"
    LOG_INDEX = "log_index"
    LOG_QUEUE = "log_queue"
    LOG_QUARANTINE = "log_quarantine"
    LOG_ANCHOR = "log_anchor"
    LOG_ROLLBACK = "log_rollback"
    LOG_SHELF = "log_shelf"
    LOG_NOTARY = "log_notary"
    STATEMENTS = "statements_disagree"
    CATALOGUE_MISSING = "catalogue_missing"
    CATALOGUE_DIFFERS = "catalogue_differs"
    CATALOGUE_CONTRADICTS = "catalogue_contradicts"
    LOG_FORKED = "log_forked"
    LOG_VOUCHER = "log_voucher"


class Gravity(enum.StrEnum):
    """The weight of a finding. FAILURE: evidence is not as promised (exit 65). NOTICE: a person should know; nothing is
    lost or false.
    """

    FAILURE = "failure"
    NOTICE = "notice"


_NOTICES: frozenset[Kind] = frozenset({Kind.LOG_VOUCHER})

LIVE = frozenset({Kind.COPY_MISSING, Kind.LOG_FORKED, Kind.LOG_VOUCHER})
"""The kinds that the register of gaps shows only while they are true. Other findings stay until all is verified
anew."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault and its place."""

    kind: Kind
    subject: str
    detail: str
    provider: str | None = None
    storage: str | None = None
    key: str | None = None
    version_id: str | None = None

    @property
    def gravity(self) -> Gravity:
        return Gravity.NOTICE if self.kind in _NOTICES else Gravity.FAILURE

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "gravity": self.gravity,
            "subject": self.subject,
            "detail": self.detail,
            "provider": self.provider,
            "storage": self.storage,
            "key": self.key,
            "version_id": self.version_id,
        }


@dataclass(frozen=True, slots=True)
class Claimed:
    """One recording that the journal calls archived, with the journal's claims about it; or a page in quarantine in its
    place.

    `odd`: impossible column values, each with its copy.
    """

    id: str
    provider: str
    state: str
    plaintext_sha256: str | None
    plaintext_bytes: int | None
    sealed_sha256: str | None
    sealed_bytes: int | None
    retain_until: datetime | None
    copies: tuple[Stored, ...]
    odd: tuple[tuple[Stored, str], ...] = ()

    @property
    def subject(self) -> str:
        return f"rec:{self.id}"

    @property
    def archived(self) -> bool:
        return self.state == "archived"


@dataclass(slots=True)
class Verification:
    """The result of a verification: the checks done, the findings, and the omissions with their reasons.

    `sound`: for each storage, the recordings whose copy there was read whole and found right.
    """

    recordings: int = 0
    objects_read: int = 0
    bytes_read: int = 0
    opened: int = 0
    locks: int = 0
    segments: int = 0
    events: int = 0
    leaves: int = 0
    chains: int = 0
    findings: list[Finding] = field(default_factory=list)
    sound: dict[str, list[str]] = field(default_factory=dict)
    unchecked: Counter[str] = field(default_factory=Counter)
    unreachable: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> list[Finding]:
        return [each for each in self.findings if each.gravity is Gravity.FAILURE]

    @property
    def clean(self) -> bool:
        """True when nothing was wrong *and* everything that was asked for could be reached."""
        return not self.failures and not self.unreachable

    def as_json(self) -> dict[str, Json]:
        return {
            "recordings": self.recordings,
            "objects_read": self.objects_read,
            "bytes_read": self.bytes_read,
            "opened": self.opened,
            "locks_checked": self.locks,
            "segments": self.segments,
            "chains": self.chains,
            "events": self.events,
            "leaves": self.leaves,
            "failures": len(self.failures),
            "notices": len(self.findings) - len(self.failures),
            "findings": [each.as_json() for each in self.findings],
            "unreachable": dict(self.unreachable),
            "not_checked": dict(self.unchecked),
        }


def lock_findings(claimed: Claimed, recorded: Stored, seen: Stored) -> Iterable[Finding]:
    """Yield a finding where the storage no longer protects the copy as recorded."""

    def found(kind: Kind, detail: str) -> Finding:
        return at_copy(claimed, recorded, kind, detail)

    if LOCK_STRENGTH[seen.lock_mode] < LOCK_STRENGTH[recorded.lock_mode]:
        yield found(Kind.LOCK_WEAKER, f"{recorded.lock_mode} was recorded, the storage shows {seen.lock_mode}")
    if recorded.legal_hold and not seen.legal_hold:
        yield found(Kind.LOCK_WEAKER, "a legal hold was recorded, the storage shows none")
    if recorded.lock_mode is LockMode.OFF or recorded.retain_until is None:
        return
    if seen.retain_until is None:
        yield found(Kind.LOCK_SHORTER, f"locked until {recorded.retain_until:%Y-%m-%d} was recorded, now not at all")
    elif seen.retain_until < recorded.retain_until:
        yield found(
            Kind.LOCK_SHORTER,
            f"locked until {recorded.retain_until:%Y-%m-%d %H:%M:%S} was recorded, now {seen.retain_until:%Y-%m-%d %H:%M:%S}",
        )


def lacking_findings(claimed: Claimed, demanded: Iterable[str], at: datetime | None) -> Iterable[Finding]:
    """Yield a finding for each storage in which policy demands a copy and none is on record."""
    if at is None or (claimed.retain_until is not None and claimed.retain_until <= at):
        return
    there = {each.storage for each in claimed.copies}
    for storage in demanded:
        if storage not in there:
            said = "every configured storage is to have a copy, and this one has none"
            yield Finding(Kind.COPY_MISSING, claimed.subject, said, claimed.provider, storage)


def at_copy(claimed: Claimed, copy: Stored, kind: Kind, detail: str) -> Finding:
    """Return a finding at one copy of one recording."""
    return Finding(kind, claimed.subject, detail, claimed.provider, copy.storage, copy.key, copy.version_id)


def justification_findings(claimed: Claimed, events: Iterable[tuple[str, Mapping[str, Json]]]) -> Iterable[Finding]:
    """Yield a finding for each claim of the journal that no signed event backs: digests, and each copy stored and read
    back.

    `events` are (type, data) in order. A later sealing supersedes an earlier one (a spool may be lost and filled
    again). An adopted recording points to the row whose object it shares, and that row has its own events.
    """
    sealed: Mapping[str, Json] | None = None
    adopted = False
    stored: dict[tuple[Json, Json, Json], Mapping[str, Json]] = {}
    verified: dict[tuple[Json, Json], Json] = {}
    for kind, data in events:
        if kind == Type.SEALED:
            sealed = data
        elif kind == Type.DOWNLOADED and "same_content_as" in data:
            adopted = data.get("pt_sha256") == claimed.plaintext_sha256
        elif kind == Type.STORED:
            stored[data.get("storage"), data.get("key"), data.get("version_id")] = data
        elif kind == Type.STORE_VERIFIED and data.get("result") == "ok":
            verified[data.get("storage"), data.get("ct_sha256")] = data.get("method")
    if adopted:
        return
    if sealed is None:
        yield Finding(Kind.CLAIM_UNJUSTIFIED, claimed.subject, "no event says that it was sealed", claimed.provider)
        return
    for name, wanted in (
        ("pt_sha256", claimed.plaintext_sha256),
        ("ct_sha256", claimed.sealed_sha256),
        ("pt_bytes", claimed.plaintext_bytes),
        ("ct_bytes", claimed.sealed_bytes),
    ):
        if sealed.get(name) != wanted:
            detail = f"the journal says {name} {str(wanted)[:16]}…, the signed event {str(sealed.get(name))[:16]}…"
            yield Finding(Kind.CLAIM_UNJUSTIFIED, claimed.subject, detail, claimed.provider)
    yield from _copies_findings(claimed, stored, verified)


def _copies_findings(
    claimed: Claimed,
    stored: Mapping[tuple[Json, Json, Json], Mapping[str, Json]],
    verified: Mapping[tuple[Json, Json], Json],
) -> Iterable[Finding]:
    for copy in claimed.copies:
        said = stored.get((copy.storage, copy.key, copy.version_id))
        if said is None:
            yield at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, "no event says that this version was stored")
        elif (copy.storage, claimed.sealed_sha256) not in verified:
            yield at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, "no event says that this copy was read back")
        else:
            method = verified[copy.storage, claimed.sealed_sha256]
            yield from _copy_findings(claimed, copy, {**said, "method": method})


def _copy_findings(claimed: Claimed, copy: Stored, said: Mapping[str, Json]) -> Iterable[Finding]:
    """Yield a finding for each value of a copy that differs between the journal and the signed events."""
    for name, ours in (
        ("bucket", copy.bucket),
        ("ct_bytes", copy.size),
        ("ct_sha256", copy.sealed_sha256),
        ("lock_mode", copy.lock_mode),
        ("method", copy.checked_by),
    ):
        if said.get(name) != ours:
            detail = f"the journal says {name} {ours}, the signed event {said.get(name)}"
            yield at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, detail)
    told = said.get("retain_until")
    until = None if told is None else datetime.fromisoformat(str(told)).replace(microsecond=0)
    # The lock may have been extended since; then the storage must show the later date.
    if (until is None) is not (copy.retain_until is None) or (
        until and copy.retain_until and copy.retain_until < until
    ):
        detail = f"the signed event locks it until {told}, the journal until {copy.retain_until}"
        yield at_copy(claimed, copy, Kind.CLAIM_UNJUSTIFIED, detail)
