"""Faults on demand: what a provider, or the way to it, may do to a request.

An effect either refuses (the request has no effect at the provider) or alters the answer after the provider has done
what was asked. `Simulator.fail` says to which requests, and how often.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TypeAlias, cast

from archiver.demo.simulators.answer import Answer, Framing, as_json
from archiver.recording import Json

ListedRows: TypeAlias = list[Json]


class Effect:
    """What a fault does. Both parts are optional."""

    def refuse(self) -> Answer | None:
        """An answer in place of the provider's; the provider does nothing."""
        return None

    def alter(self, answer: Answer) -> Answer:
        """The provider's answer, changed."""
        return answer


# --- refused --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerError(Effect):
    """Any status with any body: 500, 502, 503, a 401 out of the blue, a 404 for what is there."""

    status: int = 503
    body: bytes = b"<html><body>Service Unavailable</body></html>"
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)

    def refuse(self) -> Answer:
        return Answer(self.status, {"Content-Type": self.content_type, **self.headers}, self.body)


@dataclass(frozen=True, slots=True)
class TooManyRequests(Effect):
    """429. `retry_after`: seconds, a date, or any text; None leaves the header out.

    `headers` carries the provider's own: JustCall `X-Rate-Limit-*`, `X-Rate-Limit-Burst-*`, or `X-RateLimit-*`.
    """

    retry_after: int | datetime | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def refuse(self) -> Answer:
        wait = self.retry_after
        if isinstance(wait, datetime):
            wait = format_datetime(wait.astimezone(UTC), usegmt=True)
        told = {} if wait is None else {"Retry-After": str(wait)}
        return as_json({"status": "error", "error": "too many requests"}, 429, **told, **self.headers)


@dataclass(frozen=True, slots=True)
class Reset(Effect):
    """The connection is reset before anything was done."""

    def refuse(self) -> Answer:
        return Answer(lost=True, reset=True)


@dataclass(frozen=True, slots=True)
class Redirect(Effect):
    """A redirect to `location`, wherever that leads."""

    location: str
    status: int = 302

    def refuse(self) -> Answer:
        return Answer(self.status, {"Location": self.location})


@dataclass(frozen=True, slots=True)
class ExpiredLink(Effect):
    """403 as an object store gives it for a signed link past its time."""

    def refuse(self) -> Answer:
        return Answer(403, {"Content-Type": "application/xml"}, EXPIRED)


@dataclass(frozen=True, slots=True)
class LoginPage(Effect):
    """200 and a page for people."""

    def refuse(self) -> Answer:
        return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, LOGIN)


@dataclass(frozen=True, slots=True)
class ErrorBody(Effect):
    """An error's text where something else was asked for, with a status that says success.

    `claimed` is the Content-Type that goes with it: `audio/mpeg` makes it look like a recording.
    """

    kind: str = "xml"
    claimed: str | None = None
    status: int = 200

    def refuse(self) -> Answer:
        content_type, body = ERROR_BODIES[self.kind]
        return Answer(self.status, {"Content-Type": self.claimed or content_type}, body)


@dataclass(frozen=True, slots=True)
class Body(Effect):
    """200 with exactly these bytes: broken UTF-8, a hundred thousand brackets, nothing at all."""

    body: bytes
    content_type: str = "application/json"

    def refuse(self) -> Answer:
        return Answer(200, {"Content-Type": self.content_type}, self.body)


@dataclass(frozen=True, slots=True)
class Endless(Effect):
    """A body that never ends, chunked, or that declares `declared` bytes and keeps sending them."""

    declared: int | None = None
    block: bytes = b"\xff\xfb\x90\x00" * 16_384
    content_type: str = "audio/mpeg"

    def refuse(self) -> Answer:
        framing = Framing.CHUNKED if self.declared is None else Framing.LENGTH
        told = {"Content-Type": self.content_type}
        return Answer(200, told, self.block, framing=framing, declared=self.declared, endless=True)


# --- done, but the answer suffers -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnswerLost(Effect):
    """The provider does what was asked, then the connection is reset instead of an answer."""

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, lost=True, reset=True)


@dataclass(frozen=True, slots=True)
class Cut(Effect):
    """The body ends after `at` bytes though more was promised; with `Framing.CLOSE` nothing was promised."""

    at: int
    framing: Framing = Framing.LENGTH
    reset: bool = False

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, cut=self.at, framing=self.framing, reset=self.reset)


@dataclass(frozen=True, slots=True)
class Frame(Effect):
    """The whole body, framed otherwise."""

    framing: Framing

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, framing=self.framing)


