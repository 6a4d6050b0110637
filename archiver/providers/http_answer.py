"""What a provider's answer says beyond its body: how long to wait, when it was given, which headers may be kept. Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import cast

from archiver.errors import AnswerTooLargeError, ListingError, UnavailableError
from archiver.providers.rows import parse
from archiver.recording import Json

MAX_WAIT = timedelta(hours=1)
"""The longest pause that a header can ask of us: a Retry-After of 30 years must not stop an archive."""
MAX_HEAD = 256 * 1024
"""Bytes of an answer's head that the lenient reader takes; browsers take as much."""
STATED_LENGTH = "x-archiver-stated-length"
"""Where the lenient reader passes on a Content-Length that it was told not to go by. What comes under this name is dropped."""
_EITHER_HEADER = 47
"""zlib's window bits for a gzip or a zlib header, whichever comes."""
_SHORTEST = timedelta(seconds=1)
_LIMITS = ("x-ratelimit", "x-rate-limit", "x-rate-limit-burst", "ratelimit")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of a provider's API. Header names are in lower case, repeated ones joined by a comma; `date` is the
    provider's clock, when it told."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: datetime | None

    def json(self) -> Json:
        """The body as JSON; numbers that are no small integers stay text in the provider's spelling.

        What one row may not hold (a lone surrogate, invalid UTF-8, NaN, a doubled key, a number of 5,000 digits, 100,000
        levels) is marked where it stands and found by `archiver.providers.rows.blemish`, so that the other rows remain.
        Raises `ListingError` when the body is no JSON document.
        """
        return cast(Json, parse(self.body))


_CODINGS = frozenset({
    "gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "dcb", "dcz", "exi", "pack200-gzip",
})  # fmt: skip
"""The registered content codings (RFC 9110 §18.6); whatever else stands in Content-Encoding packs nothing (UTF-8, none)."""


def codings(encoding: str | None) -> list[str]:
    """The codings in which a body was packed, in the order of packing. What is no coding is left out."""
    named = (each.strip().lower() for each in (encoding or "").split(","))
    return [each for each in named if each in _CODINGS]


def decoded(answer: Answer, host: str, limit: int) -> Answer:
    """A success with its body as it was before gzip or deflate: some servers and proxies pack what nobody asked them to.

    Raises `AnswerTooLargeError` beyond `limit` bytes or for more growth than rows ever have, `UnavailableError` when the packed
    body ends early or is damaged, `ListingError` for another encoding.
    """
    packed = codings(answer.headers.get("content-encoding"))
    if answer.status >= 300 or not packed:
        return answer
    if len(packed) > _MOST_CODINGS or not set(packed) <= {"gzip", "x-gzip", "deflate"}:
        raise ListingError(f"{host} answered in an encoding that was not asked for")
    body = answer.body
    for coding in reversed(packed):
        body = _inflated(body, coding, host, limit)
    return replace(answer, body=body)


_MOST_CODINGS = 2
_FREE = 1 << 20
_GROWTH = 100
"""How many times its size a packed answer may become, beyond the first MiB. The rows of a page grow ten- to fortyfold."""


def _inflated(packed: bytes, coding: str, host: str, limit: int) -> bytes:
    """One coding undone: gzip in any number of members (RFC 1952 §2.2), deflate with its zlib header or without."""
    body, rest = b"", packed
    limit = min(limit, _FREE + _GROWTH * len(packed))
    try:
        while rest or not body:
            inflate = zlib.decompressobj(
                wbits=_EITHER_HEADER if coding != "deflate" or _zlib(rest) else -zlib.MAX_WBITS
            )
            body += inflate.decompress(rest, limit + 1 - len(body))
            if len(body) > limit:
                raise AnswerTooLargeError(f"{host} answered with more than {limit} bytes")
            if not inflate.eof:
                raise UnavailableError(f"{host}: the packed answer ends early")
            rest = inflate.unused_data.lstrip(b"\0") if coding != "deflate" else b""
            if not body and not rest:
                break
    except zlib.error:
        raise UnavailableError(f"{host}: the packed answer is damaged") from None
    return body


def _zlib(body: bytes) -> bool:
    """Whether a body begins with a zlib header (RFC 1950 §2.2), or with gzip's: some say deflate and mean that."""
    return body[:2] == b"\x1f\x8b" or (len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0)


