"""Sends requests to time stamping authorities and witnesses, and reads answers of limited size.

These services see a checkpoint (a name, a size, a hash) and nothing else. The caller verifies every answer before it is
believed.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from aiohttp.http import HttpProcessingError

from archiver.errors import ConfigurationError, UnavailableError
from archiver.names import Names

MAX_ANSWER = 256 * 1024


class Answer(NamedTuple):
    """A complete answer."""

    status: int
    body: bytes


class Client:
    """An HTTP client that follows no redirect, keeps no cookie and reads no proxy or netrc from the environment.

    Raises `ConfigurationError` for a `ca_bundle` that cannot be read. Close the client, or use it as a context manager.
    """

    def __init__(self, *, timeout: timedelta = timedelta(seconds=10), ca_bundle: Path | None = None) -> None:
        try:
            self._tls = ssl.create_default_context(cafile=ca_bundle)
        except OSError as failed:
            raise ConfigurationError(f"the CA bundle cannot be read: {failed.strerror}") from failed
        self._timeout = aiohttp.ClientTimeout(total=timeout.total_seconds())
        self._names = Names("vouchers")
        self._session: aiohttp.ClientSession | None = None

    async def post(self, who: str, url: str, body: bytes, content_type: str) -> Answer:
        """Returns the answer to a POST, whatever its status. Raises `UnavailableError`, which names `who`, when no
        answer comes or the answer is too long."""
        return await self._ask(who, "POST", url, body, {"Content-Type": content_type})

    async def get(self, who: str, url: str) -> Answer:
        """Returns the answer to a GET, and raises as `post` does."""
        return await self._ask(who, "GET", url, None, {})

    async def _ask(self, who: str, method: str, url: str, body: bytes | None, more: Mapping[str, str]) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(ssl=self._tls, limit_per_host=4, resolver=self._names),
            )
        headers = {**more, "Accept-Encoding": "identity"}
        try:
            async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                content = await answer.content.read(MAX_ANSWER + 1)
                while len(content) <= MAX_ANSWER and (piece := await answer.content.read(MAX_ANSWER)):
                    content += piece
                if len(content) > MAX_ANSWER:
                    raise UnavailableError(f"{who} answered with more than {MAX_ANSWER} bytes")
                return Answer(answer.status, content)
        except (aiohttp.ClientError, HttpProcessingError, OSError, EOFError) as failed:
            # The library's text would repeat the URL, which may hold a password.
            raise UnavailableError(f"{who}: {type(failed).__name__}") from None

    async def aclose(self) -> None:
        """Releases the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        await self._names.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()
