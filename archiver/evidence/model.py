"""The parts of an evidence bundle, given by the exporting code, never fetched here. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from archiver.custody.event import Event, parse
from archiver.evidence.manifest import File
from archiver.recording import Json
from archiver.translog.proof import parse_proof


@dataclass(frozen=True, slots=True)
class Request:
    """The reason and origin of this bundle. It stands in the bundle as `data/request.json`, in clear.

    `export` is the id that the events `export.prepared` and `export.delivered` name as `request`; `instance` the
    archive's name; `person` the account that asked, and that account's claims about the person.
    """

    export: str
    instance: str
    made_at: datetime
    requested_by: str
    reason: str
    selection: Mapping[str, Json]
    legal_basis: str | None = None
    redactions: tuple[str, ...] = ()
    person: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One private group of one event, opened: its salt and the data that the event committed to."""

    seq: int
    group: str
    salt: bytes
    data: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Statement:
    """A completeness statement: the exact bytes that a logged event `reconcile.completed` names
    (docs/spec/completeness-statement.md)."""

    provider: str
    day: date
    document: bytes

    @property
    def path(self) -> str:
        """The path of the file in the bundle."""
        return f"data/statements/{self.provider}-{self.day}.json"


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry's exact bytes and its proof (`c2sp.org/tlog-proof@v1`) against the bundle's checkpoint."""

    entry: bytes
    proof: bytes

    @property
    def index(self) -> int:
        """The leaf that the proof names. Raises `VerificationError`."""
        return parse_proof(self.proof).index

    @property
    def event(self) -> Event:
        """The event in the entry. Raises `VerificationError`."""
        return parse(self.entry)


@dataclass(frozen=True, slots=True)
class Stamp:
    """An RFC 3161 time stamp over a checkpoint: over the bundle's own, or over `checkpoint`, which `consistency` ties
    to it.

    `consistency` holds the hashes of the proof between the two checkpoints, from the smaller tree to the larger.
    `chain` is PEM, `crl` DER.
    """

    name: str
    response: bytes
    request: bytes | None = None
    chain: bytes | None = None
    crl: bytes | None = None
    checkpoint: bytes | None = None
    consistency: tuple[bytes, ...] = ()

    @property
    def path(self) -> str:
        """The path of the file in the bundle that the stamp covers."""
        return "data/log/checkpoint" if self.checkpoint is None else f"data/tsa/{self.name}.checkpoint"


@dataclass(frozen=True, slots=True)
class Known:
    """A checkpoint that the receiver already has, and the proof that the bundle's tree extends it."""

    checkpoint: bytes
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LogPart:
    """The log's part of a bundle, as of one published checkpoint (a signed note) that covers this export's own events.

    `events` maps each recording's id to its whole chain, from 0 to this export's `export.prepared`. `archive` holds the
    events of other subjects that bear on the recordings: at least the enrolment of every writer, and the event of every
    completeness statement. `log_key` is a C2SP verifier key, `hosts` the host keys in hex, `policy` a C2SP tlog-policy,
    `rotations` the notes by which the log's keys introduced one another.
    """

    checkpoint: bytes
    log_key: str
    hosts: tuple[str, ...]
    events: Mapping[str, tuple[Logged, ...]]
    archive: tuple[Logged, ...]
    stamps: tuple[Stamp, ...] = ()
    policy: str | None = None
    known: Known | None = None
    rotations: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording's content in the bundle."""

    id: str
    audio: File | None = None
    private: tuple[Disclosure, ...] = ()


def prepared(export: str, purpose: str, manifest_sha256: str, seq: int, prev: bytes) -> dict[str, Json]:
    """Return `data` of the event `export.prepared` of a recording whose chain so far ends with event `seq`, of leaf
    hash `prev`."""
    return {
        "request": export,
        "purpose": purpose,
        "content_manifest_sha256": manifest_sha256,
        "head": {"seq": seq, "hash": prev.hex()},
    }


def delivered(export: str, bag_sha256: str) -> dict[str, Json]:
    """Return `data` of the event `export.delivered`."""
    return {"request": export, "bag_sha256": bag_sha256}
