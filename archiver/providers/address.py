"""Reads the web link of a recording from the provider's field for it, however the link is written. Pure.

There are three answers, and they are never confused: the field is empty (None), a link can be read (`Address`), or the
field holds something that cannot be read (`OddLinkError`). Only the first may ever come to mean that a call has no
recording.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit


class OddLinkError(ValueError):
    """The field for the link holds something that cannot be read as a link."""


@dataclass(frozen=True, slots=True)
class Address:
    """An absolute http(s) link. `guessed`: the text had to be mended to give a link, so that "not found" there says
    nothing."""

    url: str
    guessed: bool = False


_MOST_LEVELS = 3
_AUDIO = r"\.(?:mp3|wav|wave|ogg|oga|opus|m4a|mp4|aac|amr|flac|gsm|webm|weba|au|ulaw|alaw|raw|bin)"
_INVISIBLE = re.compile("[\t\r\n\u200b-\u200d\u2060\ufeff]")
_ESCAPES = (
    (re.compile(r"&(?:amp|#0*38|#x0*26);", re.IGNORECASE), "&"),
    (re.compile(r"&(?:sol|#0*47|#x0*2f);", re.IGNORECASE), "/"),
    (re.compile(r"&(?:quot|lt|gt|apos|#0*34|#0*39|#0*60|#0*62);", re.IGNORECASE), '"'),
    (re.compile(r"\\/"), "/"),  # JSON written into JSON
)
_ENCODED = re.compile(r"(?:https?%3a)?%2f", re.IGNORECASE)
_WHOLE = re.compile(r"https?://[^\s\"<>]+", re.IGNORECASE)
_WHOLE_WITH_SPACES = re.compile(rf"https?://(?:(?!\shttps?:)[^\"<>])*{_AUDIO}(?:[?#]\S*)?", re.IGNORECASE)
_WITHIN = re.compile(r"(?<![A-Za-z0-9+.-])https?:/{0,2}[^\s\"'<>`|]+", re.IGNORECASE)
_LAME = re.compile(r"(https?):/{0,1}(?=[^/])", re.IGNORECASE)  # one slash, or none
_HOST = r"(?:localhost|\[[0-9a-f:.]+\]|\d{1,3}(?:\.\d{1,3}){3}|(?:[\w-]+\.)+[^\W\d_][\w-]+)"
_HOST_FIRST = re.compile(rf"(?:{_HOST}(?::\d{{1,5}})?|[\w-]+:\d{{1,5}})/\S+", re.IGNORECASE)
_FILE_FIRST = re.compile(rf"[^/]*{_AUDIO}/", re.IGNORECASE)
_RELATIVE = re.compile(rf"/(?!/)\S*|(?:[^\s:/?#]+/)*[^\s:/?#]+{_AUDIO}(?:\?\S*)?", re.IGNORECASE)
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"))
_BASE = "https://"


def read_address(value: object, *, allow_http: bool, base_url: str = _BASE) -> Address | None:
    """Return the link in `value`; None when `value` is empty. Raises `OddLinkError` for a value that cannot be read.

    These readings are assumed: a link without scheme or host has the API's (RFC 3986 §5.2); wrappings, escapes and text
    around the only link are left out. A plain http link on the standard port is asked for over https unless
    `allow_http`: Plivo still lists http links of hosts that have long served https.
    """
    if value is None:
        return None
    if isinstance(value, dict | list):
        return _only(value.values() if isinstance(value, dict) else value, allow_http, base_url)
    if type(value) is not str:  # `NumberText` and `Blemish` are texts too, but never links
        raise OddLinkError("is no text")
    said = _INVISIBLE.sub("", value).strip()
    if not said:
        return None
    try:
        return _absolute(said, value.strip(), allow_http, base_url)
    except OddLinkError:
        raise
    except ValueError:
        raise OddLinkError("is no web link") from None


def _only(parts: Iterable[object], allow_http: bool, base_url: str, level: int = 1) -> Address:
    """Return the one link in a list or an object. With several links the archiver does not choose one, and raises."""
    found: set[str] = set()
    for part in parts:
        if isinstance(part, dict | list):
            if level >= _MOST_LEVELS:
                raise OddLinkError("is nested too deep")
            inner = part.values() if isinstance(part, dict) else part
            try:
                found.add(_only(inner, allow_http, base_url, level + 1).url)
            except OddLinkError:
                continue
        else:
            try:
                address = read_address(part, allow_http=allow_http, base_url=base_url)
            except OddLinkError:
                continue
            found |= {address.url} if address else set()
    if len(found) != 1:
        raise OddLinkError(f"holds {len(found)} links")
    return Address(found.pop(), guessed=True)


def _absolute(said: str, stated: str, allow_http: bool, base_url: str) -> Address:
    link = said
    for pattern, meant in _ESCAPES:
        link = pattern.sub(meant, link)
    if _ENCODED.match(link):
        link = unquote(link)
    link = _unwrapped(link)
    guessed = link != stated
    scheme = base_url.partition(":")[0].lower()
    if link.startswith("//"):
        link = f"{scheme}:{link}"
    elif _HOST_FIRST.fullmatch(link) and not _FILE_FIRST.match(link):
        link, guessed = f"{scheme}://{link}", True
    elif _RELATIVE.fullmatch(link):
        link, guessed = urljoin(base_url, link), True
    parts = urlsplit(link)
    port = parts.port
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.hostname.strip(".") == "":
        raise OddLinkError("is no web link")
    if not parts.hostname.isascii() and "@" not in parts.netloc:
        host = parts.hostname.encode("idna").decode()
        parts = parts._replace(netloc=host if port is None else f"{host}:{port}")
        link = urlunsplit(parts)
    if parts.scheme == "http" and not allow_http and port is None:
        link = f"https{link[4:]}"
    return Address(link, guessed)


def _unwrapped(text: str) -> str:
    """Return `text` without the characters around its one link: quotes, brackets, markup, words."""
    if _WHOLE.fullmatch(text) or _WHOLE_WITH_SPACES.fullmatch(text):
        return _less_tail(text)
    found = {_less_tail(each) for each in _WITHIN.findall(text)}
    if len(found) > 1:
        raise OddLinkError("holds several links")
    if found:
        link = found.pop()
        # After one slash, or none, a host must be plain to see: "https:/m/x.mp3" has lost its own.
        lame = _LAME.match(link)
        if lame and not link[lame.end() :].startswith("/") and not _WHOLE.match(link):
            if not _HOST_FIRST.fullmatch(link[lame.end() :]):
                raise OddLinkError("has no host")
            link = f"{lame[1]}://{link[lame.end() :]}"
        return link
    return text.strip("\"'`<>() ")


def _less_tail(link: str) -> str:
    """Return a link without the end of the sentence around it: commas, and brackets that were opened before the
    link."""
    while link and (
        link[-1] in ",;" or any(link[-1] == shut and link.count(shut) > link.count(start) for start, shut in _PAIRS)
    ):
        link = link[:-1]
    return link
