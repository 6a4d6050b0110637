"""The shipped command in a process of its own, forked from one that has everything imported: 0.1 s of a processor, not 2 s.

From its first line on a child does what `python -m archiver` does; folder, environment, output, signals, exit code are its own.
It does not show that a command imports what it needs: for that `tests.acceptance.cli.whole` starts an interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from archiver.cli import invoke as archiver

ROOT = Path(__file__).parents[1]
_LARGEST = 1 << 18  # bytes of a request
_starting = threading.Lock()
_server: tuple[subprocess.Popen[bytes], socket.socket] | None = None


def run(arguments: list[str], cwd: Path, env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run the command with these arguments, capturing what it says. May be called from several threads at once."""
    command = ["archiver", *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ours, theirs = os.pipe()
        with open(ours, "rb") as answers:  # noqa: PTH123  a descriptor
            try:
                request = json.dumps([arguments, str(cwd), dict(env)]).encode()
                socket.send_fds(_served(), [request], [out.fileno(), err.fileno(), theirs])
            finally:
                os.close(theirs)
            pid = int(answers.readline())
            alarm = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
            alarm.start()
            code = os.waitstatus_to_exitcode(int(answers.readline()))
            late = alarm.finished.is_set()
            alarm.cancel()
        said = []
        for each in (out, err):
            each.seek(0)
            said.append(each.read().decode())
    if late:
        raise subprocess.TimeoutExpired(command, seconds, said[0], said[1])
    return subprocess.CompletedProcess(command, code, said[0], said[1])


def _served() -> socket.socket:
    """The way to this process's server, which is started when it is first asked and ends with us."""
    global _server  # noqa: PLW0603
    with _starting:
        if _server is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            _server = process, ours
            atexit.register(_end)
        return _server[1]


def _end() -> None:
    if _server is not None:
        _server[1].close()
        _server[0].wait(10)


# --- the server's own side ------------------------------------------------------------------------------------------


def warm() -> None:
    """Import the archiver, and have read once what its libraries read when they are first used."""
    import archiver as package

    aside = ("archiver.demo", "archiver.evidence.verifier", "archiver.__main__")
    for module in pkgutil.walk_packages(package.__path__, "archiver."):
        if not module.name.startswith(aside):
            importlib.import_module(module.name)
    importlib.import_module("sqlalchemy.dialects.postgresql.psycopg")
    importlib.import_module("sqlalchemy.dialects.sqlite.pysqlite")

    from archiver.database import schema
    from archiver.store.s3_client import S3Options, connect, new_session

    schema.head_revision()
    options = S3Options("warm", "warm", endpoint="http://127.0.0.1:1")
    connect(new_session(options), options, sign=False, attempts=1).close()
    gc.collect()
    gc.freeze()


def serve(asked: socket.socket) -> int:
    """Fork a child for each request and tell how it ended, until nobody is left to ask.

    One thread and no event loop, so that what a child inherits is whole. Returns in each child, with the command's exit code.
    """
    answers: dict[int, int] = {}
    ended, ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ends, warn_on_full_buffer=False)  # a signal between two calls wakes the next one, too
    while True:
        ready, _, _ = select.select([asked, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _tell(answers)
        if asked in ready:
            request, descriptors, _, _ = socket.recv_fds(asked, _LARGEST, 3)
            if not request:
                return 0
            assert threading.active_count() == 1
            pid = os.fork()
            if pid == 0:
                break
            answers[pid] = descriptors.pop()
            os.write(answers[pid], f"{pid}\n".encode())
            for each in descriptors:
                os.close(each)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in (ended, ends, *answers.values()):
        os.close(each)
    asked.close()
    for descriptor, number in zip(descriptors, (1, 2), strict=False):
        os.dup2(descriptor, number)
    for each in descriptors:
        os.close(each)
    arguments, cwd, env = json.loads(request)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    return archiver(arguments)


def _tell(answers: dict[int, int]) -> None:
    """Say how each child that has ended did."""
    with contextlib.suppress(ChildProcessError):
        while (pid_and_status := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = pid_and_status
            descriptor = answers.pop(pid)
            os.write(descriptor, f"{status}\n".encode())
            os.close(descriptor)


def main() -> NoReturn:
    warm()
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
