"""Reads the headers and status of a provider's answer: the pause asked for, the date, the headers to keep. Pure."""

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
"""The longest pause that a header can ask for: a Retry-After of 30 years must not stop an archive."""
MAX_HEAD = 256 * 1024
"""The most bytes of an answer's head that the lenient reader takes; browsers take as much."""
STATED_LENGTH = "x-archiver-stated-length"
"""The header in which the lenient reader passes on a Content-Length that it was told to ignore. A server's own header
of this name is dropped."""
_EITHER_HEADER = 47
"""zlib's window bits that accept either header, gzip's or zlib's."""
_SHORTEST = timedelta(seconds=1)
_LIMITS = ("x-ratelimit", "x-rate-limit", "x-rate-limit-burst", "ratelimit")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of a provider's API. Header names are in lower case, repeated ones joined by a comma; `date` is
    the time by the provider's clock, where the answer tells it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: datetime | None

    def json(self) -> Json:
        """Return the body as JSON; numbers that are no small integers stay text in the provider's spelling.

        Values that no row may hold (a lone surrogate, invalid UTF-8, NaN, a doubled key, a number of 5,000 digits,
        100,000 levels) are marked in place and found by `archiver.providers.rows.blemish`, so that the other rows
        remain. Raises `ListingError` when the body is no JSON document.
        """
        return cast(Json, parse(self.body))


_CODINGS = frozenset({
    "gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "dcb", "dcz", "exi", "pack200-gzip",
})  # fmt: skip
"""The registered content codings (RFC 9110 §18.6); any other word in Content-Encoding means no packing (UTF-8, none).
"""


def codings(encoding: str | None) -> list[str]:
    """Return the codings in which a body was packed, in the order of packing. Words that are no coding are left out."""
    named = (each.strip().lower() for each in (encoding or "").split(","))
    return [each for each in named if each in _CODINGS]


def decoded(answer: Answer, host: str, limit: int) -> Answer:
    """Return a success with its body unpacked from gzip or deflate: some servers and proxies pack without being asked.

    Raises `AnswerTooLargeError` beyond `limit` bytes or for more growth than rows ever have, `UnavailableError` when
    the packed body ends early or is damaged, `ListingError` for another encoding.
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
"""The factor by which a packed answer may grow, beyond the first MiB. The rows of a page grow by a factor of 10 to 40.
"""


def _inflated(packed: bytes, coding: str, host: str, limit: int) -> bytes:
    """Undo one coding: gzip in any number of members (RFC 1952 §2.2), deflate with its zlib header or without."""
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
    """Tell whether a body begins with a zlib header (RFC 1950 §2.2), or with gzip's: some servers say deflate and send
    gzip."""
    return body[:2] == b"\x1f\x8b" or (len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0)


def flatten(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return one value per header name, in lower case. Cookies are dropped."""
    flat: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key not in {"set-cookie", "set-cookie2"}:
            flat[key] = f"{flat[key]}, {value}" if key in flat else value
    return flat


def http_date(text: str | None) -> datetime | None:
    """Read an HTTP date (RFC 9110 §5.6.7) as aware UTC; None for a text that is no date."""
    try:
        moment = parsedate_to_datetime(text) if text else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def wait_asked(headers: Mapping[str, str], now: datetime, default: timedelta) -> timedelta:
    """Return the pause that a 429 asks for: Retry-After in seconds or as a date (RFC 9110 §10.2.3), else the reset of
    the limit that is used up, else the next reset of any, else `default`. The pause is between 1 second and 1 hour."""
    asked = _retry_after(headers, now)
    if asked is None:
        asked = wait_due(headers, now)
    if asked is None:
        asked = min((wait for _, wait in _resets(headers, now)), default=default)
    return min(max(asked, _SHORTEST), MAX_WAIT)


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return Retry-After, at most 1 hour; None when the header is missing or cannot be read."""
    asked = _retry_after(headers, now)
    return None if asked is None else min(max(asked, _SHORTEST), MAX_WAIT)


def wait_due(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the time until a used-up limit (Remaining: 0) resets, at most 1 hour; None when no limit is used up."""
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
    """Yield the limits whose reset lies ahead. A reset is given in seconds from now, or in seconds or milliseconds
    since 1970."""
    for name in _LIMITS:
        value = _number(headers.get(f"{name}-reset"))
        if value is None:
            continue
        if value >= 1e9:
            value = (value / 1000 if value >= 1e12 else value) - _their_now(headers, now).timestamp()
        if value > 0:
            yield name, timedelta(seconds=min(value, 86_400))


def _their_now(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return the time by the provider's clock: the provider's instants are told by that clock, which may differ from
    this host's."""
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
    """Return the headers that describe the body: no cookie, no location, no file name (it may hold a phone number)."""
    kept = {name: _shown(value) for name, value in headers.items() if name in _KEPT}
    if disposition := headers.get("content-disposition"):
        kept["content-disposition"] = _shown(disposition.partition(";")[0].strip())
    return kept


def _shown(value: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in value[:512])


def media_type(headers: Mapping[str, str]) -> str | None:
    """Return Content-Type as sent, fit to be kept; None when there is none."""
    return _shown(headers["content-type"].strip()) or None if "content-type" in headers else None


def has_content(status: int) -> bool:
    """Tell whether this success carries the content asked for: every 2xx but those with another meaning (RFC 9110
    §15)."""
    return 200 <= status < 300 and status not in {202, 204, 205, 206}


_CONTENT_RANGE = re.compile(r"bytes +([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", re.IGNORECASE)


def is_whole_range(headers: Mapping[str, str]) -> bool:
    """Tell whether a 206 that was not asked for holds the whole, not a part."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    return found is not None and found[1] == "0" and found[3].isdigit() and int(found[2]) + 1 == int(found[3])


def range_start(headers: Mapping[str, str]) -> int | None:
    """Return the place in the whole where the body of a 206 starts (RFC 9110 §14.4); None when the answer does not
    say."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    return int(found[1]) if found else None


def is_strong(etag: str | None) -> bool:
    """Tell whether an entity tag is strong (RFC 9110 §8.8.3): only with a strong one may two parts be joined."""
    return etag is not None and re.fullmatch(r'"[\x21\x23-\x7e]{0,200}"', etag) is not None
