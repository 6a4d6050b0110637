"""Keeps the links from listings, in memory only: a signed URL is a credential and is never written anywhere.

Losing a link costs one request for its recording, no more. The number of links and their total size are limited.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime

from archiver.recording import Link

_MOST = 50_000
_LONGEST = 16_384
_ROOM = 32 << 20


class Links:
    """The freshest link of each recording; the longest unused link is dropped first.

    Keeps `most` links, each of at most `longest` characters, and at most `room` characters in all. Any other link is
    asked for when needed.
    """

    def __init__(self, most: int = _MOST, *, longest: int = _LONGEST, room: int = _ROOM) -> None:
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._most, self._longest, self._room = most, longest, room
        self._size = 0

    def keep(self, recording_id: str, link: Link) -> None:
        self.drop(recording_id)
        size = _size(link)
        if size > min(self._longest, self._room):
            return
        while self._links and (len(self._links) >= self._most or self._size + size > self._room):
            self._size -= _size(self._links.popitem(last=False)[1])
        self._links[recording_id] = link
        self._size += size

    def fresh(self, recording_id: str, now: datetime) -> Link | None:
        """Return a link with more than half of its life left; None when a new link must be asked for."""
        link = self._links.get(recording_id)
        return None if link is None or link.half_spent(now) else link

    def drop(self, recording_id: str) -> None:
        if (gone := self._links.pop(recording_id, None)) is not None:
            self._size -= _size(gone)


def _size(link: Link) -> int:
    return len(link.url.reveal())
