"""Waits until an event is published: no irreversible act may happen before."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from archiver.database import Engine, read
from archiver.errors import UnavailableError
from archiver.translog import publication_rows


async def wait_published(
    engine: Engine, subject: str, seq: int, *, poll: timedelta = timedelta(seconds=1), patience: timedelta | None = None
) -> int:
    """Wait until a published checkpoint covers this event; return its tree size.

    Raises `UnavailableError` when that takes longer than `patience`: for an event that was refused it would take for
    ever.
    """
    now = asyncio.get_running_loop().time
    give_up = math.inf if patience is None else now() + patience.total_seconds()
    while (size := await read(engine, lambda conn: publication_rows.published_over(conn, subject, seq))) is None:
        if now() >= give_up:
            raise UnavailableError(f"event {seq} of {subject} is not in a published checkpoint yet")
        await asyncio.sleep(poll.total_seconds())
    return size
