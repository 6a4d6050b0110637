"""KAZOO (2600Hz crossbar): recordings of an account or of its users, media under the same URL as their metadata.

Reference: crossbar's documents for recordings, paging, filters and authentication.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from archiver.clock import Clock
from archiver.errors import (
    AnswerTooLargeError,
    GarbledAnswerError,
    LinkRefusedError,
    ListingError,
    NotReadyError,
    RecordingGoneError,
    UnacceptableMediaError,
)
from archiver.providers import kazoo_document, walk
from archiver.providers.kazoo_login import Login, Session
from archiver.providers.normal import at, count, to_gregorian
from archiver.providers.port import Facts, Media
from archiver.providers.rows import Row, blemish, canonical
from archiver.recording import Link, Listing, Page, RecordingRef, Secret, Window

if TYPE_CHECKING:
    from archiver.providers.http import Answer, HttpClient

FILTERS = ("filter_*", "has_key", "key_missing", "has_value")
"""Crossbar's generic document filters; the documents name no others."""
_PAGE_SIZE = 100
_LOW = 20
"""Requests left in crossbar's bucket below which everyone pauses; it refills by 10 a second and sends no
Retry-After."""


@dataclass(frozen=True, slots=True)
class KazooSettings:
    """The settings of one KAZOO account. `users` lists these users' recordings, each on its own, instead of the
    account's. `read_only` restricts the archiver's own tokens to GET. `max_window` is for operators who changed
    crossbar's `maximum_range`."""

    base_url: str
    account_id: str
    login: Login
    allow_http: bool = False
    users: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    max_window: timedelta = timedelta(days=31) - timedelta(minutes=1)


