"""The interface of a channel: a way to reach people."""

from __future__ import annotations

from typing import Protocol

from archiver.alerts.message import Message


class Channel(Protocol):
    """One way to reach people. `id` is the channel's id in the configuration."""

    @property
    def id(self) -> str: ...

    async def send(self, message: Message) -> str:
        """Send the message. A return means that the other side took it; the text names a remaining problem, "" for
        none.

        Ends within 90 seconds. Raises `TransientError` (with `retry_after` where the other side asked for a pause) when
        the message was refused, or when the answer was lost: the message may then have arrived, and is sent again.
        """

    async def aclose(self) -> None:
        """Release connections."""
