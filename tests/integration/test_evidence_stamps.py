"""A bundle holds the time stamps around each recording's events, made by a real authority over the log's own checkpoints."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificates

from archiver.cli import invoke as run
from archiver.database import create_engine
from archiver.evidence import verifier
from archiver.translog import reader
from archiver.translog.publication_rows import keep_anchor
from archiver.translog.tables import AnchorKind
from archiver.translog.timestamp import open_token
from tests.acceptance.test_custody import DIRECTORY, Swept, swept
from tests.tsa import authority


@pytest.fixture
def archive(tmp_path: Path) -> Swept:
    return swept(tmp_path, DIRECTORY, count=1)


def test_first_stamp_after_and_last_before_each_event_go_along(
    archive: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the newest did: of a recording of years ago it says that it is no younger than today."""

    def say(*arguments: str) -> str:
        assert run(["-c", str(archive.archive.path), "-q", *arguments]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    ids = [row["id"] for row in json.loads(say("-o", "json", "recordings", "list"))["data"]]
    for number in range(3):  # each access publishes a checkpoint
        say("recordings", "get", ids[0], "-O", str(tmp_path / f"{number}.mp3"), "--reason", "why")
    tsa = authority(tmp_path / "tsa", since=timedelta(days=-30))
    roots = load_pem_x509_certificates(tsa.root)
    engine = create_engine("sqlite:///archiver.db", archive.folder / "state")
    with engine.begin() as conn:
        (own,) = reader.logs(conn)
        signed = list(reader.checkpoints(conn, own.log_id))
        assert len(signed) >= 4
        for each in signed:
            _, response = tsa.stamp(each.note.encode())
            token = open_token(response, each.note.encode(), roots)
            files = {"tsa.tsr": token.response, "tsa.tsq": token.request, "tsa.pem": token.chain}
            assert keep_anchor(conn, own.log_id, AnchorKind.TIMESTAMP, files, each.size, token.at)
    engine.dispose()

    say("export", "evidence", ids[1], "-O", str(tmp_path / "case"), "--reason", "why", "--yes")
    key = json.loads(say("-o", "json", "custody", "checkpoint"))["data"]["vkey"]
    found = verifier.examine(tmp_path / "case", key)
    assert [text for mark, text in found.lines if mark == "FAIL"] == []
    leaves = sorted(event.leaf for chain in found.chains.values() for event in chain)
    sizes = {size for _, size, _ in found.dated}
    for leaf in leaves[:-1]:  # the last is this export, of which no stamp is yet
        after = [each.size for each in signed if each.size > leaf]
        assert after[0] in sizes
        assert {each.size for each in signed if each.size <= leaf} <= {0} or max(
            each.size for each in signed if each.size <= leaf
        ) in sizes
    assert signed[-1].size in sizes
    assert len(sizes) < len(signed)  # those between accesses of another recording say nothing here
    (dates,) = [text for mark, text in found.lines if " dates: " in text]
    assert f"its first event, leaf {leaves[0]}" in dates
    assert f"{len(leaves) - 1} of its {len(leaves)} events stand under a time stamp" in dates
    (tmp_path / "ROOT.pem").write_bytes(tsa.root)
    commands = [each.split("\n    ")[1] for each in found.unproved if "openssl ts -verify" in each]
    assert len(commands) == len(sizes)
    for command in commands:
        ready = command.replace("ROOT.pem", "../ROOT.pem")
        done = subprocess.run(["sh", "-c", ready], cwd=tmp_path / "case", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    capsys.readouterr()
    run(["-c", str(archive.archive.path), "verify"])
    assert "whose authority was not verified" in capsys.readouterr().out
