"""Plivo: recordings by HTTP Basic, windows of `add_time` in UTC, subaccounts, the pre-denoise original.

Reference: Plivo's documents of its recording API.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from archiver.clock import Clock
from archiver.errors import ConfigurationError
from archiver.providers import recording_object, walk
from archiver.providers.address import OddLinkError, read_address
from archiver.providers.normal import audio_format, first, identifier, instant
from archiver.providers.port import Facts, Media
from archiver.providers.rows import Row
from archiver.recording import ORIGINAL, Link, Listing, Page, RecordingRef, Secret, Window

if TYPE_CHECKING:
    from archiver.providers.http import HttpClient

ORIGIN = "https://api.plivo.com"
MEDIA_HOSTS = ("media.plivo.com", "*.plivo.com", "s3.amazonaws.com")
FILTERS = (
    "from_number", "to_number", "subaccount", "call_uuid", "mpc_name", "mpc_uuid", "conference_name",
    "conference_uuid", "add_time", "add_time__*", "recording_storage_duration", "recording_storage_duration__*",
)  # fmt: skip
_LIMIT = 20
_OPERATORS = ("", "__gt", "__gte", "__lt", "__lte")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PlivoSettings:
    """The settings of one Plivo account. `filters` are as documented for the listing. `subaccounts` are listed through
    the parent, each on its own; `subaccount_tokens` are needed only where HTTP Auth protects the media. `original` asks
    for the recording before noise cancellation too (India region), as the variant "original"."""

    auth_id: str
    auth_token: Secret
    base_url: str = ORIGIN
    media_hosts: tuple[str, ...] = MEDIA_HOSTS
    allow_http: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)
    subaccounts: tuple[str, ...] = ()
    subaccount_tokens: Mapping[str, Secret] = field(default_factory=dict)
    original: bool = False


class Plivo:
    """One Plivo account with its subaccounts (`archiver.providers.port.Provider`).

    Raises `ConfigurationError` at construction for filters that Plivo does not know or does not combine.
    """

    def __init__(
        self, name: str, settings: PlivoSettings, client: HttpClient, clock: Clock, *, max_pages: int = walk.MAX_PAGES
    ) -> None:
        _check(settings)
        self.id = name
        self._settings = settings
        self._client = client
        self._clock = clock
        self._max_pages = max_pages
        self._by_storage = any(name.startswith("recording_storage_duration") for name in settings.filters)
        self.facts = Facts(
            # a minute below the documented 30 days: the rounding of an end must not bring the 400 for a longer window
            max_window=timedelta(days=36_500) if self._by_storage else timedelta(days=30) - timedelta(minutes=1),
            earliest=datetime(2011, 1, 1, tzinfo=UTC),
            time_filtered=not self._by_storage,
            deletes=True,
        )

    def scopes(self) -> Sequence[str]:
        return ("account", *(f"subaccount:{name}" for name in self._settings.subaccounts))

    async def list(self, scope: str, window: Window) -> AsyncIterator[Page]:
        subaccount = scope.partition(":")[2]
        bounds = self._bounds(window)
        if bounds is None:
            return
        filters = {k: v for k, v in self._settings.filters.items() if not k.startswith("add_time")}
        params = [*filters.items(), *bounds] + ([("subaccount", subaccount)] if subaccount else [])

        async def ask(offset: int, limit: int) -> walk.Batch:
            page = [*params, ("limit", str(limit)), ("offset", str(offset))]
            answer = await self._client.request(
                "GET", self._path(), endpoint="list", params=page, headers=self._basic("")
            )
            return recording_object.batch(await walk.listed(answer))

        read = partial(self._read, owner=subaccount or self._settings.filters.get("subaccount", ""))
        async for page in walk.offset_walk(ask, read, limit=_LIMIT, trail=walk.Trail(self._max_pages)):
            yield page

    async def refresh(self, ref: RecordingRef) -> Listing:
        answer = await self._client.request(
            "GET", self._path(ref.recording_id), endpoint="recording", headers=self._basic("")
        )
        document = await walk.single(answer)
        row = walk.only_row(document.get("objects", document))
        return walk.only_listing(row, partial(self._read, owner=ref.account), ref)

    def open(
        self,
        ref: RecordingRef,
        link: Link | None,
        *,
        offset: int = 0,
        etag: str | None = None,
        to_the_end: bool = False,
    ) -> AbstractAsyncContextManager[Media]:
        origins = self._own_origins(link) if link else ()
        return walk.open_link(
            self._client,
            link,
            credentials=self._basic(ref.account),
            origins=origins,
            ask_bare_first=True,
            offset=offset,
            etag=etag,
            to_the_end=to_the_end,
        )

    def _own_origins(self, link: Link) -> tuple[str, ...]:
        settings = self._settings
        return walk.own_origins(link.url.reveal(), settings.base_url, "plivo.com", settings.media_hosts)

    async def delete(self, ref: RecordingRef) -> None:
        path = self._path(ref.recording_id)
        answer = await self._client.request("DELETE", path, endpoint="delete", headers=self._basic(""))
        walk.confirm_deleted(answer)

    async def aclose(self) -> None:
        await self._client.aclose()

    def _path(self, recording_id: str = "") -> str:
        base = f"/v1/Account/{walk.segment(self._settings.auth_id)}/Recording/"
        return f"{base}{walk.segment(recording_id)}/" if recording_id else base

    def _basic(self, account: str) -> Mapping[str, str]:
        """Return the credentials: a subaccount's own for its media, where they are configured; the parent's for
        everything else."""
        own = self._settings.subaccount_tokens.get(account)
        name, token = (account, own) if own else (self._settings.auth_id, self._settings.auth_token)
        return {"Authorization": "Basic " + b64encode(f"{name}:{token.reveal()}".encode()).decode()}

    def _bounds(self, window: Window) -> Sequence[tuple[str, str]] | None:
        """Return the window narrowed by the configured `add_time` filters, as parameters. None when nothing is left."""
        if self._by_storage:
            return ()
        since, until = window.since, window.until
        for name, value in self._settings.filters.items():
            moment = instant(value)
            if not name.startswith("add_time") or moment is None:
                continue
            operator = name.removeprefix("add_time")
            if operator in {"", "__gt", "__gte"}:
                since = max(since, moment + _MICROSECOND if operator == "__gt" else moment)
            if operator in {"", "__lt", "__lte"}:
                until = min(until, moment if operator == "__lt" else moment + _MICROSECOND)
        return (("add_time__gte", _utc(since)), ("add_time__lt", _utc(until))) if since < until else None

    def _read(self, row: Row, owner: str) -> Iterable[Listing]:
        account = owner or self._owner(row)
        of = partial(recording_object.read, row, provider=self.id, account=account, now=self._clock.now())
        yield of(link=self._link)
        if self._settings.original:
            yield of(link=partial(self._original, row, account), variant=ORIGINAL)

    def _owner(self, row: Row) -> str:
        """Return the account that owns the row: the parent's listing may show a subaccount's recording, as
        `resource_uri` tells."""
        uri = row.get("resource_uri")
        named = uri.split("/") if isinstance(uri, str) else []
        return next((name for name in self._settings.subaccounts if name in named), self._settings.auth_id)

    def _link(self, value: object) -> Link | None:
        found = read_address(value, allow_http=self._settings.allow_http, base_url=self._settings.base_url)
        return Link(Secret(found.url), self._clock.now(), guessed=found.guessed) if found else None

    def _original(self, row: Row, account: str, value: object) -> Link | None:
        """Return the link of the recording before noise cancellation, at the address that the documents give for media.

        The listed link may be the old address of a storage that ignores `type` and sends the denoised recording. The
        listed link is used only where it is the documented address, on any host; where no link is listed, there is no
        audio yet.
        """
        try:
            listed = self._link(value)
            if listed is None:
                return None
            url = listed.url.reveal()
        except OddLinkError:
            url = ""
        if not _MEDIA_PATH.fullmatch(urlsplit(url).path):
            name = f"{walk.segment(identifier(first(row, 'recording_id', 'id')))}.{_media_format(row)}"
            url = f"{self._media_origin()}/v1/Account/{walk.segment(account)}/Recording/{name}"
        return Link(Secret(f"{url}{'&' if '?' in url else '?'}type={ORIGINAL}"), self._clock.now())

    def _media_origin(self) -> str:
        """Return the origin of media: the API's with another name (api.… → media.…), or the operator's own API host."""
        base = self._settings.base_url.rstrip("/")
        return base.replace("://api.", "://media.", 1)


_MEDIA_PATH = re.compile(r"/v1/Account/[^/]+/Recording/[^/]+")


def _media_format(row: Row) -> str:
    said = audio_format(first(row, "recording_format", "file_format", "format"))
    return said if said in {"mp3", "wav"} else "mp3"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def allows(name: str) -> bool:
    """Tell whether a filter is documented, with one of the documented operators where the filter takes any."""
    field_name, mark, operator = name.partition("__")
    return any(fnmatchcase(name, pattern) for pattern in FILTERS) and mark + operator in _OPERATORS and bool(field_name)


def _check(settings: PlivoSettings) -> None:
    walk.check_filters(settings.filters, allows, "plivo")
    names = {name.partition("__")[0] for name in settings.filters}
    if {"add_time", "recording_storage_duration"} <= names:
        raise ConfigurationError("plivo: recording_storage_duration cannot be combined with add_time")
    if "subaccount" in names and settings.subaccounts:
        raise ConfigurationError("plivo: filter subaccount and subaccounts exclude one another")
    for name, value in settings.filters.items():
        if name.startswith("add_time") and instant(value) is None:
            raise ConfigurationError(f"plivo: filter {name} is not YYYY-MM-DD HH:MM[:ss[.uuuuuu]]")
