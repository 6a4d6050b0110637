"""Says which tests needed a second try, and fails when one of them did so before within a week.

Usage: second_tries.py LASTFAILED LOG. LASTFAILED is what pytest's cache held after the first run; all of it passed at the second.
LOG has a line for each second try: the day, a tab, the test. New lines are added to it: whoever sees them commits them, so that
the next run knows. A test that needs a second try twice in a week is not unlucky.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

WEEK = timedelta(days=7)


def repeated(failed: Iterable[str], log: Iterable[str], today: date) -> list[str]:
    """The tests that needed a second try on an earlier line of `log`, at most a week ago, as well as now."""
    before = {
        test for day, _, test in (line.rstrip("\n").partition("\t") for line in log if "\t" in line)
        if today - WEEK <= date.fromisoformat(day) <= today
    }  # fmt: skip
    return sorted(before & set(failed))


def main(lastfailed: Path, log: Path) -> int:
    failed = sorted(json.loads(lastfailed.read_text())) if lastfailed.exists() else []
    today = datetime.now(UTC).date()
    lines = log.read_text().splitlines() if log.exists() else []
    again = repeated(failed, lines, today)
    print(f"\n{len(failed)} test(s) needed a second try; add these lines to {log}:")
    new = [f"{today}\t{test}" for test in failed]
    print(*new, sep="\n")
    log.write_text("".join(f"{line}\n" for line in [*lines, *new]))
    for test in again:
        print(f"second_tries: {test} needed a second try before, within a week: mend it", file=sys.stderr)
    return 1 if again else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
