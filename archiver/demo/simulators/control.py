"""Serves a port through which another process moves the clock, orders faults and reads the truth. JSON both ways.

GET    /                          what runs where, with which credentials
POST   /clock                     {"forward_seconds": 90000}
GET    /{name}/recordings         the truth: ids, times, sizes, SHA-256 of the audio, what is deleted
POST   /{name}/recordings         {"count": 3, "seed": 7}: so many calls have ended just now
DELETE /{name}/recordings/{id}
GET    /{name}/requests           what was asked (no header, no query) and answered
POST   /{name}/faults             {"fault": "Cut", "with": {"at": 1000}, "route": "media", "times": 2, "after": 0}
DELETE /{name}/faults
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

from aiohttp import web

from archiver.demo.simulators import faults, listing_faults
from archiver.demo.simulators.answer import Framing, Json, Route
from archiver.demo.simulators.faults import Effect
from archiver.demo.simulators.scenario import Audio, Kind, MovableClock, SimRecording, month_of_calls
from archiver.demo.simulators.server import Simulator

EFFECTS: Mapping[str, type[Effect]] = {
    name: kind
    for module in (faults, listing_faults)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Effect)
}


class Control:
    """The control port of a set of simulators that share one clock."""

    def __init__(
        self,
        simulators: Mapping[str, Simulator],
        clock: MovableClock,
        audio: Sequence[Audio],
        credentials: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._simulators = simulators
        self._clock = clock
        self._audio = audio
        self._credentials = credentials

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_told])
        app.router.add_get("/", self._overview)
        app.router.add_post("/clock", self._move)
        app.router.add_get("/{name}/recordings", self._recordings)
        app.router.add_post("/{name}/recordings", self._add)
        app.router.add_delete("/{name}/recordings/{id}", self._delete)
        app.router.add_get("/{name}/requests", self._requests)
        app.router.add_post("/{name}/faults", self._fail)
        app.router.add_delete("/{name}/faults", self._heal)
        return app

    def overview(self) -> dict[str, Json]:
        return {
            name: {"base_url": each.base_url, "media_url": each.media_url, **self._credentials.get(name, {})}
            for name, each in self._simulators.items()
        }

    def _named(self, request: web.Request) -> Simulator:
        return self._simulators[request.match_info["name"]]

    async def _overview(self, _: web.Request) -> web.Response:
        return web.json_response(self.overview())

    async def _move(self, request: web.Request) -> web.Response:
        self._clock.move(timedelta(seconds=float((await request.json())["forward_seconds"])))
        return web.json_response({"now": self._clock.now().isoformat()})

    async def _recordings(self, request: web.Request) -> web.Response:
        return web.json_response([truth(each) for each in self._named(request).truth()])

    async def _add(self, request: web.Request) -> web.Response:
        asked, simulator, now = await request.json(), self._named(request), self._clock.now()
        name = request.match_info["name"].partition("_")[0]
        kind = next(each for each in get_args(Kind) if each == name)
        calls = month_of_calls(kind, seed=int(asked["seed"]), count=int(asked["count"]), audio=self._audio, until=now)
        ended_now = [
            replace(each, started_at=now - each.duration, call_extra=timedelta(0), appears_at=now) for each in calls
        ]
        return web.json_response([truth(each) for each in simulator.account.add(*ended_now)])

    async def _delete(self, request: web.Request) -> web.Response:
        self._named(request).account.delete(request.match_info["id"])
        return web.json_response({})

    async def _requests(self, request: web.Request) -> web.Response:
        return web.json_response(
            [
                {"at": each.at.isoformat(), "route": each.route, "method": each.method, "path": each.path}
                | {"origin": each.origin, "status": each.status}
                for each in self._named(request).requests
            ]
        )

    async def _fail(self, request: web.Request) -> web.Response:
        asked = await request.json()
        route = Route(asked["route"]) if asked.get("route") else None
        made = effect(asked["fault"], asked.get("with", {}))
        self._named(request).fail(route, made, times=asked.get("times", 1), after=asked.get("after", 0))
        return web.json_response({})

    async def _heal(self, request: web.Request) -> web.Response:
        self._named(request).heal()
        return web.json_response({})


def effect(name: str, given: Mapping[str, Any]) -> Effect:
    """Returns the effect of that name, made from JSON values. Raises KeyError, TypeError or ValueError for anything
    else."""
    values = dict(given)
    if "framing" in values:
        values["framing"] = Framing(values["framing"])
    if "drop" in values:
        values["drop"] = frozenset(values["drop"])
    if "body" in values:
        values["body"] = str(values["body"]).encode()
    return EFFECTS[name](**values)


def truth(recording: SimRecording) -> dict[str, Json]:
    """Returns the facts of one recording that a test needs."""
    audio = recording.audio
    return {
        "id": recording.id,
        "file": recording.file,
        "owner": recording.owner,
        "started_at": recording.started_at.isoformat(),
        "listed_at": recording.listed_at.isoformat(),
        "available_at": recording.available_at.isoformat() if recording.available_at else None,
        "duration_ms": round(recording.duration.total_seconds() * 1000),
        "deleted": recording.deleted,
        "size": len(audio.data) if audio else None,
        "sha256": audio.digest if audio else None,
    }


@web.middleware
async def _told(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers an order that makes no sense with 400 and the reason."""
    try:
        return await handler(request)
    except (KeyError, TypeError, ValueError) as problem:
        return web.json_response({"error": f"{type(problem).__name__}: {problem}"}, status=400)
