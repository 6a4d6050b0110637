"""Reads S3's answers: accepts other spellings, refuses answers whose meaning is open. Pure: no I/O, no clock.

Servers that speak S3 write times in half a dozen ways, leave out lengths, repeat the last page, and now and then a
proxy answers in their place, with a page and status 200. Nothing here guesses: an answer that does not say what was
asked is `Unreadable`, a failure of that storage alone.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from archiver import errors
from archiver.store.port import Version


class Unreadable(errors.DestinationError):
    """The storage's answer is not an answer of S3."""


EMPTY_PAGES = 100
"""The number of pages in a row, without entries but with the promise of more, that end a listing."""

_SHOWN = 40
_PLAIN = re.compile(r"[^A-Za-z0-9 .,:;+/=()'%-]+")
_CODE = re.compile(r"[^A-Za-z0-9._:-]+")

# 2027-06-10T00:00:00.000Z; also without the zone, with a space (Go), with +0000 and the zone's name behind it
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))? ?(Z|UTC|GMT|[+-]\d\d:?\d\d)?(?: ?(?:Z|[A-Z]{2,5}))?",
    re.IGNORECASE,
)
# Thu Jun 10 2027 00:00:00 GMT+0000 (Coordinated Universal Time)
_SCRIPT = re.compile(
    r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d{4}) (\d\d:\d\d:\d\d) (?:GMT|UTC)([+-]\d{4})?(?: \(.*\))?"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = re.compile(r"\d{9,13}(\.\d+)?")
_MILLISECONDS = 10**11  # as seconds this would be the year 5138


def shown(text: object, longest: int = _SHOWN) -> str:
    """Make another party's words fit for a log line and a chat: without markup, and cut to length."""
    plain = _PLAIN.sub("?", str(text)[: 4 * longest]).strip()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def code_of(text: object) -> str:
    """Return an error code as a word without any markup."""
    return _CODE.sub("", str(text)[:200])[:64]


# --- values ---------------------------------------------------------------------------------------------------


def instant(value: object, what: str) -> datetime:
    """Read a time in any of the ways that S3 servers write one. Without a zone the time is UTC, as all times of S3 are.

    Raises `Unreadable`, which names `what`.
    """
    text = str(value).strip()
    try:
        found = value if isinstance(value, datetime) else _iso(text) or _script(text) or _epoch(text) or _mail(text)
        if found is not None:
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise Unreadable(f"{what} is no time that can be read: “{shown(text)}”")


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """Return the time of the storage's clock in an answer; None where the answer states no readable time."""
    try:
        return instant(headers["date"], "Date") if headers.get("date") else None
    except Unreadable:
        return None


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the pause that was asked for, in seconds or as a date."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return timedelta(seconds=int(text))
    try:
        now = date_of(headers)
        return None if now is None or not text else max(timedelta(0), instant(text, "Retry-After") - now)
    except Unreadable:
        return None


