"""Vobiz: recordings by two headers, offset pages without a time filter, media that may redirect and need the headers.

Reference: Vobiz's documents of its recording API.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from archiver.clock import Clock
from archiver.errors import CredentialsRefusedError, NotAllowedError
from archiver.providers import recording_object, walk
from archiver.providers.address import read_address
from archiver.providers.normal import instant
from archiver.providers.port import Facts, Media
from archiver.providers.rows import Row
from archiver.recording import Link, Listing, Page, RecordingRef, Secret, Window

if TYPE_CHECKING:
    from archiver.providers.http import Answer, HttpClient

ORIGIN = "https://api.vobiz.ai"
MEDIA_HOSTS = ("media.vobiz.ai", "recordings.vobiz.ai", "storage.vobiz.ai")
FILTERS = ("call_uuid", "recording_type")
_LIMIT = 100
_NEAR = timedelta(days=3)
"""The distance from a window within which a row still counts as the window's own: the completeness check looks as far.
"""


@dataclass(frozen=True, slots=True)
class VobizSettings:
    """The settings of one Vobiz account. `base_url` is the origin alone; the documented /api/v1 path is added here."""

    auth_id: str
    auth_token: Secret
    base_url: str = ORIGIN
    media_hosts: tuple[str, ...] = MEDIA_HOSTS
    allow_http: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)


class Vobiz:
    """One Vobiz account (`archiver.providers.port.Provider`). Raises `ConfigurationError` for unknown filters."""

    def __init__(
        self, name: str, settings: VobizSettings, client: HttpClient, clock: Clock, *, max_pages: int = walk.MAX_PAGES
    ) -> None:
        walk.check_filters(settings.filters, FILTERS.__contains__, "vobiz")
        self.id = name
        self._settings = settings
        self._client = client
        self._clock = clock
        self._max_pages = max_pages
        self.facts = Facts(
            max_window=timedelta(days=36_500),
            earliest=datetime(2020, 1, 1, tzinfo=UTC),
            time_filtered=False,
            deletes=True,
        )

    def scopes(self) -> Sequence[str]:
        return ("account",)

    async def list(self, scope: str, window: Window) -> AsyncIterator[Page]:  # noqa: ARG002 - there is one scope
        """Yield the whole listing, newest first as far as anyone has seen, cut short only when its order proves the
        rest older than the window. A walk to the very end tells the total of the window: the account's total, less the
        rows that came and are dated well outside the window."""

        async def ask(offset: int, limit: int) -> walk.Batch:
            answer = await self._client.request(
                "GET",
                self._path(),
                endpoint="list",
                params=[*self._settings.filters.items(), ("limit", str(limit)), ("offset", str(offset))],
                headers=self._headers(),
            )
            return recording_object.batch(await walk.listed(_judged(answer)))

        trail = walk.Trail(self._max_pages)
        ordered, oldest, outside = True, None, 0
        async for page in walk.offset_walk(ask, self._read, limit=_LIMIT, trail=trail):
            outside += sum(not _within(listing, window) for listing in page.listings)
            yield page if page.total is None else replace(page, total=max(0, page.total - outside))
            added = [_added(listing) for listing in page.listings]
            ordered = ordered and not page.rejects and _descends(added if oldest is None else [oldest, *added])
            if ordered and added and added[0] is not None and added[0] < window.since:
                return
            oldest = added[-1] if added else oldest

    async def refresh(self, ref: RecordingRef) -> Listing:
        answer = await self._client.request(
            "GET", self._path(ref.recording_id), endpoint="recording", headers=self._headers()
        )
        document = await walk.single(_judged(answer))
        return walk.only_listing(walk.only_row(document.get("objects", document)), self._read, ref)

    def open(
        self,
        ref: RecordingRef,  # noqa: ARG002 - the link says it all
        link: Link | None,
        *,
        offset: int = 0,
        etag: str | None = None,
        to_the_end: bool = False,
    ) -> AbstractAsyncContextManager[Media]:
        known = tuple(f"https://{host}" for host in MEDIA_HOSTS)
        own = self._own_origins(link) if link else ()
        return walk.open_link(
            self._client,
            link,
            credentials=self._headers(),
            origins=(*own, *known),
            ask_bare_first=False,
            offset=offset,
            etag=etag,
            to_the_end=to_the_end,
        )

    def _own_origins(self, link: Link) -> tuple[str, ...]:
        settings = self._settings
        return walk.own_origins(link.url.reveal(), settings.base_url, "vobiz.ai", settings.media_hosts)

    async def delete(self, ref: RecordingRef) -> None:
        """Delete one recording. `…/Recording/BulkDelete/` would empty the account, so no id may spell it."""
        if not ref.recording_id or "bulkdelete" in ref.recording_id.lower():
            raise NotAllowedError("vobiz: this id would address the bulk deletion")
        path = self._path(ref.recording_id)
        answer = await self._client.request("DELETE", path, endpoint="delete", headers=self._headers())
        walk.confirm_deleted(_judged(answer))

    async def aclose(self) -> None:
        await self._client.aclose()

    def _path(self, recording_id: str = "") -> str:
        """Return the path in the exact case and with the trailing slash: Vobiz answers 401 to any other spelling."""
        base = f"/api/v1/Account/{walk.segment(self._settings.auth_id)}/Recording/"
        return f"{base}{walk.segment(recording_id)}/" if recording_id else base

    def _headers(self) -> Mapping[str, str]:
        return {"X-Auth-ID": self._settings.auth_id, "X-Auth-Token": self._settings.auth_token.reveal()}

    def _read(self, row: Row) -> Iterable[Listing]:
        yield recording_object.read(
            row, provider=self.id, account=self._settings.auth_id, now=self._clock.now(), link=self._link
        )

    def _link(self, value: object) -> Link | None:
        found = read_address(value, allow_http=self._settings.allow_http, base_url=self._settings.base_url)
        return Link(Secret(found.url), self._clock.now(), guessed=found.guessed) if found else None


def _descends(moments: Sequence[datetime | None]) -> bool:
    """Tell whether every instant is known and none is later than the one before it."""
    known = [moment for moment in moments if moment is not None]
    return len(known) == len(moments) and all(newer >= older for newer, older in pairwise(known))


def _within(listing: Listing, window: Window) -> bool:
    return listing.started_at is None or window.since - _NEAR <= listing.started_at <= window.until + _NEAR


def _added(listing: Listing) -> datetime | None:
    return instant(listing.metadata.get("add_time") or listing.metadata.get("created_at"))


def _judged(answer: Answer) -> Answer:
    if answer.status == 401:
        raise CredentialsRefusedError(
            "HTTP 401; Vobiz also answers so when the path's letter case or trailing slash is changed, by a proxy say"
        )
    return answer
