"""What the keys of `encryption` and `custody` do: who can open, who vouches, under which name and key."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.custody.keys import generate_signing_key, load_signing_key, public_hex, to_pem
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, SimRecording, samples
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.note import parse_vkey
from tests.contract.test_recipients import Kms, kms
from tests.effects.workspace import LOOPBACK, Workspace, workspace
from tests.seal_keys import VECTORS, generate_local_key
from tests.timestamps import authority

__all__ = ["kms"]  # the fixture

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Sealed:
    """An archive whose one recording was sealed to four recipients, with everything in `custody` stated."""

    it: Workspace
    provider: str
    encryption: str
    custody: str
    digest: str
    stamped: int

    @property
    def id(self) -> str:
        return str(self.it.rows()[0]["id"])

    def rewrite(
        self, *, encryption: str | None = None, custody: str | None = None, instance: str = "acme-prod"
    ) -> None:
        self.it.write(
            [self.provider], encryption=encryption or self.encryption, custody=custody or self.custody,
            head=[f"instance: {instance}", "state_dir: state"],
        )  # fmt: skip


@pytest.fixture(scope="module")
def sealed(kms: Kms, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    it, key = workspace(tmp_path_factory.mktemp("keys")), kms.new_key()
    it.env = {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "loopback"}
    for name in ("ops.pub.pem", "other.pub.pem", "ops.key.pem", "other.key.pem"):
        shutil.copy(VECTORS / name, it.folder / name)
        (it.folder / name).chmod(0o400)
    it.secret("site.key", generate_local_key(SystemChance()))
    it.secret("log.pem", to_pem(generate_signing_key(SystemChance())))
    it.secret("token", "demo-vobiz-token")
    own = f"kms: {{key_id: {key}, region: eu-west-1, endpoint: '{kms.endpoint}'}}"
    encryption = (
        "{recipients: [{id: ops, kind: rsa-oaep-256, public_key: file:ops.pub.pem}, "
        "{id: other, kind: rsa-oaep-256, public_key: file:other.pub.pem, escrow: true}, "
        f"{{id: cloud, kind: rsa-oaep-256, {own}}}, {{id: site, kind: aes-kw-256, key: file:site.key}}], identities: [IDENTITY]}}"
    )
    (sound, *_) = samples()
    sim = fleet.fleet(SystemClock(), samples(), count=0)["vobiz"]
    sim.account = Account([SimRecording("rec-1", NOW - timedelta(hours=2), sound.duration, sound)])

    async def sweep() -> tuple[str, str, int]:
        async with sim, authority(it.folder / "tsa") as tsa:
            (it.folder / "tsa.pem").write_bytes(tsa.root.pem)
            provider = (
                f'id: v, base_url: "{sim.base_url}", kind: vobiz, {LOOPBACK}, auth_id: MA_DEMO0001, auth_token: file:token, '
                f"retention: none, backfill_from: {(NOW - timedelta(days=2)).date()}"
            )
            stamps = f"timestamp: {{url: '{tsa.url}', every: 1h, ca: tsa.pem}}"
            custody = (
                f"{{signing_key: file:custody.pem, origin: archive.example.org/log, log_key: file:log.pem, {stamps}}}"
            )
            it.write(
                [provider], encryption=encryption.replace("[IDENTITY]", "[]"), custody=custody,
                head=["instance: acme-prod", "state_dir: state"],
            )  # fmt: skip
            await it.arun("run", "--once")
            first = len(tsa.requests)
            await it.arun("run", "--once")
            assert len(tsa.requests) == first == 1, "one stamp an hour"
            return provider, custody, first

    provider, custody, stamped = asyncio.run(sweep())
    digest = hashlib.sha256(sound.data).hexdigest()
    identities = encryption.replace("IDENTITY", f"{{id: cloud, {own}}}")
    return Sealed(it, provider, identities, custody, digest, stamped)


IDENTITIES = {
    "rsa": "{id: ops, private_key: file:ops.key.pem}",
    "escrow": "{id: other, private_key: file:other.key.pem}",
    "aes": "{id: site, key: file:site.key}",
    "kms": None,
}


@pytest.mark.effect(
    "encryption.recipients[](rsa-oaep-256).id", "encryption.recipients[](rsa-oaep-256).kind",
    "encryption.recipients[](rsa-oaep-256).public_key", "encryption.recipients[](rsa-oaep-256).kms.key_id",
    "encryption.recipients[](rsa-oaep-256).kms.region", "encryption.recipients[](rsa-oaep-256).kms.endpoint",
    "encryption.recipients[](aes-kw-256).id", "encryption.recipients[](aes-kw-256).kind",
    "encryption.recipients[](aes-kw-256).key", "encryption.identities[].id", "encryption.identities[].private_key",
    "encryption.identities[].key", "encryption.identities[].kms.key_id", "encryption.identities[].kms.region",
    "encryption.identities[].kms.endpoint",
)  # fmt: skip
@pytest.mark.parametrize("way", IDENTITIES)
def test_each_recipient_alone_opens_what_was_sealed_to_all(sealed: Sealed, way: str, tmp_path: Path) -> None:
    (row,) = sealed.it.rows()
    assert row["recipients"] == '["ops", "other", "cloud", "site"]'
    identity = IDENTITIES[way]
    encryption = sealed.encryption
    if identity is not None:
        encryption = re.sub(r"identities: \[.*\]", f"identities: [{identity}]", encryption)
    sealed.rewrite(encryption=encryption)
    sealed.it.run("recordings", "get", sealed.id, "-O", str(tmp_path / "out"), "--reason", "effect of the key")
    assert hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest() == sealed.digest


@pytest.mark.effect("encryption.recipients[](rsa-oaep-256).escrow", "encryption.recipients[](aes-kw-256).escrow")
def test_check_asks_for_an_escrow_key_until_one_recipient_is_one(sealed: Sealed) -> None:
    def said(encryption: str) -> str:
        sealed.rewrite(encryption=encryption)
        return sealed.it.run("check").stdout

    assert "C205" not in said(sealed.encryption)
    without = sealed.encryption.replace(", escrow: true", "")
    assert "C205" in said(without)
    assert "C205" not in said(without.replace("kind: aes-kw-256,", "kind: aes-kw-256, escrow: true,"))


@pytest.mark.effect("custody.origin", "custody.log_key", "custody.signing_key", "instance")
def test_the_log_has_the_name_and_the_key_that_are_stated_and_else_those_that_follow(sealed: Sealed) -> None:
    sealed.rewrite()
    shown = sealed.it.json("custody", "checkpoint")
    key = load_signing_key((sealed.it.folder / "log.pem").read_bytes())
    assert shown["note"].splitlines()[0] == "archive.example.org/log"
    assert parse_vkey(shown["vkey"]).public.hex() == public_hex(key)
    open_checkpoint(shown["note"].encode(), parse_vkey(shown["vkey"]), [])
    host = public_hex(load_signing_key((sealed.it.folder / "custody.pem").read_bytes()))
    assert {bytes.fromhex(host)} <= set(sealed.it.rows("SELECT * FROM custody_writer")[0].values())
    # Nothing stated: the instance's name, which a log keeps for ever.
    sealed.rewrite(custody="{signing_key: file:custody.pem}", instance="other")
    assert "other/custody" in sealed.it.run("run", "--once", code=None).stderr
    sealed.rewrite()


@pytest.mark.effect("custody.timestamp.url", "custody.timestamp.every", "custody.timestamp.ca")
def test_checkpoints_are_stamped_by_the_authority_that_is_named_as_often_as_is_said(sealed: Sealed) -> None:
    assert sealed.stamped == 1
    assert sealed.it.rows("SELECT count(DISTINCT size) AS n FROM custody_anchor")[0]["n"] == 1
    sealed.rewrite(custody=sealed.custody.replace("ca: tsa.pem", "ca: ops.pub.pem"))
    assert "certificates are not PEM" in sealed.it.run("check", code=78).stdout
    sealed.rewrite()


@pytest.mark.effect("custody.hosts")
def test_events_of_another_host_hold_when_its_key_is_named_and_else_are_findings(sealed: Sealed) -> None:
    """The other host is this one under a new custody key: the old events are a stranger's, unless its public key is named."""
    public = subprocess.run(
        ["openssl", "pkey", "-in", str(sealed.it.folder / "custody.pem"), "-pubout"], capture_output=True, check=True
    )
    (sealed.it.folder / "old.pub.pem").write_bytes(public.stdout)
    sealed.it.secret("new.pem", to_pem(generate_signing_key(SystemChance())))
    alone = sealed.custody.replace("file:custody.pem", "file:new.pem")
    sealed.rewrite(custody=alone)
    assert sealed.it.run("verify", "--all", code=None).returncode == 65
    sealed.rewrite(custody=alone.replace("{signing_key", "{hosts: [file:old.pub.pem], signing_key"))
    assert sealed.it.run("verify", "--all", code=None).returncode == 0
    sealed.rewrite()
