"""Reads the values that each provider writes in its own way into one form: instants, durations, numbers, identifiers.
Pure.

Every reader is total: nonsense gives None (or `RowError` for an identifier, without which a row is useless), never
another exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

from archiver import vocabulary
from archiver.providers.address import OddLinkError
from archiver.providers.rows import NumberText, Row, RowError
from archiver.recording import Audio, Flag, Json, Link

GREGORIAN_EPOCH = 62_167_219_200
"""Unix time 0 in KAZOO's Gregorian seconds, which count from year 0."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OLDEST_PLAUSIBLE = datetime(2000, 1, 1, tzinfo=UTC)
_LONGEST = Decimal(366 * 86_400)
_NUMBER = re.compile(r"\s*[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,2})?\s*", re.ASCII)
_INSTANT = re.compile(
    r"\s*(\d{4})-(\d{1,2})-(\d{1,2})(?:[Tt ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,12}))?)?)?"
    r"\s*(?:([Zz]|UTC|GMT)|([+-])(\d{2}):?(\d{2})?)?\s*",
    re.ASCII,
)


def text(value: object) -> str | None:
    """Return a non-empty string, or a number's spelling."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: object) -> Decimal | None:
    """Return a finite number, however it was sent: 7880, "7880.00000", 0.0004."""
    spelled = text(value)
    if spelled is None or not _NUMBER.fullmatch(spelled):
        return None
    try:
        return Decimal(spelled.strip())
    except InvalidOperation:
        return None


def count(value: object) -> int | None:
    """Return a whole number from 0 up, such as a total; None for a number that no database holds (`1e99`)."""
    found = number(value)
    return int(found) if found is not None and 0 <= found < 2**63 and found == found.to_integral_value() else None


def identifier(value: object) -> str:
    """Return the provider's own id. Raises `RowError` when the value is no id by which the recording could be asked for
    again.

    "." and ".." cannot be sent as a path segment, not even percent-encoded (RFC 3986 §6.2.2.3).
    """
    name = text(value)
    if name is None or not name.strip():
        raise RowError("has no recording id")
    if name in {".", ".."} or len(name) > 8192:
        raise RowError("has a recording id that cannot be asked for")
    return name


# --- time -------------------------------------------------------------------------------------------------------


def instant(value: object) -> datetime | None:
    """Read a written date and time as UTC. Without an offset the text is UTC; one to twelve fraction digits and
    unpadded hours are read."""
    match = _INSTANT.fullmatch(value) if isinstance(value, str) and len(value) < 64 else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _zulu, sign, off_hours, off_minutes = match.groups()
    offset = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        return datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            min(int(second or 0), 59),  # a leap second
            int((fraction or "0")[:6].ljust(6, "0")),
            tzinfo=timezone(offset),
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def since_epoch_ms(value: object) -> datetime | None:
    """Read milliseconds since 1970, as Plivo and Vobiz write them ("1407235163907.00000")."""
    found = number(value)
    return _after_epoch(found / 1000) if found is not None else None


def gregorian(value: object) -> datetime | None:
    """Read KAZOO's Gregorian seconds."""
    found = number(value)
    return _after_epoch(found - GREGORIAN_EPOCH) if found else None


def to_gregorian(moment: datetime) -> int:
    """Return KAZOO's Gregorian seconds for `moment`, rounded down."""
    return int((moment - _EPOCH) // timedelta(seconds=1)) + GREGORIAN_EPOCH


def _after_epoch(seconds: Decimal) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
    except (OverflowError, ValueError):
        return None


def seconds(value: object) -> timedelta | None:
    """Read a duration in seconds; None when it is negative or longer than a year."""
    return _lasting(number(value))


def milliseconds(value: object) -> timedelta | None:
    """Read a duration in milliseconds, with the same bounds as `seconds`."""
    found = number(value)
    return _lasting(None if found is None else found / 1000)


def _lasting(found: Decimal | None) -> timedelta | None:
    return timedelta(microseconds=int(found * 1_000_000)) if found is not None and 0 <= found <= _LONGEST else None


def time_flags(now: datetime, *stated: tuple[object, datetime | None]) -> frozenset[Flag]:
    """Return `TIME_IMPLAUSIBLE` when a (value as stated, instant as read) is nonsense: unreadable, before 2000, or over
    24 h ahead of `now`. An empty value raises no flag."""
    latest = now + timedelta(hours=24)
    doubtful = any(
        value not in (None, "") and (moment is None or not _OLDEST_PLAUSIBLE <= moment <= latest)
        for value, moment in stated
    )
    return frozenset({Flag.TIME_IMPLAUSIBLE}) if doubtful else frozenset()


def earlier(moment: datetime | None, by: timedelta | None) -> datetime | None:
    """Return `moment` − `by`, when both are known and the calendar reaches that far."""
    try:
        return moment - by if moment is not None and by is not None else None
    except OverflowError:
        return None


def later(moment: datetime | None, by: timedelta | None) -> datetime | None:
    """Return `moment` + `by`, when both are known and the calendar reaches that far."""
    return earlier(moment, -by) if by is not None else None


def whole_ms(span: timedelta | None) -> int | None:
    return span // timedelta(milliseconds=1) if span is not None else None


# --- words ------------------------------------------------------------------------------------------------------

_FORMATS = {"mpeg": "mp3", "x-mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}


def direction(value: object) -> str | None:
    """Return "inbound" or "outbound" (or any other word as stated), in lower case."""
    return vocabulary.direction(value) or None if isinstance(value, str) else None


def audio_format(value: object) -> str | None:
    """Return the format (mp3, wav, …) from "mp3", ".mp3" or "audio/mpeg"."""
    word = value.strip().lower().rpartition("/")[2].lstrip(".") if isinstance(value, str) else ""
    return _FORMATS.get(word, word) or None


def link_in(read: Callable[[object], Link | None], *values: object) -> tuple[Link | None, Audio]:
    """Return the link in the first of `values` that holds one, and the state of the audio that follows from it.

    The state is `UNREADABLE` where a value is there and no link can be read, `NOT_YET` where every value is empty.
    """
    odd = False
    for value in values:
        try:
            link = read(value)
        except OddLinkError:
            odd = True
        else:
            if link is not None:
                return link, Audio.PRESENT
    return None, Audio.UNREADABLE if odd else Audio.NOT_YET


def at(row: object, path: str) -> object:
    """Return the value at a dotted path, or None."""
    for key in path.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row


def first(row: Row, *names: str) -> object:
    """Return the first of these fields that is not empty."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def same(names: str) -> dict[str, str]:
    """Return a mapping for `metadata` in which fields keep their names."""
    return {name: name for name in names.split()}


def metadata(row: Row, fields: Mapping[str, str], **known: Json) -> dict[str, Json]:
    """Return searchable keys: our name → value at the field's dotted path in the row, then the values that the adapter
    worked out. Empty values are left out."""
    found = {name: plain(at(row, path)) for name, path in fields.items()} | known
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def plain(value: object) -> Json:
    """Return a value of the row without floats: a number that is no small integer becomes text."""
    if isinstance(value, NumberText):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, bool | str) or value is None:
        return value
    return value if isinstance(value, int) and abs(value) < 2**53 else str(value)
