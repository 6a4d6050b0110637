"""Keeps the published log files in an S3 bucket: small objects, of which the oldest version counts.

Object Lock keeps versions, not names: anyone who may write can put a newer version or a delete marker over a key. So a
file that must not change is never read by its name alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from archiver import errors
from archiver.recording import Lock, LockMode
from archiver.store import layout
from archiver.store.bounded import LARGEST_PIECE
from archiver.store.port import Version
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_client import S3Options
from archiver.store.s3_pages import Pages
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import PARTIAL, Item, digests_of
from archiver.store.s3_vault import Vault, oldest_first


class S3Shelf:
    """The published log files of one bucket. Implements `Shelf`; made by `S3Store.shelf`, whose threads and probe it
    shares."""

    def __init__(
        self,
        bucket: Bucket,
        vault: Vault,
        options: S3Options,
        run: Callable[..., Awaitable[Any]],
        each: Callable[[Generator[list[Version], None, None]], AsyncIterator[list[Version]]],
        pages: Pages | None = None,
    ) -> None:
        self.id = options.id
        self.required = options.required
        self._bucket = bucket
        self._vault = vault
        self._options = options
        self._run = run
        self._each = each
        self._pages = pages

    async def put_new(self, name: str, data: bytes, until: datetime | None) -> None:
        """See `Shelf.put_new`. The lock has the storage's configured mode."""
        mode = LockMode.OFF if until is None else self._options.lock_mode
        lock = Lock(mode, None if mode is LockMode.OFF else until)
        item = Item(self._key(name), data, len(data), hashlib.sha256(data).hexdigest(), lock)
        await self._run(self._vault.put_once, item)

    async def put_current(self, name: str, data: bytes) -> None:
        """See `Shelf.put_current`. Partial tiles are tagged `partial=1`, so that a lifecycle rule can remove them."""
        await self._run(self._replace, self._key(name), data, ".p/" in name)

    async def read(self, name: str) -> bytes | None:
        """See `Shelf.read`."""
        content: bytes | None = await self._run(self._oldest, self._key(name))
        return content

    async def read_current(self, name: str) -> bytes | None:
        """See `Shelf.read_current`."""
        content: bytes | None = await self._run(self._content, self._key(name), None)
        return content

    async def versions(self, name: str) -> list[Version]:
        """See `Shelf.versions`."""
        found: list[Version] = await self._run(self._versions, self._key(name))
        return [replace(each, key=name) for each in found]

    async def lock(self, name: str) -> Lock | None:
        """See `Shelf.lock`."""
        shown: Lock | None = await self._run(self._lock, self._key(name))
        return shown

    async def names(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `Shelf.names`. Read from the listing of versions: in the listing of names, a delete marker hides a
        checkpoint."""
        last = layout.log_listing(self._options.prefix, after) if after else ""
        pages = self._bucket.versions(layout.log_listing(self._options.prefix, prefix), last)
        async for page in self._each(pages):
            for each in page:
                if not each.is_delete_marker and each.key > last:
                    last = each.key
                    yield layout.log_name(self._options.prefix, last)

    # --- blocking ---------------------------------------------------------------------------------------------

    def _replace(self, key: str, data: bytes, partial: bool) -> None:
        """Put a version, with tag and lock where the storage takes them. Not every server takes tags, and not every
        role may set tags or locks: without them the version stays until somebody removes it."""
        profile = self._vault.profile
        digests, lock = digests_of(data, profile), self._vault.brief_lock()
        tags = PARTIAL if partial and profile.tags else None
        ways = dict.fromkeys([(tags, lock), (None, lock), (None, None)])  # each once
        for n, (tagged, locked) in enumerate(ways, 1):
            try:
                self._bucket.put(key, data, digests, tags=tagged, lock=locked)
            except Refused as refused:
                if refused.passing or n == len(ways):
                    raise
            else:
                return

    def _versions(self, key: str) -> list[Version]:
        return oldest_first(self._bucket, key) if self._pages is None else self._pages.oldest_first(key)

    def _oldest(self, key: str) -> bytes | None:
        for each in self._versions(key):
            if not each.is_delete_marker:
                return self._content(key, each.version_id)
        return None

    def _lock(self, key: str) -> Lock | None:
        for each in self._versions(key):
            if not each.is_delete_marker:
                head = self._bucket.head(key, each.version_id)
                return head.lock if head else None
        return None

    def _content(self, key: str, version_id: str | None) -> bytes | None:
        content = bytearray()
        try:
            with closing(self._bucket.read(key, version_id)) as pieces:
                for piece in pieces:
                    content += piece
                    if len(content) > LARGEST_PIECE:
                        break  # no file of the log is so large: the reader's check of the signed digest fails
        except errors.NotFoundError:
            return None
        return bytes(content)

    def _key(self, name: str) -> str:
        return layout.log_key(self._options.prefix, name)
