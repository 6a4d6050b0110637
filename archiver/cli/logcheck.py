"""Checking the custody log from a command: the database, then each storage, then the notary's memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from archiver.errors import UnavailableError
from archiver.verify.finding import Finding, Kind, Verification

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from archiver.config.model import Config
    from archiver.store.port import ObjectStore
    from archiver.verify.log import Trust


async def check_custody_log(
    config: Config,
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    result: Verification,
    *,
    level: str,
    since: datetime | None = None,
) -> None:
    """`level`: quick (heads), window (leaves younger than the last checkpoint before `since`), full."""
    from archiver.assembly.keys import hosts, log_signer
    from archiver.custody import log, merkle
    from archiver.custody.tile import hashes_of
    from archiver.database import read
    from archiver.verify.log import Trust
    from archiver.verify.shelf import Kept, check_shelf

    trust = Trust(log_signer(config).key, hosts(config))
    logs = await read(engine, log.logs)
    if not logs:
        result.unchecked["the log: the daemon has not run on this database yet"] += 1
        return
    log_id = logs[-1].log_id
    await read(engine, lambda conn: _database(conn, log_id, trust, result, level, since))

    async def root_at(size: int) -> bytes:
        return await read(engine, lambda conn: merkle.root(size, hashes_of(log.read_tile(conn, log_id))))

    size, _ = await read(engine, lambda conn: log.tree(conn, log_id))
    published = await read(
        engine,
        lambda conn: {
            each.size: each.note.encode() for each in log.checkpoints(conn, log_id) if each.published_at is not None
        },
    )
    kept = Kept(size, root_at, published)
    for store in stores.values():
        await check_shelf(store.shelf(), trust.log_key, kept, result, whole=level == "full")
    await _check_notary(config, kept, result)


def _database(
    conn: Connection, log_id: int, trust: Trust, result: Verification, level: str, since: datetime | None
) -> None:
    from archiver.custody import log
    from archiver.verify.log import check_edge, check_log, check_window

    if level == "full":
        check_log(conn, log_id, trust, result)
        return
    check_edge(conn, log_id, trust, result)
    if level == "window" and since is not None:
        before = [each.size for each in log.checkpoints(conn, log_id) if each.signed_at < since]
        check_window(conn, log_id, trust, max(before, default=0), result)


async def _check_notary(config: Config, kept: object, result: Verification) -> None:
    """What the notary on this host signed last is in the database's history."""
    from archiver.assembly.log import NOTARY, build_notary
    from archiver.clock import SystemClock
    from archiver.errors import VerificationError
    from archiver.verify.shelf import Kept

    assert isinstance(kept, Kept)
    notary = build_notary(config, SystemClock())
    if not (config.state_dir / NOTARY).exists():
        result.unchecked["the notary: its state is not on this host"] += 1
        return
    try:
        last = notary.last(notary.key.name)
    except UnavailableError as failed:
        result.unreachable[str(failed)] += 1
        return
    if last.size > kept.size:
        detail = f"the notary signed {last.size} leaves, the database has {kept.size}"
        result.findings.append(Finding(Kind.LOG_ROLLBACK, "notary", detail))
        return
    try:
        if await kept.root_at(last.size) != last.root:
            detail = f"the notary signed another tree of {last.size} leaves than the database has"
            result.findings.append(Finding(Kind.LOG_NOTARY, "notary", detail))
    except VerificationError as exc:
        result.findings.append(Finding(Kind.LOG_TILE, "notary", exc.detail))
