"""`archiver check --online`: asks the database, providers, storages (with a real lock), time stamps, witnesses, alert
channels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from archiver import errors
from archiver.recording import Json, Window

if TYPE_CHECKING:
    from archiver.assembly.session import Archive
    from archiver.config.model import Config

_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One question that was asked, and its result. A warning is no failure."""

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
    """Ask everything once. Costs a listing for each provider, a few small canary objects for each storage, and a time
    stamp."""
    from archiver.assembly.session import Archive

    async def gather() -> list[Answer]:
        async with Archive(config) as archive:
            questions = (_database, _providers, _storages, _vouching, _alerting)
            return [each for question in questions async for each in question(archive)]

    return asyncio.run(gather())


async def _database(archive: Archive) -> AsyncIterator[Answer]:
    try:
        await archive.database()
        yield Answer("database", True, "reachable, its schema is this version's")
    except errors.ArchiverError as problem:
        yield Answer("database", False, str(problem))


async def _providers(archive: Archive) -> AsyncIterator[Answer]:
    for name, provider in archive.providers(asked=True).items():
        now = archive.clock.now()
        try:
            for scope in provider.scopes():
                async for _page in provider.list(scope, Window(now - timedelta(hours=24), now)):
                    break
            yield Answer(f"provider {name}", True, f"listed {', '.join(provider.scopes())}")
        except errors.ArchiverError as problem:
            yield Answer(f"provider {name}", False, str(problem))


async def _storages(archive: Archive) -> AsyncIterator[Answer]:
    for name, store in archive.stores().items():
        try:
            report = await store.probe()
        except errors.ArchiverError as problem:
            yield Answer(f"storage {name}", False, str(problem))
            continue
        for check in report.checks:
            yield Answer(f"storage {name} {check.name}", check.ok, check.detail, warning=not check.fatal)
        verdict = "trusted" if report.trusted else "NOT TRUSTED: nothing will be marked archived here"
        yield Answer(f"storage {name}", report.trusted, verdict)


async def _vouching(archive: Archive) -> AsyncIterator[Answer]:
    """Ask those who vouch for the log: a real time stamp over a fixed text, and a connection to each witness."""
    from archiver.assembly.log import build_authority, witness_key
    from archiver.translog.http import Client

    config = archive.config
    if config.custody.timestamp is not None:
        try:
            authority = build_authority(config, archive.closes(Client()), archive.chance, archive.walls)
            assert authority is not None
            token = await authority.stamp(b"archiver check --online\n")
            yield Answer("timestamp", True, f"gives time stamps that hold, {token.at:%Y-%m-%d %H:%M:%S} UTC")
        except errors.ArchiverError as problem:
            yield Answer("timestamp", False, str(problem))
    for each in config.custody.witnesses:
        yield await _reach(f"witness {witness_key(each.key).name}", each.url)


async def _alerting(archive: Archive) -> AsyncIterator[Answer]:
    """Try to connect to the receivers of alerts. Only `archiver alerts test` shows that alerts arrive: it sends a word
    to people."""
    from archiver.alerts.channel.smtp import PORTS
    from archiver.config.alerting import AppriseChannel, SmtpChannel

    config = archive.config
    for each in config.alerting.channels:
        name = f"alerts {each.id}"
        if isinstance(each, SmtpChannel):
            yield await _reach(name, f"smtp://{each.host}:{each.port or PORTS[each.security]}")
        elif isinstance(each, AppriseChannel):
            yield Answer(name, False, "not tried; archiver alerts test does", warning=True)
        else:
            yield await _reach(name, each.url.resolve().reveal())
    if config.alerting.heartbeat is not None:
        yield await _reach("alerts heartbeat", config.alerting.heartbeat.url.resolve().reveal())


async def _reach(subject: str, url: str) -> Answer:
    """Connect, and send nothing. The URL may be a secret: only host and port are shown."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return Answer(subject, False, "this is no URL")
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Answer(subject, False, f"{host}:{port} does not answer")
    except OSError as problem:
        return Answer(subject, False, f"{host}:{port} cannot be reached: {_why(problem)}")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Answer(subject, True, f"{host}:{port} can be reached")


def _why(problem: OSError) -> str:
    if isinstance(problem, socket.gaierror):
        return "there is no such host"
    return os.strerror(problem.errno) if problem.errno else type(problem).__name__
