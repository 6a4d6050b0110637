"""JustCall: recordings by way of the call log, in two dialects.

`v2` is the API of the documents that this project began from. `v2.1` is the API that the vendor serves
(developer.justcall.io), with other paging, times and fields; it pages from 0 in some of the vendor's words and from 1
in others. `justcall_dialects` holds the differences.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from archiver.clock import Clock
from archiver.errors import AnswerTooLargeError, ConfigurationError, ListingError, NotAllowedError, NotUnderstoodError
from archiver.providers import walk
from archiver.providers.address import read_address
from archiver.providers.justcall_dialects import CALLS, DIALECTS, SALES_DIALER, Context, Progress
from archiver.providers.normal import count
from archiver.providers.port import Facts, Media
from archiver.providers.rows import Row
from archiver.recording import Link, Listing, Page, RecordingRef, Secret, Window

if TYPE_CHECKING:
    from archiver.providers.http import Answer, HttpClient

ORIGIN = "https://api.justcall.io"
MEDIA_HOSTS = ("recordings.justcall.io", "justcall.io", "*.justcall.io")
LINK_LIFE = timedelta(hours=24)
PLAN_RETENTION: Mapping[str, timedelta | None] = {
    "team": timedelta(days=90),
    "pro": timedelta(days=365),
    "business": timedelta(days=730),
    "enterprise": None,
}
"""The time for which each plan keeps recordings; for the enterprise plan it is agreed by contract."""
LONGEST_PLAN = timedelta(days=730)
_PER_PAGE = (100, 20, 4)
_ABOUT_PARAMETERS = re.compile(r"\b(param\w*|validation|bad request|page|per_page|\w*date\w*|format|required)\b")
_ABOUT_CREDENTIALS = re.compile(r"key|secret|auth|credential|token")


@dataclass(frozen=True, slots=True)
class JustCallSettings:
    """The settings of one JustCall account. `sales_dialer` (v2.1) lists the dialer's calls too, a collection of its own
    that not every plan opens. `child` (v2.1) archives a call's second recording as the variant "child". `retention`
    overrides the plan's."""

    api_key: Secret
    api_secret: Secret
    base_url: str = ORIGIN
    media_hosts: tuple[str, ...] = MEDIA_HOSTS
    allow_http: bool = False
    dialect: Literal["v2", "v2.1"] = "v2"
    plan: Literal["team", "pro", "business", "enterprise"] | None = None
    retention: timedelta | None = None
    filters: Mapping[str, str] = field(default_factory=dict)
    sales_dialer: bool = False
    child: bool = True