class Kazoo:
    """One KAZOO account (`archiver.providers.port.Provider`). Raises `ConfigurationError` for unknown filters."""

    def __init__(
        self, name: str, settings: KazooSettings, client: HttpClient, clock: Clock, *, max_pages: int = walk.MAX_PAGES
    ) -> None:
        walk.check_filters(settings.filters, allows, "kazoo")
        self.id = name
        self._settings = settings
        self._client = client
        self._clock = clock
        self._max_pages = max_pages
        self._origin = walk.origin_of(settings.base_url)
        self._session = Session(settings.login, client, clock, read_only=settings.read_only)
        self.facts = Facts(
            max_window=settings.max_window,
            earliest=datetime(2012, 1, 1, tzinfo=UTC),
            stable_paging=True,
            deletes=True,
            needs_link=False,
        )

    def scopes(self) -> Sequence[str]:
        return tuple(f"user:{user}" for user in self._settings.users) or ("account",)

    async def list(self, scope: str, window: Window) -> AsyncIterator[Page]:
        """Yield keyset pages, oldest first. Every request repeats the window: crossbar works out from it which months
        to read."""
        user = scope.partition(":")[2]
        path = f"{self._account()}/users/{walk.segment(user)}/recordings" if user else f"{self._account()}/recordings"
        params = [
            ("created_from", str(to_gregorian(window.since))),  # both ends inclusive, whole seconds
            ("created_to", str(to_gregorian(window.until) + 1)),
            ("ascending", "true"),
            *self._settings.filters.items(),
        ]
        trail = walk.Trail(self._max_pages)
        start: str | None = None
        size = _PAGE_SIZE
        seen: set[str] = set()
        while True:
            keys = [("page_size", str(size)), *([("start_key", start)] if start else [])]
            try:
                document = await self._envelope(await self._ask("GET", path, "list", [*params, *keys]))
                rows = walk.row_list(document, "data", total=count(document.get("page_size")))
            except AnswerTooLargeError:
                if size == 1:
                    raise
                size = max(1, size // 4)  # a key stays valid for every page size
                continue
            size = min(_PAGE_SIZE, size * 2)
            if rows:
                yield trail.step(await walk.sifted(rows, self._read))
            start = _key(document.get("next_start_key"))
            if start is None:
                return
            if start in seen or len(seen) >= self._max_pages:
                raise ListingError(f"no end after {len(seen) + 1} pages")
            seen.add(start)

    async def refresh(self, ref: RecordingRef) -> Listing:
        answer = await self._ask("GET", self._path(ref.recording_id), "recording")
        document = await walk.single(answer)
        return walk.only_listing(walk.only_row(document.get("data")), self._read, ref)

    @asynccontextmanager
    async def open(
        self,
        ref: RecordingRef,
        link: Link | None,  # noqa: ARG002 - media and metadata share one URL
        *,
        offset: int = 0,
        etag: str | None = None,
        to_the_end: bool = False,
    ) -> AsyncIterator[Media]:
        """Open the attachment, asked for by header and by query: with neither, crossbar answers 200 and JSON.

        A recording with a document and without media has been saved and not yet uploaded, which crossbar retries for
        most of an hour: then this raises `NotReadyError`.
        """
        download = partial(self._download, ref=ref, offset=offset, etag=etag, to_the_end=to_the_end)
        async with AsyncExitStack() as stack:
            try:
                media = await download(stack)
            except (LinkRefusedError, RecordingGoneError) as refusal:
                await self.refresh(ref)  # renews a stale token; tells a recording that is gone from refused credentials
                if isinstance(refusal, RecordingGoneError):
                    raise NotReadyError("kazoo has the document but not its media") from refusal
                media = await download(stack)
            if (media.content_type or "").partition(";")[0].strip().lower() == "application/json":
                raise UnacceptableMediaError(f"{media.content_type} where audio was asked for")
            yield media

    async def _download(
        self, stack: AsyncExitStack, *, ref: RecordingRef, offset: int, etag: str | None, to_the_end: bool
    ) -> Media:
        token = await self._session.token()
        download = self._client.media(
            f"{self._origin}{self._path(ref.recording_id)}?accept=audio/mpeg",
            headers={"Accept": "audio/mpeg"},
            credentials={"X-Auth-Token": token.reveal()},
            credential_origins=[self._origin],
            offset=offset,
            etag=etag,
            to_the_end=to_the_end,
            counts_against_budget=True,  # crossbar serves it, from the account's own bucket of tokens
        )
        return await stack.enter_async_context(download)

    async def delete(self, ref: RecordingRef) -> None:
        """Ask crossbar to delete, which marks the document deleted; bytes at a storage provider stay. This proves the
        request, not the erasure."""
        walk.confirm_deleted(await self._ask("DELETE", self._path(ref.recording_id), "delete"))

    async def aclose(self) -> None:
        await self._client.aclose()

    def _account(self) -> str:
        return f"/v2/accounts/{walk.segment(self._settings.account_id)}"

    def _path(self, recording_id: str) -> str:
        return f"{self._account()}/recordings/{walk.segment(recording_id)}"

    async def _ask(self, method: str, path: str, endpoint: str, params: Sequence[tuple[str, str]] = ()) -> Answer:
        token = await self._session.token()
        answer = await self._send(method, path, endpoint, params, token)
        if answer.status == 401:
            answer = await self._send(method, path, endpoint, params, await self._session.renewed(token))
        return answer

    async def _send(
        self, method: str, path: str, endpoint: str, params: Sequence[tuple[str, str]], token: Secret
    ) -> Answer:
        return await self._client.request(
            method, path, endpoint=endpoint, params=params, headers={"X-Auth-Token": token.reveal()}
        )

    async def _envelope(self, answer: Answer) -> Row:
        """Return the envelope of a listing. The envelope echoes the live token, so nothing but its rows is ever
        kept."""
        document = await walk.listed(answer)
        if document.get("status", "success") != "success":
            raise ListingError(walk.told(answer))
        remaining = count(at(document, "tokens.remaining"))
        if remaining is not None and remaining < _LOW:
            await self._client.throttle(timedelta(seconds=1))
        return document

    def _read(self, row: Row) -> Iterable[Listing]:
        yield kazoo_document.read(
            row, provider=self.id, account=self._settings.account_id, now=self._clock.now(), link=self._link
        )

    def _link(self, recording_id: str) -> Link:
        return Link(Secret(f"{self._origin}{self._path(recording_id)}"), self._clock.now())


def allows(name: str) -> bool:
    """Tell whether the name is one of crossbar's generic filters."""
    return any(fnmatchcase(name, pattern) for pattern in FILTERS)


def _key(value: object) -> str | None:
    """Return a start key as it is sent back; older crossbars show the view key itself.

    Raises `GarbledAnswerError` for a key that cannot be sent.
    """
    if value in (None, ""):
        return None
    if (problem := blemish(value)) is not None:
        raise GarbledAnswerError(f"next_start_key {problem}")
    return value if isinstance(value, str) else canonical(value).decode()
