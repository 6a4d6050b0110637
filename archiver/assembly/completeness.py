"""Builds the search for gaps from a configuration: the providers to watch, and the rounds that watch them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.assembly.providers import listing_span
from archiver.clock import Chance, Clock
from archiver.completeness import parties
from archiver.completeness.gap import profile
from archiver.completeness.observe import Watched
from archiver.completeness.reconcile import keep, reconcile_custody, reconcile_store
from archiver.completeness.watch import Watch
from archiver.config import model
from archiver.custody.ledger import Ledger
from archiver.database import Connection, Engine, Writer, read
from archiver.ingest import queries
from archiver.providers.port import Provider
from archiver.schedule import lease
from archiver.store.port import ObjectStore
from archiver.wall import Kind, Walls

_DAILY = timedelta(hours=20)


def watched(
    conn: Connection, config: model.Config, providers: Mapping[str, Provider], now: datetime, only: str | None = None
) -> list[Watched]:
    """Every configured provider as it is to be watched; with `only`, that provider alone."""
    return [
        Watched(
            settings.id,
            profile(settings.kind),
            tuple(providers[settings.id].scopes()),
            listing_span(settings, providers[settings.id], now, queries.covered_until(conn, settings.id)),
        )
        for settings in config.providers
        if only in {None, settings.id} and settings.id in providers
    ]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The daemon's work for completeness: looks for gaps after each poll, and compares everything once a day."""

    config: model.Config
    engine: Engine
    writer: Writer
    ledger: Ledger
    providers: Mapping[str, Provider]
    stores: Sequence[ObjectStore]
    watch: Watch
    clock: Clock
    chance: Chance
    replica_id: str
    walls: Walls

    async def look(self, provider: str) -> None:
        """Bring the register of gaps of one provider up to date, and state the days that are over."""
        accounts = await self._watched(provider)
        for each in accounts:
            await self.watch.look(each)
        await self.watch.look_beyond([each.id for each in self.config.providers])
        await self.watch.state(accounts)

    async def copies(self) -> None:
        """Bring the register up to date with the copies that storages lack."""
        await self.watch.look_for_copies()

    async def parties(self, *, ending: bool = False) -> None:
        """Bring the register up to date with the parties whose answers could not be understood."""
        now = self.clock.now()
        configured = {
            Kind.PROVIDER: frozenset(each.id for each in self.config.providers),
            Kind.STORAGE: frozenset(each.id for each in self.config.storage),
        }
        await self.writer.run(
            lambda conn: parties.keep(conn, self.ledger, self.chance, self.walls, now, configured, ending=ending)
        )

    async def daily(self) -> None:
        """Compare storages and custody with the journal. Only one replica does, by a lease."""
        held = await self.writer.run(lambda conn: lease.acquire(conn, "reconcile", self.replica_id, _DAILY))
        if held is None:
            return
        runs = [await reconcile_store(self.engine, store, self.clock) for store in self.stores]
        runs.append(await reconcile_custody(self.engine, self.clock))
        await keep(self.writer, self.ledger, self.chance, runs)

    async def _watched(self, provider: str) -> list[Watched]:
        now = self.clock.now()
        return await read(self.engine, lambda conn: watched(conn, self.config, self.providers, now, provider))
