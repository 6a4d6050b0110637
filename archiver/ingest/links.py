"""Links that came with listings, in memory only: a signed URL is a credential and is never written anywhere.

Losing them costs one request for each recording, no more.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime

from archiver.recording import Link

_MOST = 50_000


class Links:
    """The freshest link of each recording, the longest unused dropped first."""

    def __init__(self, most: int = _MOST) -> None:
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._most = most

    def keep(self, recording_id: str, link: Link) -> None:
        self._links[recording_id] = link
        self._links.move_to_end(recording_id)
        while len(self._links) > self._most:
            self._links.popitem(last=False)

    def fresh(self, recording_id: str, now: datetime) -> Link | None:
        """A link with more than half of its life left; None when a new one must be asked for."""
        link = self._links.get(recording_id)
        return None if link is None or link.half_spent(now) else link

    def drop(self, recording_id: str) -> None:
        self._links.pop(recording_id, None)
