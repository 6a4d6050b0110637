"""Doubtful audio is asked for again: one answer is not believed when its bytes speak against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeAlias

import structlog

from archiver import errors
from archiver.fetch.receive import ReceiveLimits, receive
from archiver.ingest import journal, outcomes
from archiver.ingest.bench import Bench
from archiver.providers.port import Provider
from archiver.recording import Flag, Link

log = structlog.get_logger("archiver.ingest")

DOUBTS = frozenset({Flag.LENGTH_UNVERIFIED, Flag.DURATION_MISMATCH, Flag.TRUNCATED})
_LOOK_EVERY, _LOOKS = timedelta(hours=1), 24

Refresh: TypeAlias = Callable[[journal.Claim], Awaitable[Link | None]]


class SecondLook:
    """Downloads doubtful recordings of one provider again. `refresh` gets a fresh link, or raises what the provider says."""

    def __init__(self, provider: Provider, limits: ReceiveLimits, bench: Bench, refresh: Refresh) -> None:
        self._provider = provider
        self._limits = limits
        self._bench = bench
        self._refresh = refresh

    async def take(self, held: journal.Claim, digest: str) -> tuple[journal.Claim, bool]:
        """What came is kept, but it is doubtful: download once more and compare. Two different answers are both kept.

        False when the provider did not answer: then it is asked again later.
        """
        bench = self._bench
        try:
            link = await self._refresh(held) if self._provider.facts.needs_link else None
            again = await receive(
                lambda offset, etag: self._provider.open(held.ref, link, offset=offset, etag=etag),
                _Nowhere(),
                declared=held.duration,
                at_most=held.of_call,
                limits=self._limits,
                clock=bench.clock,
                executor=bench.executor,
            )
        except (errors.RecordingGoneError, errors.NoRecordingError) as ended:
            log.warning("recording.second_look_denied", recording_id=held.id, problem=str(ended))
            return held, True
        except errors.TransientError as failed:
            log.info("recording.second_look_failed", recording_id=held.id, problem=str(failed))
            return held, False
        now = bench.clock.now()
        if again.plaintext_sha256 == digest:
            await bench.writer.run(lambda conn: outcomes.clear_flag(conn, held, Flag.LENGTH_UNVERIFIED))
            return dataclasses.replace(held, flags=held.flags - {Flag.LENGTH_UNVERIFIED}), True
        other = again.plaintext_sha256
        await bench.writer.run(lambda conn: outcomes.sibling_for(conn, bench.chance, bench.ledger, held, other, now))
        log.error("recording.content_differs", provider=self._provider.id, recording_id=held.id)
        return dataclasses.replace(held, flags=held.flags | {Flag.ID_CONFLICT}), True

    async def again(self, held: journal.Claim) -> None:
        """The second look at something archived that was doubtful, once the provider can be asked."""
        assert held.plaintext_sha256 is not None
        _, settled = await self.take(held, held.plaintext_sha256)
        again_at = None if settled else self.again_at(held)
        await self._bench.writer.run(lambda conn: outcomes.looked_again(conn, held, again_at))

    def again_at(self, held: journal.Claim) -> datetime | None:
        """Within the hour, as long as the provider still has it; where it keeps things for ever, a number of times."""
        now = self._bench.clock.now()
        over = now >= held.delete_at if held.delete_at is not None else held.situation.attempts >= _LOOKS
        return None if over else now + _LOOK_EVERY


class _Nowhere:
    """Takes bytes that only need hashing."""

    def write(self, data: bytes) -> None:
        """Nothing is kept."""
