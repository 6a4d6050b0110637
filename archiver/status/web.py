"""Serves the daemon's liveness, readiness and metrics over HTTP. Read-only, without call data; on loopback unless
configured otherwise.

Liveness never depends on a provider or a storage: an outage there must not restart the archiver in a loop. An answer
that needs the database is made once in a few seconds, however many clients ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta

from aiohttp import web

from archiver.doorway import Door, Kept
from archiver.errors import UnavailableError

_STALE = timedelta(seconds=30)


class StatusServer:
    """Serves `/-/healthy`, `/-/ready`, `/-/status` and `/metrics` on one address."""

    def __init__(
        self,
        *,
        beat_age: Callable[[], timedelta],
        stopping: Callable[[], bool],
        readiness: Callable[[], Awaitable[Mapping[str, str]]],
        status: Callable[[], Awaitable[str]],
        metrics: Callable[[], Awaitable[bytes]],
        now: Callable[[], float],
        names: Iterable[str] = (),
    ) -> None:
        self._beat_age = beat_age
        self._stopping = stopping
        self._readiness = Kept(readiness, now)
        self._status = Kept(status, now)
        self._metrics = Kept(metrics, now)
        app = web.Application(client_max_size=16 * 1024)
        app.router.add_get("/-/healthy", self._healthy)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_get("/-/status", self._show_status)
        app.router.add_get("/metrics", self._show_metrics)
        self._door = Door(app, names=names)

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port, which differs from `port` when that is 0. Raises `UnavailableError`."""
        try:
            return await self._door.open(host, port)
        except UnavailableError as taken:
            raise UnavailableError(f"web.listen {taken.detail}") from taken

    async def stop(self) -> None:
        """Closes the listener and its connections."""
        await self._door.close()

    async def _healthy(self, _request: web.Request) -> web.Response:
        if self._stopping():
            return web.Response(status=503, text="stopping\n")
        age = self._beat_age()
        if age > _STALE:
            return web.Response(status=503, text=f"no beat for {age.total_seconds():.0f} s\n")
        return web.Response(text="ok\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        failed = dict(await self._readiness.get())
        if self._stopping():
            failed["process"] = "stopping"
        return web.json_response({"ready": not failed, "failed": failed}, status=503 if failed else 200)

    async def _show_status(self, _request: web.Request) -> web.Response:
        return web.Response(text=await self._status.get(), content_type="application/json")

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=await self._metrics.get(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
