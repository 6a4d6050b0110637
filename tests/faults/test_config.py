"""The configuration's row of the fault table (reliability §3.5): refused with line and key, exit 78; a running daemon goes on.

"Bad TOML" reads "bad YAML" here: DESIGN §10 chose the format.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from archiver.cli import invoke as archiver
from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.demo.simulators import Redirect, Route, fleet
from archiver.demo.simulators.scenario import samples
from archiver.errors import Exit
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver as command
from tests.acceptance.test_archive import DIRECTORY, truth
from tests.faults.rig import call
from tests.seal_keys import generate_local_key

GOOD = """\
version: 1
instance: acme
state_dir: state
defaults:
  poll_every: 10m
  overlap: 24h
  safety_margin: 72h
  concurrency: 4
  max_size: 2GiB
providers:
  - id: jc
    kind: justcall
    api_key: env:FAULTS_JC_KEY
    api_secret: file:jc.secret
    plan: team
  - id: kz
    kind: kazoo
    base_url: https://kazoo.example.net:8443
    account_id: 0123456789abcdef0123456789abcdef
    auth_token: cred:kazoo
    retention: {months: 6}
  - id: pl
    kind: plivo
    auth_id: MA1
    auth_token: file:pl.secret
    rate: 5/s
    retention: {days: 90}
storage:
  - id: primary
    kind: directory
    path: copies
encryption:
  recipients:
    - id: site
      kind: aes-kw-256
      key: file:site.key
      escrow: true
custody:
  signing_key: file:custody.pem
retention:
  default: 7y
spool:
  quota: 4GiB
"""
SECRETS = ("jc.secret", "pl.secret", "kazoo", "site.key", "custody.pem")
CANARY = "canary-of-a-secret"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that is right, with everything that it refers to."""
    chance = SystemChance()
    (tmp_path / "archiver.yaml").write_text(GOOD)
    for name in SECRETS:
        (tmp_path / name).write_text(CANARY)
    (tmp_path / "site.key").write_bytes(generate_local_key(chance))
    (tmp_path / "custody.pem").write_bytes(to_pem(generate_signing_key(chance)))
    for name in SECRETS:
        (tmp_path / name).chmod(0o400)
    monkeypatch.setenv("FAULTS_JC_KEY", CANARY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, object]]]:
    """The exit code of `archiver check`, and the problems that it lists."""
    capsys.readouterr()
    code = archiver(["-c", str(folder / "archiver.yaml"), "-o", "json", "check"])
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    return code, json.loads(said.out)["data"]


def test_config_that_is_right_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, capsys) == (Exit.OK, [])


