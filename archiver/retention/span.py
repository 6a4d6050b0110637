"""Adds a length of time as people mean it: seven years end on the same day of the calendar, not 2555 days later.
Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time: calendar years, then a fixed rest."""

    years: int = 0
    rest: timedelta = timedelta(0)

    def after(self, instant: datetime) -> datetime:
        """Returns the instant this much later. From 29 February to a year without that day it is 1 March: never shorter
        than asked."""
        year = instant.year + self.years
        try:
            moved = instant.replace(year=year)
        except ValueError:
            moved = instant.replace(year=year, month=3, day=1)
        return moved + self.rest
