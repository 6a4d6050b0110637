"""The daemon's HTTP face: liveness, readiness, metrics. Read-only, without call data; loopback unless told otherwise.

Liveness never depends on a provider or a storage: an outage there must not restart the archiver in a loop.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from aiohttp import web

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
    ) -> None:
        self._beat_age = beat_age
        self._stopping = stopping
        self._readiness = readiness
        self._status = status
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which differs from `port` when that is 0. Raises `UnavailableError`."""
        app = web.Application(client_max_size=16 * 1024)
        app.router.add_get("/-/healthy", self._healthy)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_get("/-/status", self._show_status)
        app.router.add_get("/metrics", self._show_metrics)
        app.on_response_prepare.append(_plain_headers)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as problem:
            await self._runner.cleanup()
            why = os.strerror(problem.errno) if problem.errno and problem.errno > 0 else "no such address"
            raise UnavailableError(f"web.listen {host}:{port}: {why}") from problem
        assert self._runner.addresses
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Close the listener and its connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthy(self, _request: web.Request) -> web.Response:
        if self._stopping():
            return web.Response(status=503, text="stopping\n")
        age = self._beat_age()
        if age > _STALE:
            return web.Response(status=503, text=f"no beat for {age.total_seconds():.0f} s\n")
        return web.Response(text="ok\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        failed = await self._readiness()
        return web.json_response({"ready": not failed, "failed": dict(failed)}, status=503 if failed else 200)

    async def _show_status(self, _request: web.Request) -> web.Response:
        return web.Response(text=await self._status(), content_type="application/json")

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=await self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


async def _plain_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "archiver"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
