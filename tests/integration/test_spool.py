"""The spool on real disks that are full, broken or cut off (reliability §3.3)."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.errors import (
    ConfigurationError,
    NotAllowedError,
    NotFoundError,
    SpoolFullError,
    TooLargeError,
    UnavailableError,
)
from archiver.fetch.spool import Spool, Usage, lock_state_dir, measure
from tests.fetch_bodies import CountedChance

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


class Fixed:
    """A clock that stands `ahead` of the files' own."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


@pytest.fixture
def spool(directory: Path) -> Spool:
    return Spool(directory, 64 * MIB, clock=Fixed(), chance=CountedChance())


def put(spool: Spool, data: bytes, expected: int | None = None) -> Path:
    with spool.part(expected) as part:
        part.file.write(data)
        return spool.commit(part)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"spool.id"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- life of an object ----------------------------------------------------------------------------------------------


def test_committed_object_lies_under_its_final_name_readable_by_nobody_else(spool: Spool, directory: Path) -> None:
    old = os.umask(0)
    try:
        path = put(spool, b"sealed" * 1000)
    finally:
        os.umask(old)
    assert path.read_bytes() == b"sealed" * 1000
    assert path == spool.path(path.name)
    assert names(directory) == {path.name}
    assert (mode(path), mode(directory)) == (0o600, 0o700)
    assert spool.usage().used == 6000
    assert spool.usage().reserved == 0


def test_part_may_be_written_out_of_order_and_read_back(spool: Spool) -> None:
    with spool.part() as part:
        part.file.seek(100)
        part.file.write(bytes(2 * MIB))
        part.file.seek(0)
        part.file.write(b"h" * 100)
        part.file.seek(0)
        assert part.file.read(101) == b"h" * 100 + b"\0"
        assert spool.commit(part).stat().st_size == 100 + 2 * MIB


def test_uncommitted_part_is_removed_and_its_room_freed(spool: Spool, directory: Path) -> None:
    with spool.part(MIB) as part:
        part.file.write(bytes(MIB))
        assert spool.usage().reserved == MIB
    assert names(directory) == set()
    assert spool.usage().reserved == 0


def test_directory_is_made_private_if_it_was_not(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o777)
    directory.chmod(0o777)
    Spool(directory, MIB, clock=Fixed(), chance=CountedChance())
    assert mode(directory) == 0o700


def test_rename_comes_after_the_file_is_durable_and_before_the_directory_is(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(fd: int) -> None:
        order.append("fsync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
        fsync(fd)

    def watched_rename(source: object, target: object, **kw: object) -> None:
        order.append("rename")
        rename(source, target, **kw)  # type: ignore[arg-type]

    with spool.part() as part:
        part.file.write(b"x")
        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "rename", watched_rename)
        spool.commit(part)
    assert order == ["fsync file", "rename", "fsync directory"]


def test_remove_is_idempotent(spool: Spool, directory: Path) -> None:
    name = put(spool, b"x").name
    spool.remove(name)
    spool.remove(name)
    assert names(directory) == set()
    assert spool.usage().used == 0
    assert not spool.path(name).exists()


@pytest.mark.parametrize("name", ["", "..", "../x.sealed", "spool.id", "/etc/passwd", "x.sealed", "a/b.sealed",
                                  "01890000-0000-7000-8000-000000000001.part",
                                  "01890000-0000-7000-8000-000000000001.sealed\n"])  # fmt: skip
def test_names_that_are_not_of_the_spool_reach_no_file(name: str, spool: Spool) -> None:
    for verb in (spool.path, spool.remove):
        with pytest.raises(NotFoundError):
            verb(name)


def test_identity_survives_a_restart_and_differs_between_disks(directory: Path, tmp_path: Path) -> None:
    first = Spool(directory, MIB, clock=Fixed(), chance=SystemChance())
    assert Spool(directory, MIB, clock=Fixed(), chance=SystemChance()).id == first.id
    assert Spool(tmp_path / "other", MIB, clock=Fixed(), chance=SystemChance()).id != first.id
    (directory / "spool.id").write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"spool\.id"):
        Spool(directory, MIB, clock=Fixed(), chance=SystemChance())