# In the place of a line of `GOOD`: what is wrong, with ◀ where the complaint must point, and the word it must say.
BAD_FILE = [
    ("version: 1", "version: 1\n\tinstance: x◀", ""),
    ("version: 1\ninstance: acme", "version: [1\ninstance◀: acme", ""),
    ("instance: acme", 'instance: "acme◀', ""),
    ("instance: acme", "instance: acme\ninstance: twice◀", "instance"),
    ("state_dir: state", "state_dir: *nowhere◀", "anchor"),
    ("state_dir: state", "state_dir: !!python/object:os.system x◀", ""),
    ("defaults:", "--- ◀\ndefaults:", ""),
    ("defaults:", "defaults: 10m\nother:◀", ""),
    ("spool:", "spool:\n  <<: 1◀", ""),
    ("  quota: 4GiB", "  quota: 4\0GiB◀", ""),
]
UNKNOWN_KEY = [
    ("version: 1", "version: 1\nnonsense: true◀", "nonsense"),
    ("  poll_every: 10m", "  pol_every: 10m◀", "poll_every"),
    ("    plan: team", "    plann: team◀", "plan"),
    ("    auth_token: cred:kazoo", "    auth_token: cred:kazoo\n    token: x◀", "token"),
    ("    rate: 5/s", "    rate_limit: 5/s◀", "rate_limit"),
    ("    retention: {months: 6}", "    retention: {month: 6}◀", "month"),
    ("    path: copies", "    path: copies\n    bucket: x◀", "bucket"),
    ("      escrow: true", "      escrows: true◀", "escrow"),
    (
        "  signing_key: file:custody.pem",
        "  signing_keys: file:custody.pem◀\n  signing_key: file:custody.pem",
        "signing_key",
    ),
    ("  default: 7y", "  defalt: 7y◀", "default"),
    ("  quota: 4GiB", "  quotas: 1GiB◀", "quota"),
]
NOUGHT_OR_NEGATIVE = [
    ("  poll_every: 10m", "  poll_every: 0s◀", "poll_every"),
    ("  poll_every: 10m", "  poll_every: 0◀", "poll_every"),
    ("  poll_every: 10m", "  poll_every: -10m◀", "poll_every"),
    ("  poll_every: 10m", "  poll_every: -1◀", "poll_every"),
    ("  poll_every: 10m", "  poll_every: .nan◀", "poll_every"),
    ("  poll_every: 10m", "  poll_every: 1e9y◀", "poll_every"),
    ("  overlap: 24h", "  overlap: -24h◀", "overlap"),
    ("  safety_margin: 72h", "  safety_margin: -72h◀", "safety_margin"),
    ("  concurrency: 4", "  concurrency: 0◀", "concurrency"),
    ("  concurrency: 4", "  concurrency: -4◀", "concurrency"),
    ("  concurrency: 4", "  concurrency: 1000000◀", "concurrency"),
    ("  concurrency: 4", "  concurrency: 4.5◀", "concurrency"),
    ("  max_size: 2GiB", "  max_size: 0◀", "max_size"),
    ("  max_size: 2GiB", "  max_size: -2GiB◀", "max_size"),
    ("    plan: team", "    plan: team\n    poll_every: 0m◀", "poll_every"),
    ("    plan: team", "    plan: team\n    quota: -5GB◀", "quota"),
    ("    plan: team", "    plan: team\n    overlap: -1s◀", "overlap"),
    ("    retention: {months: 6}", "    retention: {months: 0}◀", "months"),
    ("    retention: {months: 6}", "    retention: {months: -6}◀", "months"),
    ("    rate: 5/s", "    rate: 0/s◀", "rate"),
    ("    rate: 5/s", "    rate: -5/s◀", "rate"),
    ("    retention: {days: 90}", "    retention: {days: 0}◀", "days"),
    ("    retention: {days: 90}", "    retention: {days: -90}◀", "days"),
    ("  default: 7y", "  default: 0d◀", "default"),
    ("  default: 7y", "  default: -7y◀", "default"),
    ("  quota: 4GiB", "  quota: 0◀", "quota"),
    ("  quota: 4GiB", "  quota: -4GiB◀", "quota"),
    ("  signing_key: file:custody.pem", "  signing_key: file:custody.pem\n  checkpoint_every: 0s◀", "checkpoint_every"),
]