def sha256_of(checksum: object, kind: object) -> str | None:
    """Return the SHA-256 over the whole object, in hex; None where the storage shows none.

    A composite checksum is a hash over the parts' hashes ("…-3"): it says nothing of the whole. A checksum that is no
    SHA-256 at all proves as little.
    """
    if not isinstance(checksum, str) or str(kind or "FULL_OBJECT").upper() != "FULL_OBJECT":
        return None
    try:
        digest = base64.b64decode(checksum.strip().encode(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 32 else None


def total_of(content_range: object) -> int | None:
    """Return the size of the whole from the Content-Range of a part: `bytes 0-0/1000`."""
    found = re.fullmatch(r"bytes \d+-\d+/(\d{1,15})", str(content_range or "").strip())
    return int(found[1]) if found else None


def no_page(operation: str, headers: Mapping[str, str]) -> None:
    """Raise `Unreadable` when a web page came in an object's place: no object of the archive is a page, and S3 names
    itself.

    This holds for objects only: some servers say `text/html` of every other answer, because their framework does.
    """
    if operation not in {"HeadObject", "GetObject"}:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in {"text/html", "application/xhtml+xml"} and not any(name.startswith("x-amz-") for name in headers):
        raise Unreadable(f"{operation}: {_PROXY}")


_REGION = re.compile(rb"<Region>([^<]*)</Region>")
_REDIRECTS = frozenset({301, 302, 307})


def leads_somewhere(status: int, headers: Mapping[str, str], body: object) -> bool:
    """Return False for a redirect that names no region, and for an answer that names an invalid one."""
    found = _REGION.search(body) if isinstance(body, bytes) else None
    region = headers.get("x-amz-bucket-region") or (found[1].decode("latin-1") if found else None)
    return (
        status not in _REDIRECTS
        if region is None
        else re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", region) is not None
    )


_PROXY = (
    "a web page came instead of S3's answer: a proxy, a login page, or not the address of an S3 server (check endpoint)"
)


# --- documents ------------------------------------------------------------------------------------------------

# The document's name, or the operation's name with any suffix of a generator; rclone writes it without a suffix.
_LISTED = re.compile(r"List[A-Z]\w+")
_ROOTS: Mapping[str, re.Pattern[str]] = {
    "GetBucketVersioning": re.compile(r"VersioningConfiguration|GetBucketVersioning\w*"),
    "GetObjectLockConfiguration": re.compile(r"(Get)?ObjectLockConfiguration\w*"),
    "ListObjectVersions": _LISTED,
    "ListObjects": _LISTED,
    "ListMultipartUploads": _LISTED,
    "CreateMultipartUpload": re.compile(r"(Initiate|Create)MultipartUpload\w*"),
    "CompleteMultipartUpload": re.compile(r"CompleteMultipartUpload\w*"),
}

LISTINGS = frozenset({"ListObjectVersions", "ListObjects", "ListMultipartUploads"})


def document(operation: str, body: bytes) -> ElementTree.Element | None:
    """Return the answer's root when it is the document that answers this operation; None for an operation without one.

    An empty page, a login page or half a document is neither a bucket without objects nor "versioning is off".
    """
    expected = _ROOTS.get(operation)
    if expected is None:
        return None
    try:
        root = ElementTree.fromstring(body.strip())  # noqa: S314 - expat bounds what entities may grow to
    except (ElementTree.ParseError, ValueError, LookupError) as failed:
        raise Unreadable(f"{operation}: the answer is not the XML of S3") from failed
    if not expected.fullmatch(_name(root)):
        html = _name(root).lower() == "html"
        raise Unreadable(f"{operation}: {_PROXY if html else f'the answer is a {shown(_name(root))}'}")
    return root


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished upload, as a listing shows it."""

    key: str
    upload_id: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Marker:
    """The end of a page: behind this key, and within the key behind this version or upload."""

    key: str = ""
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in the order in which it was written. `next` None: the page says that it is the last.

    `names_only`: asked for versions, the storage listed names.
    """

    versions: tuple[Version, ...] = ()
    uploads: tuple[Upload, ...] = ()
    next: Marker | None = None
    names_only: bool = False


def page(operation: str, root: ElementTree.Element) -> Page:
    """Read one page. Raises `Unreadable` for a page that does not say whether more follows, or where."""
    fields = {_name(each): (each.text or "").strip() for each in root if len(each) == 0}
    decode: Callable[[str], str] = unquote_plus if fields.get("EncodingType", "").lower() == "url" else str
    entries = [(_name(each), {_name(it): (it.text or "") for it in each}) for each in root if len(each)]
    versions = tuple(
        _version(operation, name, entry, decode)
        for name, entry in entries
        if name in {"Version", "DeleteMarker", "Contents"}
    )
    uploads = tuple(_upload(operation, entry, decode) for name, entry in entries if name == "Upload")
    truncated = fields.get("IsTruncated", "").lower()
    if operation == "ListMultipartUploads" and not truncated:
        truncated = "true" if uploads else "false"  # rclone leaves the flag out, and no recording depends on it
    if truncated not in {"true", "false", "1", "0"}:
        raise Unreadable(f"{operation}: a page that does not say whether it is the last one is no listing")
    return Page(
        versions,
        uploads,
        _next(operation, fields, versions, uploads, decode) if truncated in {"true", "1"} else None,
        names_only=_name(root) == "ListBucketResult"
        and not any(name in {"Version", "DeleteMarker"} for name, _ in entries),
    )


@dataclass(slots=True)
class Walk:
    """One listing on its way to a provable end: each page ends behind the one before, and only a few pages may be
    empty."""

    operation: str
    at: Marker
    _within: set[str | None] = field(default_factory=set)
    _empty: int = 0

    def onward(self, found: Page) -> Marker | None:
        """Return the place where the next page begins; None at the end. Raises `Unreadable` for a listing that does not
        advance."""
        if found.next is None:
            return None
        ahead, here = found.next, self.at
        if ahead.key.encode(errors="replace") < here.key.encode(errors="replace"):
            raise Unreadable(f"{self.operation}: the listing goes back, from page to page")
        if ahead.key != here.key:
            self._within = set()
        elif ahead.part is None or ahead.part in self._within:
            raise Unreadable(f"{self.operation}: the listing stands still: two pages end at the same place")
        self._within.add(ahead.part)
        self._empty = 0 if found.versions or found.uploads else self._empty + 1
        if self._empty > EMPTY_PAGES:
            raise Unreadable(f"{self.operation}: {EMPTY_PAGES} pages in a row show nothing and promise more")
        self.at = ahead
        return ahead


def version_of(text: object) -> str | None:
    """Return the version id, or None: a bucket without versioning sends nothing or the word null."""
    return None if text in {None, "", "null"} else str(text)


# --- within ---------------------------------------------------------------------------------------------------


def _iso(text: str) -> datetime | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    day, time, fraction, zone = found.groups()
    zone = "+00:00" if zone is None or zone.upper() in {"Z", "UTC", "GMT"} else zone
    return datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6]:0<6}{zone}")


