"""`archiver recordings`, `gaps`, `providers`, `doctor` and `healthcheck` on a small real archive."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import json
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import __version__
from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.custody.ledger import Ledger
from archiver.database import create_engine, reading, upgrade
from archiver.errors import Exit
from archiver.ingest import journal, listing_pages, outcomes, rejects
from archiver.recording import (
    Audio,
    Flag,
    Listing,
    Lock,
    LockMode,
    MediaFacts,
    Received,
    RecordingRef,
    Reject,
    Sealed,
    State,
)
from archiver.store.directory import DirectoryStore
from archiver.store.layout import recording_key
from tests.acceptance.cli import archiver
from tests.config_files import ROOT
from tests.seal_keys import LOCAL, VECTORS, seal

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AUDIO = b"RIFF and two callers talking " * 1000
IDENTITIES = "  identities:\n    - {id: local, key: 'file:local.key'}\n"


@dataclass(frozen=True, slots=True)
class Archive:
    folder: Path
    config: Path
    archived: str
    waiting: str

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return archiver("-c", self.config, *arguments, env={"TOKEN": "t"})

    def data(self, *arguments: str) -> tuple[str, list[dict[str, object]]]:
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        return answer["schema"], answer["data"]

    def events(self) -> list[bytes]:
        engine = create_engine("sqlite:///archiver.db", self.folder / "state")
        with reading(engine) as conn:
            entries = history.entries(conn, f"rec:{self.archived}")
        engine.dispose()
        return [each.raw for each in entries]

    def objects(self) -> list[Path]:
        return [each for each in (self.folder / "worm").rglob("recordings/**/*") if each.is_file() and not each.suffix]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    clock, chance, host = SystemClock(), SystemChance(), generate_signing_key(SystemChance())
    (tmp_path / "local.key").write_bytes((VECTORS / "local.key").read_bytes())
    (tmp_path / "custody.pem").write_bytes(to_pem(host))
    for key in ("local.key", "custody.pem"):
        (tmp_path / key).chmod(0o600)
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "worm").mkdir()
    config = tmp_path / "archiver.yaml"
    config.write_text(
        f"""\
version: 1
state_dir: {tmp_path}/state
providers:
  - id: vobiz
    kind: vobiz
    auth_id: MA_1
    auth_token: env:TOKEN
    base_url: http://127.0.0.1:9
    allow_http: true
    allow_private_addresses: true
    backfill_from: 2026-04-01
    retention: {{days: 90, source: contract}}
