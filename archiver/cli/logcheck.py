"""Assembles for a command the check of the custody log, and the check of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archiver.assembly.session import Archive
    from archiver.seal.recipients import Identity
    from archiver.verify.finding import Verification


async def check_custody_log(
    archive: Archive, result: Verification, *, level: str, since: datetime | None = None
) -> None:
    """Check the log at one `level`: quick (heads), window (events since `since`), full."""
    from archiver.assembly.keys import hosts, verifier_keys
    from archiver.assembly.log import NOTARY, build_notary, certificates, lock_until
    from archiver.completeness.records import log_findings
    from archiver.database import read
    from archiver.translog.timestamp import load_roots
    from archiver.verify.everywhere import check_everywhere
    from archiver.verify.leaves import Trust
    from archiver.verify.protection import ExpectedLock

    config, stores, engine = archive.config, archive.stores(), await archive.database()
    stamps = config.custody.timestamp
    roots = tuple(load_roots(certificates(stamps.ca))) if stamps else ()
    trust = Trust(verifier_keys(config), hosts(config), roots)
    notary = build_notary(config, archive.clock) if (config.state_dir / NOTARY).exists() else None
    locks = {name: ExpectedLock(store.lock_mode, lock_until(config)) for name, store in stores.items()}
    on_record = await read(engine, log_findings)
    await check_everywhere(
        engine, stores, trust, result, notary=notary, on_record=on_record, locks=locks, level=level, since=since
    )
    if level != "full":
        result.unchecked["the catalogue, which a rebuild needs: `archiver verify --all` reads it"] += 1


async def check_catalogue(archive: Archive, identities: Sequence[Identity], result: Verification) -> None:
    """Check every segment of the catalogue against log and journal."""
    from archiver.database import read
    from archiver.recovery import catalogue
    from archiver.verify.catalogue import Journal
    from archiver.verify.catalogue import check_catalogue as check

    engine = await archive.database()
    journal = Journal(
        storages=lambda digest: read(engine, lambda conn: catalogue.storages_of(conn, digest)),
        rows=lambda digest, ids: read(engine, lambda conn: catalogue.described_by(conn, digest, ids)),
        segments=lambda: read(engine, catalogue.named_segments),
        undescribed=lambda: read(engine, catalogue.undescribed),
    )
    await check(engine, archive.stores(), identities, journal, archive.clock.now(), result)
