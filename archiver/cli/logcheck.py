"""Checks the custody log from a command: in the database, then in each storage, then in the notary's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from archiver.errors import UnavailableError, VerificationError
from archiver.verify.finding import Finding, Kind, Verification

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from archiver.config.model import Config
    from archiver.seal.recipients import Identity
    from archiver.store.port import ObjectStore
    from archiver.translog.notary import Notary
    from archiver.verify.leaves import Trust
    from archiver.verify.shelf import Kept, Locked


async def check_custody_log(
    config: Config,
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    result: Verification,
    *,
    level: str,
    since: datetime | None = None,
) -> None:
    """Check the log at one `level`: quick (heads), window (events since `since`), full."""
    from archiver.assembly.keys import hosts, verifier_keys
    from archiver.assembly.log import NOTARY, build_notary, certificates, lock_until
    from archiver.clock import SystemClock
    from archiver.translog.timestamp import load_roots
    from archiver.verify.leaves import Trust
    from archiver.verify.shelf import Locked

    stamps = config.custody.timestamp
    roots = tuple(load_roots(certificates(stamps.ca))) if stamps else ()
    trust = Trust(verifier_keys(config), hosts(config), roots)
    notary = build_notary(config, SystemClock()) if (config.state_dir / NOTARY).exists() else None
    locks = {name: Locked(store.lock_mode, lock_until(config)) for name, store in stores.items()}
    await check_everywhere(engine, stores, trust, result, notary=notary, locks=locks, level=level, since=since)
    if level != "full":
        result.unchecked["the catalogue, which a rebuild needs: `archiver verify --all` reads it"] += 1


async def check_catalogue(
    engine: Engine, stores: Mapping[str, ObjectStore], identities: Sequence[Identity], result: Verification
) -> None:
    """Check every segment of the catalogue against log and journal."""
    from archiver.clock import SystemClock
    from archiver.database import read
    from archiver.recovery import catalogue
    from archiver.verify.catalogue import Journal
    from archiver.verify.catalogue import check_catalogue as check

    journal = Journal(
        storages=lambda digest: read(engine, lambda conn: catalogue.storages_of(conn, digest)),
        rows=lambda digest, ids: read(engine, lambda conn: catalogue.described_by(conn, digest, ids)),
        segments=lambda: read(engine, catalogue.named_segments),
        undescribed=lambda: read(engine, catalogue.undescribed),
    )
    await check(engine, stores, identities, journal, SystemClock().now(), result)


async def check_everywhere(
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    trust: Trust,
    result: Verification,
    *,
    notary: Notary | None,
    locks: Mapping[str, Locked],
    level: str,
    since: datetime | None = None,
) -> None:
    """Check the log at this level: in the database, on every storage, and in the memory of the notary, if it is on this
    host."""
    from archiver.database import read
    from archiver.verify.log import find_log
    from archiver.verify.shelf import check_shelf

    log_id = await read(engine, lambda conn: find_log(conn, trust))
    lost = await read(engine, lambda conn: _database(conn, log_id, trust, result, level, since))
    result.findings += await read(engine, _on_record)
    kept = None if log_id is None else await _kept(engine, log_id, lost)
    for name, store in stores.items():
        await check_shelf(
            store.shelf(in_passing=True), trust, kept, result, whole=level == "full", locked=locks.get(name)
        )
    if notary is None:
        result.unchecked["the notary: its state is not on this host"] += 1
    elif kept is not None:
        await _check_notary(notary, kept, result)


def _on_record(conn: Connection) -> list[Finding]:
    """Return recorded forks, silent witnesses and silent time stamp authorities, as far as nobody has acknowledged them
    with a reason."""
    from archiver.completeness import register
    from archiver.completeness.gap import Code, Grade

    kinds = {
        Code.LOG_FORKED: Kind.LOG_FORKED,
        Code.WITNESS_SILENT: Kind.LOG_VOUCHER,
        Code.TIMESTAMP_SILENT: Kind.LOG_VOUCHER,
    }
    return [
        Finding(kinds[Code(str(each["code"]))], str(each["subject"]), str(each["detail"]))
        for each in register.open_gaps(conn, "")
        if each["code"] in kinds and each["acked_at"] is None and each["grade"] == Grade.OPEN
    ]


def _database(
    conn: Connection, log_id: int | None, trust: Trust, result: Verification, level: str, since: datetime | None
) -> list[tuple[int, int]]:
    """Check the log in the database; return the spans of sizes that were recovered from a storage, as far as its leaves
    tell."""
    from archiver.verify.log import check_log
    from archiver.verify.recent import check_edge, check_window

    if level == "full" or log_id is None:
        return check_log(conn, log_id, trust, result)
    check_edge(conn, log_id, trust, result)
    if level == "window" and since is not None:
        check_window(conn, log_id, trust, since, result)
    return []


async def _kept(engine: Engine, log_id: int, lost: list[tuple[int, int]]) -> Kept:
    """Give access to the database's log, for comparison with storages. Each question is asked anew, for the daemon may
    go on."""
    from archiver.database import read
    from archiver.translog import merkle
    from archiver.translog.tile import hashes_of
    from archiver.verify import rows
    from archiver.verify.shelf import Kept

    def size(conn: Connection) -> int:
        tree = rows.tree(conn, log_id)
        return 0 if tree is None else tree.size

    def root_at(conn: Connection, size: int) -> bytes:
        return merkle.root(size, hashes_of(lambda level, index: rows.tile(conn, log_id, level, index)))

    def notes(conn: Connection, after: int) -> dict[int, tuple[bytes, bool]]:
        page = islice(rows.checkpoints(conn, log_id, after), 500)
        return {each.size: (each.note, each.published) for each in page}

    def anchors(conn: Connection, size: int) -> dict[str, bytes]:
        found = next((found for at, found in rows.anchors(conn, log_id, size - 1) if at == size), [])
        return {each.name: each.blob for each in found}

    def stamps(conn: Connection) -> list[tuple[int, str]]:
        found = (each for _, anchors in rows.anchors(conn, log_id) for each in anchors)
        return [(each.size, each.name) for each in found]

    newest = await read(engine, lambda conn: rows.newest_checkpoint(conn, log_id, published=True))
    return Kept(
        newest.size if newest else 0,
        lost,
        lambda: read(engine, size),
        lambda at: read(engine, lambda conn: root_at(conn, at)),
        lambda level, index: read(engine, lambda conn: rows.tile(conn, log_id, level, index)),
        lambda after: read(engine, lambda conn: notes(conn, after)),
        lambda at: read(engine, lambda conn: anchors(conn, at)),
        lambda: read(engine, stamps),
    )


async def _check_notary(notary: Notary, kept: Kept, result: Verification) -> None:
    """Check that the newest checkpoint signed by the notary on this host is in the database's history."""
    try:
        last = notary.last(notary.key.name)
    except UnavailableError as failed:
        result.unreachable[str(failed)] += 1
        return
    has = await kept.size()
    if last.size > has:
        detail = f"the notary signed {last.size} leaves, the database has {has}"
        result.findings.append(Finding(Kind.LOG_ROLLBACK, "notary", detail))
        return
    try:
        if await kept.root_at(last.size) != last.root:
            detail = f"the notary signed another tree of {last.size} leaves than the database has"
            result.findings.append(Finding(Kind.LOG_NOTARY, "notary", detail))
    except VerificationError as exc:
        result.findings.append(Finding(Kind.LOG_TILE, "notary", exc.detail))
