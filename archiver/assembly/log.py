"""Builds the custody log: its notary, its published files in each storage (`Shelf`), and its keeper."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.assembly.keys import hosts, log_signer, retiring_signer, verifier_keys
from archiver.assembly.vouching import Vouching
from archiver.clock import Chance, Clock
from archiver.config import model
from archiver.custody.ledger import Ledger
from archiver.database import Engine, Writer, idle_session, read
from archiver.ingest import storage_proofs
from archiver.retention.span import Span
from archiver.store.guarded import Doubt, GuardedShelf
from archiver.store.port import ObjectStore, Shelf
from archiver.translog.anchor import Anchorer, Authority
from archiver.translog.http import Client
from archiver.translog.keeper import Keeper, Parts
from archiver.translog.notary import Notary
from archiver.translog.note import VerifierKey, parse_vkey
from archiver.translog.publisher import Publisher
from archiver.translog.sequencer import Sequencer, open_log
from archiver.translog.timestamp import load_roots
from archiver.translog.witness import Witness
from archiver.wall import Kind, Walls

log = structlog.get_logger("archiver.assembly")

NOTARY = "notary.db"
_BEYOND = Span(years=1)
_HELD = timedelta(seconds=75)  # PostgreSQL's limit on an idle transaction, and some more


@dataclass(frozen=True, slots=True)
class LogParts:
    """The parts that this host needs to publish one log."""

    log_id: int
    notary: Notary
    shelves: Sequence[Shelf]
    publisher: Publisher
    client: Client
    walls: Walls


def build_notary(config: model.Config, clock: Clock) -> Notary:
    """Builds the signer of the log's trees, which keeps its last signature in a file of its own, beside the
    database."""
    keys, beside = verifier_keys(config), retiring_signer(config)
    return Notary(Path(config.state_dir) / NOTARY, log_signer(config), clock, keys=keys, beside=beside)


async def open_custody_log(
    config: model.Config,
    engine: Engine,
    writer: Writer,
    stores: Mapping[str, ObjectStore],
    clock: Clock,
    notary: Notary | None = None,
    walls: Walls | None = None,
    doubt: Doubt | None = None,
) -> LogParts:
    """Opens this archive's log, and begins one if there is none. Raises `ConfigurationError` for a log of another name.

    `doubt` tells to which storages the log is not written; without it, the last probe on record decides.
    """
    notary, walls = notary or build_notary(config, clock), walls or Walls(clock)
    now = clock.now()
    log_id = await writer.run(lambda conn: open_log(conn, notary.key.name, now))
    doubt = doubt or (lambda storage: read(engine, lambda conn: storage_proofs.doubt(conn, storage)))
    shelves = [GuardedShelf(store.shelf(), doubt) for store in stores.values()]
    keys = [(witness_key(each.key), each.url) for each in config.custody.witnesses]
    client = Client()
    witnesses = [walls.around(Kind.WITNESS, key.name, Witness(key, url, client)) for key, url in keys]
    publisher = Publisher(engine, writer, log_id, notary, shelves, clock, witnesses)
    return LogParts(log_id, notary, shelves, publisher, client, walls)


def witness_key(vkey: str) -> VerifierKey:
    """The key with which a witness signs. Raises `ConfigurationError`."""
    try:
        return parse_vkey(vkey)
    except errors.VerificationError as problem:
        raise errors.ConfigurationError(f"custody.witnesses: {problem.detail}") from problem


async def pass_gate(
    parts: LogParts, engine: Engine, writer: Writer, clock: Clock, *, without_storage: bool = True,
    patience: timedelta | None = None,
) -> str | None:  # fmt: skip
    """Checks, before anything is written, that the database has at least all that was signed and published.

    Raises `RolledBackError` when it has less. `without_storage` is for callers that must be able to save in any case:
    while a required storage is away, or has not answered within `patience`, the database is compared only with the
    notary's last signature. Any other problem is then returned and prevents no saving; the log's keeper checks again.
    Without `without_storage`, raises `UnavailableError` for a storage that is away, and `VerificationError` for any
    other problem.
    """
    doubt: errors.ArchiverError | None = None
    for publisher in (parts.publisher, Publisher(engine, writer, parts.log_id, parts.notary, (), clock)):
        limit = patience.total_seconds() if patience is not None and publisher is parts.publisher else None
        try:
            async with asyncio.timeout(limit):
                await publisher.start()
        except errors.RolledBackError:
            raise
        except (errors.DestinationError, TimeoutError) as away:
            why = away.detail if isinstance(away, errors.DestinationError) else "they have not answered so far"
            doubt = errors.UnavailableError(
                f"whether this database is an older one than was published, only the storages can tell: {why}"
            )
        except errors.ArchiverError as wrong:
            doubt = wrong
            break
        else:
            break
    if doubt is not None and not without_storage:
        raise doubt
    return None if doubt is None else str(doubt)


async def enrol(ledger: Ledger, host_key: Ed25519PrivateKey, engine: Engine, writer: Writer, clock: Clock) -> None:
    """Say in the custody log that this process writes from now on.

    A process that was stopped within a transaction (a paused container, a frozen host) may hold the archive's chain.
    PostgreSQL ends that process's session within a minute, so this waits that long. Raises `UnavailableError`, which
    then names the holder.
    """
    give_up = clock.monotonic() + _HELD.total_seconds()
    while True:
        try:
            await writer.run(lambda conn: ledger.enroll(conn, host_key))
        except errors.UnavailableError as failed:
            holder = await read(engine, idle_session)
            if holder is None:
                raise
            if clock.monotonic() >= give_up:
                raise errors.UnavailableError(f"{holder}, and so holds up the custody log") from failed
            log.warning("custody.held_up", by=holder)
        else:
            return


def build_keeper(
    config: model.Config, parts: LogParts, engine: Engine, writer: Writer, ledger: Ledger, replica_id: str, clock: Clock,
    chance: Chance,
) -> Keeper:  # fmt: skip
    """Builds the keeper, which takes events into the log and publishes it while it holds the lease."""
    stamps, authority = config.custody.timestamp, build_authority(config, parts.client, chance, parts.walls)
    anchorer = None
    if stamps is not None and authority is not None:
        anchorer = Anchorer(engine, writer, parts.log_id, authority, parts.shelves, ledger, clock, stamps.every)
    keeping = Parts(
        writer, ledger, Sequencer(ledger, hosts(config), parts.log_id), parts.publisher, anchorer, parts.log_id,
        Vouching(config, ledger, chance, parts.log_id, [witness_key(each.key) for each in config.custody.witnesses]),
    )  # fmt: skip
    return Keeper(keeping, replica_id, clock, config.custody.checkpoint_every, lock_until(config))


def build_authority(config: model.Config, client: Client, chance: Chance, walls: Walls) -> Authority | None:
    """Builds the time stamping authority behind its wall; None without one. Raises `ConfigurationError`."""
    stamps = config.custody.timestamp
    if stamps is None:
        return None
    authority = Authority("tsa", stamps.url, load_roots(certificates(stamps.ca)), client, chance)
    return walls.around(Kind.AUTHORITY, authority.name, authority)


def lock_until(config: model.Config) -> Callable[[datetime], datetime]:
    """Gives the time until which the log is locked: a year longer than the recording that is kept longest.

    The time is rounded to whole days, so that all files written on one day are locked until the same date.
    """
    rules, default = config.retention.policy()

    def until(now: datetime) -> datetime:
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return _BEYOND.after(max(rule.keep.after(tomorrow) for rule in [*rules, default]))

    return until


def certificates(file: Path | None) -> bytes:
    """The root certificates of time stamps, PEM: from this file, or the system's. Raises `ConfigurationError`."""
    found = file or ssl.get_default_verify_paths().cafile
    if found is None:
        raise errors.ConfigurationError("this system has no certificates: set custody.timestamp.ca")
    try:
        return Path(found).read_bytes()
    except OSError as failed:
        raise errors.ConfigurationError(f"custody.timestamp.ca cannot be read: {failed.strerror}") from failed
