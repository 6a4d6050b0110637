"""Defines a simulator's requests and answers, apart from any server. Pure."""

from __future__ import annotations

import enum
import http
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"


class Route(enum.StrEnum):
    """The kinds of request that faults tell apart."""

    LIST = "list"
    ITEM = "item"
    MEDIA = "media"
    AUTH = "auth"
    OTHER = "other"


class Framing(enum.StrEnum):
    """The ways to mark the end of a body (RFC 9112 §6.3)."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `path` is as sent, without the query; header names are lower case; `origin` names the origin that
    was asked ("api", "media", …) or is "" when one port serves all."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    origin: str = ""

    def at(self, origin: str) -> bool:
        """Tells whether this request was sent to the place where `origin` is served."""
        return self.origin in ("", origin)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, with the way in which it is sent.

    `whole` is the entire representation of which `body` may be a range. `declared` overrides Content-Length. `cut` ends
    the connection after so many body bytes. `pace` is (bytes, seconds) for a slow body. `endless` repeats the body.
    `lost`: nothing is sent at all. `reset` ends with RST instead of FIN. `delay` is waited before the first byte.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    whole: bytes | None = field(default=None, repr=False)
    framing: Framing = Framing.LENGTH
    declared: int | None = None
    cut: int | None = None
    pace: tuple[int, float] | None = None
    delay: float = 0.0
    endless: bool = False
    lost: bool = False
    reset: bool = False

    @property
    def ordinary(self) -> bool:
        """True when a well-behaved server can send this answer."""
        odd = self.cut is not None or self.pace or self.endless or self.lost or self.reset or self.declared is not None
        return not odd and self.framing is Framing.LENGTH

    @property
    def reason(self) -> str:
        return http.HTTPStatus(self.status).phrase if self.status in set(http.HTTPStatus) else "Odd"


class RefusedError(Exception):
    """A request that the provider answers with an error; the exception carries that answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def as_json(payload: Json, status: int = 200, **headers: str) -> Answer:
    """Returns `payload` as an `application/json` answer; underscores in `headers` stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"Content-Type": "application/json", **named}, json.dumps(payload).encode())


def whole_number(text: str | None, default: int) -> int | None:
    """Returns `text` as a non-negative integer, `default` when it is absent, None when it is anything else."""
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
