"""Parses durations, sizes, rates and instants as they are written in the configuration. Pure.

Every value arrives as the text in the file (see `document`), so that a number never loses its leading zeros and a date
never its time zone; Python values are accepted too, for configurations built in Python. Every refusal is a
`PydanticCustomError` whose type is the problem's code and whose context may hold a `hint`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pydantic_core import PydanticCustomError

from archiver.retention.span import Span
from archiver.schedule import cron

_UNITS: Final = {
    "y": timedelta(days=365),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_UNIT_HINT = "units: y w d h m s, e.g. 1h30m"
_DURATION = re.compile(r"(?:[0-9]{1,9}[ywdhms])+")
_PART = re.compile(r"([0-9]{1,9})([ywdhms])")
_NEARLY = re.compile(r"([0-9]{1,9})\s*(y|w|d|h|m(?!o)|s)[a-z]*\.?", re.IGNORECASE)
_LONGEST = timedelta(days=365 * 100)

_SIZES: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE = re.compile(r"([0-9]{1,9})\s?([KMGT]i?B|B)")
_PERIODS: Final = {"s": timedelta(seconds=1), "min": timedelta(minutes=1), "h": timedelta(hours=1)}
_LISTEN = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})")
_RATE = re.compile(r"([0-9]{1,6})/(s|min|h)")


class Size(int):
    """A number of bytes. `str()` gives it as it would be written in the file."""

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
            if self and self % _SIZES[unit] == 0:
                return f"{self // _SIZES[unit]}{unit}"
        return f"{int(self)}B"


@dataclass(frozen=True, slots=True)
class Listen:
    """A host and port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` requests in each `per`."""

    count: int
    per: timedelta

    def __str__(self) -> str:
        return f"{self.count}/{next(name for name, period in _PERIODS.items() if period == self.per)}"


def refused(code: str, message: str, hint: str = "") -> PydanticCustomError:
    """The error that a validator raises to refuse one value."""
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def quoted(value: object) -> str:
    """Quotes a value for a message: short, printable, in quotes."""
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return f"'{text[:40]}…'" if len(text) > 40 else f"'{text}'"


def parse_duration(value: object) -> timedelta:
    """Parses a duration like `1h30m`; a week has 7 days, a year 365."""
    if isinstance(value, timedelta):
        return value
    return _total(_parts(value), value)


def parse_span(value: object) -> Span:
    """Parses a span: like a duration, but its years are calendar years."""
    if isinstance(value, Span):
        return value
    parts = _parts(value)
    years = sum(int(number) for number, unit in parts if unit == "y")
    rest = _total([part for part in parts if part[1] != "y"], value)
    if not years and not rest:
        raise refused("C121", f"{quoted(value)} is no time at all", "recordings must be kept for a while, e.g. 7y")
    _total(parts, value)
    return Span(years, rest)


def parse_size(value: object) -> Size:
    """Parses a size like `2GiB` or `500MB`; the unit is never left out."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Size(value)
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise refused("C122", f"{quoted(value)} is not a size", _size_hint(value))
    return Size(int(found[1]) * _SIZES[found[2]])


def parse_rate(value: object) -> Rate:
    """Parses a rate like `60/min`, `10/s` or `1800/h`."""
    if isinstance(value, Rate):
        return value
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise refused("C123", f"{quoted(value)} is not a rate", "requests per s, min or h, e.g. 60/min")
    return Rate(int(found[1]), _PERIODS[found[2]])


def parse_instant(value: object) -> datetime:
    """Parses an ISO 8601 date (midnight UTC) or date and time; a time without an offset is UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        instant = datetime.fromisoformat(str(value))
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise refused("C104", f"{quoted(value)} is not a date", "e.g. 2026-01-31 or 2026-01-31T08:00:00Z") from None


def parse_listen(value: object) -> Listen:
    """Parses a host and port like `127.0.0.1:8484`, `[::1]:8484` or `localhost:8484`."""
    if isinstance(value, Listen):
        return value
    found = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 0 <= int(found[2]) < 65536:
        raise refused("C124", f"{quoted(value)} is not an address to listen on", "host and port, e.g. 127.0.0.1:8484")
    return Listen(found[1].strip("[]"), int(found[2]))


def parse_cron(value: object) -> str:
    """Parses five cron fields, in UTC; an expression that never comes is refused."""
    fields = value.split() if isinstance(value, str) else []
    try:
        for field, allowed in zip(fields, cron.FIELDS, strict=True):
            cron.expand(field, allowed)
    except ValueError:
        hint = "five fields: minute hour day month weekday (mon-sun), e.g. */10 7-20 * * mon-sat"
        raise refused("C104", f"{quoted(value)} is not a cron expression", hint) from None
    expression = " ".join(fields)
    if cron.longest_rest(expression) is None:
        raise refused("C131", f"{quoted(value)} never comes", "no month has such a day")
    return expression


def show_duration(value: timedelta) -> str:
    """The shortest way to write a duration, without years, so that its meaning is the same when it is read again."""
    seconds = int(value.total_seconds())
    written = ""
    for unit in ("d", "h", "m", "s"):
        size = int(_UNITS[unit].total_seconds())
        if seconds >= size:
            written += f"{seconds // size}{unit}"
            seconds %= size
    return written or "0s"


def show_span(value: Span) -> str:
    years = f"{value.years}y" if value.years else ""
    return years + (show_duration(value.rest) if value.rest or not years else "")


def _parts(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise refused("C121", f"{quoted(value)} is not a duration", _duration_hint(value))
    return _PART.findall(value)


def _total(parts: list[tuple[str, str]], value: object) -> timedelta:
    seconds = sum(int(number) * int(_UNITS[unit].total_seconds()) for number, unit in parts)
    if seconds > _LONGEST.total_seconds():
        raise refused("C121", f"{quoted(value)} is longer than a hundred years", _UNIT_HINT)
    return timedelta(seconds=seconds)


def _duration_hint(value: object) -> str:
    found = _NEARLY.fullmatch(value.strip()) if isinstance(value, str) else None
    return f"did you mean {found[1]}{found[2].lower()}?  {_UNIT_HINT}" if found else _UNIT_HINT


def _size_hint(value: object) -> str:
    units = "units: B KB MB GB TB KiB MiB GiB TiB, e.g. 2GiB"
    found = (
        re.fullmatch(r"([0-9]{1,9})\s*([kmgt])i?b?", value.strip(), re.IGNORECASE) if isinstance(value, str) else None
    )
    return f"did you mean {found[1]}{found[2].upper()}iB?  {units}" if found else units