# --- sweeping -------------------------------------------------------------------------------------------------------


def test_sweep_removes_dead_parts_and_old_orphans_only(spool: Spool, directory: Path) -> None:
    kept, orphan = put(spool, b"kept").name, put(spool, b"orphan").name
    (directory / "01890000-0000-7000-8000-00000000dead.part").write_bytes(b"half")
    (directory / "notes.txt").write_text("a person's own")
    with spool.part() as writing:
        assert spool.sweep({kept}) == ("01890000-0000-7000-8000-00000000dead.part",)
        later = Spool(directory, MIB, clock=Fixed(timedelta(hours=2)), chance=CountedChance(100))
        writing_name = writing.path.name
        assert names(directory) == {kept, orphan, writing_name, "notes.txt"}
        assert later.usage().used == len(b"kept" + b"orphan")
        assert set(later.sweep({kept})) == {orphan, writing_name}  # another process's part is dead by the lock
        assert later.usage().used == len(b"kept")


# --- room -----------------------------------------------------------------------------------------------------------


def test_used_and_reserved_together_never_pass_the_quota(spool: Spool) -> None:
    put(spool, bytes(20 * MIB), 20 * MIB)
    with spool.part(40 * MIB) as first:
        with pytest.raises(SpoolFullError):
            spool.part(5 * MIB)
        spool.admit(4 * MIB)
        with spool.part(3 * MIB) as second, pytest.raises(SpoolFullError):
            second.file.write(bytes(5 * MIB))
        first.file.write(bytes(40 * MIB))
        assert spool.usage().used + spool.usage().reserved <= spool.usage().quota
        spool.commit(first)
    with pytest.raises(SpoolFullError):
        spool.admit(4 * MIB + 1)


def test_admission_resumes_when_objects_have_left(spool: Spool) -> None:
    name = put(spool, bytes(60 * MIB)).name
    with pytest.raises(SpoolFullError):
        spool.admit(10 * MIB)
    spool.remove(name)
    spool.admit(10 * MIB)


def test_recording_larger_than_the_whole_quota_is_told_apart_from_a_full_spool(spool: Spool, directory: Path) -> None:
    with pytest.raises(TooLargeError):
        spool.part(65 * MIB)
    with spool.part() as part:
        part.file.write(bytes(64 * MIB))
        with pytest.raises(TooLargeError):
            part.file.write(bytes(MIB))
    assert names(directory) == set()
    assert spool.usage().reserved == 0


def test_unknown_size_grows_by_what_comes(spool: Spool) -> None:
    with spool.part() as part:
        before = spool.usage().reserved
        part.file.write(bytes(30 * MIB))
        assert before <= 4 * MIB < 30 * MIB <= spool.usage().reserved <= 31 * MIB
        spool.commit(part)
    assert (spool.usage().used, spool.usage().reserved) == (30 * MIB, 0)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "unwritten", "wanted", "fits"),
    [
        (2 * GIB, 0, None, True),  # less than a tenth of what the spool may take
        (20 * MIB, 0, 4 * MIB, True),
        (20 * MIB - 1, 0, 4 * MIB, False),
        (24 * MIB, 4 * MIB, 4 * MIB, True),
        (24 * MIB, 4 * MIB + 1, 4 * MIB, False),
        (GIB, 0, GIB, False),
    ],
)
def test_room_is_needed_for_what_is_in_work_and_not_for_a_part_of_the_quota(
    free: int, unwritten: int, wanted: int | None, fits: bool
) -> None:
    disk = Usage(0, 0, unwritten, 20 * GIB, free, 1000 * GIB, unwritten)
    assert (disk.shortage(wanted) is None) is fits


