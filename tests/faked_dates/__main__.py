"""Runs pytest once for each date, under Debian's libfaketime, in this process's environment.

A DATE is one of the names of `tests.simulation.instants`; none stands for all of them. The database server and the archiver's own
processes live in the faked time, too. The S3 server does not (it is a static Go program): our requests to it are signed with the
true time, see `sitecustomize.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.simulation.instants import INSTANTS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main(arguments: list[str]) -> int:
    names = [each for each in arguments if each in INSTANTS] or list(INSTANTS)
    rest = [each for each in arguments if each not in INSTANTS]
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        print("dates: libfaketime is not installed (Debian: apt-get install libfaketime)", file=sys.stderr)
        return 2
    workers = [] if any(each.startswith("-n") for each in rest) else ["-n", str(min(4, os.cpu_count() or 1))]
    failed = []
    for name in names:
        ahead = round((INSTANTS[name] - datetime.now(UTC)).total_seconds())
        print(f"\n=== {name}: {INSTANTS[name]:%A, %Y-%m-%d %H:%M} UTC", flush=True)
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{ahead:+d}",
            "FAKETIME_DISABLE_SHM": "1",  # the database server runs as another user, who could not read it
            "FAKED_BY_SECONDS": str(ahead),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        }
        command = [sys.executable, "-m", "pytest", *workers, *rest]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    print(
        f"\ndates: {len(names) - len(failed)} of {len(names)} passed", *(f"failed: {each}" for each in failed), sep="\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
