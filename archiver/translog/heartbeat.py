"""Decides when the log must write a heartbeat, so that its silence means something. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from archiver.recording import Json

EVERY = timedelta(hours=1)


def due(last: datetime | None, now: datetime, every: timedelta = EVERY) -> bool:
    """Returns True when `every` has passed since `last`, or there was none. A `last` in the future counts as none: a
    clock was set back."""
    return last is None or last > now or now - last >= every


def new_day(last: datetime | None, now: datetime) -> bool:
    """Returns True when `last` was on another day, in UTC, or is None."""
    return last is None or last.astimezone(UTC).date() != now.astimezone(UTC).date()


def heartbeat_data(size: int, token: tuple[int, str] | None) -> Mapping[str, Json]:
    """Returns the data of `log.heartbeat`: the tree's size, and the newest time stamp's tree size and SHA-256.

    An event that is logged after the heartbeat is later than that time stamp, and earlier than the next time stamp that
    covers the event.
    """
    stamped: Json = None if token is None else {"size": token[0], "token_sha256": token[1]}
    return {"size": size, "timestamp": stamped}