def test_small_disk_keeps_a_twentieth_free_and_is_full_when_no_more_fits() -> None:
    disk = Usage(3, 60 * MIB, 0, 20 * GIB, 40 * MIB, 100 * MIB)
    assert (disk.floor, disk.percent) == (5 * MIB, 63)
    assert Usage(3, 60 * MIB, 0, 64 * MIB, 40 * MIB, 100 * MIB).percent == 93


def test_refusal_is_remembered_for_as_long_as_it_may_be_tried_again(directory: Path) -> None:
    clock = Fixed()
    spool = Spool(directory, 8 * MIB, clock=clock, chance=CountedChance())
    assert spool.trouble() is None
    with spool.part(5 * MIB), spool.part(3 * MIB) as second, pytest.raises(SpoolFullError):
        second.file.write(bytes(5 * MIB))
    assert spool.trouble() is None, "another in work stood in its way"
    name = put(spool, bytes(5 * MIB)).name
    with spool.part(3 * MIB) as alone, pytest.raises(SpoolFullError):
        alone.file.write(bytes(5 * MIB))
    spool.remove(name)
    assert "MiB wanted" in str(spool.trouble())
    clock.ahead = timedelta(minutes=6)
    assert spool.trouble() is None


def test_spool_is_measured_from_outside_by_who_does_not_hold_it(spool: Spool, directory: Path, tmp_path: Path) -> None:
    put(spool, bytes(20 * MIB))
    seen = measure(directory, 64 * MIB)
    assert (seen.files, seen.used, seen.percent) == (1, 20 * MIB, 31)
    with pytest.raises(UnavailableError):
        measure(tmp_path / "nowhere", MIB)


def test_many_threads_share_the_quota(spool: Spool, directory: Path) -> None:
    def attempt(_: int) -> int:
        try:
            put(spool, bytes(3 * MIB + 17))
        except SpoolFullError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        stored = sum(pool.map(attempt, range(40)))
    assert 16 <= stored <= 21
    assert sum(path.stat().st_size for path in directory.glob("*.sealed")) == spool.usage().used <= 64 * MIB
    assert not list(directory.glob("*.part"))
    assert spool.usage().reserved == 0


# --- one owner ------------------------------------------------------------------------------------------------------


