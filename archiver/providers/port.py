"""The interface of a telephony provider, as the archiver needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from archiver.recording import Link, Listing, Page, RecordingRef, Window


@dataclass(frozen=True, slots=True)
class Facts:
    """The properties of a provider's listing by its documents, in the archiver's terms.

    `max_window`: the longest span that one listing may ask for. `earliest`: nothing older can exist or be listed.
    `settle`: a window ends at least this long before now, so that rows still being written are not stepped over.
    `stable_paging`: keyset pages, one walk suffices; otherwise walks repeat until two agree.
    `time_filtered`: the provider can restrict a listing to a window; otherwise the adapter walks more than the window.
    `not_ready_for`: the time in which missing audio may still turn up. `deletes`: `delete()` is documented.
    `tells_length`: a listing gives the call's length only, and the single recording may state its own.
    `needs_link`: the audio has an address of its own; otherwise `open()` knows it from the reference.
    """

    max_window: timedelta
    earliest: datetime
    settle: timedelta = timedelta(0)
    stable_paging: bool = False
    time_filtered: bool = True
    not_ready_for: timedelta = timedelta(hours=72)
    deletes: bool = False
    needs_link: bool = True
    tells_length: bool = False


class Media(Protocol):
    """An open download: the provider's statements about the body, then its bytes exactly as sent.

    `length` is Content-Length when stated. `framed` is true when a cut would be noticed (a length, or chunked framing);
    without framing an early end looks like success and the receiver must doubt. `offset` is the place in the whole
    where the body starts, which is 0 unless a range was asked for *and* granted.
    """

    status: int
    content_type: str | None
    content_encoding: str | None
    length: int | None
    etag: str | None
    framed: bool
    offset: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield pieces of up to 1 MiB. Raises `CutShortError`, `TooSlowError` or `UnavailableError`."""


class Provider(Protocol):
    """One credentialed account at one telephony provider.

    Safe for concurrent use. Every method may raise `ThrottledError`, `UnavailableError`, `CredentialsRefusedError`
    and `EgressRefusedError`; no exception of an HTTP library passes.
    """

    id: str
    facts: Facts

    def scopes(self) -> Sequence[str]:
        """Return the listings that together cover the account ("account", "user:…", "subaccount:…"), each enumerated
        alone."""

    def list(self, scope: str, window: Window) -> AsyncIterator[Page]:
        """Yield every recording of `scope` that the provider dates within `window`, page by page, to the last page.

        May yield rows outside the window; never leaves one out silently. A loop, a repeated page or an answer that is
        no listing raises `ListingError`: the caller keeps the rows it got and does not call the window covered.
        """

    async def refresh(self, ref: RecordingRef) -> Listing:
        """Return the recording as the provider's API shows it now, with a fresh link.

        Raises `RecordingGoneError` when the API says that there is no such recording, `NotUnderstoodError` when its
        answer is about no recording that can be read, `GarbledAnswerError` when the answer is none of the API's.
        """

    def open(
        self,
        ref: RecordingRef,
        link: Link | None,
        *,
        offset: int = 0,
        etag: str | None = None,
        to_the_end: bool = False,
    ) -> AbstractAsyncContextManager[Media]:
        """Start the download. `link` None is enough where `needs_link` is false. `to_the_end`: no stated length is
        believed, and all bytes until the connection ends are the body (`Media.length` still tells the stated length).

        With `offset` and a strong `etag`, asks for the rest (`Range` + `If-Range`); `Media.offset` tells the part that
        was granted. Raises `LinkRefusedError` (fresh link needed), `NotReadyError` (known, no audio yet),
        `RecordingGoneError` (404/410 of the media itself; the caller asks `refresh` before believing it).
        """

    async def delete(self, ref: RecordingRef) -> None:
        """Delete at the provider, where documented (`facts.deletes`). Idempotent: a recording already gone is
        success."""

    async def aclose(self) -> None:
        """Release connections."""


class Budget(Protocol):
    """The requests one credential may still make, shared by every replica."""

    async def take(self, cost: int = 1) -> None:
        """Wait until `cost` requests may be sent."""

    async def pause(self, wait: timedelta) -> None:
        """Stop all requests for `wait`, because the provider asked for a pause."""
