"""A process with everything imported that forks a child for each run: a start costs 20 ms instead of 2 s.

`python -m tests.campaign.parent` reads one request a line from standard input, as JSON, and answers with one line. It never has a
second thread, and no event loop of its own, so that what a child inherits is whole.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from archiver.cli import invoke as archiver
from archiver.database import schema
from tests.campaign.points import Action, Order, swap
from tests.warm import warm

ROOT = Path(__file__).parents[2]
_HANGS_AFTER = 90


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the daemon. `told` gets the points that fired, `log` everything that it prints.

    `kill_after`: SIGKILL after so many seconds, wherever it is. `sabotage`: a bug to plant (`tests.campaign.sabotage`).
    `alive`: seconds for which a heartbeat counts, None for the daemon's own. `stale_links`: how many links are found too
    old when they are needed. `stash` keeps what a power cut may bring back, `probed` what the probes of storages showed.
    """

    config: Path
    told: Path
    log: Path
    stash: Path
    probed: Path
    storage: str
    orders: tuple[Order, ...] = ()
    kill_after: float | None = None
    sabotage: str | None = None
    alive: float | None = None
    stale_links: int = 1

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> Run:
        orders = tuple(Order(each["point"], each["nth"], Action(each["action"])) for each in text["orders"])
        paths = {name: Path(text[name]) for name in ("config", "told", "log", "stash", "probed")}
        return cls(**text | paths | {"orders": orders})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `signal` that killed or stopped it, or its exit code."""

    signal: int | None
    code: int | None

    @classmethod
    def of(cls, status: int) -> Ended:
        if os.WIFSTOPPED(status):
            return cls(os.WSTOPSIG(status), None)
        if os.WIFSIGNALED(status):
            return cls(os.WTERMSIG(status), None)
        return cls(None, os.WEXITSTATUS(status))


class Parent:
    """The warm parent, as seen by the tests. A context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.parent"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def start(self, run: Run) -> int:
        """Fork a child for `run`. Returns its process id."""
        return int(self._ask("start", run.to_json()))

    def wait(self, pid: int) -> Ended:
        """Wait until it ends or stops."""
        return Ended.of(self._ask("wait", str(pid)))

    def go_on(self, pid: int) -> None:
        """Wake a stopped child."""
        self._ask("go on", str(pid))

    def run(self, run: Run) -> Ended:
        """Fork a child and wait for it."""
        pid = self.start(run)
        if run.kill_after is not None:
            time.sleep(run.kill_after)  # a kill must fall anywhere, not where an event would put it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def _ask(self, word: str, rest: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps([word, json.loads(rest)])}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


# --- the parent's own side ------------------------------------------------------------------------------------------


def main() -> None:
    """Serve until standard input ends."""
    _ready()
    for line in sys.stdin:
        word, rest = json.loads(line)
        assert threading.active_count() == 1
        if word == "start":
            answer = os.fork() or _child(Run.from_json(rest))
        elif word == "wait":
            answer = os.waitpid(rest, os.WUNTRACED)[1]
        else:
            os.kill(rest, signal.SIGCONT)
            answer = 0
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _ready() -> None:
    """Everything imported, and what costs most of a start made once."""
    importlib.import_module("tests.campaign.sabotage")
    warm()
    for home, call in ((ssl, "create_default_context"), (schema, "head_revision")):
        swap(home, call, functools.cache)
        getattr(home, call)()


def _child(run: Run) -> int:
    """One run in this process. Never returns: 0 to 143 are the daemon's exit codes, 200 is a bug."""
    code = 200
    try:
        output = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.alarm(_HANGS_AFTER)
        _prepare(run)
        code = archiver(["-c", str(run.config), "-v", "run", "--once"])
    except BaseException:  # noqa: BLE001  whatever it is, the parent's code must not go on here
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _prepare(run: Run) -> None:
    from tests.campaign import failpoints, sabotage
    from tests.campaign.power import Disk

    _hurry(run)
    disk = None
    if any(order.action is Action.POWER for order in run.orders):
        folder = run.config.parent
        disk = Disk([folder / "state" / "spool", folder / "copies"], run.stash)
        disk.watch()
    failpoints.arm(list(run.orders), run.told, disk)
    if run.sabotage is not None:
        sabotage.plant(run.sabotage)


def _hurry(run: Run) -> None:
    """Shorter waits, smaller pages and parts, and one link that has grown old: nothing that decides anything."""
    from archiver.daemon import times
    from archiver.ingest import destination, links, plan, poll, upkeep
    from archiver.providers import vobiz
    from archiver.store import s3

    settings: list[tuple[Any, str, object]] = [
        (plan, "_FIRST_DELAY", timedelta(seconds=0.2)),
        (plan, "_SOONEST", timedelta(seconds=0.1)),
        (destination, "_SHORTEST_PAUSE", timedelta(seconds=0.1)),
        (times, "HOUSEKEEPING", timedelta(seconds=0.2)),
        (upkeep, "_STALE_UPLOAD", timedelta(0)),
        (vobiz, "_LIMIT", 2),
    ]
    if any(order.action is Action.TERM for order in run.orders):
        settings.append((times, "DRAIN", timedelta(0)))
    if run.alive is not None:
        settings += [(times, "ALIVE", timedelta(seconds=run.alive)), (times, "HEARTBEAT", timedelta(seconds=0.3))]
        settings.append((poll, "LEASE", timedelta(seconds=run.alive)))
    for module, name, value in settings:
        swap(module, name, lambda _, value=value: value)  # type: ignore[misc]

    parts = (
        {"multipart_threshold": 1 << 20, "single_limit": 1 << 20, "part_size": 5 << 20}
        if run.storage == "multipart"
        else {}
    )
    swap(
        s3.S3Store,
        "__init__",
        lambda made: lambda self, options, *rest: made(self, dataclasses.replace(options, **parts), *rest),
    )
    stale = iter(range(run.stale_links))
    swap(links.Links, "fresh", lambda fresh: lambda *asked: fresh(*asked) if next(stale, None) is None else None)
    # The probe has tests of its own; what it finds of the same server is the same for each bucket.
    known = run.probed / run.storage
    swap(s3.S3Store, "probe", lambda probe: lambda store: _remembered(store, probe, known))


async def _remembered(store: Any, probe: Any, known: Path) -> Any:
    import pickle

    if known.exists():
        report, profile = pickle.loads(known.read_bytes())
        store._vault.profile = profile
        return report
    report = await probe(store)
    fresh = known.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(pickle.dumps((report, store.profile)))
    fresh.rename(known)
    return report


if __name__ == "__main__":
    main()
