"""Wrote the golden log and bundle beside it, with the archiver as it was then; run once, with nothing there.

python -m tests.vectors.golden.generate
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import tempfile
import wave
from datetime import timedelta
from pathlib import Path

from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import ARCHIVE, Type
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.database import Writer, create_engine, upgrade
from archiver.evidence.model import Request
from archiver.exporter import Copy, Options, Tools, Wanted, export
from archiver.recording import Json, Lock, LockMode
from archiver.seal.cipher import Sealer
from archiver.seal.recipients import AesKwIdentity, AesKwRecipient
from archiver.store.directory import DirectoryStore
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.keeper import Keeper, Parts
from archiver.translog.notary import Notary
from archiver.translog.note import Cosigner, Signer
from archiver.translog.publisher import Publisher
from archiver.translog.sequencer import Sequencer, open_log
from archiver.translog.witness import Prove, Witness
from tests.custody_examples import FixedChance, SteadyClock
from tests.vectors.golden import BUNDLE, HERE, LOG, ORIGIN, private_key

_RECORDING = "01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e"
_SUBJECT = f"rec:{_RECORDING}"
_SEAL_KEY = hashlib.sha256(b"golden sealing").digest()
_OTHERS = [f"rec:01937f2c-8b7e-7c3a-9d1e-{number:012x}" for number in range(12)]
_FIRST, _BEFORE, _AFTER = 3, 12, 235  # leaves under the first checkpoint; others' events before and after the export


class NearWitness(Witness):
    """Cosigns in this process."""

    def __init__(self, notary: Notary) -> None:
        self.key = notary.key
        self._notary = notary

    async def cosign(self, checkpoint: Checkpoint, note: bytes, prove: Prove) -> str:
        last = self._notary.last(checkpoint.origin).size
        return self._notary.add_checkpoint(last, await prove(last), checkpoint)


def _audio() -> bytes:
    """A quarter of a second of a square wave."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 1, 8000, 0, "NONE", ""))
        sound.writeframes((b"\x40" * 9 + b"\xc0" * 9) * 112)
    return file.getvalue()


def _life(audio: bytes, sealed: bytes, key: str) -> list[Draft]:
    """The recording's chain, as a version 1 daemon writes it."""
    row = b'{"agent":"Zo\xc3\xab \xc3\x91and\xc3\xba","from":"+14155550123","id":"CA-1","to":"+14155550199"}'
    private = {
        "provider_meta": {"row_base64": base64.b64encode(row).decode()},
        "parties": {"from_number": "+14155550123", "to_number": "+14155550199", "agent": "Zoë Ñandú"},
    }
    plain, cipher = hashlib.sha256(audio).hexdigest(), hashlib.sha256(sealed).hexdigest()
    stored: dict[str, Json] = {"storage": "primary", "key": key, "ct_sha256": cipher, "ct_bytes": len(sealed)}
    return [
        Draft(_SUBJECT, Type.DISCOVERED, {"provider": "plivo-us", "source": "list"}, private),
        Draft(_SUBJECT, Type.DOWNLOADED, {"bytes": len(audio), "pt_sha256": plain, "http_status": 200, "attempt": 1}),
        Draft(_SUBJECT, Type.VERIFIED, {"container": "wav", "codec": "pcm_u8", "flags": []}),
        Draft(_SUBJECT, Type.SEALED, {"alg": "cms-authenveloped-aes-256-gcm", "pt_sha256": plain, "ct_sha256": cipher}),
        Draft(_SUBJECT, Type.STORED, {**stored, "lock_mode": "off", "copy_no": 1}),
        Draft(_SUBJECT, Type.STORE_VERIFIED, {**stored, "method": "full-read", "result": "ok"}),
    ]


