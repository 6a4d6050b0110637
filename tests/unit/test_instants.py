"""What a person may write for an instant on a command line, and what it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from archiver.cli.instants import instant_of

NOW = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))  # 28 February, 22:30 UTC


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T14:30", datetime(2026, 5, 1, 14, 30, tzinfo=UTC)),
        ("2026-05-01T14:30+02:00", datetime(2026, 5, 1, 12, 30, tzinfo=UTC)),
        ("2026-05", datetime(2026, 5, 1, tzinfo=UTC)),
        ("today", datetime(2026, 2, 28, tzinfo=UTC)),
        (" Yesterday ", datetime(2026, 2, 27, tzinfo=UTC)),
        ("now", datetime(2026, 2, 28, 22, 30, tzinfo=UTC)),
        ("36h", datetime(2026, 2, 27, 10, 30, tzinfo=UTC)),
        ("1w1d", datetime(2026, 2, 20, 22, 30, tzinfo=UTC)),
    ],
)
def test_instant_is_the_beginning_of_what_was_named(said: str, meant: datetime) -> None:
    assert instant_of(said, NOW) == meant


@pytest.mark.parametrize("said", ["", "tomorrow", "7", "7x", "2026-13", "2026-02-30", "999999y", "2026-5"])
def test_text_that_names_no_instant_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        instant_of(said, NOW)
