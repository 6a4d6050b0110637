"""Named places where a run may be made to die or to be told a lie, put around the archiver's seams from outside.

An *effect* is a call that changes something outside of memory, or brings something in: a COMMIT, an fsync, a rename, a PUT, a
request. Around each lie two points, `effect/before` and `effect/after`, and two faults: refused (it raises and does nothing) and
answer lost (it does it, then raises). Nothing of this stands in the product; what is wrapped is the standard library's, the
drivers', or a method that a port names. Transactions are named after the function whose rows they hold, wherever that lives.

`arm` changes the process for good: call it in a child that is going to end.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psycopg
from botocore.client import BaseClient
from botocore.exceptions import ClientError, ReadTimeoutError
from sqlalchemy.engine.default import DefaultDialect

from archiver import errors
from archiver.custody.ledger import Ledger
from archiver.fetch import receive
from archiver.fetch.spool import Spool
from archiver.providers.http_media import Download
from archiver.seal.cipher import Sealer
from archiver.store.s3_message import Request
from archiver.store.s3_site import Stage
from archiver.store.s3_wire import Wire
from archiver.translog.notary import Notary
from archiver.translog.sequencer import Integrated, Sequencer
from tests.campaign.points import Action, Order, Points, around, everywhere, swap
from tests.campaign.power import Disk


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect. `times`: how often an ordinary run of the campaign's scenario surely comes to it.

    `storage` and `database` are the only kinds where it exists. `earlier`: the death after which a run first comes to it.
    `along`: what must happen in the same run for it to come to it. `faults`: whether it can be refused or lose its answer.
    """

    name: str
    times: int = 1
    storage: tuple[str, ...] = ("single", "multipart", "directory")
    earlier: str | None = None
    along: Order | None = None
    faults: bool = True
    sides: tuple[str, ...] = ("before", "after")

    @property
    def points(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{side}" for side in self.sides)


_S3, _DIRECTORY, _PARTS = ("single", "multipart"), ("directory",), ("multipart",)

EFFECTS = (
    Effect("enroll.commit"),
    Effect("beat.commit"),
    Effect("bury.commit", earlier="claim.commit/after"),
    Effect("probed.commit"),
    Effect("sweep.unlink", earlier="seal.write/after", faults=False),
    Effect("release.commit", earlier="claim.commit/after"),
    # list
    Effect("lease.commit", times=2),
    Effect("list.request", times=4),
    Effect("page.commit", times=4),
    Effect("window.commit", times=2),
    Effect("polled.commit", times=2),
    # claim, link, download, check
    Effect("claim.commit"),
    Effect("link.request"),
    Effect("media.request", times=4),
    Effect("piece", times=4, faults=False),
    Effect("body", times=4, faults=False, sides=("after",)),
    Effect("judge", times=4, faults=False),
    # seal and spool
    Effect("spool.open", times=4),
    Effect("seal.begin", times=4, faults=False, sides=("after",)),
    Effect("seal.write", times=4, faults=False),
    Effect("seal.finish", times=4, faults=False),
    Effect("spool.fsync", times=4),
    Effect("spool.rename", times=4, sides=("after",)),
    Effect("spool.dirsync", times=4, sides=("after",)),
    Effect("spooled.commit", times=2),
    # store and read back
    Effect("put.request", times=3, storage=_S3),
    Effect("create.request", storage=_PARTS),
    Effect("part.request", times=2, storage=_PARTS),
    Effect("complete.request", storage=_PARTS),
    Effect("head.request", times=4, storage=_S3),
    Effect("get.request", storage=_PARTS),
    Effect("versions.request", storage=("single",), earlier="put.request/after"),
    Effect("abort.request", storage=_PARTS, earlier="part.request/after"),
    Effect("store.link", times=4, storage=_DIRECTORY),
    Effect("store.dirsync", times=4, storage=_DIRECTORY, sides=("after",)),
    # say so, clean up, stop
    Effect("archived.commit", times=2),
    Effect("unspool.unlink", times=4),
    Effect("unspool.dirsync", times=4, sides=("after",)),
    Effect("unfinished.commit", along=Order("media.request/before", 1, Action.FAIL)),
    Effect("handback.commit", along=Order("spool.fsync/before", 1, Action.TERM)),
    Effect("leave.commit"),
    # the log
    Effect("integrate.commit"),
    Effect("sign", faults=False),
    Effect("published.commit"),
    Effect("publish.request", times=3, storage=_S3),
)

# The function whose rows make a transaction; the first name that exists counts. What returned nothing did nothing.
_TRANSACTIONS: Mapping[str, tuple[str, ...]] = {
    "beat.commit": ("beat",),
    "bury.commit": ("bury",),
    "probed.commit": ("ingest.storage_proofs.keep_proof",),
    "release.commit": ("ingest.journal.release_dead",),
    "lease.commit": ("acquire",),
    "page.commit": ("ingest.listing_pages.note_page",),
    "window.commit": ("ingest.covered_spans.cover",),
    "polled.commit": ("ingest.poll_state.polled",),
    "claim.commit": ("ingest.journal.claim",),
    "spooled.commit": ("ingest.outcomes.fetched",),
    "archived.commit": ("ingest.outcomes.archived",),
    "unfinished.commit": ("ingest.outcomes.unfinished",),
    "handback.commit": ("ingest.journal.hand_back",),
    "leave.commit": ("leave",),
    "published.commit": ("translog.publication_rows.keep_published",),
}
_OPERATIONS: Mapping[str, str] = {
    "PutObject": "put.request",
    "CreateMultipartUpload": "create.request",
    "UploadPart": "part.request",
    "CompleteMultipartUpload": "complete.request",
    "AbortMultipartUpload": "abort.request",
    "HeadObject": "head.request",
    "GetObject": "get.request",
    "ListObjectVersions": "versions.request",
}
_MEDIA, _LIST = re.compile(r"\.(mp3|wav)$"), re.compile(r"(/Recording/|/v2/calls)$")

_here = threading.local()  # what this thread has done: a commit and the sync of a directory are named after it


def arm(orders: list[Order], told: Path, disk: Disk | None) -> None:
    """Put every failpoint into this process. `told` gets the name of each that fired."""
    points = Points({order.point: order for order in orders}, told, disk)
    _commits(points)
    _files(points)
    _storage(points)
    _providers(points)
    _work(points)


# --- the database ---------------------------------------------------------------------------------------------------


def _commits(points: Points) -> None:
    for effect, names in _TRANSACTIONS.items():
        everywhere(names, functools.partial(_noting, effect))
    swap(Ledger, "enroll", functools.partial(_noting, "enroll.commit"))
    swap(Sequencer, "integrate", functools.partial(_noting, "integrate.commit"))

    def beginning(begin: Callable[..., None]) -> Callable[..., None]:
        def do_begin(self: DefaultDialect, connection: object) -> None:
            _here.rows = set()
            begin(self, connection)

        return do_begin

    def committing(commit: Callable[..., None]) -> Callable[..., None]:
        def do_commit(self: DefaultDialect, connection: object) -> None:
            effects = sorted(getattr(_here, "rows", ()))
            for effect in effects:
                points.reach(f"{effect}/before", functools.partial(_commit_failed, self.name))
            commit(self, connection)
            for effect in effects:
                points.reach(f"{effect}/after", functools.partial(_commit_failed, self.name))

        return do_commit

    swap(DefaultDialect, "do_begin", beginning)
    swap(DefaultDialect, "do_commit", committing)


def _noting(effect: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        idle = isinstance(result, Integrated) and not result.taken
        if result is None or (result and not idle):
            if not hasattr(_here, "rows"):
                _here.rows = set()
            _here.rows.add(effect)
        return result

    return call


def _commit_failed(database: str) -> BaseException:
    if database == "sqlite":
        return sqlite3.OperationalError("disk I/O error")
    return psycopg.OperationalError("server closed the connection unexpectedly")


# --- the disk -------------------------------------------------------------------------------------------------------


def _broken_disk() -> BaseException:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def _full_disk() -> BaseException:
    return errors.SpoolFullError("no space left")


def _files(points: Points) -> None:
    def faulty(name: Callable[..., str | None]) -> Callable[[Any], Any]:
        return lambda original: around(points, name, original, _broken_disk, _broken_disk)

    swap(os, "fsync", faulty(_synced))
    swap(os, "link", faulty(_linked))
    swap(Path, "rename", faulty(_renamed))
    swap(Path, "unlink", faulty(_unlinked))
    swap(Spool, "part", lambda part: around(points, lambda *_a, **_k: "spool.open", part, _full_disk, _full_disk))


def _synced(descriptor: int) -> str | None:
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    if (
        path.parent.name == "spool" and path.suffix == ".part" and not path.name.startswith(".")
    ):  # not the spool's own id
        return "spool.fsync"
    effect: str | None = None
    if path.is_dir():
        effect, _here.file = getattr(_here, "file", None), None
    return effect


def _renamed(path: Path, target: Path) -> str | None:
    if target.suffix != ".sealed":
        return None
    _here.file = "spool.dirsync"
    return "spool.rename"


def _linked(_source: Path, target: Path, **_options: Any) -> str | None:
    if "recordings" not in target.parts:
        return None
    _here.file = "store.dirsync"
    return "store.link"


def _unlinked(path: Path, missing_ok: bool = False) -> str | None:
    if path.parent.name != "spool" or not path.exists():
        return None
    if path.suffix == ".part":
        return "sweep.unlink"
    _here.file = "unspool.dirsync"
    return "unspool.unlink" if path.suffix == ".sealed" else None


# --- storages and providers -----------------------------------------------------------------------------------------


def _storage(points: Points) -> None:
    def effect(operation: str, key: str) -> str | None:
        if operation == "PutObject" and "custody/" in key:
            return "publish.request"
        return _OPERATIONS.get(operation) if "recordings/" in key else None

    def staging(answered: Callable[..., Any]) -> Callable[..., Any]:
        def do_answered(*arguments: Any) -> Any:
            _here.staged = True
            try:
                return answered(*arguments)
            finally:
                _here.staged = False

        return do_answered

    def name(_client: BaseClient, operation: str, fields: Mapping[str, Any]) -> str | None:
        if getattr(_here, "staged", False):
            return None  # a call whose answer is there already: nothing is sent
        return effect(operation, str(fields.get("Key") or fields.get("Prefix") or ""))

    def name_of_put(_wire: Wire, _bound: object, request: Request, _fields: Mapping[str, Any]) -> str | None:
        return effect("PutObject", request.path)

    def name_of_question(_wire: Wire, _bound: object, request: Request, operation: str) -> str | None:
        return effect(operation, request.path)

    def slow_down() -> BaseException:
        answer: Any = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
        failed: BaseException = ClientError(answer, "failpoint")
        return failed

    def no_answer() -> BaseException:
        failed: BaseException = ReadTimeoutError(endpoint_url="failpoint")
        return failed

    swap(Stage, "answered", staging)
    swap(BaseClient, "_make_api_call", lambda call: around(points, name, call, slow_down, no_answer))
    swap(Wire, "_put", lambda put: around(points, name_of_put, put, slow_down, no_answer))
    swap(Wire, "_ask", lambda ask: around(points, name_of_question, ask, slow_down, no_answer))


def _providers(points: Points) -> None:
    def name(_session: aiohttp.ClientSession, _method: str, url: Any, **_options: Any) -> str:
        path = urlsplit(str(url)).path
        return "media.request" if _MEDIA.search(path) else "list.request" if _LIST.search(path) else "link.request"

    def refused() -> BaseException:
        return aiohttp.ClientOSError(errno.ECONNREFUSED, "refused")

    def lost() -> BaseException:
        return aiohttp.ServerDisconnectedError()

    def chunking(chunks: Callable[..., AsyncIterator[bytes]]) -> Callable[..., AsyncIterator[bytes]]:
        async def chunked(self: Download) -> AsyncIterator[bytes]:
            async for piece in chunks(self):
                points.reach("piece/before")
                yield piece
                points.reach("piece/after")
            points.reach("body/after")

        return chunked

    swap(aiohttp.ClientSession, "_request", lambda request: around(points, name, request, refused, lost))
    swap(Download, "chunks", chunking)


# --- the work between -----------------------------------------------------------------------------------------------


def _work(points: Points) -> None:
    def plain(effect: str) -> Callable[[Any], Any]:
        return lambda original: around(points, lambda *_a, **_k: effect, original, None, None)

    swap(receive, "judge", plain("judge"))
    swap(Sealer, "__init__", plain("seal.begin"))
    swap(Sealer, "write", plain("seal.write"))
    swap(Sealer, "finish", plain("seal.finish"))
    swap(Notary, "add_checkpoint", plain("sign"))
