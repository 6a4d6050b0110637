"""Defines faults on demand: all that a provider, or the way to it, may do to a request.

An effect either refuses (the request has no effect at the provider) or alters the answer after the provider has done
what was asked. `Simulator.fail` says which requests are struck, and how often.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime

from archiver.demo.simulators.answer import Answer, Framing, as_json
from archiver.demo.simulators.pages import EXPIRED, LOGIN, NO_SUCH_AUDIO, NOT_FOUND

ERROR_BODIES = {
    "xml": NO_SUCH_AUDIO,
    "html": NOT_FOUND,
    "json": as_json({"status": "error", "message": "not available"}),
}


class Effect:
    """The effect of a fault. Both methods are optional."""

    def refuse(self) -> Answer | None:
        """Returns an answer in place of the provider's; the provider does nothing."""
        return None

    def alter(self, answer: Answer) -> Answer:
        """Returns the provider's answer, changed."""
        return answer


# --- refused --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerError(Effect):
    """An answer with any status and any body: 500, 502, 503, a 401 out of the blue, a 404 for an existing resource."""

    status: int = 503
    body: bytes = b"<html><body>Service Unavailable</body></html>"
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)

    def refuse(self) -> Answer:
        return Answer(self.status, {"Content-Type": self.content_type, **self.headers}, self.body)


@dataclass(frozen=True, slots=True)
class TooManyRequests(Effect):
    """An answer 429. `retry_after`: seconds, a date, or any text; None leaves the header out.

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
    """An answer 403 as an object store gives it for a signed link past its time."""

    def refuse(self) -> Answer:
        return EXPIRED


@dataclass(frozen=True, slots=True)
class LoginPage(Effect):
    """An answer 200 with a login page for people."""

    def refuse(self) -> Answer:
        return LOGIN


@dataclass(frozen=True, slots=True)
class ErrorBody(Effect):
    """An error's text where something else was asked for, with a status that says success.

    `claimed` is the Content-Type that goes with it: `audio/mpeg` makes it look like a recording.
    """

    kind: str = "xml"
    claimed: str | None = None
    status: int = 200

    def refuse(self) -> Answer:
        page = ERROR_BODIES[self.kind]
        told = {"Content-Type": self.claimed} if self.claimed else page.headers
        return replace(page, status=self.status, headers=told)


@dataclass(frozen=True, slots=True)
class Body(Effect):
    """An answer 200 with exactly these bytes: broken UTF-8, a hundred thousand brackets, nothing at all."""

    body: bytes
    content_type: str = "application/json"

    def refuse(self) -> Answer:
        return Answer(200, {"Content-Type": self.content_type}, self.body)


@dataclass(frozen=True, slots=True)
class Endless(Effect):
    """A body that never ends, chunked, or that declares `declared` bytes and keeps sending them."""

    declared: int | None = None
    block: bytes = field(default=b"\xff\xfb\x90\x00" * 16_384, repr=False)
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
    """The whole body with another framing."""

    framing: Framing

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, framing=self.framing)


@dataclass(frozen=True, slots=True)
class WrongLength(Effect):
    """A Content-Length that is wrong by `by` bytes; the connection closes after the real body."""

    by: int

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, declared=len(answer.body) + self.by)


@dataclass(frozen=True, slots=True)
class Drip(Effect):
    """A slow body: `size` bytes, then a pause of `every` real seconds, and so on."""

    size: int = 1
    every: float = 1.0

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, pace=(self.size, self.every))


@dataclass(frozen=True, slots=True)
class Delay(Effect):
    """A pause of so many real seconds before the answer."""

    seconds: float

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, delay=self.seconds)


@dataclass(frozen=True, slots=True)
class Headers(Effect):
    """Headers that are set, or dropped by name (an ETag made weak, a Content-Type gone)."""

    set: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()

    def alter(self, answer: Answer) -> Answer:
        gone = {name.lower() for name in (*self.drop, *self.set)}
        return replace(
            answer, headers={k: v for k, v in answer.headers.items() if k.lower() not in gone} | dict(self.set)
        )


@dataclass(frozen=True, slots=True)
class Gzip(Effect):
    """A compressed body, with the header that says so, though nobody asked for compression."""

    def alter(self, answer: Answer) -> Answer:
        return replace(
            answer, body=gzip.compress(answer.body, mtime=0), headers={**answer.headers, "Content-Encoding": "gzip"}
        )


@dataclass(frozen=True, slots=True)
class RangeIgnored(Effect):
    """An answer 200 with everything, whatever range was asked for."""

    def alter(self, answer: Answer) -> Answer:
        headers = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
        whole = answer.body if answer.whole is None else answer.whole
        return replace(answer, status=200, headers=headers, body=whole)


@dataclass(frozen=True, slots=True)
class UnaskedPart(Effect):
    """An answer 206 with the part from `start`, whether or not a range was asked for."""

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
