"""Reads provider rows as evidence: parsed without trust, kept in a canonical form, compared by digest. Pure.

A row is a provider's description of one recording. A row is hostile until sifted: a field with an illegal value is
mended and the row flagged, a row without a usable id becomes a `Reject`, and the other rows of the page are still used.
Numbers keep the provider's own spelling ("7880.00000", 0.0004), because a float would not give it back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import TypeAlias

from archiver.errors import AnswerTooLargeError, ListingError
from archiver.recording import Flag, Listing, Page, Reject

Row: TypeAlias = "dict[str, object]"

MAX_TEXT = 256 * 1024
"""The most characters of one string in a row; the longest honest field is an agent's note."""
MAX_DEPTH = 32
"""The most levels of nesting in a row; the documented shapes have three."""
MAX_VALUES = 500_000
"""The most values in one answer, counted by its punctuation before anything is parsed. 10,000 rows have some 300,000.
"""
_MAX_DIGITS = 40
_REMOVED = "(removed)"


class NumberText(str):
    """A JSON number that is no small integer, spelled as the provider spelled it."""

    __slots__ = ()


class Blemish(str):
    """A mark in place of a value that no row may carry; its text describes the value."""

    __slots__ = ()


class RowError(ValueError):
    """The row cannot be used; the text says why."""


# --- reading ----------------------------------------------------------------------------------------------------


def parse(body: bytes) -> object:
    """Parse the JSON document in `body`; illegal values are marked by `Blemish` in place instead of failing the whole
    document.

    Raises `AnswerTooLargeError` for more than `MAX_VALUES`, before anything is parsed; `ListingError` when the body is
    no JSON document (a login page, a cut answer).
    """
    if (marks := sum(map(body.count, _MARKS))) > MAX_VALUES:
        raise AnswerTooLargeError(f"an answer of some {marks} values")
    # Invalid bytes become surrogates, which `blemish` finds.
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        try:
            return _DECODER.decode(text)
        except RecursionError:
            return _DECODER.decode(_pruned(text))
    except (ValueError, RecursionError):
        raise ListingError("the answer is not JSON") from None


_MARKS = (b",", b"{", b"[")


def _integer(text: str) -> object:
    if len(text) <= 18:
        return int(text)
    return NumberText(text) if len(text) <= _MAX_DIGITS else Blemish(f"a number of {len(text)} digits")


def _real(text: str) -> object:
    return NumberText(text) if len(text) <= _MAX_DIGITS else Blemish(f"a number of {len(text)} characters")


