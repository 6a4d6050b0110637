"""What the archiver asks of a way to reach people."""

from __future__ import annotations

from typing import Protocol

from archiver.alerts.message import Message


class Channel(Protocol):
    """One way to reach people. `id` is the configuration's."""

    @property
    def id(self) -> str: ...

    async def send(self, message: Message) -> str:
        """Say it. Returning means that the other side took it; the text names what still went wrong, "" for nothing.

        Ends within 90 seconds. Raises `TransientError` (with `retry_after` where the other side asked for a pause) when it
        was refused, or when the answer was lost: it may then have arrived, and is said again.
        """

    async def aclose(self) -> None:
        """Release connections."""
