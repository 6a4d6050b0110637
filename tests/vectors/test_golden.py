"""T14: the frozen log and bundle verify today, and the log goes on; what is made today verifies with the frozen verifier."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import verify
from archiver.custody.ledger import Ledger
from archiver.database import Writer, create_engine, reading
from archiver.evidence import verifier
from archiver.store.directory import DirectoryStore
from archiver.store.port import Shelf
from archiver.translog.notary import Notary
from archiver.translog.note import Signer, parse_vkey
from archiver.translog.published_log import PublishedLog, newest_checkpoint
from archiver.translog.publisher import Publisher
from archiver.translog.recover import Recovered, recover
from archiver.translog.sequencer import Sequencer, open_log
from archiver.verify.finding import Verification
from archiver.verify.log import Trust, check_log
from archiver.verify.published_log import check_published_log
from tests.evidence_log import make_bag
from tests.unit.test_evidence_bundle import Archive
from tests.vectors.golden import BUNDLE, HERE, LOG, ORIGIN, VERIFIER, private_key, public_keys

KEYS = public_keys()
TRUST = Trust(parse_vkey(KEYS["log"]), frozenset({KEYS["host"]}))
POLICY = f"log {KEYS['log']}\nwitness w1 {KEYS['witness']}\nquorum w1\n"
SIZE = 259


def _shelf(folder: Path) -> Shelf:
    return DirectoryStore("golden", folder, clock=SystemClock(), chance=SystemChance()).shelf()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The golden log, to look at and to continue."""
    shutil.copytree(LOG, tmp_path / "log")
    return _shelf(tmp_path / "log")


def _verifier(bundle: Path, log_key: str, host_key: str, *options: str) -> str:
    """What the frozen verifier says, as a receiver runs it."""
    command = [sys.executable, "-I", *options, str(VERIFIER), str(bundle), "--log-key", log_key, "--host-key", host_key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return done.stdout


def test_no_golden_byte_has_changed() -> None:
    lines = re.findall(r"^([0-9a-f]{64})  (\S+)$", (HERE / "SHA256SUMS").read_text(), re.MULTILINE)
    files = [path for folder in (LOG, BUNDLE) for path in folder.rglob("*") if path.is_file()]
    assert {name for _, name in lines} == {str(path.relative_to(HERE)) for path in files}
    assert [name for digest, name in lines if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != digest] == []


async def test_golden_log_verifies_with_todays_code() -> None:
    result = Verification()
    await check_published_log(_shelf(LOG), TRUST, None, result, whole=True)
    assert result.findings == []
    newest = await newest_checkpoint(_shelf(LOG), TRUST.log_key)
    assert newest is not None
    assert newest.checkpoint.size == SIZE
    log = await PublishedLog.open(_shelf(LOG), SIZE, newest.checkpoint.root)
    events = [verify(entry) for index in range(2) for entry in await log.entries(index)]
    assert len(events) == SIZE


async def test_golden_log_comes_back_into_todays_database_and_goes_on(
    database_url: str, shelf: Shelf, tmp_path: Path
) -> None:
    clock = SystemClock()
    engine = create_engine(database_url, None)
    writer, ledger = Writer(engine), Ledger.open(clock, SystemChance())
    notary = Notary(tmp_path / "notary.db", Signer(ORIGIN, private_key("log")), clock)
    try:
        done = await recover(writer, notary, [shelf], ledger, private_key("host"), clock)
        assert done == Recovered(0, SIZE, "golden")
        log_id = await writer.run(lambda conn: open_log(conn, ORIGIN, clock.now()))
        publisher = Publisher(engine, writer, log_id, notary, [shelf], clock)
        await publisher.start()
        await writer.run(Sequencer(ledger, TRUST.hosts, log_id).integrate)
        issued = await publisher.publish(None)
        assert issued is not None
        assert issued.checkpoint.size == SIZE + 3  # enrolled, rolled back, restored
        result = Verification()
        with reading(engine) as conn:
            check_log(conn, log_id, TRUST, result)
        await check_published_log(shelf, TRUST, None, result, whole=True)
        assert result.findings == []
    finally:
        writer.close()
        engine.dispose()


def test_golden_bundle_verifies_with_todays_verifier() -> None:
    found = verifier.examine(BUNDLE, KEYS["log"], [KEYS["host"]], POLICY)
    assert [line for line in found.lines if line[0] != "PASS"] == []
    assert len(found.lines) == 10


@pytest.mark.parametrize("options", [(), ("-S",)], ids=["with cryptography", "standard library alone"])
def test_golden_bundle_verifies_with_the_golden_verifier(options: tuple[str, ...]) -> None:
    said = _verifier(BUNDLE, KEYS["log"], KEYS["host"], *options)
    assert said.endswith("RESULT PASS\n"), said


@pytest.mark.parametrize("recordings", [1, 3])
def test_todays_bundle_verifies_with_the_golden_verifier(recordings: int, tmp_path: Path) -> None:
    archive = Archive(recordings)
    archive.export(tmp_path / "case")
    said = _verifier(tmp_path / "case", archive.log.vkey, archive.log.host_hex)
    assert said.endswith("RESULT PASS\n"), said


def test_golden_verifier_still_refuses(tmp_path: Path) -> None:
    """It would not show anything otherwise."""
    bag = make_bag()
    folder = bag.write(tmp_path)
    audio = next(folder.glob("data/recordings/*/audio.*"))
    audio.write_bytes(audio.read_bytes() + b"\0")
    assert "RESULT FAIL" in _verifier(folder, bag.log.vkey, bag.log.host_hex)
