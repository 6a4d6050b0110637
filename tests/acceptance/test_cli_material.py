"""`archiver check`: what the configuration leads to is opened before the daemon needs it at three in the morning."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.cli.init import write_workspace
from archiver.clock import SystemChance, SystemClock
from archiver.errors import Exit
from tests.acceptance.cli import archiver
from tests.acceptance.test_cli_init import SECRETS

_CUSTODY = "custody: {signing_key: file:keys/custody.pem"
_VKEY = "demo/custody+a3b725e6+AcBkxSoI+SrdwLyTpc1fqwY1mNsD+aXh3SALr1fkVR+3"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "archiver.yaml"
    write_workspace(file, SystemClock(), SystemChance())
    (tmp_path / "hook").write_text("http://127.0.0.1:9/services/T000/s3cr3t\n")
    (tmp_path / "hook").chmod(0o400)
    return file


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port on which nobody listens, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def change(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def problems(config: Path) -> list[tuple[str, str]]:
    done = archiver("check", "-c", config, "-o", "json", env=SECRETS)
    assert done.stderr == ""
    found = [each for each in json.loads(done.stdout)["data"] if each["severity"] == "error"]
    assert done.returncode == (Exit.CONFIGURATION if found else Exit.OK)
    assert all(each["line"] > 1 for each in found)
    return [(each["code"], each["path"]) for each in found]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (_CUSTODY, f'{_CUSTODY}, witnesses: [{{url: "https://w.example", key: garbage}}]', "custody.witnesses[0].key"),
        (_CUSTODY, f'{_CUSTODY}, timestamp: {{url: "https://t.example", ca: keys/none.pem}}', "custody.timestamp.ca"),
        (_CUSTODY, f'{_CUSTODY}, timestamp: {{url: "https://t.example", ca: keys/ops.pub.pem}}', "custody.timestamp.ca"),
        (_CUSTODY, f"{_CUSTODY}, hosts: [file:keys/ops.pub.pem]", "custody.hosts[0]"),
        (_CUSTODY, f"{_CUSTODY}, log_key: file:keys/ops.key.pem", "custody.log_key"),
        ("  bucket: my", "  ca_bundle: keys/none.pem\n  bucket: my", "storage.ca_bundle"),
        ("  bucket: my", "  ca_bundle: keys/ops.pub.pem\n  bucket: my", "storage.ca_bundle"),
        ("\nweb:", "\nalerting: {channels: [{id: hook, kind: webhook, url: file:hook}]}\nweb:", "alerting.channels[0]"),
    ],
)  # fmt: skip
def test_what_the_daemon_could_not_use_is_named_at_its_place(config: Path, old: str, new: str, path: str) -> None:
    change(config, old, new)
    assert problems(config) == [("C112", path)]


def test_identity_that_is_not_the_recipients_other_half_is_named(config: Path) -> None:
    change(config, "  # identities:", "  identities:")
    assert problems(config) == []
    shutil.copy(config.parent / "keys" / "escrow.key.pem", config.parent / "keys" / "ops.key.pem")
    assert problems(config) == [("C112", "encryption.identities[0].private_key")]


def test_missing_key_of_a_single_storage_is_placed_as_it_is_written(config: Path) -> None:
    change(config, "  secret_key: env:AWS_SECRET_ACCESS_KEY\n", "")
    assert problems(config) == [("C102", "storage")]


def test_online_check_tries_time_stamps_witnesses_and_channels_without_showing_their_urls(
    config: Path, deaf: int
) -> None:
    change(
        config,
        _CUSTODY,
        f'{_CUSTODY}, timestamp: {{url: "http://127.0.0.1:{deaf}/tsa"}}, '
        f'witnesses: [{{url: "http://127.0.0.1:{deaf}/w", key: "{_VKEY}"}}]',
    )
    channel = "{id: hook, kind: webhook, url: file:hook, allow_http: true}, {id: mail, kind: smtp, "
    channel += "host: no.such.host.invalid, sender: a@example.org, to: [b@example.org]}"
    change(config, "\nweb:", f"\nalerting: {{channels: [{channel}]}}\nweb:")
    hook = config.parent / "hook"
    hook.chmod(0o600)
    hook.write_text(f"http://127.0.0.1:{deaf}/services/T000/s3cr3t\n")
    # No network here: neither may the providers and the bucket answer.
    change(config, "    api_key:", f'    base_url: "http://127.0.0.1:{deaf}"\n    allow_http: true\n'
           "    allow_private_addresses: true\n    api_key:")  # fmt: skip
    change(config, "  bucket: my", f'  endpoint: "http://127.0.0.1:{deaf}"\n  bucket: my')
    done = archiver("check", "--online", "-c", config, env=SECRETS)
    assert done.returncode == Exit.UNAVAILABLE
    lines = done.stdout.splitlines()
    for subject in ("timestamp", "witness demo/custody", "alerts hook", "alerts mail"):
        assert [line for line in lines if line.startswith(f"✗ {subject}: ")], subject
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_channel_that_listens_is_said_to(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        channel = (
            f"{{id: mail, kind: smtp, security: none, host: 127.0.0.1, port: {port}, sender: a@b.org, to: [c@d.org]}}"
        )
        change(config, "\nweb:", f"\nalerting: {{channels: [{channel}]}}\nweb:")
        change(config, "    api_key:", '    base_url: "http://127.0.0.1:9"\n    allow_http: true\n'
               "    allow_private_addresses: true\n    api_key:")  # fmt: skip
        change(config, "  bucket: my", '  endpoint: "http://127.0.0.1:9"\n  bucket: my')
        done = archiver("check", "--online", "-c", config, env=SECRETS)
    assert f"✓ alerts mail: 127.0.0.1:{port} can be reached" in done.stdout.splitlines()