@dataclass(frozen=True, slots=True)
class WrongLength(Effect):
    """Content-Length off by `by` bytes; the connection closes after the real body."""

    by: int

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, declared=len(answer.body) + self.by)


@dataclass(frozen=True, slots=True)
class Drip(Effect):
    """`size` bytes, then a pause of `every` real seconds, and so on."""

    size: int = 1
    every: float = 1.0

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, pace=(self.size, self.every))


@dataclass(frozen=True, slots=True)
class Delay(Effect):
    """Nothing for so many real seconds, then the answer."""

    seconds: float

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, delay=self.seconds)


@dataclass(frozen=True, slots=True)
class Headers(Effect):
    """Headers set, or dropped by name (an ETag made weak, a Content-Type gone)."""

    set: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()

    def alter(self, answer: Answer) -> Answer:
        gone = {name.lower() for name in (*self.drop, *self.set)}
        return replace(answer, headers={k: v for k, v in answer.headers.items() if k.lower() not in gone} | dict(self.set))


@dataclass(frozen=True, slots=True)
class Gzip(Effect):
    """The body compressed, and said so, though nobody asked for it."""

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, body=gzip.compress(answer.body, mtime=0), headers={**answer.headers, "Content-Encoding": "gzip"})


@dataclass(frozen=True, slots=True)
class RangeIgnored(Effect):
    """200 and everything, whatever range was asked for."""

    def alter(self, answer: Answer) -> Answer:
        headers = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
        whole = answer.body if answer.whole is None else answer.whole
        return replace(answer, status=200, headers=headers, body=whole)


@dataclass(frozen=True, slots=True)
class UnaskedPart(Effect):
    """206 with the part from `start`, whether or not a range was asked for."""

    start: int

    def alter(self, answer: Answer) -> Answer:
        whole = answer.body if answer.whole is None else answer.whole
        told = {**answer.headers, "Content-Range": f"bytes {self.start}-{len(whole) - 1}/{len(whole)}"}
        return replace(answer, status=206, headers=told, body=whole[self.start :])


@dataclass(frozen=True, slots=True)
class Meanwhile(Effect):
    """The account changes just after this answer was composed: a row slips in between two pages, or out."""

    change: Callable[[], object]

    def alter(self, answer: Answer) -> Answer:
        self.change()
        return answer


@dataclass(frozen=True, slots=True)
class JsonChange(Effect):
    """The JSON document that was going to be sent, changed."""

    change: Callable[[dict[str, Json]], Json]

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, body=json.dumps(self.change(json.loads(answer.body))).encode())


@dataclass(frozen=True, slots=True)
class Rows(Effect):
    """The listed rows, changed; totals and links stay as they were. For garbage rows, doubles, holes."""

    change: Callable[[ListedRows], ListedRows]

    def alter(self, answer: Answer) -> Answer:
        def change(document: dict[str, Json]) -> Json:
            key = rows_key(document)
            return {**document, key: self.change(cast("ListedRows", document[key]))}

        return JsonChange(change).alter(answer)


@dataclass(frozen=True, slots=True)
class EmptyList(Effect):
    """A well-formed listing of nothing, with totals to match."""

    def alter(self, answer: Answer) -> Answer:
        return JsonChange(emptied).alter(answer)


@dataclass(slots=True)
class RepeatedPage(Effect):
    """The first page that was asked for, again and again, whatever page is asked for."""

    first: Answer | None = None

    def alter(self, answer: Answer) -> Answer:
        self.first = self.first or answer
        return self.first


def rows_key(document: Mapping[str, Json]) -> str:
    """Under which key a listing of any of the four keeps its rows."""
    return next(key for key in ("objects", "data", "recordings") if isinstance(document.get(key), list))


def emptied(document: dict[str, Json]) -> Json:
    zero: dict[str, Json] = {key: 0 for key in ("count", "total_count", "total_pages", "page_size") if key in document}
    document = {**document, **zero, rows_key(document): []}
    document.pop("next_start_key", None)
    if "next_page_link" in document:
        document["next_page_link"] = None
    if isinstance(meta := document.get("meta"), dict):
        document["meta"] = {**meta, "total_count": 0, "next": None, "previous": None}
    return document


EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
)
LOGIN = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form method=post>Password</form></body></html>"
ERROR_BODIES = {
    "xml": ("application/xml", b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>'),
    "json": ("application/json", b'{"status": "error", "message": "Recording is not available"}'),
    "html": ("text/html", b"<html><body><h1>404 Not Found</h1></body></html>"),
}
