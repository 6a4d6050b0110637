"""A dead man's switch: a ping that says "a sweep was really finished", to somebody who raises the alarm when no ping
comes.

This alert alone still works when this process, its host, its database or its network is down. So the ping must never be
sent for any other reason than work done: every provider was listed to its last page, and nothing is at risk, wrong or
lost (`judgement`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from archiver import errors
from archiver.alerts.dispatch import Telemetry
from archiver.alerts.post import Post
from archiver.clock import Clock

log = structlog.get_logger("archiver.alerts")

NAME = "heartbeat"


def due(finished: Mapping[str, datetime | None], since: datetime) -> bool:
    """Tells whether each provider has finished a sweep after `since`; False when there is no provider. Pure.

    `finished`: when each provider was last listed in full.
    """
    return bool(finished) and all(each is not None and each > since for each in finished.values())


class LogTail(logging.Handler):
    """The last lines of the log, redacted as the process wrote them, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._size = 0
        self._lines: deque[bytes] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode("utf-8", "replace")[-self._limit :] + b"\n"
        self._lines.append(line)
        self._size += len(line)
        while self._size > self._limit and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())

    def read(self) -> bytes:
        return b"".join(self._lines)[-self._limit :]


def follow_log(limit: int) -> LogTail:
    """Begin to keep the tail of this process's log. Call this after `logs.configure`, whose redacting formatter the
    tail uses."""
    root = logging.getLogger()
    tail = LogTail(limit)
    tail.setFormatter(root.handlers[0].formatter if root.handlers else None)
    root.addHandler(tail)
    return tail


class Heartbeat:
    """Pings one URL, at most once in `every`: with a log tail by a POST of the tail, otherwise by a GET."""

    def __init__(
        self, post: Post, every: timedelta, clock: Clock, telemetry: Telemetry, tail: LogTail | None = None
    ) -> None:
        self._post = post
        self._every = every
        self._clock = clock
        self._telemetry = telemetry
        self._tail = tail
        self._since = clock.now()  # only sweeps finished in this process's life count: a crash loop never pings
        self._pinged_at: datetime | None = None

    async def tick(self, finished: Mapping[str, datetime | None], *, proven: bool) -> bool:
        """Ping if a sweep was finished since the last ping. Returns True when the ping arrived.

        `proven`: nothing contradicts that the work is done. Never raises for a failure of the other side: the failure
        is logged and counted, and the next tick tries again.
        """
        now = self._clock.now()
        early = self._pinged_at is not None and now - self._pinged_at < self._every
        if early or not proven or not due(finished, self._since):
            return False
        return await self.ping()

    async def ping(self) -> bool:
        """Ping now: for `run --once`, whose sweep has just been finished."""
        now = self._clock.now()
        try:
            if self._tail is None:
                await self._post.send("GET")
            else:
                headers = {"Content-Type": "text/plain; charset=utf-8"}
                await self._post.send("POST", self._tail.read(), headers)
        except errors.ArchiverError as failed:
            log.error("heartbeat.failed", problem=str(failed))
            self._telemetry.notified(NAME, "failed")
            return False
        self._since = self._pinged_at = now
        self._telemetry.notified(NAME, "sent")
        return True

    async def aclose(self) -> None:
        if self._tail is not None:
            logging.getLogger().removeHandler(self._tail)
        await self._post.aclose()
