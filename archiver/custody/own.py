"""Remembers the entries that this process signed itself, so that their signatures need not be verified again."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from archiver.custody.event import Event

MOST = 4096
"""The number of entries remembered, some 8 MB: the backlog at which listing waits for the log."""


class OwnEntries:
    """Maps the newest entries, as whole bytes, to their events. Threads may share it; a restart empties it.

    An entry found here carries our signature over exactly these bytes. So it proves what `event.verify` proves, whoever
    put the bytes into the queue. It does not prove that the transaction that wrote them was committed.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._events: OrderedDict[bytes, Event] = OrderedDict()
        self._lock = Lock()

    def add(self, entry: bytes, event: Event) -> None:
        """Remembers one entry, and forgets the oldest where there are too many."""
        with self._lock:
            self._events[entry] = event
            if len(self._events) > self._most:
                self._events.popitem(last=False)

    def event(self, entry: bytes) -> Event | None:
        """Returns the event whose exact bytes these are; None where this process did not sign them lately."""
        with self._lock:
            return self._events.get(entry)
