"""Does the tasks that all adapters share: walk pages to a provable end, judge answers, open links."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from archiver.errors import (
    AnswerTooLargeError,
    ConfigurationError,
    CredentialsRefusedError,
    GarbledAnswerError,
    LinkRefusedError,
    ListingError,
    NotAllowedError,
    NotReadyError,
    NotUnderstoodError,
    RecordingGoneError,
)
from archiver.providers.http_answer import has_content
from archiver.providers.normal import at, first, text
from archiver.providers.port import Media
from archiver.providers.rows import Row, canonical, digest, parse, sift, without_signature
from archiver.recording import Link, Listing, Page, RecordingRef, Reject

if TYPE_CHECKING:
    from archiver.providers.http import Answer, HttpClient

MAX_PAGES = 50_000
"""The most pages of one walk; at the smallest documented page size that is a million recordings."""


SMALLEST_PAGE = 20
"""Rows of a full page at a server that uses its documented default and ignores the size asked for."""

MAX_ENORMOUS = 3
"""The most rows of one walk that may be too large to be read; with more, the server sends too much whatever it is asked
for."""


MAX_ROWS = 10_000
"""The most rows of one page that are read. The largest page that any provider documents has 100."""


@dataclass(slots=True)
class Trail:
    """The pages of one walk so far. A page seen before, or one page too many, ends the walk with `ListingError`."""

    limit: int = MAX_PAGES
    pages: int = 0
    _seen: set[str] = field(default_factory=set)

    def repeats(self, page: Page) -> bool:
        return page.digest in self._seen

    def step(self, page: Page) -> Page:
        if self.repeats(page):
            raise ListingError(f"page {self.pages + 1} repeats an earlier page")
        if self.pages >= self.limit:
            raise ListingError(f"no end after {self.limit} pages")
        self._seen.add(page.digest)
        self.pages += 1
        return page


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one offset page, the provider's total, and whether the provider calls these rows the last (None:
    unsaid)."""

    rows: Sequence[object]
    total: int | None
    last: bool | None

    def ends(self, offset: int, asked: int = SMALLEST_PAGE) -> bool:
        """Tell whether nothing can follow the rows that end at `offset`. A stated total outweighs "last"; with neither,
        only a page shorter than any documented page size, and than the page `asked` for, is taken for the last."""
        if self.last is None:
            return len(self.rows) < min(SMALLEST_PAGE, asked) if self.total is None else offset >= self.total
        return self.last and (self.total is None or offset >= self.total)


