"""Stores objects in an S3 bucket, at AWS or at any server that speaks S3. The asynchronous face of `s3_vault`.

boto3 blocks: each call runs in a thread pool of this storage's own, so that a slow storage delays no other. The call of
a cancelled caller ends by itself, which is safe, because every effect here may be done twice. The same holds for all
calls when the process ends: a storage that hangs does not keep the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar, cast

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.recording import Lock, Stored
from archiver.store import layout, s3_ways
from archiver.store.port import ProbeReport, Version
from archiver.store.probe import Probe
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_client import S3Options, make_bucket
from archiver.store.s3_pages import Pages
from archiver.store.s3_shelf import S3Shelf
from archiver.store.s3_upload import Item, Profile
from archiver.store.s3_values import STANDARD
from archiver.store.s3_vault import Vault

__all__ = ["S3Options", "S3Store", "make_bucket"]

_T = TypeVar("_T")

_SHELF_SECONDS = 30
_CLOSING_SECONDS = 2


class S3Store:
    """A store in one bucket. Implements `ObjectStore`.

    Until `probe` has run nothing is presumed of the bucket: objects are looked for before they are put, and read back
    whole. Raises `ConfigurationError` when no client can be made. `hear` is given the date of each answer.
    """

    def __init__(
        self, options: S3Options, clock: Clock, chance: Chance, hear: Callable[[str | None], None] | None = None
    ) -> None:
        self.id = options.id
        self.required = options.required
        self.lock_mode = options.lock_mode
        self._options = options
        self._clock = clock
        self._chance = chance
        self._bucket = Bucket(options, hear)
        self._vault = Vault(self._bucket, options, clock)
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix=f"store-{options.id}")
        self._calls: set[Future[object]] = set()  # those under way

    @property
    def profile(self) -> Profile:
        """The profile that the last probe proved."""
        return self._vault.profile

    @property
    def answers(self) -> int:
        """See `ObjectStore.answers`."""
        return self._bucket.answers

    async def probe(self) -> ProbeReport:
        """See `ObjectStore.probe`. From then on objects are sent in the way that the probe found."""
        probe = Probe(self._bucket, self._options, self._clock, self._chance, known=self._vault.profile.default)
        report = await self._run(probe.run)
        self._vault.profile = probe.profile
        self._bucket.trust(proved=report.trusted and probe.profile.proves_itself)
        return replace(report, ways=s3_ways.written(self._options, probe.profile, signs=self._bucket.signs))

    def resume(self, report: ProbeReport) -> bool:
        """See `ObjectStore.resume`."""
        ways = s3_ways.read(report.ways, self._options)
        if ways is None:
            return False
        if ways.signs is not self._bucket.signs:
            self._bucket.sign_payloads(ways.signs)
        self._vault.profile = ways.profile
        self._bucket.trust(proved=report.trusted and ways.profile.proves_itself)
        return True

    async def put_once(self, key: str, path: Path, *, size: int, sealed_sha256: str, lock: Lock) -> Stored:
        """See `ObjectStore.put_once`."""
        storage_class = self._options.storage_class if layout.is_content(key) else STANDARD
        item = Item(layout.object_key(self._options.prefix, key), path, size, sealed_sha256, lock, storage_class)
        return await self._run(self._vault.put_once, item)

    async def inspect(self, key: str, version_id: str | None) -> Stored | None:
        """See `ObjectStore.inspect`. `sealed_sha256` is empty where the storage keeps no checksum over the whole."""
        return await self._run(self._vault.inspect, self._key(key), version_id)

    async def read(self, key: str, version_id: str | None) -> AsyncIterator[bytes]:
        """See `ObjectStore.read`. One piece in memory at a time."""
        async for piece in self._each(self._bucket.read(self._key(key), version_id)):
            yield piece

    async def versions(self, prefix: str) -> AsyncIterator[Version]:
        """See `ObjectStore.versions`; within a key, the newest first."""
        async for page in self._each(self._bucket.versions(layout.under(self._options.prefix, prefix))):
            for version in page:
                yield version

    async def extend(self, key: str, version_id: str | None, until: datetime) -> Stored:
        """See `ObjectStore.extend`. Raises `NotFoundError` or `NotLockedError`."""
        return await self._run(self._vault.extend, self._key(key), version_id, until)

    async def hold(self, key: str, version_id: str | None, on: bool) -> Stored:
        """See `ObjectStore.hold`. Raises `NotFoundError` or `NotLockedError`."""
        return await self._run(functools.partial(self._vault.hold, self._key(key), version_id, on=on))

    async def sweep_uploads(self, older_than: timedelta) -> int:
        """Drop unfinished uploads under our prefix that are older than this; no listing of objects shows them and they
        cost money.

        A day is long enough for any upload under way, here or in another replica. Returns how many were dropped.
        """
        return await self._run(self._sweep, self._clock.now() - older_than)

    def shelf(self, *, in_passing: bool = False) -> S3Shelf:
        """Return the place of the custody log in this bucket."""
        pages = Pages(self._bucket, layout.log_listing(self._options.prefix, "")) if in_passing else None
        return S3Shelf(self._bucket, self._vault, self._options, self._soon, self._each, pages)

    async def aclose(self) -> None:
        """Wait a moment for the calls under way, then release connections and threads. A call that hangs is left to
        itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        under_way = [asyncio.wrap_future(each) for each in list(self._calls)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await asyncio.gather(*under_way, return_exceptions=True)
        self._bucket.close()

    def _sweep(self, before: datetime) -> int:
        dropped = 0  # each upload as it is listed: a later page that cannot be read undoes nothing
        for key, upload_id, began_at in self._bucket.uploads(self._options.prefix):
            if began_at < before:
                self._bucket.abort_upload(key, upload_id)
                dropped += 1
        return dropped

    def _key(self, key: str) -> str:
        return layout.object_key(self._options.prefix, key)

    async def _run(self, call: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.wrap_future(self._begin(call, *arguments))

    async def _soon(self, call: Callable[..., _T], *arguments: object) -> _T:
        """Do what `_run` does, with a time limit, for small objects: the log's keeper, which serves each storage in
        turn, waits only so long for one."""
        try:
            async with asyncio.timeout(_SHELF_SECONDS):
                return await self._run(call, *arguments)
        except TimeoutError:
            raise errors.DestinationError(f"it has not answered for {_SHELF_SECONDS} s") from None

    def _begin(self, call: Callable[..., _T], *arguments: object) -> Future[_T]:
        future = self._threads.submit(call, *arguments)
        self._calls.add(cast("Future[object]", future))
        future.add_done_callback(lambda done: self._calls.discard(cast("Future[object]", done)))
        return future

    async def _each(self, blocking: Generator[_T, None, None]) -> AsyncIterator[_T]:
        """Yield a blocking generator's items, each made in a thread.

        When the caller leaves early, even while a thread is reading, the generator is closed as soon as that read ends,
        and its connection with it.
        """
        end = object()
        step: Future[_T | object] | None = None
        try:
            while True:
                step = self._begin(next, blocking, end)
                item = await asyncio.wrap_future(step)
                if item is end:
                    return
                yield cast(_T, item)
        finally:
            if step is not None:
                step.add_done_callback(lambda _: blocking.close())