@pytest.mark.parametrize(("line", "wrong", "key"), BAD_FILE + UNKNOWN_KEY + NOUGHT_OR_NEGATIVE)
def test_config_bad_file_unknown_key_interval_0_or_negative_is_refused_at_its_line(
    line: str, wrong: str, key: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 78, the line and the key; nothing is started, nothing is made."""
    text = GOOD.replace(line + "\n", wrong + "\n", 1)
    assert text != GOOD
    number = text[: text.index("◀")].count("\n") + 1
    (folder / "archiver.yaml").write_text(text.replace("◀", ""))
    code, problems = check(folder, capsys)
    errors = [each for each in problems if each["severity"] == "error"]
    assert code == Exit.CONFIGURATION
    assert number in [each["line"] for each in errors], errors
    assert any(key in f"{each['message']} {each['hint']} {each['path']}" for each in errors), errors
    assert archiver(["-c", str(folder / "archiver.yaml"), "run", "--once"]) == Exit.CONFIGURATION
    said = capsys.readouterr()
    assert f"archiver.yaml:{number}:" in said.out + said.err
    assert not (folder / "state").exists()


def unset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULTS_JC_KEY")


def emptied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS_JC_KEY", "")


def control_characters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS_JC_KEY", f"{CANARY}\nX-Evil: 1")


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "nowhere"))


def changed(name: str, change: Callable[[Path], object]) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / name).chmod(0o600)
        change(folder / name)

    return fault


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


MISSING = [
    (unset, "providers[0].api_key", "FAULTS_JC_KEY"),
    (emptied, "providers[0].api_key", "FAULTS_JC_KEY"),
    (control_characters, "providers[0].api_key", "FAULTS_JC_KEY"),
    (elsewhere, "providers[1].auth_token", "kazoo"),
    (changed("jc.secret", Path.unlink), "providers[0].api_secret", "jc.secret"),
    (changed("jc.secret", lambda path: path.write_text("")), "providers[0].api_secret", "jc.secret"),
    (changed("jc.secret", a_folder), "providers[0].api_secret", "jc.secret"),
    (
        changed("pl.secret", lambda path: path.write_bytes(b"\xff\xfe" + CANARY.encode())),
        "providers[2].auth_token",
        "pl.secret",
    ),
    (changed("pl.secret", lambda path: path.write_text(CANARY * 9000)), "providers[2].auth_token", "pl.secret"),
    (changed("site.key", lambda path: path.write_text(CANARY)), "encryption.recipients[0].key", ""),
    (changed("custody.pem", lambda path: path.write_text(CANARY)), "custody.signing_key", ""),
    (changed("custody.pem", Path.unlink), "custody.signing_key", "custody.pem"),
]
OPEN_TO_CHANGE = [
    (changed(name, lambda path, mode=mode: path.chmod(mode)), where, name)  # type: ignore[misc]
    for name, where in (("jc.secret", "providers[0].api_secret"), ("custody.pem", "custody.signing_key"))
    for mode in (0o660, 0o602, 0o666)
]


@pytest.mark.parametrize(("fault", "where", "named"), MISSING + OPEN_TO_CHANGE)
def test_config_secret_missing_or_wrong_perms_is_refused_at_its_reference(
    fault: Callable[[Path, pytest.MonkeyPatch], None],
    where: str,
    named: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Named by its key and line, never by its value; what others could change is as bad as missing."""
    fault(folder, monkeypatch)
    code, problems = check(folder, capsys)
    (error,) = [each for each in problems if each["severity"] == "error"]
    assert (code, error["path"]) == (Exit.CONFIGURATION, where)
    line = GOOD.splitlines()[int(str(error["line"])) - 1]
    assert where.rpartition(".")[2] in line
    assert named in str(error["message"])
    assert archiver(["-c", str(folder / "archiver.yaml"), "run", "--once"]) == Exit.CONFIGURATION


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o444])
def test_config_wrong_perms_that_only_let_others_read_are_warned_of(
    mode: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A group of the operator's own may be meant: said at every check, refused with --fail-on-warning."""
    (folder / "jc.secret").chmod(mode)
    code, problems = check(folder, capsys)
    assert (code, [(each["code"], each["path"]) for each in problems]) == (
        Exit.OK,
        [("C209", "providers[0].api_secret")],
    )
    assert archiver(["-c", str(folder / "archiver.yaml"), "check", "--fail-on-warning"]) == Exit.CONFIGURATION


# --- while the daemon runs ----------------------------------------------------------------------------------------


async def test_config_that_turns_bad_under_a_running_daemon_leaves_the_old_one_running(
    tmp_path: Path, sqlite_url: str
) -> None:
    """SIGHUP with one mistake after another: each is logged with line and key, and recordings go on being archived."""
    sim = fleet.fleet(SystemClock(), samples(), seed=12, count=2)["kazoo"]
    async with sim:
        archive = make_archive(tmp_path, {"kazoo": sim}, sqlite_url, DIRECTORY, more="defaults: {poll_every: 1s}")
        text = archive.path.read_text()
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "archiver", "-c", str(archive.path), "run", stdout=out, stderr=out
            )
        try:
            await _until(lambda: b"daemon.ready" in log.read_bytes(), log)
            for number, (wrong, key) in enumerate(
                [
                    (text.replace("version: 1", "version: [1"), b"archiver.yaml:"),
                    (text.replace("version: 1", "version: 1\nnonsense: true"), b"nonsense"),
                    (text.replace("poll_every: 1s", "poll_every: 0s"), b"poll_every"),
                    (text.replace("file:custody.pem", "file:nowhere.pem"), b"nowhere.pem"),
                ],
                start=1,
            ):
                archive.path.write_text(wrong)
                process.send_signal(signal.SIGHUP)
                await _until(lambda: log.read_bytes().count(b"config.reload_failed") == number, log)  # noqa: B023
                told = log.read_bytes().rpartition(b"config.reload_failed")
                await _until(lambda: log.read_bytes().count(b"daemon.ready") == number + 1, log)  # noqa: B023
                assert key in told[0].rpartition(b"\n")[2] + told[2], told[2]
            sim.account.add(call("kazoo", "new"))
            await _until(lambda: log.read_bytes().count(b"recording.archived") >= 3, log)
            assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_config_that_loads_but_cannot_be_assembled_leaves_the_old_one_running_too(
    tmp_path: Path, sqlite_url: str
) -> None:
    """A signing key that is there and is no key passes for a secret; the daemon must not find out by dying."""
    sim = fleet.fleet(SystemClock(), samples(), seed=12, count=1)["kazoo"]
    async with sim:
        archive = make_archive(tmp_path, {"kazoo": sim}, sqlite_url, DIRECTORY)
        (tmp_path / "garbage.pem").write_text("not a key\n")
        (tmp_path / "garbage.pem").chmod(0o400)
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "archiver", "-c", str(archive.path), "run", stdout=out, stderr=out
            )
        try:
            await _until(lambda: b"daemon.ready" in log.read_bytes(), log)
            archive.path.write_text(archive.path.read_text().replace("file:custody.pem", "file:garbage.pem"))
            process.send_signal(signal.SIGHUP)
            gone = asyncio.create_task(process.wait())
            await _until(lambda: gone.done() or b"config.reload_failed" in log.read_bytes(), log)
            assert not gone.done(), log.read_text()[-1500:]
            process.send_signal(signal.SIGTERM)
            assert await gone == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _until(holds: Callable[[], bool], log: Path) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(40):
            while not holds():  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.1)
    assert holds(), log.read_text()[-3000:]


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, object]]]:
    def run(archive: Archive, *arguments: str) -> tuple[int, object]:
        capsys.readouterr()
        code = archiver(["-c", str(archive.path), "-o", "json", *arguments])
        return code, json.loads(capsys.readouterr().out)["data"]

    yield run  # noqa: PT022  the readers come and go with their capture