def flatten(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value per header name, in lower case. Cookies are nobody's here."""
    flat: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key not in {"set-cookie", "set-cookie2"}:
            flat[key] = f"{flat[key]}, {value}" if key in flat else value
    return flat


def http_date(text: str | None) -> datetime | None:
    """An HTTP date (RFC 9110 §5.6.7) as aware UTC; None for what is none."""
    try:
        moment = parsedate_to_datetime(text) if text else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def wait_asked(headers: Mapping[str, str], now: datetime, default: timedelta) -> timedelta:
    """How long a 429 asks to wait: Retry-After in seconds or as a date (RFC 9110 §10.2.3), else the reset of the limit
    that is used up, else the next reset of any, else `default`. Between 1 second and 1 hour."""
    asked = _retry_after(headers, now)
    if asked is None:
        asked = wait_due(headers, now)
    if asked is None:
        asked = min((wait for _, wait in _resets(headers, now)), default=default)
    return min(max(asked, _SHORTEST), MAX_WAIT)


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Retry-After, at most 1 hour; None when it is not there or says nothing."""
    asked = _retry_after(headers, now)
    return None if asked is None else min(max(asked, _SHORTEST), MAX_WAIT)


def wait_due(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long until a limit that is used up (Remaining: 0) resets, at most 1 hour; None when none is used up."""
    used_up = [wait for name, wait in _resets(headers, now) if _number(headers.get(f"{name}-remaining")) == 0]
    return min(max(used_up), MAX_WAIT) if used_up else None


def _retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is not None:
        return timedelta(seconds=min(seconds, 86_400))
    moment = http_date(text)
    return None if moment is None else moment - _their_now(headers, now)


def _resets(headers: Mapping[str, str], now: datetime) -> Iterator[tuple[str, timedelta]]:
    """The limits whose reset lies ahead. A reset is seconds from now, or seconds or milliseconds since 1970."""
    for name in _LIMITS:
        value = _number(headers.get(f"{name}-reset"))
        if value is None:
            continue
        if value >= 1e9:
            value = (value / 1000 if value >= 1e12 else value) - _their_now(headers, now).timestamp()
        if value > 0:
            yield name, timedelta(seconds=min(value, 86_400))


def _their_now(headers: Mapping[str, str], now: datetime) -> datetime:
    """Their instants are told by their clock, which need not be ours."""
    return http_date(headers.get("date")) or now


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text.strip()) else None


# --- what may be kept of a download's headers -----------------------------------------------------------------------

# fmt: off
_KEPT = frozenset({
    "accept-ranges", "age", "cache-control", "content-digest", "content-encoding", "content-length", "content-md5",
    "content-range", "content-type", "date", "digest", "etag", "expires", "last-modified", "repr-digest", "server",
    "transfer-encoding", "x-amz-checksum-crc32", "x-amz-checksum-sha256", "x-amz-version-id", "x-goog-hash",
})
# fmt: on


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that describe the body: no cookie, no location, no file name (it may hold a phone number)."""
    kept = {name: _shown(value) for name, value in headers.items() if name in _KEPT}
    if disposition := headers.get("content-disposition"):
        kept["content-disposition"] = _shown(disposition.partition(";")[0].strip())
    return kept


def _shown(value: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in value[:512])


def media_type(headers: Mapping[str, str]) -> str | None:
    """Content-Type as sent, fit to be kept; None when there is none."""
    return _shown(headers["content-type"].strip()) or None if "content-type" in headers else None


def has_content(status: int) -> bool:
    """Whether this success carries what was asked for: every 2xx but those that say otherwise (RFC 9110 §15)."""
    return 200 <= status < 300 and status not in {202, 204, 205, 206}


_CONTENT_RANGE = re.compile(r"bytes +([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", re.IGNORECASE)


def is_whole_range(headers: Mapping[str, str]) -> bool:
    """Whether the "part" of a 206 that nobody asked for is the whole."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    return found is not None and found[1] == "0" and found[3].isdigit() and int(found[2]) + 1 == int(found[3])


def range_start(headers: Mapping[str, str]) -> int | None:
    """Where the body of a 206 starts in the whole (RFC 9110 §14.4); None when that is not said."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    return int(found[1]) if found else None


def is_strong(etag: str | None) -> bool:
    """A strong entity tag (RFC 9110 §8.8.3): only with one may two parts be joined."""
    return etag is not None and re.fullmatch(r'"[\x21\x23-\x7e]{0,200}"', etag) is not None
