"""`archiver check --online`: what only asking can tell: providers, storages (the lock in fact), the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from archiver import errors
from archiver.recording import Json, Window

if TYPE_CHECKING:
    from archiver.config.model import Config


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that was asked, and how it went. A warning is no failure."""

    subject: str
    ok: bool
    detail: str
    warning: bool = False

    def line(self) -> str:
        mark = "✓" if self.ok else "!" if self.warning else "✗"
        return f"{mark} {self.subject}: {self.detail}"

    def as_json(self) -> dict[str, Json]:
        return {"subject": self.subject, "ok": self.ok, "warning": self.warning, "detail": self.detail}


def ask(config: Config) -> list[Answer]:
    """Ask everything once. Costs a listing for each provider and a few small canary objects for each storage."""

    async def gather() -> list[Answer]:
        return [each for part in (_database, _providers, _storages) async for each in part(config)]

    return asyncio.run(gather())


async def _database(config: Config) -> AsyncIterator[Answer]:
    from archiver.assembly.reports import open_database
    from archiver.database import check_schema

    try:
        engine = open_database(config)
        await asyncio.to_thread(check_schema, engine)
        yield Answer("database", True, "reachable, its schema is this version's")
        engine.dispose()
    except errors.ArchiverError as problem:
        yield Answer("database", False, str(problem))


async def _providers(config: Config) -> AsyncIterator[Answer]:
    from archiver.assembly.providers import reading_providers
    from archiver.clock import SystemClock

    clock = SystemClock()
    for name, provider in reading_providers(config, clock).items():
        now = clock.now()
        try:
            for scope in provider.scopes():
                async for _page in provider.list(scope, Window(now - timedelta(hours=24), now)):
                    break
            yield Answer(f"provider {name}", True, f"listed {', '.join(provider.scopes())}")
        except errors.ArchiverError as problem:
            yield Answer(f"provider {name}", False, str(problem))
        finally:
            await provider.aclose()


async def _storages(config: Config) -> AsyncIterator[Answer]:
    from archiver.assembly.stores import build_stores
    from archiver.clock import SystemChance, SystemClock

    for name, store in build_stores(config, SystemClock(), SystemChance()).items():
        try:
            report = await store.probe()
        except errors.ArchiverError as problem:
            yield Answer(f"storage {name}", False, str(problem))
            continue
        finally:
            await store.aclose()
        for check in report.checks:
            yield Answer(f"storage {name} {check.name}", check.ok, check.detail, warning=not check.fatal)
        verdict = "trusted" if report.trusted else "NOT TRUSTED: nothing will be marked archived here"
        yield Answer(f"storage {name}", report.trusted, verdict)
