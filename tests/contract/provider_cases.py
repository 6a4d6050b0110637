"""The adapters, each beside the simulator of its documents, over real HTTP with the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.demo.simulators import (
    Account,
    Audio,
    JustCallSimulator,
    JustCallV21Simulator,
    KazooSimulator,
    MovableClock,
    PlivoSimulator,
    SimRecording,
    Simulator,
    VobizSimulator,
    month_of_calls,
)
from archiver.demo.simulators.scenario import Kind
from archiver.providers.http import HttpClient
from archiver.providers.justcall import JustCall, JustCallSettings
from archiver.providers.kazoo import Kazoo, KazooSettings
from archiver.providers.kazoo_login import Token
from archiver.providers.plivo import Plivo, PlivoSettings
from archiver.providers.port import Provider
from archiver.providers.vobiz import Vobiz, VobizSettings
from archiver.recording import Listing, Page, RecordingRef, Secret, Window

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MONTH = Window(NOW - timedelta(days=29), NOW)
SOUNDS = Path(__file__).parent.parent / "data" / "audio"
KEY, SECRET = "canary-key", "canary-secret"
ACCOUNT = "MA00000000000000000T"


@dataclass(slots=True)
class Free:
    """A budget without end that remembers what was asked of it."""

    taken: int = 0
    pauses: list[timedelta] = field(default_factory=list)

    async def take(self, cost: int = 1) -> None:
        self.taken += cost

    async def pause(self, wait: timedelta) -> None:
        self.pauses.append(wait)


@dataclass(slots=True)
class Bench:
    """One adapter at its simulator. `client` is the adapter's own."""

    provider: Provider
    simulator: Any
    account: Account
    clock: MovableClock
    budget: Free

    async def pages(self, window: Window = MONTH, scope: str | None = None) -> list[Page]:
        scopes = [scope] if scope else self.provider.scopes()
        return [page for each in scopes async for page in self.provider.list(each, window)]

    async def listed(self, window: Window = MONTH, scope: str | None = None) -> list[Listing]:
        return [listing for page in await self.pages(window, scope) for listing in page.listings]

    async def first(self) -> Listing:
        return (await self.listed())[0]

    async def body(self, listing: Listing, **kwargs: Any) -> bytes:
        async with self.provider.open(listing.ref, listing.link, **kwargs) as media:
            return b"".join([chunk async for chunk in media.chunks()])

    def sound(self, ref: RecordingRef) -> bytes:
        """The truth: what the provider holds under that id."""
        held = next(each for each in self.account.recordings if self.name(each) == ref.recording_id)
        assert held.audio is not None
        return held.audio.data

    def name(self, recording: SimRecording) -> str:
        from archiver.demo.simulators.justcall_v21 import call_number

        return str(call_number(recording)) if isinstance(self.simulator, JustCallV21Simulator) else recording.id


def sounds(*names: str) -> list[Audio]:
    return [Audio.read(path) for path in sorted(SOUNDS.glob("*.mp3")) if not names or path.stem in names]


@asynccontextmanager
async def bench(
    case: str,
    *,
    calls: int = 45,
    recordings: Sequence[SimRecording] | None = None,
    simulator: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    max_pages: int | None = None,
) -> AsyncIterator[Bench]:
    """`case` names the adapter (and dialect); `simulator` and `settings` override their options."""
    kind: Kind = case.partition("-")[0]  # type: ignore[assignment]
    held = month_of_calls(kind, seed=7, count=calls, audio=sounds(), until=NOW, days=28)
    account = Account(recordings if recordings is not None else held)
    clock = MovableClock(NOW)
    sim, make = CASES[case](account, clock, dict(simulator or {}), dict(settings or {}))
    async with sim:
        budget = Free()
        client = HttpClient(
            provider=case,
            origin=sim.base_url,
            media_hosts=sorted({sim.url(origin).partition("://")[2] for origin in sim.origins}),
            allow_http=True,
            allow_private_addresses=True,
            budget=budget,
            clock=clock,
        )
        limit = {} if max_pages is None else {"max_pages": max_pages}
        provider: Provider = make(sim, client, limit)
        try:
            yield Bench(provider, sim, account, clock, budget)
        finally:
            await provider.aclose()
            await asyncio.sleep(0)


Make = Callable[[Simulator, HttpClient, dict[str, int]], Provider]
Case = Callable[[Account, MovableClock, dict[str, Any], dict[str, Any]], tuple[Simulator, Make]]


def _justcall(dialect: str) -> Case:
    def case(account: Account, clock: MovableClock, options: dict[str, Any], settings: dict[str, Any]) -> Any:
        kind = JustCallSimulator if dialect == "v2" else JustCallV21Simulator
        sim = kind(account, clock, api_key=KEY, api_secret=SECRET, **options)
        plain = JustCallSettings(Secret(KEY), Secret(SECRET), allow_http=True, dialect=dialect)  # type: ignore[arg-type]

        def make(sim: Simulator, client: HttpClient, limit: dict[str, int]) -> Provider:
            return JustCall("case", replace(plain, base_url=sim.base_url, **settings), client, clock, **limit)

        return sim, make

    return case


def _kazoo(account: Account, clock: MovableClock, options: dict[str, Any], settings: dict[str, Any]) -> Any:
    sim = KazooSimulator(account, clock, **{"account_id": "a" * 32, "auth_token": SECRET, **options})
    plain = KazooSettings("", "a" * 32, Token(Secret(SECRET)), allow_http=True)

    def make(sim: Simulator, client: HttpClient, limit: dict[str, int]) -> Provider:
        return Kazoo("case", replace(plain, base_url=sim.base_url, **settings), client, clock, **limit)

    return sim, make


def _vobiz(account: Account, clock: MovableClock, options: dict[str, Any], settings: dict[str, Any]) -> Any:
    sim = VobizSimulator(account, clock, **{"auth_id": "MA_XXXXXXXX", "auth_token": SECRET, **options})
    plain = VobizSettings("MA_XXXXXXXX", Secret(SECRET), allow_http=True)

    def make(sim: Simulator, client: HttpClient, limit: dict[str, int]) -> Provider:
        hosts = (sim.media_url.partition("://")[2],)
        return Vobiz(
            "case",
            replace(plain, **{"base_url": sim.base_url, "media_hosts": hosts, **settings}),
            client,
            clock,
            **limit,
        )

    return sim, make


def _plivo(account: Account, clock: MovableClock, options: dict[str, Any], settings: dict[str, Any]) -> Any:
    sim = PlivoSimulator(account, clock, **{"auth_id": ACCOUNT, "auth_token": SECRET, **options})
    plain = PlivoSettings(ACCOUNT, Secret(SECRET), allow_http=True)

    def make(sim: Simulator, client: HttpClient, limit: dict[str, int]) -> Provider:
        hosts = (sim.media_url.partition("://")[2],)
        return Plivo(
            "case",
            replace(plain, **{"base_url": sim.base_url, "media_hosts": hosts, **settings}),
            client,
            clock,
            **limit,
        )

    return sim, make


CASES: Mapping[str, Case] = {
    "justcall": _justcall("v2"),
    "justcall-v2.1": _justcall("v2.1"),
    "kazoo": _kazoo,
    "vobiz": _vobiz,
    "plivo": _plivo,
}
