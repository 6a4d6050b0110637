"""The types of the configuration's keys: each reads its value from the text in the file, and has a JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from archiver.config import values
from archiver.config.secrets import BadReferenceError, NotAReferenceError, SecretRef, Use
from archiver.config.section import Context
from archiver.config.values import quoted, refused
from archiver.errors import ConfigurationError
from archiver.retention.span import Span


@dataclass(frozen=True, eq=False)
class Written:
    """Marks a type as read by `parse` from the text in the file; `schema` describes it to an editor, `form` to a
    person."""

    parse: Callable[[Any, Context], Any]
    form: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def parse(value: Any, info: ValidationInfo) -> Any:
            return self.parse(value, info.context if isinstance(info.context, Context) else Context())

        return core_schema.with_info_plain_validator_function(parse)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


def _text(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise refused("C104", "this is not a line of text")  # never repeated: it may be a secret in the wrong place


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise refused("C104", f"{_shown(value)} is neither true nor false", "write true or false")


def _simple(parse: Callable[[Any], Any], form: str, schema: dict[str, Any] | None = None) -> Written:
    return Written(lambda value, _context: parse(value), form, schema or {"type": "string"})


def whole(low: int, high: int) -> Written:
    """The type of whole numbers within these bounds."""

    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise refused("C104", f"{_shown(value)} is not a whole number from {low} to {high}")
        return number

    return _simple(parse, f"whole number, {low}–{high}", {"type": "integer", "minimum": low, "maximum": high})


def matching(pattern: str, what: str, hint: str) -> Written:
    """The type of texts that match `pattern`; `what` and `hint` describe them in messages."""
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        text = _text(value)
        if not compiled.fullmatch(text):
            raise refused("C104", f"{quoted(text)} is not {what}", hint)
        return text

    return _simple(
        parse, what.removeprefix("a ").removeprefix("an "), {"type": "string", "pattern": f"^(?:{pattern})$"}
    )


def _some_time_or_never(value: object) -> timedelta | None:
    return None if value is None or value == "never" else _some_time(value)


def _some_time(value: object) -> timedelta:
    duration = values.parse_duration(value)
    if duration < timedelta(seconds=1):
        raise refused("C121", f"{_shown(value)} is too short", "at least 1s")
    return duration


def _origin(value: object) -> str:
    parts = _split(value)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    origin = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise refused(
            "C124", "an origin has no path", f"write {origin} – scheme, host and port; the documented path is added"
        )
    return origin


def _url(value: object) -> str:
    return _split(value).geturl()


def _split(value: object) -> SplitResult:
    """The parts of an http(s) URL without credentials. The URL itself is never repeated in a message."""
    try:
        parts = urlsplit(_text(value))
        valid = (
            parts.scheme in {"http", "https"}
            and re.fullmatch(r"[A-Za-z0-9._:-]+", parts.hostname or "")
            and parts.port != 0
        )
    except ValueError:
        valid = None
        parts = SplitResult("", "", "", "", "")
    if not valid:
        raise refused("C124", "this is not an http(s) URL", "e.g. https://api.example.com")
    if "@" in parts.netloc:
        raise refused("C110", "credentials written into a URL", "remove them: credentials have keys of their own")
    return parts


def _path(value: object, context: Context) -> Path:
    return value if isinstance(value, Path) else context.base / _text(value)


def _reference(use: Use, *, literal: bool = False) -> Written:
    def parse(value: object, context: Context) -> SecretRef:
        if isinstance(value, SecretRef):
            return value
        # A pasted key has line breaks: it must be reported as a secret, not as a text with a mistake.
        text = value if isinstance(value, str) and value and not literal else _text(value)
        try:
            reference = SecretRef.parse(text, base=context.base, use=use, literal=literal)
            if context.resolve:
                reference.resolve()
        except NotAReferenceError:
            what = "key" if use is Use.PUBLIC else "secret"
            raise refused("C110", f"{what} written into the file") from None
        except BadReferenceError as problem:
            raise refused("C111", str(problem), "env:NAME, file:/path or cred:name") from None
        except ConfigurationError as problem:
            raise refused("C111", problem.detail, "checked as the user who runs this command") from None
        return reference

    if literal:
        return Written(parse, "text or reference")
    form = {
        Use.TOKEN: "reference to a secret",
        Use.KEY: "reference to a secret key",
        Use.PUBLIC: "reference to a public key",
    }[use]
    return Written(parse, form, {"type": "string", "pattern": "^(env|file|cred):.+$"})


def _database(value: object, context: Context) -> SecretRef:
    reference: SecretRef = _DATABASE_REFERENCE.parse(value, context)
    url = reference.name if reference.scheme == "literal" else reference.resolve().reveal() if context.resolve else ""
    if reference.scheme == "literal" and re.match(r"[a-z0-9+]+://[^/@]*:[^/@]*@", url):
        raise refused("C110", "a password in the database URL")
    if url and not re.match(r"sqlite:///|postgres(ql)?(\+psycopg)?://", url):
        hint = "sqlite:///archiver.db or postgresql+psycopg://user@host/name, or a reference to one"
        raise refused("C124", "this is not a database URL that the archiver knows", hint)
    return reference


_DATABASE_REFERENCE = _reference(Use.TOKEN, literal=True)

Text: TypeAlias = Annotated[str, _simple(_text, "text")]
Flag: TypeAlias = Annotated[bool, _simple(_flag, "true or false", {"type": "boolean"})]
Ident: TypeAlias = Annotated[
    str,
    matching(r"[a-z0-9][a-z0-9-]{0,40}", "an id", "lower-case letters, digits and hyphens, at most 41, e.g. plivo-us"),
]
Host: TypeAlias = Annotated[
    str,
    matching(
        r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?",
        "a host",
        "e.g. media.example.com or *.example.com",
    ),
]
Duration: TypeAlias = Annotated[timedelta, _simple(values.parse_duration, "duration")]
Interval: TypeAlias = Annotated[timedelta, _simple(_some_time, "duration, at least 1s")]
IntervalOrNever: TypeAlias = Annotated[
    timedelta | None, _simple(_some_time_or_never, "duration, at least 1s, or never")
]
Keep: TypeAlias = Annotated[Span, _simple(values.parse_span, "duration, calendar years")]
Size: TypeAlias = Annotated[values.Size, _simple(values.parse_size, "size")]
Rate: TypeAlias = Annotated[values.Rate, _simple(values.parse_rate, "requests per s, min or h")]
Cron: TypeAlias = Annotated[str, _simple(values.parse_cron, "cron expression, UTC")]
Instant: TypeAlias = Annotated[datetime, _simple(values.parse_instant, "date or date and time, UTC")]
Listen: TypeAlias = Annotated[values.Listen, _simple(values.parse_listen, "host:port")]
Origin: TypeAlias = Annotated[str, _simple(_origin, "scheme, host and port")]
Url: TypeAlias = Annotated[str, _simple(_url, "URL")]
FilePath: TypeAlias = Annotated[Path, Written(_path, "path")]
TokenRef: TypeAlias = Annotated[SecretRef, _reference(Use.TOKEN)]
KeyRef: TypeAlias = Annotated[SecretRef, _reference(Use.KEY)]
PublicRef: TypeAlias = Annotated[SecretRef, _reference(Use.PUBLIC)]
TextOrRef: TypeAlias = Annotated[SecretRef, _reference(Use.TOKEN, literal=True)]
DatabaseUrl: TypeAlias = Annotated[SecretRef, Written(_database, "database URL or reference")]


def _shown(value: object) -> str:
    return quoted(value) if isinstance(value, str | int | float) else "this"