async def generate(work: Path) -> None:
    """Everything, with `work` as the place for what is not kept."""
    clock, chance = SteadyClock(), FixedChance("golden")
    host, signer = private_key("host"), Signer(ORIGIN, private_key("log"))
    cosigner = Cosigner("witness.example/golden", private_key("witness"))
    url = f"sqlite:///{work}/archiver.db"
    engine = create_engine(url, None)
    upgrade(engine)
    writer = Writer(engine)
    ledger, exporter = Ledger.open(clock, chance), Ledger.open(clock, chance)
    copies = DirectoryStore("primary", work / "copies", clock=SystemClock(), chance=SystemChance())
    shelf = DirectoryStore("shelf", LOG, clock=SystemClock(), chance=SystemChance()).shelf()
    LOG.mkdir()
    await copies.probe()
    log_id = await writer.run(lambda conn: open_log(conn, ORIGIN, clock.now()))
    witness = NearWitness(Notary(work / "witness.db", cosigner, clock))
    notary = Notary(work / "notary.db", signer, clock)
    publisher = Publisher(engine, writer, log_id, notary, [shelf], clock, [witness])
    hosts = frozenset({public_hex(host)})
    sequencer = Sequencer(ledger, hosts, log_id)
    parts = Parts(writer, ledger, sequencer, publisher, None, log_id)
    keeper = Keeper(parts, chance.uuid(), clock, timedelta(seconds=10), lambda now: now + timedelta(days=365))

    audio = _audio()
    path, key = work / "sealed", f"recordings/{_RECORDING}"
    with path.open("w+b") as file:
        sealer = Sealer(file, [AesKwRecipient("local", _SEAL_KEY)], chance, len(audio))
        sealer.write(audio)
        sealer.finish()
    sealed = path.read_bytes()
    lock = Lock(LockMode.OFF, None)
    stored = await copies.put_once(
        key, path, size=len(sealed), sealed_sha256=hashlib.sha256(sealed).hexdigest(), lock=lock
    )

    await writer.run(lambda conn: ledger.enroll(conn, host))
    life = _life(audio, sealed, key)
    await publisher.start()
    await writer.run(lambda conn: ledger.append_many(conn, life[: _FIRST - 1]))
    await writer.run(sequencer.integrate)
    known = await publisher.publish(None)
    assert known is not None
    assert known.checkpoint.size == _FIRST
    await writer.run(lambda conn: ledger.append_many(conn, life[_FIRST - 1 :]))
    filling = [Draft(_OTHERS[n % len(_OTHERS)], Type.FIXITY_CHECKED, {"n": n}) for n in range(_BEFORE)]
    await writer.run(lambda conn: ledger.append_many(conn, filling))
    reconciled: dict[str, Json] = {"account_ref": "plivo-us", "provider_count": 13, "archived_count": 13}
    await writer.run(lambda conn: ledger.append(conn, ARCHIVE, Type.RECONCILED, reconciled))
    assert await keeper.catch_up() is None

    await writer.run(lambda conn: exporter.enroll(conn, host))
    tools = Tools(
        engine, writer, exporter, keeper, log_id, signer.key.vkey, hosts, {"primary": copies},
        [AesKwIdentity("local", _SEAL_KEY)],
    )  # fmt: skip
    request = Request(
        chance.uuid(), "golden", clock.now(), "r.ortega (compliance)", "Subpoena 26-cv-118",
        {"number": "+14155550123"}, "Fed. R. Civ. P. 45",
    )  # fmt: skip
    wanted = Wanted(
        _RECORDING, "wav", hashlib.sha256(audio).hexdigest(), (Copy("primary", stored.key, stored.version_id),)
    )
    policy = f"log {signer.key.vkey}\nwitness w1 {cosigner.key.vkey}\nquorum w1\n"
    await export(tools, BUNDLE, request, [wanted], Options("subpoena", known=known.note, policy=policy), print)
    # Past the width of a tile, and some more: a full tile and bundle, and a partial one behind it.
    more = [Draft(_OTHERS[n % len(_OTHERS)], Type.FIXITY_CHECKED, {"n": _BEFORE + n}) for n in range(_AFTER)]
    await writer.run(lambda conn: ledger.append_many(conn, more))
    assert await keeper.catch_up() is None
    writer.close()
    engine.dispose()
    keys = {"log": signer.key.vkey, "host": public_hex(host), "witness": cosigner.key.vkey}
    (HERE / "keys.json").write_text(json.dumps(keys, indent=2) + "\n")


def freeze() -> None:
    """Modes as a checkout has them, and the list of all bytes."""
    files = sorted(path for folder in (LOG, BUNDLE) for path in folder.rglob("*") if path.is_file())
    for path in [*files, *LOG.rglob("*"), *BUNDLE.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}\n" for path in files]
    (HERE / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(generate(Path(folder)))
    freeze()
