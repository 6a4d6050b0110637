"""The versions of keys that are asked for in order, read a page at a time: a thousand keys for one request.

Only what a page showed is answered from it. A key that it did not show, and the last one, which may go on behind it, are asked
for by themselves: so nothing is taken for missing, and nothing that lies over a key is missed.
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
        """Every version and delete marker of this key. Raises `DestinationError`."""
        with self._lock:
            if key not in self._shown:
                self._read(key)
            if key not in self._shown:
                self._shown[key] = oldest_first(self._bucket, key)
            return list(self._shown[key])

    def _read(self, key: str) -> None:
        """The page that begins with this key. A storage that gives none is asked for the key by itself, and says why."""
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
    """What sorts behind every name of ours that is smaller than this one, and before it."""
    return f"{key[:-1]}{chr(ord(key[-1]) - 1)}~"
