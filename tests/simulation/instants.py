"""The fixed instants at which simulations begin: no verdict depends on the day on which the tests are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

INSTANTS = {
    "sunday": datetime(2026, 11, 29, 22, 40, 7, tzinfo=UTC),
    "last of a month": datetime(2027, 1, 31, 23, 29, 59, tzinfo=UTC),
    "29 February": datetime(2028, 2, 29, 12, 0, 0, tzinfo=UTC),
    "clocks go forward": datetime(2027, 3, 28, 0, 30, 0, tzinfo=UTC),
    "clocks go back": datetime(2027, 10, 31, 0, 30, 0, tzinfo=UTC),
    "New Year's Eve": datetime(2026, 12, 31, 23, 50, 0, tzinfo=UTC),
}
_EVERY = "ARCHIVER_INSTANTS"


def beginning_at(
    names: str = "", cases: Sequence[Any] = ((),), *, runs: int = len(INSTANTS)
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Parametrize a simulation by `names`, as pytest does, and by `start`.

    Each case runs, at least `runs` pairs do, and together they begin at as many different instants. With `ARCHIVER_INSTANTS=all`
    in the environment every case begins at every instant.
    """
    listed = [each if isinstance(each, tuple) else (each,) for each in cases]
    begun = list(INSTANTS.items())
    if os.environ.get(_EVERY) == "all":
        pairs = [(case, at) for case in listed for at in begun]
    else:
        count = max(len(listed), runs)
        # The shift after each round keeps two rounds from pairing a case with the same instant.
        pairs = [(listed[n % len(listed)], begun[(n + n // len(begun)) % len(begun)]) for n in range(count)]
    made = [pytest.param(*case, at, id="-".join([*map(str, case), name])) for case, (name, at) in pairs]
    return pytest.mark.parametrize(f"{names},start" if names else "start", made)