def test_second_process_on_the_same_state_directory_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = "import sys; from pathlib import Path; from archiver.fetch.spool import lock_state_dir\n"
    script += "with lock_state_dir(Path(sys.argv[1])): print('held')"

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(state)], cwd=ROOT, capture_output=True, text=True, check=False
        )

    with lock_state_dir(state):
        assert "NotAllowedError" in other().stderr
        with pytest.raises(NotAllowedError), lock_state_dir(state):
            pass
    assert other().stdout == "held\n"
    assert mode(state) == 0o700


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True], ids=["refused", "done, but the answer lost"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE])
@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
@pytest.mark.parametrize("nth", [1, 2])
def test_fault_at_any_call_leaves_no_file_and_no_reservation(
    nth: int, call: str, code: int, done: bool, spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's answers, put in at the system call's door; the disk below stays real."""
    real: Callable[..., object] = getattr(os, call)
    calls = 0

    def faulty(*args: object, **kw: object) -> object:
        nonlocal calls
        calls += 1
        if calls != nth:
            return real(*args, **kw)
        if done and (call != "open"):
            real(*args, **kw)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, faulty)
    happens = nth <= {"open": 2, "fsync": 2, "rename": 1}[call]
    expected = SpoolFullError if code in (errno.ENOSPC, errno.EDQUOT) else UnavailableError
    with pytest.raises(expected) if happens else nullcontext():
        put(spool, b"sealed" * 5000)
    assert len(names(directory)) == (not happens)
    assert spool.usage().used == (0 if happens else 30_000)
    assert spool.usage().reserved == 0
    monkeypatch.undo()
    assert put(spool, b"again").read_bytes() == b"again"


CHILD = """
import sys
from pathlib import Path
from archiver.clock import SystemClock
from archiver.errors import SpoolFullError, UnavailableError
from archiver.fetch.spool import Spool
from tests.fetch_bodies import CountedChance
directory, prepare = Path(sys.argv[1]), sys.argv[2]
exec(prepare)
spool = Spool(directory, 64 << 20, clock=SystemClock(), chance=CountedChance())
kind = "none"
try:
    with spool.part(1000) as part:
        for _ in range(40):
            part.file.write(bytes(100_000))
        spool.commit(part)
except (SpoolFullError, UnavailableError) as exc:
    kind = type(exc).__name__
print(kind, spool.usage().reserved, *sorted(p.name for p in directory.iterdir() if p.name != "spool.id"))
"""


def child(directory: Path, prepare: str = "", wrap: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*wrap, sys.executable, "-W", "error", "-c", CHILD, str(directory), prepare],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("limit", [1, 8192, 100_000, 1_000_000, 3_999_999])
def test_file_size_limit_reached_while_writing(limit: int, directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "spool.id").write_text("01890000-0000-7000-8000-00000000000a")
    prepare = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    assert child(directory, prepare) == "SpoolFullError 0"


def test_no_descriptor_left(directory: Path) -> None:
    Spool(directory, MIB, clock=Fixed(), chance=CountedChance())
    prepare = (
        "import os, resource\n"
        "n = len(os.listdir('/proc/self/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (n + 8, n + 8))\n"
        "held = []\n"
        "real = Spool.part\n"
        "def part(*a):\n"
        "    try:\n"
        "        while True: held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "    except OSError: pass\n"
        "    try: return real(*a)\n"
        "    finally: [os.close(fd) for fd in held]\n"
        "Spool.part = part\n"
    )
    assert child(directory, prepare) == "UnavailableError 0"


def _may_mount() -> bool:
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not _may_mount(), reason="the kernel does not let this user mount a small disk")
@pytest.mark.parametrize("kib", [256, 1024, 3072])
def test_disk_of_so_many_kib_runs_full(kib: int, directory: Path) -> None:
    """Admission already refuses what such a disk cannot hold; with its reserve switched off, the kernel does."""
    directory.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size={kib}k none {directory} && exec "$@"'
    wrap = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    assert child(directory, "Spool._check_room = lambda *a: None", wrap) == "SpoolFullError 0"
    hungry = "real = Spool.part; Spool.part = lambda self, n: real(self, 1 << 20)"
    assert child(directory, hungry, wrap) == "SpoolFullError 0"


def _may_trace() -> bool:
    probe = ["strace", "-e", "inject=fsync:error=EIO", "-e", "trace=fsync", "-o", os.devnull, "true"]
    return (
        shutil.which("strace") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not _may_trace(), reason="strace is not here, or may not trace")
@pytest.mark.parametrize("code", ["ENOSPC", "EIO", "EROFS"])
@pytest.mark.parametrize("call", ["write", "fsync", "/^rename"])
def test_kernel_refusing_any_call(call: str, code: str, directory: Path, tmp_path: Path) -> None:
    """The first, a middle and the last of the spool's own calls, refused by the kernel itself."""
    spool = Spool(directory, 64 * MIB, clock=SystemClock(), chance=CountedChance())
    trace, sealed = tmp_path / "trace", "01890000-0000-7000-8000-000000000001.sealed"
    wrap = ("strace", "-f", "-qq", "-o", str(trace), "-P", str(directory),
            "-P", str(directory / sealed.replace("sealed", "part")), "-e", f"trace={call}")  # fmt: skip
    assert child(directory, "", wrap) == f"none 0 {sealed}"
    calls = trace.read_text().count(call.lstrip("/^"))
    assert calls >= 1
    for nth in sorted({1, (calls + 1) // 2, calls}):
        spool.remove(sealed)
        inject = (*wrap, "-e", f"inject={call}:error={code}:when={nth}")
        assert child(directory, "", inject) == ("SpoolFullError 0" if code == "ENOSPC" else "UnavailableError 0"), nth
