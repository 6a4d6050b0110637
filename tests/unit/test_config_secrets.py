"""References to secrets: where they lead, what is refused there, and that no message repeats a value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archiver.config.secrets import BadReferenceError, NotAReferenceError, SecretRef, Use
from archiver.errors import ConfigurationError


def reference(text: str, base: Path = Path(), use: Use = Use.TOKEN) -> SecretRef:
    return SecretRef.parse(text, base=base, use=use)


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    assert reference("env:TOKEN").resolve().reveal() == "s3cret"
    monkeypatch.delenv("TOKEN")
    with pytest.raises(ConfigurationError, match="TOKEN is not set"):
        reference("env:TOKEN").resolve()


def test_file_relative_to_the_configuration_loses_one_final_line_break(tmp_path: Path) -> None:
    secret_file(tmp_path, b"s3cret\n")
    assert reference("file:token", tmp_path).resolve().reveal() == "s3cret"


def test_rotated_file_is_read_anew(tmp_path: Path) -> None:
    ref = reference("file:token", tmp_path)
    secret_file(tmp_path, b"old")
    assert ref.resolve().reveal() == "old"
    secret_file(tmp_path, b"new")
    assert ref.resolve().reveal() == "new"


def test_credential_of_systemd_and_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_file(tmp_path, b"s3cret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert reference("cred:token").resolve().reveal() == "s3cret"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert reference("cred:token").path == Path("/run/secrets/token")


def test_link_to_a_file_is_followed_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(secret_file(tmp_path, b"s3cret"))
    assert reference("file:link", tmp_path).resolve().reveal() == "s3cret"


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"s3cret", 0o620, "can be changed by others"),
        (b"s3cret", 0o602, "can be changed by others"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"s3\ncret", 0o600, "line breaks or control characters"),
        (b"s3\x1bcret", 0o600, "line breaks or control characters"),
        (b"s3cret\xff", 0o600, "not UTF-8"),
        (b"s3cret" * 20_000, 0o600, "larger than 64 KiB"),
    ],
)
def test_unfit_file_is_refused_without_its_content(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    secret_file(tmp_path, content, mode)
    with pytest.raises(ConfigurationError, match=message) as refusal:
        reference("file:token", tmp_path).resolve()
    assert "cret" not in str(refusal.value).replace(str(tmp_path), "")
    assert refusal.value.__cause__ is None or "cret" not in repr(refusal.value.__cause__)


def test_missing_folder_device_and_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere", ".", "pipe", "/dev/zero", "x" * 300):
        with pytest.raises(ConfigurationError):
            reference(f"file:{name}", tmp_path).resolve()


def test_file_that_others_can_read_is_doubted_unless_it_is_public(tmp_path: Path) -> None:
    secret_file(tmp_path, b"s3cret", 0o644)
    assert "0644" in reference("file:token", tmp_path).doubt()
    assert reference("file:token", tmp_path, Use.PUBLIC).doubt() == ""
    secret_file(tmp_path, b"s3cret", 0o400)
    assert reference("file:token", tmp_path).doubt() == ""


def test_key_material_may_have_lines(tmp_path: Path) -> None:
    secret_file(tmp_path, b"-----BEGIN\nabc\n")
    assert reference("file:token", tmp_path, Use.KEY).resolve().reveal() == "-----BEGIN\nabc"


@pytest.mark.parametrize(
    "text",
    ["vault:kv/x#y", "cmd:cat /etc/passwd", "env:", "env:MY KEY", "env:1X", "cred:../x", "cred:", "file:", "file:/"],
)
def test_bad_reference_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(BadReferenceError) as refusal:
        reference(text)
    assert text.partition(":")[2].strip("/") in {"", "1X"} or text.partition(":")[2] not in str(refusal.value)


@pytest.mark.parametrize("text", ["s3cret", "sk_live:abc", "ENV:X", ""])
def test_value_is_no_reference(text: str) -> None:
    with pytest.raises(NotAReferenceError):
        reference(text)


def test_where_values_are_welcome_they_resolve_to_themselves() -> None:
    ref = SecretRef.parse("MA123", base=Path(), literal=True)
    assert ref.resolve().reveal() == "MA123"
    assert "s3cret" not in repr(SecretRef.parse("env:X", base=Path()))
