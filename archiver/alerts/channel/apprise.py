"""A channel through Apprise: pagers, chats, telephones. An optional extra, imported only where it is configured.

Apprise opens its own connections, which the archiver's egress guard does not check: hence an extra, and a channel of
last choice.
"""

from __future__ import annotations

import importlib
from typing import Any

from archiver.alerts.message import Message, inert
from archiver.alerts.rule import Severity
from archiver.errors import ConfigurationError, UnavailableError
from archiver.recording import Secret

_EXTRA = "pip install 'compliance-archiver[notify]'"


class Apprise:
    """Sends to one Apprise URL."""

    def __init__(self, id_: str, url: Secret) -> None:
        """Connects to nothing yet. Raises `ConfigurationError` when Apprise is not installed, or does not know the
        URL."""
        try:
            library: Any = importlib.import_module("apprise")
        except ImportError:
            raise ConfigurationError(f"{id_}: apprise is not installed; {_EXTRA}") from None
        self.id = id_
        self._library = library
        self._target: Any = library.Apprise()
        if not self._target.add(url.reveal()):
            raise ConfigurationError(f"{id_}: its URL is none that apprise knows")

    async def send(self, message: Message) -> str:
        kinds = self._library.NotifyType
        kind = kinds.FAILURE if message.severity is Severity.PAGE else kinds.WARNING
        if message.resolved:
            kind = kinds.SUCCESS
        elif message.severity is Severity.NOTE:
            kind = kinds.INFO
        # Apprise logs failures itself and returns False; it does not say why.
        said = {
            "title": inert(message.title),
            "body": inert(message.text),
            "body_format": self._library.NotifyFormat.TEXT,
        }
        if not await self._target.async_notify(**said, notify_type=kind):
            raise UnavailableError("apprise could not deliver it")
        return ""

    async def aclose(self) -> None:
        """Apprise keeps no connections."""
