"""Follows the log's events one after another: their signers, and the writers, refusals, time stamps and losses they
record.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography import x509

from archiver.custody.event import ARCHIVE, Event, Type, is_subject, verify
from archiver.errors import VerificationError
from archiver.recording import Json
from archiver.translog.note import VerifierKey
from archiver.translog.rotation import LogKeys
from archiver.verify.finding import Finding, Kind, Verification
from archiver.verify.stated import Renamed, Said

_BY_HOST = frozenset({Type.WRITER_ENROLLED, Type.WRITER_RETIRED})
_REFUSED = frozenset({Type.BAD_WRITER_SIG, Type.CHAIN_FORK})
_MAX_SEQ = 2**31 - 1
_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class Trust:
    """The checker's trust: the log's public key, the host keys that may enrol writers (in hex), and the time stamps'
    roots.

    `roots`: the certificates that time stamps must lead to, if any are configured.
    """

    log_key: VerifierKey | LogKeys
    hosts: frozenset[str]
    roots: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """Adds findings about one log. Of each kind the first thousand are kept; the others are counted."""

    result: Verification
    subject: str
    counts: Counter[Kind] = field(default_factory=Counter)

    def __call__(self, kind: Kind, detail: str, subject: str | None = None) -> None:
        self.counts[kind] += 1
        if self.counts[kind] > _AT_MOST:
            self.result.unchecked[f"{kind} beyond the first {_AT_MOST} of {self.subject}"] += 1
        else:
            self.result.findings.append(Finding(kind, subject or self.subject, detail))


class Enrolment(NamedTuple):
    """The host that enrolled a writer, and the leaves of enrolment and retirement; equal when the key was retired
    first."""

    host: str
    enrolled: int
    retired: int | None

    def __str__(self) -> str:
        ended = "" if self.retired is None else f", retired at leaf {self.retired}"
        return f"enrolled at leaf {self.enrolled} by {self.host[:16]}…{ended}"


class Refusal(NamedTuple):
    """A refusal, with the fields that a row of `custody_quarantine` and its event have in common."""

    leaf_hash: str
    reason: str
    subject: str | None
    seq: int | None


def refusal(leaf_hash: str, reason: str, subject: Json, seq: Json) -> Refusal:
    """Return the refusal as an event can record it: whoever forged a row chose its subject and number freely."""
    named = subject if isinstance(subject, str) and is_subject(subject) else None
    number = seq if isinstance(seq, int) and 0 <= seq <= _MAX_SEQ else None
    return Refusal(leaf_hash, reason, named, number)


class Stamp(NamedTuple):
    """A logged time stamp: the leaf that records it, and the SHA-256 of the token."""

    leaf: int
    token: str


@dataclass(slots=True)
class Leaves:
    """Listens to events in the order of the log, and then of the queue. `writers` may be known before."""

    trust: Trust
    found: Findings
    writers: dict[str, Enrolment] = field(default_factory=dict)
    refused: list[tuple[Refusal, int]] = field(default_factory=list)
    stamps: dict[tuple[int, str], Stamp] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    statements: list[Said] = field(default_factory=list)
    renamed: list[Renamed] = field(default_factory=list)

    def hear(self, index: int, entry: bytes, kind: Kind, name: str) -> Event | None:
        """Judge the event by itself, and learn from the archive's own events. None for an invalid event."""
        try:
            event = verify(entry)
        except VerificationError as exc:
            self.found(kind, f"{name}: {exc.detail}")
            return None
        problem = self._stranger(index, event)
        if problem:
            self.found(kind, f"{name}: {problem}")
        elif event.subject == ARCHIVE:
            self._learn(index, event)
        return event

    def rolled_back(self, leaf: int) -> bool:
        """Say whether the database in which this leaf was first is lost: the bucket gave back the leaf, not the rows
        beside it.
        """
        return any(had <= leaf < published for had, published in self.lost)

    def logged(self, size: int) -> dict[str, str]:
        """Return, by authority, the SHA-256 of the tokens over the checkpoint of this size."""
        return {authority: stamp.token for (at, authority), stamp in self.stamps.items() if at == size}

    def _stranger(self, index: int, event: Event) -> str:
        if event.type in _BY_HOST:
            return "" if event.writer in self.trust.hosts else f"{event.type} is not signed by a host that we trust"
        known = self.writers.get(event.writer)
        if known is None or known.enrolled > index:
            return f"its writer {event.writer[:16]}… was not enrolled before it"
        if known.retired is not None and known.retired < index:
            return f"its writer {event.writer[:16]}… was retired at leaf {known.retired}"
        return ""

    def _learn(self, index: int, event: Event) -> None:
        data = event.data
        if event.type in _BY_HOST:
            self._learn_writer(index, event)
        elif event.type in _REFUSED and isinstance(digest := data.get("leaf_hash"), str):
            said = refusal(digest, str(data.get("reason")), data.get("subject"), data.get("seq"))
            self.refused.append((said, index))
        elif event.type == Type.LOG_REHOMED:
            said = refusal(str(data.get("leaf_hash")), str(data.get("reason")), data.get("subject"), data.get("seq"))
            self.refused.append((said, index))
        elif event.type == Type.LOG_ANCHORED:
            match data.get("size"), data.get("authority"), data.get("token_sha256"):
                case int(size), str(name), str(token):
                    self.stamps[size, name] = Stamp(index, token)
        elif event.type == Type.DB_ROLLBACK:
            match data.get("had"), data.get("published"):
                case int(had), int(published):
                    self.lost.append((had, published))
        elif event.type == Type.PROVIDER_RENAMED:
            self.renamed.append(Renamed(event.seq, str(data.get("from")), str(data.get("to"))))
        elif event.type == Type.RECONCILED and data.get("kind") == "completeness":
            names = ("provider", "day", "revision", "statement_sha256", "complete", "previous", "because", "rehomed")
            self.statements.append(Said(event.seq, {name: data[name] for name in names if name in data}))

    def _learn_writer(self, index: int, event: Event) -> None:
        key = key_in(event.data)
        if key is None:
            return
        known = self.writers.get(key)
        if event.type == Type.WRITER_RETIRED and (known is None or known.retired is None):
            # Retired before any enrolment: the key never writes, whatever enrols it later.
            self.writers[key] = (known or Enrolment(event.writer, index, None))._replace(retired=index)
        elif event.type == Type.WRITER_ENROLLED and known is None:
            self.writers[key] = Enrolment(event.writer, index, None)


def key_in(data: Mapping[str, Json]) -> str | None:
    """Return the session key of an enrolment or retirement."""
    key = data.get("writer")
    try:
        return key if isinstance(key, str) and len(key) == 64 and bytes.fromhex(key).hex() == key else None
    except ValueError:
        return None