async def test_config_removed_provider_with_pending_items_stays_visible(
    tmp_path: Path, sqlite_url: str, listed: Callable[..., tuple[int, object]]
) -> None:
    """Taken out of the file, its recordings are neither dropped nor hidden; put back, they are archived."""
    made = fleet.fleet(SystemClock(), samples(), seed=14, count=2)
    sims = {name: made[name] for name in ("kazoo", "plivo")}
    async with sims["kazoo"], sims["plivo"]:
        sims["plivo"].fail(Route.MEDIA, Redirect("http://169.254.169.254/"), times=None)
        archive = make_archive(tmp_path, sims, sqlite_url, DIRECTORY)
        await archive.sweep()
        text = archive.path.read_text()
        archive.path.write_text("".join(line for line in text.splitlines(True) if "kind: plivo" not in line))
        without = Archive(load(archive.path, resolve_secrets=True), archive.path)
        await without.sweep()
        _, rows = await asyncio.to_thread(listed, archive, "recordings", "list", "--provider", "plivo")
        assert isinstance(rows, list)
        assert [row["state"] for row in rows] == ["waiting", "waiting"]
        status = await asyncio.to_thread(command, "-c", archive.path, "-o", "json", "status")
        seen = {each["provider"]: each for each in json.loads(status.stdout)["data"]["providers"]}
        assert seen["plivo"]["waiting"] == 2
        archive.path.write_text(text)
        sims["plivo"].heal()
        for row in rows:
            assert (
                await asyncio.to_thread(archiver, ["-c", str(archive.path), "-q", "recordings", "retry", row["id"]])
                == 0
            )
        await archive.sweep()
        assert sorted(str(row["plaintext_sha256"]) for row in await archive.rows()) == truth(sims)
