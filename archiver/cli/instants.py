"""Reads instants and spans of time as people give them on a command line. Pure, but for the callback of an option."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from archiver.cli.options import Options

FORMS = "2026-05-01, 2026-05-01T14:30+02:00, 2026-05, today, yesterday, 36h or 7d (ago)"
"""The forms that `instant_of` takes, for help pages and messages."""

_MONTH = re.compile(r"\d{4}-\d{2}")
_DAYS = {"today": 0, "yesterday": 1}


def instant_of(text: str, now: datetime) -> datetime:
    """Return the instant of a text in one of `FORMS`. A day or a month stands for its beginning; UTC unless the text
    has an offset.

    Raises ValueError for any other text.
    """
    said = text.strip().lower()
    if said == "now":
        return now
    if said in _DAYS:
        return _midnight(now.astimezone(UTC)) - timedelta(days=_DAYS[said])
    if _MONTH.fullmatch(said):
        return datetime.strptime(said, "%Y-%m").replace(tzinfo=UTC)
    if re.fullmatch(r"(\d{1,6}[ywdhms])+", said):
        return _ago(said, now)
    found = datetime.fromisoformat(text.strip())
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def instant(ctx: click.Context, _param: click.Parameter, text: str | None) -> datetime | None:
    """Read an instant given as an option, as `instant_of` does. Raises `BadParameter`."""
    if text is None:
        return None
    try:
        return instant_of(text, ctx.ensure_object(Options).clock.now())
    except (ValueError, OverflowError) as problem:
        raise click.BadParameter(f"{text[:80]!r} is no time; write {FORMS}") from problem


def _ago(said: str, now: datetime) -> datetime:
    from archiver.config.values import parse_duration

    return now - parse_duration(said)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
