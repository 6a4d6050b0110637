"""KAZOO (2600Hz crossbar): recordings of an account or of its users, media under the same URL as their metadata.

Reference: provider-docs/kazoo-recordings and crossbar's documents for paging, filters and authentication.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from archiver.clock import Clock
from archiver.errors import (
    CredentialsRefusedError,
    LinkRefusedError,
    ListingError,
    NotReadyError,
    RecordingGoneError,
    UnacceptableMediaError,
)
from archiver.providers import walk
from archiver.providers.kazoo_login import Login, Session
from archiver.providers.normal import (
    at,
    audio_format,
    count,
    direction,
    first,
    gregorian,
    identifier,
    later,
    metadata,
    milliseconds,
    seconds,
    text,
    time_flags,
    to_gregorian,
    whole_ms,
)
from archiver.providers.port import Facts, Media
from archiver.providers.rows import Row, canonical, digest, redacted, sift, stable_digest
from archiver.recording import Audio, Link, Listing, Page, RecordingRef, Secret, Window

if TYPE_CHECKING:
    from archiver.providers.http import Answer, HttpClient

FILTERS = ("filter_*", "has_key", "key_missing", "has_value")
"""Crossbar's generic document filters; the documents name no others."""
_PAGE_SIZE = 100
_LOW = 20
"""Requests left in crossbar's bucket below which everyone pauses; it refills by 10 a second and sends no Retry-After."""


@dataclass(frozen=True, slots=True)
class KazooSettings:
    """`users` lists these users' recordings, each on its own, instead of the account's. `read_only` restricts the
    tokens that we log in for to GET. `max_window` is for operators who changed crossbar's `maximum_range`."""

    base_url: str
    account_id: str
    login: Login
    allow_http: bool = False
    users: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    max_window: timedelta = timedelta(days=31)


class Kazoo:
    """One KAZOO account (`archiver.providers.port.Provider`). Raises `ConfigurationError` for unknown filters."""

    def __init__(
        self, id: str, settings: KazooSettings, client: HttpClient, clock: Clock, *, max_pages: int = walk.MAX_PAGES
    ) -> None:
        walk.check_filters(settings.filters, allows, "kazoo")
        self.id = id
        self._settings = settings
        self._client = client
        self._clock = clock
        self._max_pages = max_pages
        self._session = Session(settings.login, client, clock, read_only=settings.read_only)
        self.facts = Facts(
            max_window=settings.max_window,
            earliest=datetime(2012, 1, 1, tzinfo=UTC),
            stable_paging=True,
            deletes=True,
        )

    def scopes(self) -> Sequence[str]:
        return tuple(f"user:{user}" for user in self._settings.users) or ("account",)

    async def list(self, scope: str, window: Window) -> AsyncIterator[Page]:
        """Keyset pages, oldest first. Every page repeats the window: crossbar works out from it which months to read."""
        user = scope.partition(":")[2]
        path = f"{self._account()}/users/{walk.segment(user)}/recordings" if user else f"{self._account()}/recordings"
        params = [
            ("created_from", str(to_gregorian(window.since))),  # both ends inclusive, whole seconds
            ("created_to", str(to_gregorian(window.until) + 1)),
            ("ascending", "true"),
            ("page_size", str(_PAGE_SIZE)),
            *self._settings.filters.items(),
        ]
        trail = walk.Trail(self._max_pages)
        start: str | None = None
        seen: set[str] = set()
        while True:
            answer = await self._ask("GET", path, "list", [*params, *([("start_key", start)] if start else [])])
            document = await self._envelope(answer)
            rows = walk.row_list(document, "data")
            if rows:
                yield trail.step(sift(rows, self._read))
            start = _key(document.get("next_start_key"))
            if start is None:
                return
            if start in seen or not rows and len(seen) > self._max_pages:
                raise ListingError("a start_key came back")
            seen.add(start)

    async def refresh(self, ref: RecordingRef) -> Listing:
        answer = await self._ask("GET", self._path(ref), "recording", [])
        document = walk.item_document(answer)
        return walk.only_listing(walk.only_row(document.get("data")), self._read, ref)

    @asynccontextmanager
    async def open(
        self, ref: RecordingRef, link: Link | None, *, offset: int = 0, etag: str | None = None  # noqa: ARG002
    ) -> AsyncIterator[Media]:
        """The attachment, asked for by header and by query: with neither, crossbar answers 200 and JSON.

        A recording whose document is there and whose media is not has been saved and not yet uploaded, which crossbar
        retries for most of an hour: `NotReadyError`.
        """
        token = await self._session.token()
        try:
            async with self._download(ref, token, offset, etag) as media:
                yield _audio(media)
            return
        except LinkRefusedError:
            token = await self._renewed_for_media(token)
        except RecordingGoneError:
            await self.refresh(ref)
            raise NotReadyError("kazoo has the document but not its media") from None
        async with self._download(ref, token, offset, etag) as media:
            yield _audio(media)
