"""`archiver init`: a workspace that works, and nothing overwritten."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from archiver.cli.init import write_workspace
from archiver.clock import SystemChance, SystemClock
from archiver.errors import Exit, NotAllowedError
from tests.acceptance.cli import archiver, whole

SECRETS = {"JUSTCALL_API_KEY": "k", "JUSTCALL_API_SECRET": "s", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "new"
    done = whole("init", "--dir", folder)
    assert done.returncode == 0, done.stderr
    assert "escrow.key.pem off this host" in done.stdout
    return folder


def test_keys_are_private_strong_and_fit_one_another(workspace: Path) -> None:
    keys = workspace / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}
    for name in ("ops", "escrow"):
        private = load_pem_private_key((keys / f"{name}.key.pem").read_bytes(), password=None)
        assert isinstance(private, RSAPrivateKey)
        assert private.key_size == 3072
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert public == (keys / f"{name}.pub.pem").read_bytes()
    assert (keys / "ops.pub.pem").read_bytes() != (keys / "escrow.pub.pem").read_bytes()


def test_stock_openssl_encrypts_to_the_certificate_and_opens_with_the_key(workspace: Path, tmp_path: Path) -> None:
    certificate, key, sealed = (
        workspace / "keys" / "ops.cert.pem",
        workspace / "keys" / "ops.key.pem",
        tmp_path / "sealed",
    )
    oaep = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"]
    encrypt = [
        "openssl",
        "cms",
        "-encrypt",
        "-binary",
        "-aes-256-gcm",
        "-outform",
        "DER",
        "-out",
        sealed,
        "-recip",
        certificate,
    ]
    subprocess.run([*encrypt, *oaep], input=b"hello", check=True, timeout=60)
    decrypt = [
        "openssl",
        "cms",
        "-decrypt",
        "-binary",
        "-inform",
        "DER",
        "-in",
        sealed,
        "-inkey",
        key,
        "-recip",
        certificate,
    ]
    assert subprocess.run(decrypt, check=True, capture_output=True, timeout=60).stdout == b"hello"


def test_what_init_wrote_passes_check_once_the_secrets_are_there(workspace: Path) -> None:
    done = whole("check", "-c", workspace / "archiver.yaml", env=SECRETS)
    assert (done.returncode, done.stdout) == (0, "0 errors, 0 warnings\n"), done.stdout


def test_database_is_at_the_present_schema(workspace: Path) -> None:
    from archiver.database import check_schema, create_engine

    engine = create_engine("sqlite:///archiver.db", workspace / "state")
    check_schema(engine)
    engine.dispose()


def test_second_init_changes_nothing(workspace: Path) -> None:
    before = {file: file.read_bytes() for file in workspace.rglob("*") if file.is_file()}
    done = archiver("-c", workspace / "archiver.yaml", "init")
    assert done.returncode == Exit.NOT_ALLOWED
    assert "never overwrites" in done.stderr
    assert {file: file.read_bytes() for file in workspace.rglob("*") if file.is_file()} == before


def test_killed_before_the_config_was_written_the_next_run_keeps_the_keys(workspace: Path, tmp_path: Path) -> None:
    for file in (workspace / "keys").iterdir():
        (tmp_path / "keys").mkdir(exist_ok=True)
        (tmp_path / "keys" / file.name).write_bytes(file.read_bytes())
    done = archiver("init", "--dir", tmp_path, "-o", "json")
    assert json.loads(done.stdout)["data"]["keys_made"] is False
    assert (tmp_path / "keys" / "ops.key.pem").read_bytes() == (workspace / "keys" / "ops.key.pem").read_bytes()


def test_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    with pytest.raises(NotAllowedError, match=r"without ops\.pub\.pem"):
        write_workspace(tmp_path / "archiver.yaml", SystemClock(), SystemChance())
    assert not (tmp_path / "archiver.yaml").exists()


def test_unwritable_place_is_one_plain_error() -> None:
    done = archiver("init", "--dir", "/proc/nowhere")
    assert done.returncode == Exit.CONFIGURATION
    assert done.stderr.count("\n") == 1