def _script(text: str) -> datetime | None:
    found = _SCRIPT.fullmatch(text)
    if found is None or found[1] not in _MONTHS:
        return None
    month = _MONTHS.index(found[1]) + 1
    return datetime.fromisoformat(f"{found[3]}-{month:02}-{found[2]}T{found[4]}{found[5] or '+0000'}")


def _epoch(text: str) -> datetime | None:
    if not _EPOCH.fullmatch(text):
        return None
    number = float(text)
    return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS else number, UTC)


def _mail(text: str) -> datetime | None:
    try:
        return email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _size(operation: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text.strip()):
        raise Unreadable(f"{operation}: the size of an entry is no number: “{shown(text)}”")
    return int(text)


def _key(operation: str, entry: Mapping[str, str], decode: Callable[[str], str]) -> str:
    if not entry.get("Key"):
        raise Unreadable(f"{operation}: an entry has no key")
    return decode(entry["Key"])


def _version(operation: str, name: str, entry: Mapping[str, str], decode: Callable[[str], str]) -> Version:
    marker = name == "DeleteMarker"
    return Version(
        _key(operation, entry, decode),
        version_of(entry.get("VersionId", "").strip()),
        0 if marker else _size(operation, entry.get("Size", "")),
        instant(entry.get("LastModified", ""), f"{operation}: the time of an entry"),
        name == "Contents" or entry.get("IsLatest", "").strip().lower() == "true",
        marker,
    )


def _upload(operation: str, entry: Mapping[str, str], decode: Callable[[str], str]) -> Upload:
    if not entry.get("UploadId"):
        raise Unreadable(f"{operation}: an upload has no id")
    began_at = instant(entry.get("Initiated", ""), f"{operation}: the time of an upload")
    return Upload(_key(operation, entry, decode), entry["UploadId"], began_at)


def _next(
    operation: str,
    fields: Mapping[str, str],
    versions: tuple[Version, ...],
    uploads: tuple[Upload, ...],
    decode: Callable[[str], str],
) -> Marker:
    """Return the end of a page: the marker that it names, or else its own last entry, which means the same."""
    named = fields.get("NextKeyMarker") or fields.get("NextMarker")
    if named:
        part = fields.get("NextVersionIdMarker") or fields.get("NextUploadIdMarker") or None
        return Marker(decode(named), part)
    if versions:
        return Marker(versions[-1].key, None if operation == "ListObjects" else versions[-1].version_id or "null")
    if uploads:
        return Marker(uploads[-1].key, uploads[-1].upload_id)
    raise Unreadable(f"{operation}: the page says that more follows, and not where")
