"""`archiver custody`: shows, proves, checks and recovers the log of custody events."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from archiver import errors
from archiver.cli.events import by, told
from archiver.cli.lookup import resolve
from archiver.cli.options import Options
from archiver.cli.output import emit, note, table
from archiver.cli.rendered import refilled, verification
from archiver.errors import Exit
from archiver.instants import precise, precise_or_none

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.database import Connection
    from archiver.recording import Json
    from archiver.recovery.refill import Refilled
    from archiver.translog.reader import Log, Signed
    from archiver.translog.recover import Recovered
    from archiver.verify.finding import Verification


@click.group()
def custody() -> None:
    """The log of custody events: read it, prove from it, check it, recover it."""


@custody.command("log")
@click.option("--after", default=-1, metavar="LEAF", help="Begin behind this leaf.")
@click.option("--limit", default=50, help="How many; 0 for all.")
@click.option("--subject", help="Only this one, e.g. archive or rec:ID.")
@click.pass_obj
def log_(options: Options, after: int, limit: int, subject: str | None) -> None:
    """Events as they stand in the log, by leaf."""
    from archiver.custody.access import who
    from archiver.custody.event import Event, parse
    from archiver.custody.ledger import OPERATOR

    chosen: list[tuple[int, Event]] = []
    with _log(options.load(resolve_secrets=False)) as (conn, log):
        for leaf, entry in _entries(conn, log.log_id, after + 1):
            event = parse(entry)
            if subject in (None, event.subject):
                chosen.append((leaf, event))
            if limit and len(chosen) >= limit:
                break
        people = who(conn, [event for _, event in chosen if event.actor_kind == OPERATOR])
    found: list[dict[str, Any]] = [
        {"leaf": leaf, "at": precise(event.at), "type": event.type, "subject": event.subject, "seq": event.seq,
         "outcome": event.outcome, "data": dict(event.data),
         "person": told(people[event.id]) if event.id in people else None}
        for leaf, event in chosen
    ]  # fmt: skip
    columns = ("leaf", "at", "type", "subject", "seq", "outcome")
    emit(options, "archiver.custody_log/v1", [*found], lambda: table(
        (*columns, "by whom, and why"),
        [[*(each[name] for name in columns), by(each["person"]) if each["person"] else ""] for each in found]))  # fmt: skip


@custody.command()
@click.option("--size", type=int, help="The one over this many leaves; otherwise the newest.")
@click.option("--raw", is_flag=True, help="The signed note itself, as published.")
@click.pass_obj
def checkpoint(options: Options, size: int | None, raw: bool) -> int:
    """The log's signed head, and the key to check it with."""
    from archiver.assembly.keys import log_signer
    from archiver.translog import reader as logs

    config = options.load(resolve_secrets=False)
    key = log_signer(config).key
    with _log(config) as (conn, log):
        found = _signed(conn, log, size)
        tree_size, _ = logs.tree(conn, log.log_id)
        waiting = logs.waiting(conn)
    if raw:
        click.echo(found.note, nl=False)
        return Exit.OK
    data: dict[str, Json] = {
        "origin": log.origin,
        "size": found.size,
        "root": base64.b64encode(found.root).decode(),
        "note": found.note,
        "signed_at": precise(found.signed_at),
        "published_at": precise_or_none(found.published_at),
        "vkey": key.vkey,
        "leaves": tree_size,
        "waiting": waiting,
    }
    emit(options, "archiver.checkpoint/v1", data, lambda: _show_checkpoint(data))
    return Exit.OK


def _show_checkpoint(data: dict[str, Json]) -> str:
    published = f"published {data['published_at']}" if data["published_at"] else "not published yet"
    return (
        f"{data['note']}\nsigned {data['signed_at']}, {published}; the log has {data['leaves']} leaves, and"
        f" {data['waiting']} event(s) wait for it\nverifier key  {data['vkey']}"
    )


