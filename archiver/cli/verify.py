"""`archiver verify`: re-reads, hashes and opens archived recordings; checks the custody chains; tells what was not
checked."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from archiver import errors
from archiver.cli.options import Options
from archiver.cli.output import emit, note
from archiver.cli.rendered import verification
from archiver.errors import Exit

if TYPE_CHECKING:
    from archiver.assembly.session import Archive
    from archiver.config.model import Config
    from archiver.verify.finding import Claimed, Verification

_PAGE = 1000  # copies per transaction, so that nobody waits long
_SAMPLE = re.compile(r"(\d+(?:\.\d+)?)%?")


@click.command()
@click.option(
    "--all", "everything", is_flag=True, help="Every archived recording (the default without ids or --sample)."
)
@click.option("--sample", metavar="PERCENT", help="A random share of the archived recordings, e.g. 1%.")
@click.argument("ids", nargs=-1)
@click.pass_obj
def verify(options: Options, everything: bool, sample: str | None, ids: tuple[str, ...]) -> int:
    """Compare storages, locks and signed events with what is claimed. Exit 65 on any mismatch, 69 when not all could be
    read.

    The result goes on record, signed: `status`, alerts and the monthly report tell of it until all has been verified
    anew.
    """
    if sum((everything, sample is not None, bool(ids))) > 1:
        raise click.UsageError("give one of --all, --sample and ids")
    share = None if sample is None else _share(sample)
    result = asyncio.run(_verify(options, options.load(), share, ids))
    emit(options, "archiver.verify/v1", result.as_json(), lambda: verification(result))
    if result.failures:
        return Exit.INTEGRITY
    return Exit.OK if result.clean else Exit.UNAVAILABLE


def _share(text: str) -> float:
    found = _SAMPLE.fullmatch(text)
    if found is None or not 0 < float(found[1]) <= 100:
        raise click.UsageError(f"--sample {text!r} is not a percentage between 0 and 100")
    return float(found[1]) / 100


async def _verify(options: Options, config: Config, share: float | None, ids: tuple[str, ...]) -> Verification:
    from archiver.assembly.keys import build_identities, hosts
    from archiver.assembly.session import Archive
    from archiver.cli.logcheck import check_catalogue, check_custody_log
    from archiver.completeness import records
    from archiver.database import read
    from archiver.verify.beside import PAGE
    from archiver.verify.finding import Verification
    from archiver.verify.fsck import Instruments, check_chains, check_kept, check_objects

    async with Archive(config) as archive:
        engine, began = await archive.database(), archive.clock.now()
        claims = await read(engine, lambda conn: _claims(conn, ids))
        total = len(claims)
        result = Verification()
        if share is not None:
            keep = max(1, round(total * share))
            claims = sorted(claims, key=lambda _: archive.chance.token(8))[:keep]
            if total > keep:
                result.unchecked["archived recordings outside the sample"] += total - keep
        by_pages = not ids and len(claims) * PAGE >= total
        identities = build_identities(config, archive.walls)
        tools = Instruments(archive.stores(), identities, hosts(config), began, by_pages)
        step = max(1, len(claims) // 10)
        await check_objects(
            claims,
            tools,
            result,
            progress=lambda done: note(options, f"{done} of {len(claims)} recordings") if done % step == 0 else None,
        )
        by_id = {each.id: each for each in claims}
        whole = not ids and share is None
        await read(engine, lambda conn: check_chains(conn, by_id, tools, result, whole=whole))
        if whole:
            await read(
                engine,
                lambda conn: check_kept(
                    conn,
                    records.kept_statements(conn),
                    records.kept_windows(conn),
                    records.kept_segments(conn),
                    result,
                ),
            )
        else:
            result.unchecked["statements, listings and segments of the catalogue in the journal"] += 1
        await check_custody_log(archive, result, level="full" if whole else "quick")
        if whole:
            await check_catalogue(archive, identities, result)
        depth = "named" if ids else "sample" if share is not None else "partly" if result.unreachable else "full"
        try:
            await _keep(options, archive, result, depth, began)
        except errors.ArchiverError as failed:  # a host that may not write verifies all the same
            note(options, f"this verification leaves no record: {failed}")
    return result


async def _keep(options: Options, archive: Archive, result: Verification, depth: str, began: datetime) -> None:
    """Put the result on record, signed: status, alerts and the monthly report tell the time of the last verification.

    A storage that is away or holds another history does not prevent the report of its own findings.
    """
    from collections import Counter

    from archiver.cli.person import person_of
    from archiver.completeness import verified
    from archiver.ingest import fixity
    from archiver.verify.finding import LIVE

    failures = Counter(str(each.kind) for each in result.failures if each.kind not in LIVE)
    figures = {name: value for name, value in result.as_json().items() if isinstance(value, int)}
    figures |= {"unreachable": sum(result.unreachable.values()), "not_checked": sum(result.unchecked.values())}
    session = await archive.session(without_storage=True, person=person_of(options))
    done = verified.Verified(
        verified.Depth(depth), began, archive.clock.now(), result.recordings, result.objects_read, failures
    )
    await session.once(lambda conn, ledger: verified.keep(conn, ledger, done, figures, "operator"))
    writer = await archive.writer()
    for storage, ids in result.sound.items():
        for start in range(0, len(ids), _PAGE):
            await writer.run(fixity.noting(storage, ids[start : start + _PAGE], began))


def _claims(conn: Any, ids: tuple[str, ...]) -> list[Claimed]:
    """Return the recordings that the journal calls archived, all or the named ones."""
    from archiver.completeness.claims import claimed
    from archiver.ingest import archived_recordings, search
    from archiver.recording import State

    if not ids:
        claims = [claimed(row) for row in archived_recordings.all_archived(conn)]
        return claims + [claimed(row) for row in archived_recordings.pages_in_quarantine(conn)]
    claims = []
    for wanted in ids:
        rows = [archived_recordings.read_recording(conn, each) for each in search.find(conn, wanted)]
        archived = [row for row in rows if row is not None and row.state == State.ARCHIVED]
        if not archived:
            raise errors.NotFoundError(f"no archived recording is called {wanted[:80]}")
        claims += [claimed(row) for row in archived]
    return claims