class JustCall:
    """One JustCall account (`archiver.providers.port.Provider`). A recording's id is its `call_id`.

    Raises `ConfigurationError` at construction for filters that the dialect does not know.
    """

    def __init__(
        self,
        name: str,
        settings: JustCallSettings,
        client: HttpClient,
        clock: Clock,
        *,
        max_pages: int = walk.MAX_PAGES,
    ) -> None:
        self._dialect = DIALECTS[settings.dialect]
        walk.check_filters(settings.filters, self._dialect.filters.__contains__, f"justcall {settings.dialect}")
        if settings.sales_dialer and SALES_DIALER not in self._dialect.paths:
            raise ConfigurationError("justcall: sales_dialer needs dialect v2.1")
        self.id = name
        self._settings = settings
        self._client = client
        self._clock = clock
        self._max_pages = max_pages
        retention = settings.retention or PLAN_RETENTION[settings.plan or "enterprise"]
        self.facts = Facts(
            max_window=timedelta(days=92),
            tells_length=settings.dialect == "v2",
            # A day more than the longest documented plan keeps, whatever the plan is now: it may have been a longer
            # one, the provider's sweep is not punctual, and looking costs nine requests once.
            earliest=clock.now() - max(retention, LONGEST_PLAN) - timedelta(days=1)
            if retention
            else datetime(2016, 1, 1, tzinfo=UTC),
        )

    def scopes(self) -> Sequence[str]:
        return (CALLS, SALES_DIALER) if self._settings.sales_dialer else (CALLS,)

    async def list(self, scope: str, window: Window) -> AsyncIterator[Page]:
        """Yield every call, with or without a recording: the journal decides whether a recording is missing or only
        late.

        A page number means other rows in pages of another size: where a page is too large to be read, the walk begins
        anew.
        """
        for size in _PER_PAGE:
            try:
                async for page in self._pages(scope, window, size):
                    yield page
            except AnswerTooLargeError:
                if size == _PER_PAGE[-1]:
                    raise
            else:
                return

    async def _pages(self, scope: str, window: Window, size: int) -> AsyncIterator[Page]:
        trail = walk.Trail(self._max_pages)
        read = partial(self._read, scope=scope)
        page, seen, claimed = self._dialect.first_page, 0, False
        while True:
            document = await self._page(scope, window, page, size, may_be_refused=page == 0 or claimed)
            pages, total = self._dialect.counts(document)
            rows = walk.row_list(document, "data", total=total) if document else ()
            if not rows:
                if page > 0:
                    return
                page = 1  # a server that counts from 1 may refuse page 0, or find it empty
                continue
            limit = min(size, count(document.get("per_page")) or walk.SMALLEST_PAGE)
            progress = Progress(page, len(rows), seen + len(rows), limit, pages, total)
            listed = await walk.sifted(rows, read, total=total)
            if trail.repeats(listed) and claimed:
                return  # past its end, a server may show its last page again
            if trail.repeats(listed) and page == 1 and self._dialect.first_page == 0:
                page = 2  # a server that counts from 1 took page 0 for page 1
                continue
            yield trail.step(listed)
            if progress.complete():
                return
            page, seen, claimed = page + 1, progress.read, progress.claimed()

    async def _page(self, scope: str, window: Window, page: int, size: int, *, may_be_refused: bool) -> Row:
        """Return one page of the call log; an empty document where a page that need not exist is refused."""
        filters = [
            self._dialect.filter(name, value)
            for name, value in self._settings.filters.items()
            if (name, value) != ("direction", "all")  # the default, which v2.1 does not name
        ]
        answer = await self._client.request(
            "GET",
            self._dialect.paths[scope],
            endpoint="list",
            params=[*self._dialect.window(window), *filters, ("page", str(page)), ("per_page", str(size))],
            headers=self._headers(),
        )
        if may_be_refused and answer.status in {400, 404, 422}:
            return {}
        if answer.status == 403 and (scope == SALES_DIALER or _about_parameters(answer)):
            raise ListingError(f"{scope}: HTTP 403")  # the vendor answers 403 to bad parameters and to a smaller plan
        return await walk.listed(answer)

    async def refresh(self, ref: RecordingRef) -> Listing:
        scope = SALES_DIALER if ref.account == SALES_DIALER else CALLS
        path = f"{self._dialect.paths[scope]}/{walk.segment(ref.recording_id)}"
        answer = await self._client.request("GET", path, endpoint="recording", headers=self._headers())
        document = await walk.single(answer)
        shown = walk.only_row(document.get("data", document))
        if not any(name in shown for name in ("call_id", "id", "recording_url", "call_info")):
            raise NotUnderstoodError("the answer is about no call")
        row = {"call_id": ref.recording_id} | shown
        return walk.only_listing(row, partial(self._read, scope=scope), ref)

    def open(
        self,
        ref: RecordingRef,  # noqa: ARG002 - the link says it all
        link: Link | None,
        *,
        offset: int = 0,
        etag: str | None = None,
        to_the_end: bool = False,
    ) -> AbstractAsyncContextManager[Media]:
        # the signed links' own hosts need no credentials and get none, whichever the operator lists
        own = walk.own_origins(link.url.reveal(), self._settings.base_url, "api.justcall.io", ()) if link else ()
        return walk.open_link(
            self._client,
            link,
            credentials=self._headers(),
            origins=own,
            ask_bare_first=True,
            offset=offset,
            etag=etag,
            to_the_end=to_the_end,
        )

    async def delete(self, ref: RecordingRef) -> None:
        """JustCall documents no deletion. Raises `NotAllowedError`."""
        raise NotAllowedError(f"justcall documents no way to delete {ref.recording_id!r}")

    async def aclose(self) -> None:
        await self._client.aclose()

    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": f"{self._settings.api_key.reveal()}:{self._settings.api_secret.reveal()}"}

    def _read(self, row: Row, scope: str) -> Iterable[Listing]:
        account = SALES_DIALER if scope == SALES_DIALER else ""
        context = Context(self.id, self._clock.now(), self._link, account, self._settings.child)
        return self._dialect.read(row, context)

    def _link(self, value: object) -> Link | None:
        found = read_address(value, allow_http=self._settings.allow_http, base_url=self._settings.base_url)
        now = self._clock.now()
        return Link(Secret(found.url), now, now + LINK_LIFE, found.guessed) if found else None


def _about_parameters(answer: Answer) -> bool:
    said = walk.said(answer).lower()
    return bool(_ABOUT_PARAMETERS.search(said)) and not _ABOUT_CREDENTIALS.search(said)