@custody.command()
@click.argument("wanted", metavar="ID|SUBJECT", required=False)
@click.argument("seq", type=int, required=False)
@click.option("--leaf", type=int, help="This leaf, whosever event it is.")
@click.option("--since", type=int, metavar="SIZE", help="That the log continues the one of this size.")
@click.pass_obj
def prove(options: Options, wanted: str | None, seq: int | None, leaf: int | None, since: int | None) -> int:
    """A proof that a stranger can check offline: of one event (c2sp.org/tlog-proof), or that nothing was rewritten
    since."""
    if (wanted is None) is (leaf is None and since is None) or (leaf is not None and since is not None):
        raise click.UsageError("give a recording or subject, --leaf, or --since")
    with _log(options.load(resolve_secrets=False)) as (conn, log):
        if since is not None:
            return _prove_since(options, conn, log, since)
        if wanted is not None:
            leaf = _leaf_of(conn, log, wanted, seq)
        assert leaf is not None
        return _prove_leaf(options, conn, log, leaf)


def _prove_leaf(options: Options, conn: Connection, log: Log, leaf: int) -> int:
    from archiver.translog import merkle
    from archiver.translog import reader as logs
    from archiver.translog.proof import LogProof
    from archiver.translog.tile import hashes_of

    newest = _signed(conn, log, None)
    if not 0 <= leaf < newest.size:
        raise errors.NotFoundError(f"leaf {leaf}: the newest checkpoint is over {newest.size} leaves")
    hashes = merkle.inclusion_proof(leaf, newest.size, hashes_of(logs.read_tile(conn, log.log_id)))
    proof = LogProof(leaf, tuple(hashes), newest.note.encode())
    entry = logs.entry(conn, log.log_id, leaf)
    data: dict[str, Json] = {"leaf": leaf, "size": newest.size, "entry": entry.decode(), "proof": proof.text}
    emit(options, "archiver.proof/v1", data, lambda: proof.text.rstrip("\n"))
    return Exit.OK


def _prove_since(options: Options, conn: Connection, log: Log, since: int) -> int:
    from archiver.translog import merkle
    from archiver.translog import reader as logs
    from archiver.translog.tile import hashes_of

    newest = _signed(conn, log, None)
    if not 0 < since <= newest.size:
        raise errors.NotFoundError(f"a tree of {since} leaves: the newest checkpoint is over {newest.size}")
    reader = hashes_of(logs.read_tile(conn, log.log_id))
    hashes = [base64.b64encode(each).decode() for each in merkle.consistency_proof(since, newest.size, reader)]
    data: dict[str, Json] = {
        "old_size": since,
        "old_root": base64.b64encode(merkle.root(since, reader)).decode(),
        "new_size": newest.size,
        "new_root": base64.b64encode(newest.root).decode(),
        "proof": list(hashes),
        "checkpoint": newest.note,
    }
    text = "\n".join([f"old {since}", *hashes, "", newest.note.rstrip("\n")])
    emit(options, "archiver.consistency/v1", data, lambda: text)
    return Exit.OK


@custody.command()
@click.option("--level", type=click.Choice(["quick", "window", "full"]), default="full", show_default=True,
              help="quick: heads only; window: what is new; full: everything, here and in the storages.")  # fmt: skip
@click.option("--hours", default=24.0, help="How far a window reaches back.")
@click.pass_obj
def fsck(options: Options, level: str, hours: float) -> int:
    """Check the log against itself, its signatures, the storages and the notary. Exit 65 on any finding."""
    result = asyncio.run(_fsck(options.load(), level, timedelta(hours=hours)))
    emit(options, "archiver.verify/v1", result.as_json(), lambda: verification(result))
    if result.failures:
        return Exit.INTEGRITY
    return Exit.OK if result.clean else Exit.UNAVAILABLE


async def _fsck(config: Config, level: str, window: timedelta) -> Verification:
    from archiver.assembly.session import Archive
    from archiver.cli.logcheck import check_catalogue, check_custody_log
    from archiver.verify.finding import Verification

    result = Verification()
    async with Archive(config) as archive:
        await check_custody_log(archive, result, level=level, since=archive.clock.now() - window)
        if level == "full":
            await check_catalogue(archive, (), result)
    return result


