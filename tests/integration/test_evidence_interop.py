"""A bundle before tools that know nothing of us: sha256sum, openssl, bagit; and real time stamps before the verifier."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate
from rfc3161_client import VerifierBuilder, decode_timestamp_response

from archiver.errors import VerificationError
from archiver.evidence import verifier
from archiver.evidence.model import LogPart, Stamp
from archiver.evidence.verifier.events import check_stamp
from tests import evidence_log as second
from tests.evidence_log import b64
from tests.tsa import Authority, authority, openssl
from tests.unit.test_evidence_bundle import Archive

README = re.compile(r"^     (\S(?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tsa") / "good")


def _stamped(by: Authority) -> Callable[[LogPart], LogPart]:
    def change(part: LogPart) -> LogPart:
        request, response = by.stamp(part.checkpoint)
        return replace(part, stamps=(Stamp("tsa", response, request, by.chain),))

    return change


@pytest.fixture
def case(tmp_path: Path, tsa: Authority) -> tuple[Path, Archive]:
    archive = Archive(2)
    archive.export(tmp_path / "case", _stamped(tsa))
    return tmp_path / "case", archive


def _sh(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def _commands(folder: Path) -> list[str]:
    return [found.replace("\\\n", " ") for found in README.findall((folder / "README-VERIFY.txt").read_text())]


def test_every_command_of_the_readme_works_as_it_stands(case: tuple[Path, Archive], tsa: Authority) -> None:
    folder, archive = case
    (folder / "../ROOT.pem").write_bytes(tsa.root)
    run = [command for command in _commands(folder) if re.match(r"(python3|sha256sum|openssl) ", command)]
    assert len(run) == 6
    for command in run:
        ready = command.replace("NAME+ID+KEY", archive.log.vkey).replace("HEX", archive.log.host_hex)
        ready = ready.replace("ROOT.pem", "../ROOT.pem").replace("python3", sys.executable, 1)
        done = _sh(ready, folder)
        assert done.returncode == 0, (ready, done.stdout, done.stderr)


def test_sha256sum_names_a_changed_file(case: tuple[Path, Archive]) -> None:
    folder, archive = case
    with (folder / f"data/recordings/{min(archive.content)}/audio.mp3").open("ab") as file:
        file.write(b"!")
    done = _sh("sha256sum -c --quiet manifest-sha256.txt", folder)
    assert done.returncode == 1
    assert "audio.mp3: FAILED" in done.stdout


def test_openssl_refuses_a_changed_checkpoint(case: tuple[Path, Archive]) -> None:
    folder, _ = case
    (command,) = (each for each in _commands(folder) if "pkeyutl" in each)
    assert "Signature Verified Successfully" in _sh(command, folder).stdout
    body = folder / "data/log/checkpoint.body"
    body.write_bytes(body.read_bytes().replace(b"archive", b"Archive"))
    assert _sh(command, folder).returncode != 0


def test_openssl_verifies_the_exporters_signature(case: tuple[Path, Archive]) -> None:
    folder, archive = case
    key = b64(bytes.fromhex("302a300506032b6570032100") + second.public(second.key_of("exporter"))).encode()
    (folder / "../exporter.pem").write_bytes(b"-----BEGIN PUBLIC KEY-----\n" + key + b"\n-----END PUBLIC KEY-----\n")
    files = "-in tagmanifest-sha256.txt -sigfile tagmanifest-sha256.sig"
    command = f"openssl pkeyutl -verify -pubin -inkey ../exporter.pem -rawin {files}"
    assert _sh(command, folder).returncode == 0
    assert archive.bundle.path == folder


def test_bagit_validates_the_bag_and_not_a_changed_one(case: tuple[Path, Archive]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bagit imports what Python has deprecated
        import bagit  # type: ignore[import-untyped]
    folder, _ = case
    bag = bagit.Bag(str(folder))
    bag.validate()
    assert bag.info["Source-Organization"] == "acme-prod"
    (folder / "data/report.html").write_text("changed")
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(folder)).validate()


# --- time ---------------------------------------------------------------------------------------------------------------


def test_time_stamp_is_read_and_the_command_that_proves_it_works(case: tuple[Path, Archive], tsa: Authority) -> None:
    folder, archive = case
    (folder / "../ROOT.pem").write_bytes(tsa.root)
    found = verifier.examine(folder, archive.log.vkey)
    said = r"time stamp tsa: it dates the log's first \d+ leaves to .* UTC; whose it is, see below"
    assert any(re.fullmatch(said, text) for _, text in found.lines)
    (caveat,) = found.unproved
    command = caveat.split("\n    ")[1].replace("ROOT.pem", "../ROOT.pem")
    assert _sh(command, folder).returncode == 0
    (folder / "data/log/checkpoint").write_bytes(b"other")
    assert _sh(command, folder).returncode != 0


def test_verifier_and_rfc3161_client_read_the_same_time(case: tuple[Path, Archive], tsa: Authority) -> None:
    folder, _ = case
    response = decode_timestamp_response((folder / "data/tsa/tsa.tsr").read_bytes())
    checkpoint = (folder / "data/log/checkpoint").read_bytes()
    root = load_pem_x509_certificate(tsa.root)
    VerifierBuilder().add_root_certificate(root).build().verify_message(response, checkpoint)
    at = check_stamp((folder / "data/tsa/tsa.tsr").read_bytes(), checkpoint)
    assert at == response.tst_info.gen_time


def test_certificate_that_expires_later_does_not_hurt(tmp_path: Path) -> None:
    """What expires after the stamp was made is proved by the time that the verifier prints."""
    short = authority(tmp_path / "short", until=timedelta(seconds=3))
    archive = Archive()
    archive.export(tmp_path / "case", _stamped(short))
    (tmp_path / "ROOT.pem").write_bytes(short.root)
    time.sleep(3.5)  # OpenSSL goes by the machine's clock, and by whole seconds
    found = verifier.examine(tmp_path / "case", archive.log.vkey)
    assert all(mark == "PASS" for mark, _ in found.lines)
    command = found.unproved[0].split("\n    ")[1].replace("ROOT.pem", "../ROOT.pem")
    assert _sh(command, tmp_path / "case").returncode == 0
    assert _sh(command.split(" -attime")[0], tmp_path / "case").returncode != 0


@pytest.mark.parametrize(("since", "until"), [(-10, -1), (1, 10)])
def test_certificate_not_valid_at_its_time_is_refused(since: int, until: int, tmp_path: Path) -> None:
    expired = authority(tmp_path / "tsa", timedelta(days=since), timedelta(days=until))
    with pytest.raises(VerificationError, match="had expired, or was not valid yet"):
        Archive().export(tmp_path / "case", _stamped(expired))
    assert not (tmp_path / "case").exists()


def test_time_stamp_of_something_else_is_refused(tmp_path: Path, tsa: Authority) -> None:
    def change(part: LogPart) -> LogPart:
        return replace(part, stamps=(Stamp("tsa", tsa.stamp(b"something else")[1]),))

    with pytest.raises(VerificationError, match="a time stamp of something else"):
        Archive().export(tmp_path / "case", change)


@pytest.mark.parametrize("which", ["earlier", "later"])
def test_time_stamp_of_another_checkpoint_counts_with_its_consistency_proof(
    which: str, tmp_path: Path, tsa: Authority
) -> None:
    archive = Archive()

    def change(part: LogPart) -> LogPart:
        size = len(archive.log.entries)
        if which == "earlier":
            stamped, proof = archive.log.checkpoint(5), second.proof(5, archive.log.leaves)
        else:
            archive.log.enroll(second.key_of("later"))
            stamped, proof = archive.log.checkpoint(), second.proof(size, archive.log.leaves)
        return replace(
            part, stamps=(Stamp("hourly", tsa.stamp(stamped)[1], None, tsa.chain, None, stamped, tuple(proof)),)
        )

    archive.export(tmp_path / "case", change)
    found = verifier.examine(tmp_path / "case", archive.log.vkey)
    assert all(mark == "PASS" for mark, _ in found.lines)
    (tmp_path / "ROOT.pem").write_bytes(tsa.root)
    command = found.unproved[0].split("\n    ")[1].replace("ROOT.pem", "../ROOT.pem")
    assert _sh(command, tmp_path / "case").returncode == 0

    proof = tmp_path / "case/data/tsa/hourly.consistency"
    proof.write_text(f"{b64(bytes(32))}\n" * len(proof.read_text().splitlines()))
    found = verifier.examine(tmp_path / "case", archive.log.vkey)
    assert any("two checkpoints of the log contradict each other" in text for _, text in found.lines)


@pytest.mark.parametrize("size", [0, 1, 10, 100, 1000])
def test_cut_time_stamp_is_a_sentence(size: int, tmp_path: Path, tsa: Authority) -> None:
    def change(part: LogPart) -> LogPart:
        return replace(part, stamps=(Stamp("tsa", tsa.stamp(part.checkpoint)[1][:size]),))

    if size < 1000:
        with pytest.raises(VerificationError, match="time stamp tsa"):
            Archive().export(tmp_path / "case", change)


def test_openssl_is_the_one_that_the_readme_needs() -> None:
    assert openssl("version").stdout.startswith(b"OpenSSL 3")