async def offset_walk(
    ask: Callable[[int, int], Awaitable[Batch]],
    read: Callable[[Row], Iterable[Listing]],
    *,
    limit: int,
    trail: Trail,
) -> AsyncIterator[Page]:
    """Yield pages by our own offset arithmetic over the rows that really came: a server may cap `limit`, and a `next`
    link is never followed (Vobiz's lacks the /api of its own base).

    `ask(offset, limit)` asks for one page. Where a page is too large to be read, fewer rows are asked for, so that one
    enormous row does not hide the rest; a row too large by itself becomes a `Reject`. The provider's total stands on
    the page that ends the walk, and on no other: only then can the total be compared with the rows that came.
    """
    offset, asked, enormous, behind = 0, limit, 0, 0
    before: object = None
    while True:
        try:
            batch = await ask(offset, asked)
        except AnswerTooLargeError as exc:
            if asked == 1 and (enormous := enormous + 1) > MAX_ENORMOUS:
                raise
            if asked == 1:
                behind += 1
                yield trail.step(_unreadable(offset, before, behind, exc))
                offset += 1
            asked = max(1, asked // 4)
            continue
        offset += len(batch.rows)
        if batch.rows:
            before, behind = batch.rows[-1], 0
        if not batch.rows:
            if batch.total is not None and batch.total > offset:
                yield trail.step(Page((), digest("end", offset, batch.total), total=batch.total))
            return
        ended = batch.ends(offset, asked)
        yield trail.step(await sifted(batch.rows, read, total=batch.total if ended else None))
        if ended:
            return
        asked = min(limit, asked * 2)


def _unreadable(offset: int, before: object, number: int, exc: AnswerTooLargeError) -> Page:
    """Return a `Reject` for a row too large by itself, named as the first (second, …) behind the row `before`.

    The name does not use the offset, because rows before it come and go. So two such rows stay two, and a row that is
    listed again stays one.
    """
    name = text(first(before, "recording_id", "id", "call_id")) if isinstance(before, dict) else None
    known = {"unreadable": exc.detail, "behind": name and name[:200], "number": number}
    return Page((), digest("unreadable", offset), (Reject(canonical(known), "is too large to be read"),))


async def sifted(rows: Sequence[object], read: Callable[[Row], Iterable[Listing]], *, total: int | None = None) -> Page:
    """Run `rows.sift` in a thread beside the event loop: a page of 10,000 rows takes seconds."""
    return await asyncio.to_thread(sift, rows, read, total=total)


async def listed(answer: Answer) -> Row:
    """Run `listing_document` in a thread beside the event loop."""
    return await asyncio.to_thread(listing_document, answer)


async def single(answer: Answer) -> Row:
    """Run `item_document` in a thread beside the event loop."""
    return await asyncio.to_thread(item_document, answer)


# --- answers ----------------------------------------------------------------------------------------------------


def listing_document(answer: Answer) -> Row:
    """Return the JSON object of a listing. Raises `CredentialsRefusedError` on 401 and 403, `GarbledAnswerError` for a
    success that is no such object, `ListingError` on everything else."""
    if answer.status in {401, 403}:
        raise CredentialsRefusedError(told(answer))
    if not has_content(answer.status):
        raise ListingError(told(answer))
    try:
        return _object(answer)
    except AnswerTooLargeError:
        raise
    except ListingError as exc:
        raise GarbledAnswerError(exc.detail) from exc


def item_document(answer: Answer) -> Row:
    """Return the JSON object of one recording. 401, 403 → `CredentialsRefusedError`; 404, 410 → `RecordingGoneError`.

    Any other status but success, or a body that is no JSON → `GarbledAnswerError`; a success that is no object →
    `NotUnderstoodError`. None of these errors says that there is no audio.
    """
    if answer.status in {401, 403}:
        raise CredentialsRefusedError(told(answer))
    if answer.status in {404, 410}:
        raise RecordingGoneError(told(answer))
    if not has_content(answer.status):
        raise GarbledAnswerError(told(answer))
    try:
        document = parse(answer.body)
    except ListingError as exc:
        raise GarbledAnswerError(exc.detail) from exc
    if not isinstance(document, dict):
        raise NotUnderstoodError("the answer is not a JSON object")
    return document


def confirm_deleted(answer: Answer) -> None:
    """Return when the delete took effect, now or earlier. 401 → `CredentialsRefusedError`; anything else →
    `NotAllowedError`."""
    if answer.status == 401:
        raise CredentialsRefusedError(told(answer))
    if not 200 <= answer.status < 300 and answer.status not in {404, 410}:
        raise NotAllowedError(told(answer))


def _object(answer: Answer) -> Row:
    document = parse(answer.body)
    if not isinstance(document, dict):
        raise ListingError("the answer is not a JSON object")
    return document


def row_list(document: Row, *names: str, total: int | None = None) -> Sequence[object]:
    """Return the rows under the first of `names` that is there. Raises `ListingError` when that is no list,
    `AnswerTooLargeError` for more than `MAX_ROWS`.

    Beside a `total` of 0, null is an empty list (Go writes it so); an object whose keys are numbers is a list, too
    (PHP).
    """
    rows = next((document[name] for name in names if name in document), None)
    if isinstance(rows, list | dict) and len(rows) > MAX_ROWS:
        raise AnswerTooLargeError(f"{len(rows)} rows in one answer")
    if isinstance(rows, dict) and rows and all(_INDEX.fullmatch(key) for key in rows):
        return [rows[key] for key in sorted(rows, key=int)]
    if rows is None and total == 0 and any(name in document for name in names):
        return []
    if not isinstance(rows, list):
        raise ListingError(f"the answer has no list {' or '.join(map(repr, names))}")
    return rows


_INDEX = re.compile(r"[0-9]{1,9}")


def only_row(document: object) -> Row:
    """Return the row of a single-recording answer, which some providers wrap in a list."""
    row = document[0] if isinstance(document, list) and document else document
    if not isinstance(row, dict):
        raise NotUnderstoodError("the answer holds no recording")
    return row


def only_listing(row: Row, read: Callable[[Row], Iterable[Listing]], ref: RecordingRef) -> Listing:
    """Return the listing of `ref` in one row.

    Raises `NotUnderstoodError` when the row is of another recording or is unusable, `NotReadyError` when the row shows
    this recording without this variant.
    """
    page = sift([row], read)
    if page.rejects:
        raise NotUnderstoodError(f"the row {page.rejects[0].problem}")
    for listing in page.listings:
        if (listing.ref.recording_id, listing.ref.variant) == (ref.recording_id, ref.variant):
            return listing
    if any(listing.ref.recording_id == ref.recording_id for listing in page.listings):
        raise NotReadyError("the answer shows the recording without this variant")
    raise NotUnderstoodError("the answer is about another recording")


def told(answer: Answer) -> str:
    """Return the status and a few of the provider's own words, without anything that might be a credential or a
    signature.

    Where credentials were refused, no words are returned: such answers echo credentials.
    """
    if answer.status in {401, 403}:
        return f"HTTP {answer.status}"
    words = " ".join(_CREDENTIAL_LIKE.sub("…", without_signature(said(answer))).split())[:120]
    return f"HTTP {answer.status}, “{words.encode('ascii', 'replace').decode()}”" if words else f"HTTP {answer.status}"


def said(answer: Answer) -> str:
    """Return the provider's own words in an error answer, as they came: to be judged, never shown."""
    try:
        document = parse(answer.body) if len(answer.body) <= _WORDS else None
    except ListingError:
        return ""
    paths = ("error.message", "message", "error", "data.message")
    return " ".join(word[:1000] for path in paths if isinstance(word := at(document, path), str))


_WORDS = 64 * 1024
"""The size of an error answer in bytes, above which its words are not read."""
_CREDENTIAL_LIKE = re.compile(r"\S*(?:\d[A-Za-z_-]*){3}\S*|\S*[:=]\S+|\S{24,}|[A-Z0-9]{8,}|https?\S*")


# --- requests ---------------------------------------------------------------------------------------------------


def segment(name: str) -> str:
    """Return `name` as exactly one path segment, whatever characters it holds."""
    return quote(name, safe="")


def check_filters(filters: Mapping[str, str], allowed: Callable[[str], bool], provider: str) -> None:
    """Raise `ConfigurationError`, which names the filters, for filters that the provider's documents do not know."""
    if unknown := sorted(name for name in filters if not allowed(name)):
        raise ConfigurationError(f"{provider}: unknown filter {', '.join(unknown)}")


def origin_of(link: str) -> str:
    """Return scheme, host and port of a link, in lower case, the port only when it is written."""
    parts = urlsplit(link)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")


def own_origins(link: str, base_url: str, domain: str, media_hosts: Sequence[str]) -> tuple[str, ...]:
    """Return the link's origin, if credentials may go there: the API's own, https within the provider's `domain`, or
    another port of the API's host that the operator put among the media hosts ("host:port", or "host" by the API's
    scheme)."""
    origin, host = origin_of(link), urlsplit(link).hostname or ""
    within = origin.startswith("https://") and (host == domain or host.endswith(f".{domain}"))
    scheme, _, authority = origin.partition("://")
    listed = authority in media_hosts or (host in media_hosts and scheme == urlsplit(base_url).scheme)
    beside = listed and host == urlsplit(base_url).hostname
    return (origin,) if within or beside or origin == origin_of(base_url) else ()


@asynccontextmanager
async def open_link(
    client: HttpClient,
    link: Link | None,
    *,
    credentials: Mapping[str, str],
    origins: Sequence[str],
    ask_bare_first: bool,
    offset: int,
    etag: str | None,
    to_the_end: bool,
) -> AsyncIterator[Media]:
    """Download from a listed link. Credentials go to `origins` only: at once, or (`ask_bare_first`) after a refusal.

    Public media is the rule at Plivo and JustCall and a console switch can change it at any time, so the provider's
    answer decides, not the configuration.
    """
    if link is None:
        raise LinkRefusedError("there is no link yet")
    url = link.url.reveal()
    async with AsyncExitStack() as stack:

        async def download(headers: Mapping[str, str], allowed: Sequence[str]) -> Media:
            opened = client.media(
                url, credentials=headers, credential_origins=allowed, offset=offset, etag=etag, to_the_end=to_the_end
            )
            return await stack.enter_async_context(opened)

        try:
            media = await download({}, ()) if ask_bare_first else await download(credentials, origins)
        except LinkRefusedError:
            if not (ask_bare_first and origins):
                raise
            media = await download(credentials, origins)
        yield media