@custody.command()
@click.pass_obj
def recover(options: Options) -> int:
    """Bring log and journal up to what was published, after a backup was restored. Stop every daemon first.

    Rows come from the log; what only the catalogue has of a call needs one of encryption.identities. May be run again
    at any time. Exit 65 when something contradicts what was signed, 69 when segments cannot be opened on this host (run
    it where they can), 4 when call metadata is lost.
    """
    found, journal = asyncio.run(_recover(options, options.load()))
    data: dict[str, Json] = {
        "had": found.had, "size": found.size, "storage": found.shelf, "rehomed": found.rehomed, "kept": found.kept,
        "checkpoints": found.checkpoints, "journal": journal.as_json(),
    }  # fmt: skip
    emit(options, "archiver.recovery/v1", data, lambda: _recovered(found, journal))
    return journal.exit_code


def _recovered(found: Recovered, journal: Refilled) -> str:
    lines = [
        f"the log had {found.had} leaves and has {found.size} now, from {found.shelf}" if found.size > found.had
        else f"nothing is missing: the log has {found.size} leaves",
        f"{found.rehomed} event(s) that were written into an older database are in their chains again" if found.rehomed else "",
        f"{found.kept} that need no place in a chain are kept, and explained in the log" if found.kept else "",
        f"{found.checkpoints} checkpoint(s) were put back" if found.checkpoints else "",
        *refilled(journal),
    ]  # fmt: skip
    return "\n".join(line for line in lines if line)


async def _recover(options: Options, config: Config) -> tuple[Recovered, Refilled]:
    from archiver.assembly.recovering import recover_log
    from archiver.assembly.session import Archive
    from archiver.cli.person import person_of

    async with Archive(config) as archive:
        return await recover_log(archive, lambda text: note(options, text), person_of(options))


@contextmanager
def _log(config: Config) -> Iterator[tuple[Connection, Log]]:
    """Open one snapshot of the database, and its log."""
    from archiver.assembly.database import database
    from archiver.database import reading
    from archiver.translog import reader as logs

    with database(config) as engine, reading(engine) as conn:
        found = logs.logs(conn)
        if not found:
            raise errors.NotFoundError("no log: the daemon has not run on this database yet")
        yield conn, found[-1]


def _entries(conn: Connection, log_id: int, start: int) -> Iterator[tuple[int, bytes]]:
    from archiver.translog import reader as logs

    size, _ = logs.tree(conn, log_id)
    yield from enumerate(logs.entries(conn, log_id, max(0, start), size), max(0, start))


def _signed(conn: Connection, log: Log, size: int | None) -> Signed:
    from archiver.translog import reader as logs

    if size is None:
        found = logs.newest_checkpoint(conn, log.log_id)
    else:
        found = next((each for each in logs.checkpoints(conn, log.log_id, after=size - 1) if each.size == size), None)
    if found is None:
        raise errors.NotFoundError("no checkpoint" + (f" over {size} leaves" if size is not None else " yet"))
    return found


def _leaf_of(conn: Connection, log: Log, wanted: str, seq: int | None) -> int:
    """Return the leaf of a subject's event, the last one unless `seq` gives its number."""
    from archiver.custody import history
    from archiver.translog import reader as logs

    subject = wanted if wanted == "archive" or ":" in wanted else f"rec:{resolve(conn, wanted)}"
    if seq is None:
        placed = [each.seq for each in history.entries(conn, subject) if logs.index_of(conn, subject, each.seq)]
        if not placed:
            raise errors.NotFoundError(f"no event of {subject} is in the log yet")
        seq = placed[-1]
    place = logs.index_of(conn, subject, seq)
    if place is None or place[0] != log.log_id:
        raise errors.NotFoundError(f"event {seq} of {subject} is not in the log")
    return place[1]
