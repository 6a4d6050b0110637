"""Runs what the simulators have in common: origins, faults, and a record of the requests."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import ClassVar, Self, TypedDict

from aiohttp import web

from archiver.clock import Clock
from archiver.demo.simulators.answer import Answer, Ask, RefusedError, Route
from archiver.demo.simulators.faults import Effect
from archiver.demo.simulators.scenario import Account, SimRecording
from archiver.demo.simulators.wire import deliver


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and its outcome. `status` is 0 when no answer was sent. Header names are lower case."""

    at: datetime
    route: Route
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    origin: str
    status: int
    body: bytes = b""


@dataclass(slots=True)
class Rule:
    """A rule for a fault: it strikes requests of `route` for which `when` holds, after the first `after`, `times`
    times."""

    route: Route | None
    effect: Effect
    times: int | None = 1
    after: int = 0
    when: Callable[[Ask], bool] = field(default=lambda _: True)
    hits: int = 0
    passed: int = 0

    def strikes(self, route: Route, ask: Ask) -> bool:
        """Tells whether the rule strikes this request, and counts the request."""
        if (
            (self.route not in (None, route))
            or (self.times is not None and self.hits >= self.times)
            or not self.when(ask)
        ):
            return False
        if self.passed < self.after:
            self.passed += 1
            return False
        self.hits += 1
        return True


class ServerOptions(TypedDict, total=False):
    """The options that every simulator's constructor takes besides its own; see `Simulator`."""

    apart: bool
    host: str
    media_host: str | None
    tls: ssl.SSLContext | None


class Simulator(ABC):
    """An HTTP server that speaks one provider's API over an `Account`.

    Starts with `async with` or `start()`. With `apart`, each of `origins` gets a port of its own (and everything but
    the API is named by `media_host`, which must lead to this machine); otherwise one port serves all. `tls` makes it
    https.
    """

    origins: ClassVar[tuple[str, ...]] = ("api", "media")

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        apart: bool = False,
        host: str = "127.0.0.1",
        media_host: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.account = account
        self.clock = clock
        self.apart = apart
        self.requests: list[Seen] = []
        self._host, self._media_host, self._tls = host, media_host or host, tls
        self._rules: list[Rule] = []
        self._runners: list[web.ServerRunner] = []
        self._urls: dict[str, str] = {}
        self._answered = 0

    # --- running

    async def start(self, port: int = 0, media_port: int = 0) -> None:
        """Listens; port 0 picks a free port."""
        for index, origin in enumerate(self.origins if self.apart else ("",)):
            runner = web.ServerRunner(web.Server(self._handler(origin), access_log=None), shutdown_timeout=0.2)
            await runner.setup()
            self._runners.append(runner)
            wanted = port if index == 0 else (media_port + index - 1 if media_port else 0)
            await web.TCPSite(runner, self._host, wanted, ssl_context=self._tls).start()
            host = self._host if index == 0 else self._media_host
            self._urls[origin] = f"{'https' if self._tls else 'http'}://{host}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def url(self, origin: str) -> str:
        """Returns the scheme, host and port where `origin` is served."""
        return self._urls[origin if self.apart else ""]

    @property
    def base_url(self) -> str:
        """The API's origin, to which a client adds the documented path."""
        return self.url("api")

    @property
    def media_url(self) -> str:
        return self.url("media")

    # --- faults and judgement

    def fail(
        self,
        route: Route | None,
        effect: Effect,
        *,
        times: int | None = 1,
        after: int = 0,
        when: Callable[[Ask], bool] = lambda _: True,
    ) -> Rule:
        """Lets `effect` strike from now on; with `times=None` until `heal()`, with `route=None` any request.
        `Rule.hits` counts.

        One fault strikes a request: the first that was ordered and is not spent.
        """
        rule = Rule(route, effect, times, after, when)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Removes all faults."""
        self._rules.clear()

    def truth(self) -> list[SimRecording]:
        """Returns every recording that the account has ever been given and not been made to forget, deleted ones
        too."""
        return self.account.recordings

    def seen(self, route: Route) -> list[Seen]:
        return [each for each in self.requests if each.route is route]

    def audible(self, recording: SimRecording) -> bool:
        return self.account.audible(recording, self.clock.now())

    def next_id(self) -> str:
        """Returns an identifier for one answer, in the form of a UUID; predictable."""
        self._answered += 1
        return f"5afe0000-0000-4000-8000-{self._answered:012x}"

    # --- implemented for each provider

    @abstractmethod
    def route(self, ask: Ask) -> Route:
        """Returns the kind of this request, for faults and for the record."""

    @abstractmethod
    def answer(self, ask: Ask) -> Answer:
        """Returns the provider's answer. Errors may be raised as `RefusedError`."""

    def _handler(self, origin: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            ask = Ask(
                request.method,
                request.rel_url.raw_path,
                dict(request.query),
                {name.lower(): value for name, value in request.headers.items()},
                await request.read(),
                origin,
            )
            route = self.route(ask)
            answer = self._with_faults(route, ask)
            status = 0 if answer.lost else answer.status
            self.requests.append(
                Seen(self.clock.now(), route, ask.method, ask.path, ask.query, ask.headers, origin, status, ask.body)
            )
            return await deliver(request, answer)

        return handle

    def _with_faults(self, route: Route, ask: Ask) -> Answer:
        effect = next((rule.effect for rule in self._rules if rule.strikes(route, ask)), Effect())
        if (refusal := effect.refuse()) is not None:
            return refusal
        try:
            answer = self.answer(ask)
        except RefusedError as refused:
            answer = refused.answer
        return effect.alter(answer)
