"""Takes a download into a sink, once, while counting, hashing and looking at it.

Plaintext is never held beyond two pieces of 1 MiB: one being worked on in a thread (SHA-256, sniffing and the sink's
own work, together), one being read from the network meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeAlias

from archiver.clock import Clock
from archiver.errors import CutShortError, TooLargeError, UnacceptableMediaError, UnavailableError
from archiver.fetch.media import Findings, Sniffer, judge
from archiver.providers.port import Media
from archiver.recording import Flag, Received

PIECE = 1 << 20

OpenMedia: TypeAlias = Callable[[int, str | None], AbstractAsyncContextManager[Media]]


class Sink(Protocol):
    """Where plaintext goes: a `Sealer`. Called from one thread at a time; may block."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`, or raise."""


@dataclass(frozen=True, slots=True)
class ReceiveLimits:
    """`max_size` in bytes of one recording; `resumes`: how often one download may go on where it was cut."""

    max_size: int
    resumes: int = 3


async def receive(
    open_media: OpenMedia,
    sink: Sink,
    *,
    declared: timedelta | None,
    limits: ReceiveLimits,
    clock: Clock,
    executor: Executor,
    quarantine: bool = False,
) -> Received:
    """Download into `sink` and say what came. `declared`: the duration by the listing, when it gives one.

    `open_media(offset, etag)` starts the download at `offset`; with an offset the ETag pins the content. A cut is
    resumed only when length and a strong ETag were stated and the rest was granted from that very byte.
    `quarantine`: keep an error page too, flagged, because the deadline has come.

    Raises what `open_media` and `Media.chunks` raise, what the sink raises, `CutShortError` (less or more came than
    was stated), `TooLargeError`, `UnacceptableMediaError` (an error page: noticed within the first piece). After any of
    them the sink has taken a part and is to be thrown away. No thread uses the sink any more when this returns or
    raises, cancelled or not.
    """
    started_at = clock.now()
    body = _Body(sink, executor, limits.max_size, refuse_pages=not quarantine)
    resumed = 0
    first = await body.pour(open_media)
    while first.cut is not None:
        if resumed == limits.resumes or not first.resumable:
            raise first.cut
        resumed += 1
        first = await body.pour(open_media, first)
    return body.received(first, declared, started_at=started_at, clock=clock, resumed=resumed, quarantine=quarantine)