def _object(pairs: Sequence[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        seen: Row = {}
        for key, value in pairs:
            if key in seen and not _same(seen[key], value):
                row[key] = Blemish("a key that stands twice")  # the archiver does not choose one of the two
            seen.setdefault(key, value)
    return row


def _same(one: object, other: object) -> bool:
    """Tell whether two plain values are equal. Nested values are not compared: a hostile answer could make that take
    long."""
    return type(one) is type(other) and not isinstance(one, dict | list) and one == other


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=Blemish, strict=False
)
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_TOO_DEEP = '"\\udfff"'  # a lone surrogate: `blemish` finds it, and only its row suffers


def _pruned(text: str) -> str:
    """Return `text` with everything below `MAX_DEPTH` + 8 levels cut out, so that the decoder's recursion holds."""
    pieces: list[str] = []
    depth = kept = 0
    for token in _TOKENS.finditer(text):
        mark = token[0]
        if mark in "[{":
            depth += 1
            if depth == MAX_DEPTH + 9:
                pieces += text[kept : token.start()], _TOO_DEEP
        elif mark in "]}":
            if depth == MAX_DEPTH + 9:
                kept = token.end()
            depth -= 1
    return "".join([*pieces, text[kept:]]) if depth <= 0 else ""


def blemish(value: object, depth: int = 0) -> str | None:
    """Return the reason why `value` may not go on to a database, a log or a person; None when it may."""
    if isinstance(value, str):
        return _text_blemish(value)
    if not isinstance(value, dict | list):
        return None
    if depth >= MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return next((found for part in parts if (found := blemish(part, depth + 1))), None)


def _text_blemish(text: str) -> str | None:
    if isinstance(text, Blemish):
        return f"holds {text}"
    if len(text) > MAX_TEXT:
        return f"holds a text of {len(text)} characters"
    if "\0" in text:
        return "holds a NUL character"
    return None if text.isascii() or not _SURROGATE.search(text) else "holds a lone surrogate or invalid UTF-8"


_SURROGATE = re.compile("[\ud800-\udfff]")


# --- keeping ----------------------------------------------------------------------------------------------------


def canonical(value: object) -> bytes:
    """Return one spelling per value: UTF-8 JSON, keys sorted, no spaces, numbers as the provider wrote them."""
    return _spelled(value).encode()


def _spelled(value: object) -> str:
    if isinstance(value, NumberText):
        return str(value)
    if isinstance(value, str):
        return encode_basestring_ascii(value) if _SURROGATE.search(value) else encode_basestring(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_spelled(str(key))}:{_spelled(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_spelled, value)) + "]"
    return json.dumps(value)


_SECRET_KEYS = frozenset({
    "auth_token", "token", "access_token", "api_key", "api_secret", "secret", "password", "credentials", "signature",
    "handler_props",
})  # fmt: skip
LINK_KEYS = frozenset({"recording_url", "url", "download_path", "recording", "recording_child"})
"""Members of a row that hold the link of its audio."""
_ANY_QUERY = re.compile(r"[?#][^\s\"'<>]*")
_ENCODED_QUERY = re.compile(r"%(?:3f|23)\S*", re.IGNORECASE)
_IS_LINK = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:/)?/[^\s?#]*[?#]\S*\s*", re.IGNORECASE)
_LINK_QUERY = re.compile(r"[?#][^\s\"'<>]*")
_WORD = re.compile(r"[^\s\"'<>]+")
_SIGNATURE = re.compile(r"(?:token|sig|signature|expires|credential|key)=", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^\s/?#@]*@")


def redacted(value: object) -> object:
    """Return `value` without tokens, the queries of links (they carry signatures) and user information in links."""
    if isinstance(value, dict):
        return {k: _redacted_member(str(k).lower(), v) for k, v in value.items()}
    if isinstance(value, list):
        return [redacted(part) for part in value]
    return without_signature(value) if isinstance(value, str) and "/" in value else value


def _redacted_member(name: str, value: object) -> object:
    if name in _SECRET_KEYS and value:
        return _REMOVED
    return _less_queries(value) if name in LINK_KEYS else redacted(value)


def _less_queries(value: object) -> object:
    """Return the value of a link's field without any query: in any spelling, the text after a "?" may be a
    signature."""
    if isinstance(value, dict):
        return {k: _less_queries(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_less_queries(part) for part in value]
    if type(value) is not str:
        return value
    text = _ANY_QUERY.sub("", without_signature(value))
    return _ENCODED_QUERY.sub("", text) if "%2f" in text.lower() else text


def without_signature(text: str) -> str:
    """Remove the query of a text that is a link; within prose, remove only queries that look signed. Time linear in the
    text."""
    text = _USERINFO.sub("", text)
    return _LINK_QUERY.sub("", text) if _IS_LINK.fullmatch(text) else _WORD.sub(_unsigned, text)


def _unsigned(word: re.Match[str]) -> str:
    query = _LINK_QUERY.search(word[0])
    signed = query is not None and "://" in word[0][: query.start()] and _SIGNATURE.search(query[0])
    return word[0][: query.start()] if query is not None and signed else word[0]


def digest(*parts: object) -> str:
    """Return the SHA-256 over the canonical spelling of `parts`, lower-case hex."""
    return hashlib.sha256(canonical(list(parts))).hexdigest()


def stable_digest(row: Mapping[str, object], volatile: frozenset[str]) -> str:
    """Return the digest of a redacted row without the fields that change by themselves."""
    return digest({key: value for key, value in row.items() if key not in volatile})


# --- sifting ----------------------------------------------------------------------------------------------------


def sift(rows: Sequence[object], read: Callable[[Row], Iterable[Listing]], *, total: int | None = None) -> Page:
    """Read every row into listings or a `Reject`; the page's digest covers all rows in order."""
    listings: list[Listing] = []
    rejects: list[Reject] = []
    marks: list[str] = []
    for row in rows:
        try:
            usable, mended = _usable(row)
            found = tuple(read(usable))
        except RowError as exc:
            reject = _reject(row, str(exc))
            rejects.append(reject)
            marks.append(hashlib.sha256(reject.raw).hexdigest())
        else:
            if mended:
                found = tuple(replace(each, flags=each.flags | {Flag.FIELD_MENDED}) for each in found)
            listings += found
            marks += (f"{listing.revision}:{listing.stable_digest}" for listing in found)
    return Page(tuple(listings), digest(*marks), tuple(rejects), total)


_IDS = ("recording_id", "id", "_id", "call_id")


def _usable(row: object) -> tuple[Row, bool]:
    """Return the row as it may go on, and whether a field had to be mended for that. Only an id must be as it was
    sent."""
    if not isinstance(row, dict):
        raise RowError("is not a JSON object")
    if blemish(row) is None:
        return row, False
    if problem := next((found for key in _IDS if (found := blemish(row.get(key)))), None):
        raise RowError(problem)
    mended = _mended(row)
    assert isinstance(mended, dict)
    return mended, True


def _mended(value: object, depth: int = 0, *, link: bool = False) -> object:
    """Return `value` with a readable text in place of values that no row may carry. A mended link is no link: it stays
    marked."""
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return "(nested deeper)"
    if isinstance(value, dict):
        return {
            _mended_text(str(key)): _mended(part, depth + 1, link=link or str(key).lower() in LINK_KEYS)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_mended(part, depth + 1, link=link) for part in value]
    if not isinstance(value, str) or _text_blemish(value) is None:
        return value
    return Blemish(_mended_text(value)) if link else _mended_text(value)


def _mended_text(text: str) -> str:
    if isinstance(text, Blemish):
        return f"({text})"
    if len(text) > MAX_TEXT:
        text = _shown_text(text)
    return _SURROGATE.sub("\ufffd", text.replace("\0", "\ufffd"))


def _reject(row: object, problem: str) -> Reject:
    raw = canonical(redacted(_shown(row)))
    name = _name(row)
    return Reject(raw, problem, name, reject_identity(row, name, problem))


def _name(row: object) -> str | None:
    name = (
        next((row[k] for k in ("recording_id", "id", "call_id") if k in row), None) if isinstance(row, dict) else None
    )
    known = isinstance(name, str | int) and not isinstance(name, bool) and not blemish(name)
    return str(name)[:1024] if known and str(name).strip() else None


_PLACES = ("call_uuid", "call_id", "call_sid", "cdr_id", "conference_uuid")
_TIMES = ("add_time", "created_at", "started_at", "recording_start_ms", "start", "call_date", "call_time")
_VOLATILE = re.compile(
    r"(?:^|_)(?:api_id|request|trace|token|sig|signature|expir\w*|age|now|seen|updated|modified|generated|timestamp|nonce|rate"
    r"|amount|cost|balance|storage_duration|rounded_recording_duration|url|uri|link|path|etag|rev|version|count|total)(?:$|_)",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"\d+")


def reject_identity(row: object, name: str | None, problem: str) -> str:
    """Return the identity of a row that is not understood: by its id; else by call and time; else by all lasting
    fields.

    The first two do not depend on the fault in the row, so that the row is recognised once it is understood.
    """
    if name is not None:
        return digest("id", name)
    if (place := moment_identity(row)) is not None:
        return place
    return digest("row", _DIGITS.sub("", problem), _lasting(_shown(row)))


def moment_identity(row: object) -> str | None:
    """Return the identity of a row without an id by its call and times; None when the row states neither."""
    if not isinstance(row, dict):
        return None
    told = [_plain_text(row.get(key)) for key in (*_PLACES, *_TIMES)]
    return digest("moment", *told) if any(told) else None


def _plain_text(value: object) -> str | None:
    usable = isinstance(value, str | int) and not isinstance(value, bool) and not blemish(value)
    return str(value) or None if usable else None


def _lasting(value: object) -> object:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if not _VOLATILE.search(str(k))}
    if isinstance(value, list):
        return [_lasting(part) for part in value]
    return _LINK_QUERY.sub("", value) if isinstance(value, str) and "/" in value else value


def _shown(value: object, depth: int = 0) -> object:
    """Return `value` as far as a person needs it: parts that are too deep or too long are only named."""
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return "(nested deeper)"
    if isinstance(value, dict):
        return {_shown_text(str(key)): _shown(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_shown(part, depth + 1) for part in value]
    return _shown_text(value) if isinstance(value, str) and not isinstance(value, NumberText) else value


def _shown_text(text: str) -> str:
    return text if len(text) <= 4096 else f"{text[:4096]}… ({len(text)} characters)"
