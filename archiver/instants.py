"""Writes instants as RFC 3339 text in UTC, so that each field of JSON has one shape whatever its value. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def precise(at: datetime) -> str:
    """Return an instant with six digits of a second, for times that we measured. Raises ValueError for a naive time."""
    return _naive(at).isoformat(timespec="microseconds") + "Z"


def to_second(at: datetime) -> str:
    """Return an instant without the fraction of its second, for times of calls, deadlines and locks. Raises ValueError
    for a naive time."""
    return _naive(at).isoformat(timespec="seconds") + "Z"


def with_offset(at: datetime) -> str:
    """Return an instant as `precise` does, but with `+00:00` in place of `Z`, as older fields have it."""
    return _naive(at).isoformat(timespec="microseconds") + "+00:00"


def precise_or_none(at: datetime | None) -> str | None:
    """Return `precise` of an instant that may be unknown."""
    return None if at is None else precise(at)


def to_second_or_none(at: datetime | None) -> str | None:
    """Return `to_second` of an instant that may be unknown."""
    return None if at is None else to_second(at)


def with_offset_or_none(at: datetime | None) -> str | None:
    """Return `with_offset` of an instant that may be unknown."""
    return None if at is None else with_offset(at)


def _naive(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(UTC).replace(tzinfo=None)
