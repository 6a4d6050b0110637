"""The base of every part of the configuration: strict, immutable, and complete in what it complains of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import Self

from archiver.config import values
from archiver.config.secrets import BadReferenceError, NotAReferenceError, SecretRef, Use
from archiver.config.values import quoted, refused
from archiver.errors import ConfigurationError
from archiver.retention.span import Span


@dataclass(frozen=True, slots=True)
class Context:
    """What validation needs to know of the world: the folder that relative paths start from, and whether to try the secrets."""

    base: Path = Path()
    resolve: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Keys that are each right but not together; `at` is the one to change."""

    at: str
    code: str
    message: str
    hint: str = ""


class Section(BaseModel):
    """One mapping of the configuration. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    @classmethod
    def shorthand(cls, given: Any) -> Any:
        """The mapping that a shorter way of writing stands for."""
        return given

    @classmethod
    def conflicts(cls, _given: Mapping[str, Any]) -> Iterator[Conflict]:
        """What is wrong between the keys as written, whatever is wrong with each of them."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _everything_at_once(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        # An ordinary "after" validator would stay silent until every single key is right.
        given = cls.shorthand(given)
        found = list(cls.conflicts(given)) if isinstance(given, Mapping) else []
        if not found:
            result: Self = handler(given)
            return result
        errors = [
            InitErrorDetails(type=refused(each.code, each.message, each.hint), loc=(each.at,), input=None) for each in found
        ]
        try:
            handler(given)
        except ValidationError as problem:
            errors += [_again(each) for each in problem.errors(include_url=False)]
        raise ValidationError.from_exception_data(cls.__name__, errors)


def _again(error: Any) -> InitErrorDetails:
    kind: Any = error["type"]
    if re.fullmatch(r"C\d{3}", kind):
        kind = refused(kind, **error["ctx"])
    return InitErrorDetails(type=kind, loc=error["loc"], input=None, ctx=error.get("ctx", {}))


def _text(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise refused("C104", f"{quoted(value) if isinstance(value, str) else 'this'} is not a line of text")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise refused("C104", f"{_shown(value)} is neither true nor false", "write true or false")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise refused("C104", f"{_shown(value)} is not a whole number from {low} to {high}")
        return number

    return parse


def whole(low: int, high: int) -> Any:
    """The type of whole numbers within these bounds."""
    return Annotated[int, PlainValidator(_whole(low, high)), WithJsonSchema({"type": "integer", "minimum": low, "maximum": high})]


def _matching(pattern: str, what: str, hint: str) -> Any:
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        text = _text(value)
        if not compiled.fullmatch(text):
            raise refused("C104", f"{quoted(text)} is not {what}", hint)
        return text

    return Annotated[str, PlainValidator(parse), WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})]


def _some_time(value: object) -> timedelta:
    duration = values.parse_duration(value)
    if duration < timedelta(seconds=1):
        raise refused("C121", f"{_shown(value)} is too short", "at least 1s")
    return duration


def _origin(value: object) -> str:
    text = _text(value)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refused("C124", "this is not a URL", "e.g. https://api.example.com") from None
    if parts.scheme not in {"http", "https"} or not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise refused("C124", "this is not an http(s) URL", "e.g. https://api.example.com")
    if "@" in parts.netloc:
        raise refused("C110", "credentials written into a URL", "remove them; credentials have keys of their own")
    shown = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise refused("C124", "a path in base_url", f"write {origin} – scheme, host and port; the documented path is added")
    return origin


def _web_address(value: object) -> str:
    text = _text(value)
    parts = urlsplit(text) if re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[^\s@]*)?", text) else None
    if parts is None:
        raise refused("C124", "this is not an http(s) URL", "e.g. https://tsa.example.org/tsr")
    return text


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    text = _text(value)
    return _context(info).base / text


def _context(info: ValidationInfo) -> Context:
    return info.context if isinstance(info.context, Context) else Context()


def _shown(value: object) -> str:
    return quoted(value) if isinstance(value, str | int | float) else "this"


def _reference(use: Use, *, literal: bool = False) -> Any:
    def parse(value: object, info: ValidationInfo) -> SecretRef:
        if isinstance(value, SecretRef):
            return value
        context = _context(info)
        try:
            # A pasted key has line breaks: it must be found to be a secret, not a badly written text.
            text = value if isinstance(value, str) and value and not literal else _text(value)
            reference = SecretRef.parse(text, base=context.base, use=use, literal=literal)
            if context.resolve:
                reference.resolve()
        except NotAReferenceError:
            raise refused("C110", "secret written into the file" if use is not Use.PUBLIC else "key written into the file") from None
        except BadReferenceError as problem:
            raise refused("C111", str(problem), "env:NAME, file:/path or cred:name") from None
        except ConfigurationError as problem:
            raise refused("C111", problem.detail, "archiver check shows this as the user who runs it") from None
        return reference

    schema: dict[str, Any] = {"type": "string"} if literal else {"type": "string", "pattern": "^(env|file|cred):.+$"}
    return Annotated[SecretRef, PlainValidator(parse), WithJsonSchema(schema)]


def _written(parse: Callable[[object], Any], pattern: str | None = None) -> tuple[PlainValidator, WithJsonSchema]:
    return PlainValidator(parse), WithJsonSchema({"type": "string"} | ({"pattern": pattern} if pattern else {}))
