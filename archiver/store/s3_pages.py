"""Reads the versions of keys that are asked for in order, a page at a time: a thousand keys for one request.

A page answers only for the keys that it showed. A key that it did not show, and the last one, which may continue on the
next page, are asked for by themselves: so no object is wrongly taken for missing, and no version above another is
overlooked.
"""

from __future__ import annotations

import contextlib
import threading
from itertools import groupby

from archiver import errors
from archiver.store.port import Version
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_vault import by_age, oldest_first

_MOST = 5_000


class Pages:
    """Pages of the listing of one folder. Blocking, safe for use by several threads."""

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self._folder = folder
        self._shown: dict[str, list[Version]] = {}
        self._lock = threading.Lock()

    def oldest_first(self, key: str) -> list[Version]:
        """Return every version and delete marker of this key. Raises `DestinationError`."""
        with self._lock:
            if key not in self._shown:
                self._read(key)
            if key not in self._shown:
                self._shown[key] = oldest_first(self._bucket, key)
            return list(self._shown[key])

    def _read(self, key: str) -> None:
        """Read the page that begins with this key. Where the storage gives no page, `oldest_first` asks for the key by
        itself and raises the reason."""
        page: list[Version] = []
        with (
            contextlib.suppress(errors.DestinationError),
            contextlib.closing(self._bucket.versions(self._folder, _just_before(key))) as pages,
        ):
            page = next(pages, [])
        if len(self._shown) > _MOST:
            self._shown.clear()
        shown = {name: by_age(list(versions)) for name, versions in groupby(page, key=lambda each: each.key)}
        if page:
            del shown[page[-1].key]
        self._shown |= shown


def _just_before(key: str) -> str:
    """Return a text that sorts before this name and behind every smaller name of the log."""
    return f"{key[:-1]}{chr(ord(key[-1]) - 1)}~"