storage: {{id: primary, kind: directory, path: {tmp_path}/worm}}
encryption:
  recipients:
    - {{id: local, kind: aes-kw-256, key: 'file:local.key', escrow: true}}
{IDENTITIES}custody: {{signing_key: 'file:custody.pem'}}
"""
    )
    sealed = tmp_path / "object.sealed"
    content, result = seal(AUDIO, (LOCAL,))
    sealed.write_bytes(content)
    engine = create_engine("sqlite:///archiver.db", tmp_path / "state")
    upgrade(engine)
    ledger = Ledger.open(clock, chance)
    with engine.begin() as conn:
        ledger.enroll(conn, host)
        rows = [_listing("call-1", NOW), _listing("call-2", NOW + timedelta(hours=1))]
        noted = listing_pages.note_page(conn, ledger, chance, rows, NOW, lambda _: None)
        rejects.note(conn, "vobiz", "account", [Reject(b"{}", "no id")], NOW)
        ids = {listing.ref.recording_id: name for name, listing in noted.ids.items()}
        claims = journal.claim(conn, "vobiz", chance.uuid(), "spool", 5, fetching=True, storing=True)
        held = next(each for each in claims if each.ref.recording_id == "call-1")
        journal.hand_back(conn, next(each for each in claims if each is not held))
        digest = hashlib.sha256(AUDIO).hexdigest()
        media, doubts = MediaFacts("wav"), frozenset({Flag.LENGTH_UNVERIFIED})
        received = Received(len(AUDIO), digest, 200, "audio/wav", None, media, doubts, NOW, NOW)
        whole = Sealed(
            sealed, result.size, result.sealed_sha256, len(AUDIO), digest, ("local",), result.wrapped_key_sha256
        )
        assert outcomes.fetched(conn, ledger, held, received, whole, spool_id="s") is None
        store = DirectoryStore("primary", tmp_path / "worm", clock=clock, chance=chance)
        key = recording_key(held.id, result.sealed_sha256, NOW)
        lock = Lock(LockMode.OFF, NOW + timedelta(days=30))
        stored = asyncio.run(
            store.put_once(key, sealed, size=result.size, sealed_sha256=result.sealed_sha256, lock=lock)
        )
        outcomes.archived(conn, ledger, held, [stored], NOW, retain_until=NOW + timedelta(days=30), rule="default")
    engine.dispose()
    return Archive(tmp_path, config, ids["call-1"], ids["call-2"])


def _listing(name: str, started: datetime) -> Listing:
    metadata = {"from_number": "+4930111", "to_number": "4930222", "direction": "inbound", "queue": f"q-{name}"}
    metadata |= {"agent_id": "7", "agent_name": "Zoë Ñandú"} if name == "call-1" else {}
    return Listing(
        RecordingRef("vobiz", name), "r", Audio.PRESENT, started, None, timedelta(seconds=65), b"{}", name, metadata
    )


def test_list_narrows_by_every_option(archive: Archive) -> None:
    schema, rows = archive.data("recordings", "list")
    assert (schema, [row["id"] for row in rows]) == ("archiver.recordings/v1", [archive.archived, archive.waiting])
    for narrowed in (
        ("--state", "archived"),
        ("--flag", "length_unverified"),
        ("--until", "2026-05-01T12:30"),
        ("--meta", "queue=q-call-1"),
        ("--text", "call-1"),
        ("--agent", "7"),
        ("--agent", "Zoë Ñandú"),
        ("--limit", "1"),
    ):
        assert [row["id"] for row in archive.data("recordings", "list", *narrowed)[1]] == [archive.archived], narrowed
    for number in ("+4930111", "4930111", "004930111", "+4930222", "+49 30 222"):
        assert len(archive.data("recordings", "list", "--number", number)[1]) == 2, number
    for since, found in (("2026-05-01", 2), ("2026-05", 2), ("2026-05-01T15:00+02:00", 1), ("2026-06", 0)):
        assert len(archive.data("recordings", "list", "--since", since)[1]) == found, since
    shown = archive.run("recordings", "list").stdout
    assert archive.archived[:13] in shown
    assert "1:05" in shown


def test_list_shows_the_columns_that_were_asked_for_and_masks_on_request(archive: Archive) -> None:
    asked = ("recordings", "list", "--columns", "from_number,agent,call_started_at,flags")
    assert archive.run(*asked).stdout.splitlines()[:2] == [
        "from      agent  started           flags",
        "+4930111  7      2026-05-01 12:00  length_unverified",
    ]
    assert archive.run(*asked, "--csv", "--mask", "--limit", "1").stdout.splitlines() == [
        "from_number,agent,call_started_at,flags",
        "…111,7…,2026-05-01T12:00:00Z,length_unverified",
    ]
    (row,) = archive.data("recordings", "list", "--mask", "--limit", "1")[1]
    assert (row["from_number"], row["to_number"], row["agent"]) == ("…111", "…222", "7…")
    assert "'+4930111" in archive.run("recordings", "list", "--csv").stdout  # no spreadsheet runs it


@pytest.mark.parametrize(
    "wrong", [["--since", "tomorrow"], ["--columns", "id,nothing"], ["--meta", "queue"], ["--state", "lost"]]
)
def test_list_refuses_what_it_cannot_read(archive: Archive, wrong: list[str]) -> None:
    assert archive.run("recordings", "list", *wrong).returncode == Exit.USAGE


def test_show_finds_by_any_name_and_tells_the_whole_history(archive: Archive) -> None:
    for name in (archive.archived, "call-1", hashlib.sha256(AUDIO).hexdigest()):
        schema, found = archive.data("recordings", "show", name)
        assert schema == "archiver.recording/v1"
        assert isinstance(found, dict)
        assert found["id"] == archive.archived
        types = [event["type"] for event in found["events"]]
        assert types[0] == "recording.discovered"
        assert types[-1] == "recording.store_verified"
    assert "recording.sealed" in archive.run("recordings", "show", "call-1").stdout


def test_show_of_unknown_or_ambiguous_names_lists_candidates(archive: Archive) -> None:
    unknown = archive.run("recordings", "show", "nothing")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (Exit.NOT_FOUND, 1)
    both = archive.run("recordings", "show", archive.archived[:2])
    assert both.returncode == Exit.USAGE
    assert archive.archived in both.stderr
    assert archive.waiting in both.stderr


def test_get_gives_the_audio_and_leaves_a_signed_trace(archive: Archive) -> None:
    target = archive.folder / "call.wav"
    before = len(archive.events())
    done = archive.run("recordings", "get", "call-1", "-O", target, "--reason", "case 7, Ms Roe", "--actor", "roe")
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == AUDIO
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not list(archive.folder.glob("*.part"))
    events = archive.events()
    assert len(events) == before + 1
    assert b"recording.accessed" in events[-1]
    assert b"Roe" not in events[-1]
    engine = create_engine("sqlite:///archiver.db", archive.folder / "state")
    with reading(engine) as conn:
        kept = history.private(conn, f"rec:{archive.archived}", before)["access"].data
    engine.dispose()
    assert kept == {"reason": "case 7, Ms Roe", "user": "roe"}
    verified = archive.run("verify", "--all")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    again = archive.run("recordings", "get", "call-1", "-O", target, "--reason", "case 7")
    assert again.returncode == Exit.NOT_ALLOWED
    assert len(archive.events()) == before + 1


def _no_identities(archive: Archive) -> None:
    archive.config.write_text(archive.config.read_text().replace(IDENTITIES, ""))


def _changed_object(archive: Archive) -> None:
    (sealed,) = archive.objects()
    sealed.chmod(0o600)
    content = bytearray(sealed.read_bytes())
    content[-100] ^= 1
    sealed.write_bytes(content)


def _missing_object(archive: Archive) -> None:
    (sealed,) = archive.objects()
    sealed.unlink()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_no_identities, Exit.UNAVAILABLE),
        (_changed_object, Exit.INTEGRITY),
        (_missing_object, Exit.NOT_FOUND),
    ],
)
def test_get_that_cannot_verify_releases_nothing(
    archive: Archive, damage: Callable[[Archive], None], code: Exit
) -> None:
    damage(archive)
    before = len(archive.events())
    done = archive.run("recordings", "get", "call-1", "-O", archive.folder / "call.wav", "--reason", "case 7")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(archive.folder.glob("call.wav*"))
    assert len(archive.events()) == before


def test_get_when_the_access_cannot_be_recorded_releases_nothing(archive: Archive) -> None:
    engine = create_engine("sqlite:///archiver.db", archive.folder / "state")
    with engine.begin() as conn:
        conn.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON custody_pending BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    engine.dispose()
    done = archive.run("recordings", "get", "call-1", "-O", archive.folder / "call.wav", "--reason", "case 7")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not list(archive.folder.glob("call.wav*"))


def test_get_needs_a_reason_and_something_archived(archive: Archive) -> None:
    target = archive.folder / "call.wav"
    silent = archive.run("recordings", "get", "call-1", "-O", target)
    assert silent.returncode == Exit.USAGE
    assert "--reason" in silent.stderr
    assert archive.run("recordings", "get", "call-2", "-O", target, "--reason", "x").returncode == Exit.NOT_FOUND
    assert not target.exists()


def test_retry_says_what_it_did(archive: Archive) -> None:
    schema, rows = archive.data("recordings", "retry", "call-1", "call-2")
    assert schema == "archiver.retry/v1"
    assert [(row["state"], row["queued"]) for row in rows] == [(State.ARCHIVED, False), (State.LISTED, True)]
    assert "nothing to retry: archived" in archive.run("recordings", "retry", "call-1").stdout


def test_gaps_show_rejects_and_what_was_never_listed(archive: Archive) -> None:
    schema, found = archive.data("gaps", "list")
    assert schema == "archiver.gaps/v1"
    assert isinstance(found, dict)
    assert [each["problem"] for each in found["rejects"]] == ["no id"]
    assert found["holes"][0]["since"] == "2026-04-01T00:00:00.000000Z"
    assert "never listed" in archive.run("gaps", "list").stdout
    explained = archive.run("gaps", "explain", "call-2")
    assert "has not been fetched yet" in explained.stdout
    assert "recording.discovered" in explained.stdout


def test_providers_are_listed_and_one_that_does_not_answer_fails_the_test(archive: Archive) -> None:
    schema, (row,) = archive.data("providers", "list")
    assert (schema, row["host"], row["retention_source"]) == ("archiver.providers/v1", "127.0.0.1:9", "contract")
    down = archive.run("providers", "test")
    assert down.returncode == Exit.UNAVAILABLE
    assert down.stdout.startswith("✗ vobiz: ")
    assert archive.run("providers", "test", "other").returncode == Exit.NOT_FOUND


def test_provider_that_nobody_knows_is_an_error_and_no_empty_answer(archive: Archive) -> None:
    for command in (("recordings", "list"), ("gaps", "list"), ("export", "report", "--month", "2026-05")):
        done = archive.run(*command, "--provider", "vobis")
        assert (done.returncode, done.stdout) == (Exit.NOT_FOUND, ""), command
        assert "no provider is called 'vobis'; did you mean vobiz?" in done.stderr


def test_provider_taken_out_of_the_configuration_is_still_known(archive: Archive) -> None:
    archive.config.write_text(archive.config.read_text().replace("id: vobiz", "id: renamed"))
    assert len(archive.data("recordings", "list", "--provider", "vobiz")[1]) == 2


def test_command_that_asks_nobody_needs_no_secret(archive: Archive) -> None:
    """Credentials of a systemd unit are readable inside it alone; whoever looks at a status is outside."""
    text = archive.config.read_text()
    for name in ("auth_id: MA_1", "auth_token: env:TOKEN"):
        text = text.replace(name, f"{name.partition(':')[0]}: cred:not-here")
    archive.config.write_text(text.replace("key: 'file:local.key', escrow", "key: 'cred:not-here', escrow"))
    for command in ("status --check", "gaps list", "gaps explain call-2", "alerts list", "db check", "keys show",
                    "export report --month 2026-05 --format json -O"):  # fmt: skip
        done = archive.run(*command.split(), *([archive.folder] if command.endswith("-O") else []))
        assert done.returncode in {Exit.OK, Exit.AT_RISK}, (command, done)
        assert "not-here" not in done.stdout + done.stderr, command
    assert "✓ database" in archive.run("doctor").stdout


def test_mistyped_command_names_the_one_that_was_meant() -> None:
    done = archiver("recordigns", "list")
    assert done.returncode == Exit.USAGE
    assert "Did you mean 'recordings'?" in done.stderr


def test_version_is_an_option_too() -> None:
    assert archiver("--version").stdout == f"archiver {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_asks_this_command_what_may_follow(shell: str) -> None:
    done = archiver("completion", shell)
    assert "_ARCHIVER_COMPLETE" in done.stdout
    place = "recon" if shell == "fish" else "1"  # fish gives the word itself, the others say which one it is
    asked = {"_ARCHIVER_COMPLETE": f"{shell}_complete", "COMP_WORDS": "archiver recon", "COMP_CWORD": place}
    assert "reconcile" in archiver(env=asked).stdout


def test_doctor_tells_good_from_doubtful_from_broken(archive: Archive) -> None:
    good = archive.run("doctor")
    assert good.returncode == 0, good.stdout
    assert "✓ schema" in good.stdout
    assert "! storage    primary: not proved yet" in good.stdout
    (archive.folder / "local.key").chmod(0o644)
    assert "! keys" in archive.run("doctor").stdout
    (archive.folder / "state" / "archiver.db").unlink()
    broken = archive.run("doctor")
    assert broken.returncode == Exit.UNAVAILABLE
    assert "✗ schema     the database is empty" in broken.stdout


class _Daemon(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/-/healthy" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def daemon() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Daemon) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_healthcheck_asks_the_configured_address_and_loads_little(archive: Archive, daemon: int) -> None:
    assert archive.run("healthcheck", "--url", f"http://127.0.0.1:{daemon}").returncode == 0
    archive.config.write_text(archive.config.read_text() + f"web: {{listen: '0.0.0.0:{daemon}'}}\n")
    script = (
        f"import sys; from archiver.cli import invoke; code = invoke(['-c', {str(archive.config)!r}, 'healthcheck']); "
        "print(code, [n for n in ('boto3', 'sqlalchemy', 'aiohttp', 'cryptography') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_healthcheck_of_a_dead_daemon_exits_69(archive: Archive) -> None:
    done = archive.run("healthcheck", "--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("\n")) == (Exit.UNAVAILABLE, 1)
    assert archive.run("healthcheck").returncode == Exit.CONFIGURATION
    assert archive.run("healthcheck", "--url", "ftp://x").returncode == Exit.USAGE
