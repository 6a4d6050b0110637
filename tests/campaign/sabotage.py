"""Bugs to plant in a run, to see whether the campaign notices. Each is one that somebody has made before.

A bug is a function that changes this process for good; `plant` calls those named. `lie_…` are no bugs of ours but of a storage:
the archiver must survive them, unless another bug is planted beside.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from botocore.client import BaseClient
from sqlalchemy import text

from archiver.clock import SystemChance
from archiver.custody import ledger
from archiver.fetch.spool import Spool
from archiver.ingest import storing
from archiver.ingest.destination import Destination
from archiver.ingest.links import Links
from archiver.ingest.poll import Poller
from archiver.providers.vobiz import Vobiz
from archiver.recording import LockMode, Stored
from archiver.seal.cipher import Sealer
from archiver.store import layout
from archiver.store.s3_vault import Vault
from archiver.store.s3_wire import Wire
from tests.campaign.points import everywhere, swap


def plant(names: str) -> None:
    """Plant every bug that `names` lists, with a plus between them."""
    for name in names.split("+"):
        BUGS[name]()


def archived_before_stored() -> None:
    """The answer comes before the object does."""
    later = []

    def lazy(put: Any) -> Any:
        async def early(self: Destination, key: str, file: Any, until: Any, now: Any) -> Stored:
            async def late() -> None:
                await asyncio.sleep(30)  # late on purpose: the process is killed before
                await put(self, key, file, until, now)

            later.append(asyncio.create_task(late()))
            return Stored(self.id, "?", key, None, file.size, file.sha256, LockMode.OFF, until, False, "?")

        return early

    swap(Destination, "put", lazy)


def token_not_compared() -> None:
    """Whoever writes last wins."""

    def unfenced(settle: Callable[..., Any]) -> Callable[..., Any]:
        def settled(conn: Any, held: Any, *rest: Any, **named: Any) -> Any:
            mine = {"id": held.id, "token": held.token, "owner": held.owner}
            conn.execute(text("UPDATE recording SET token = :token, owner = :owner WHERE id = :id"), mine)
            return settle(conn, held, *rest, **named)

        return settled

    everywhere(("ingest.journal.settle",), unfenced)


def last_page_skipped() -> None:
    """An off-by-one in the walk."""

    def hasty(listed: Any) -> Any:
        async def shorter(self: Vobiz, scope: str, window: Any) -> AsyncIterator[Any]:
            pages = [page async for page in listed(self, scope, window)]
            for page in pages[: max(1, len(pages) - 1)]:
                yield page

        return shorter

    swap(Vobiz, "list", hasty)


def covered_before_noted() -> None:
    """A window is called covered while its rows are still on their way."""
    later = []

    def lazy(note: Any) -> Any:
        async def noted(self: Poller, *arguments: Any) -> None:
            async def late() -> None:
                await asyncio.sleep(30)  # late on purpose: the process is killed before
                await note(self, *arguments)

            later.append(asyncio.create_task(late()))

        return noted

    swap(Poller, "_note", lazy)


def nonce_repeated() -> None:
    """Tarsnap's bug of 2011."""
    swap(SystemChance, "token", lambda token: lambda self, size: bytes(12) if size == 12 else token(self, size))


def _without_fsync(of: Callable[[Path], bool]) -> None:
    def lazy(fsync: Callable[[int], None]) -> Callable[[int], None]:
        def sometimes(descriptor: int) -> None:
            if not of(Path(f"/proc/self/fd/{descriptor}").readlink()):
                fsync(descriptor)

        return sometimes

    swap(os, "fsync", lazy)


def spool_file_not_synced() -> None:
    """The journal says spooled, the bytes are in the page cache."""
    _without_fsync(lambda path: path.suffix == ".part")


def spool_folder_not_synced() -> None:
    """The bytes are on disk, their name is not."""
    _without_fsync(lambda path: path.name == "spool")


def store_folder_not_synced() -> None:
    """As above, in the directory storage."""
    _without_fsync(lambda path: "recordings" in path.parts)


def lie_lock_dropped() -> None:
    """The storage takes the object and forgets the lock."""

    def forgetful(call: Any) -> Any:
        def answer(self: Any, operation: str, fields: dict[str, Any]) -> Any:
            if operation == "PutObject" and "recordings/" in fields["Key"]:
                fields = {name: value for name, value in fields.items() if not name.startswith("ObjectLock")}
            return call(self, operation, fields)

        return answer

    swap(BaseClient, "_make_api_call", forgetful)
    swap(Wire, "call", forgetful)


def lock_not_read_back() -> None:
    """A PUT that was answered with 200 is believed."""

    def believed(_self: Vault, _key: str, _version_id: str | None, head: Any, asked: Any) -> Any:
        return dataclasses.replace(head, lock=asked)

    swap(Vault, "_locked", lambda _: believed)


def sweep_keeps_nothing() -> None:
    """What is unknown to the sweep is taken for rubbish."""
    swap(Spool, "sweep", lambda sweep: lambda self, _keep: sweep(self, (), timedelta(0)))


def link_printed() -> None:
    """An exception's text with a signed URL in it."""

    def talkative(keep: Any) -> Any:
        def printed(self: Links, recording_id: str, link: Any) -> None:
            print(f"keeping {link.url.reveal()}", file=sys.stderr)
            keep(self, recording_id, link)

        return printed

    swap(Links, "keep", talkative)


def plaintext_spilled() -> None:
    """A temporary file, for convenience."""

    def careless(write: Any) -> Any:
        def spilled(self: Sealer, data: Any) -> None:
            with (Path(self._file.name).parent / "current.mp3").open("ab") as file:
                file.write(data)
            write(self, data)

        return spilled

    swap(Sealer, "write", careless)


def chain_over_other_bytes() -> None:
    """The leaf hash without its prefix."""
    swap(ledger, "leaf_hash", lambda _: lambda entry: hashlib.sha256(entry).digest())


def key_not_of_content() -> None:
    """A key that is made anew for each try."""
    swap(layout, "recording_key", lambda key: lambda *named: f"{key(*named)}-{os.urandom(4).hex()}")


def gone_at_once() -> None:
    """One 404 is believed."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("archiver.ingest") and hasattr(module, "RECHECKS"):
            swap(module, "RECHECKS", lambda _: 1)


def same_id_same_recording() -> None:
    """Identity is the provider's id."""

    def merged(note_page: Callable[..., Any]) -> Callable[..., Any]:
        def noted(conn: Any, custody: Any, chance: Any, listings: Any, *rest: Any) -> Any:
            same = [dataclasses.replace(each, revision="0" * 64) for each in listings]
            return note_page(conn, custody, chance, same, *rest)

        return noted

    everywhere(("ingest.listing_pages.note_page",), merged)


def retention_from_today() -> None:
    """The local clock, and a day is enough."""

    def shorter(retention: Any) -> Any:
        def kept(*named: Any) -> Any:
            return dataclasses.replace(retention(*named), until=named[4].replace(microsecond=0) + timedelta(days=2))

        return kept

    swap(storing, "retention", shorter)


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        archived_before_stored,
        token_not_compared,
        last_page_skipped,
        covered_before_noted,
        nonce_repeated,
        spool_file_not_synced,
        spool_folder_not_synced,
        store_folder_not_synced,
        lie_lock_dropped,
        lock_not_read_back,
        sweep_keeps_nothing,
        link_printed,
        plaintext_spilled,
        chain_over_other_bytes,
        key_not_of_content,
        gone_at_once,
        same_id_same_recording,
        retention_from_today,
    )
}
