"""Calendar months in UTC. Pure: no I/O, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from archiver.recording import Window

_FORM = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One calendar month, UTC. `str()` gives it as `2026-10`."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def title(self) -> str:
        """The month for a heading: `October 2026`."""
        return f"{date(self.year, self.number, 1):%B %Y}"

    @property
    def before(self) -> Month:
        return Month(self.year - 1, 12) if self.number == 1 else Month(self.year, self.number - 1)

    @property
    def after(self) -> Month:
        return Month(self.year + 1, 1) if self.number == 12 else Month(self.year, self.number + 1)

    @property
    def span(self) -> Window:
        begin = datetime(self.year, self.number, 1, tzinfo=UTC)
        return Window(begin, datetime(self.after.year, self.after.number, 1, tzinfo=UTC))

    @property
    def days(self) -> tuple[date, ...]:
        span = self.span
        return tuple(span.since.date() + timedelta(days=n) for n in range((span.until - span.since).days))


def parse(text: str) -> Month:
    """Reads a month like `2026-10`. Raises ValueError for any other text."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] in {"0000", "9999"}:
        raise ValueError(f"{text[:20]!r} is not a month like 2026-10")
    return Month(int(found[1]), int(found[2]))


def month_of(instant: datetime) -> Month:
    """The month that `instant` is in."""
    at = instant.astimezone(UTC)
    return Month(at.year, at.month)
