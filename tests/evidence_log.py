"""A custody log and evidence bags made from the specifications alone: RFC 6962, C2SP and DSSE in the words of their texts.

A second implementation, which shares nothing with the archiver, so that the verifier is not checked by its own author's habits.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from archiver.evidence.verifier import joined

ORIGIN = "archive.example.com/custody/2026"
VERIFIER = joined()
AUDIO = Path(__file__).parent / "data" / "audio"
PAE_TYPE = "application/vnd.compliance-archiver.custody-event.v1+json"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def jcs(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def key_of(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()))


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


# --- RFC 6962 section 2.1, recursively as the text has it -----------------------------------------------------------


def _split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m: int, leaves: list[bytes]) -> list[bytes]:
    return _subproof(m, leaves, True)


def _subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    n = len(leaves)
    if m == n:
        return [] if whole else [mth(leaves)]
    k = _split(n)
    if m <= k:
        return [*_subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], False), mth(leaves[:k])]


# --- C2SP signed notes --------------------------------------------------------------------------------------------------


def key_id(name: str, kind: int, key: Ed25519PrivateKey) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + public(key))[:4]


def vkey(name: str, key: Ed25519PrivateKey, kind: int = 1) -> str:
    return f"{name}+{key_id(name, kind, key).hex()}+{b64(bytes([kind]) + public(key))}"


def sign_note(body: str, name: str, key: Ed25519PrivateKey) -> str:
    return f"— {name} {b64(key_id(name, 1, key) + key.sign(body.encode()))}\n"


def cosign(body: str, name: str, key: Ed25519PrivateKey, at: int) -> str:
    signature = key.sign(f"cosignature/v1\ntime {at}\n{body}".encode())
    return f"— {name} {b64(key_id(name, 4, key) + at.to_bytes(8, 'big') + signature)}\n"


# --- the log ------------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """A log in memory. `now` is the writers' clock: two days ago at the start, a second later at each event."""

    seed: str = ""
    entries: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key, self.host = key_of(f"log{self.seed}"), key_of(f"host{self.seed}")
        self.chance = random.Random(f"log {self.seed}")
        self.now = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=2)
        self.heads: dict[str, tuple[int, str | None]] = {}
        self.where: dict[str, list[int]] = {}
        self.times: list[datetime] = []

    @property
    def vkey(self) -> str:
        return vkey(ORIGIN, self.key)

    @property
    def host_hex(self) -> str:
        return public(self.host).hex()

    @property
    def leaves(self) -> list[bytes]:
        return [sha256(b"\x00" + entry) for entry in self.entries]

    def uuid(self) -> str:
        value = f"{self.chance.getrandbits(128):032x}"
        return f"{value[:8]}-{value[8:12]}-7{value[13:16]}-8{value[17:20]}-{value[20:]}"

    def append(
        self,
        subject: str,
        kind: str,
        data: Mapping[str, Any],
        key: Ed25519PrivateKey,
        priv: Mapping[str, str] | None = None,
        changed: Mapping[str, Any] | None = None,
        actor: str = "worker",
    ) -> int:
        """Log an event, by default the right one after the subject's last; `changed` overrides members of `ev`."""
        self.now += timedelta(seconds=1)
        seq, prev = self.heads.get(subject, (-1, None))
        ev = {
            "actor": {"kind": actor, "user": None, "writer": public(key).hex()},
            "at": self.now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "data": dict(data),
            "id": self.uuid(),
            "op": None,
            "outcome": "ok",
            "prev": prev,
            "priv": dict(priv or {}),
            "seq": seq + 1,
            "subject": subject,
            "type": kind,
            "v": 1,
        } | dict(changed or {})
        body = jcs(ev)
        pae = f"DSSEv1 {len(PAE_TYPE)} {PAE_TYPE} {len(body)} ".encode() + body
        return self.add(subject, jcs({"ev": ev, "sig": b64(key.sign(pae))}))

    def add(self, subject: str, entry: bytes) -> int:
        self.entries.append(entry)
        self.times.append(self.now)
        seq, _ = self.heads.get(subject, (-1, None))
        self.heads[subject] = (seq + 1, self.leaves[-1].hex())
        self.where.setdefault(subject, []).append(len(self.entries) - 1)
        return len(self.entries) - 1

    def state(
        self,
        key: Ed25519PrivateKey,
        provider: str = "plivo-us",
        day: str = "2026-11-01",
        *,
        data: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> bytes:
        """State the completeness of a day, as docs/spec/completeness-statement.md has it: the document, whose event is logged.

        `changed` are other members of the document, `data` of its event.
        """
        statement: dict[str, Any] = {
            "schema": "archiver.completeness/v1",
            "provider": provider,
            "day": day,
            "revision": 1,
            "listed": 3,
            "states": {"archived": 2, "absent": 1},
            "without_audio": 1,
            "archived_bytes": 96000,
            "archived_ms": 6000,
            "rejects": 0,
            "holes": [],
            "gaps": [],
            "complete": True,
            "listings": [
                {"scope": "", "since": f"{day}T00:00:00Z", "until": f"{day}T23:59:59Z", "rows": 3, "total": 3,
                 "sha256": sha256(day.encode()).hex(), "completed_at": f"{day}T23:59:59Z"},
            ],
        } | changed  # fmt: skip
        raw = jcs(statement)
        codes = [each["code"] for each in statement["gaps"]]
        told = {
            "kind": "completeness",
            "statement_sha256": sha256(raw).hex(),
            "statement_bytes": len(raw),
            "archived": statement["states"].get("archived", 0),
            "gaps": {code: codes.count(code) for code in codes},
            "listings": len(statement["listings"]),
        } | {name: statement[name] for name in ("provider", "day", "revision", "complete", "listed", "without_audio")}
        self.append("archive", "reconcile.completed", told | dict(data or {}), key)
        return raw

    def enroll(self, key: Ed25519PrivateKey, kind: str = "writer.enrolled") -> int:
        return self.append("archive", kind, {"writer": public(key).hex()}, self.host, actor="host")

    def body(self, size: int | None = None) -> str:
        size = len(self.entries) if size is None else size
        return f"{ORIGIN}\n{size}\n{b64(mth(self.leaves[:size]))}\n"

    def checkpoint(self, size: int | None = None, *more: str) -> bytes:
        body = self.body(size)
        return f"{body}\n{sign_note(body, ORIGIN, self.key)}{''.join(more)}".encode()

    def tlog_proof(self, index: int, checkpoint: bytes) -> bytes:
        size = int(checkpoint.split(b"\n")[1])
        hashes = "".join(f"{b64(each)}\n" for each in path(index, self.leaves[:size]))
        return f"c2sp.org/tlog-proof@v1\nindex {index}\n{hashes}\n".encode() + checkpoint


# --- bags ---------------------------------------------------------------------------------------------------------------


@dataclass
class Bag:
    """The files of a bag by path; `exporter` signed it, and an attacker has another key."""

    files: dict[str, bytes]
    log: Log
    exporter: Ed25519PrivateKey
    recordings: list[str]

    @property
    def arguments(self) -> tuple[str, tuple[str, ...]]:
        return self.log.vkey, (self.log.host_hex,)

    def seal(self, sign: Callable[[bytes], bytes] | None = None) -> None:
        """Make manifests anew over what the files are now, as anybody can, and sign them, as only the exporter can."""
        tags = ("bagit.txt", "bag-info.txt", "README-VERIFY.txt", "verify_custody.py")
        payload = {name: data for name, data in self.files.items() if name.startswith("data/")}
        self.files["manifest-sha256.txt"] = lines(payload)
        tagged = {name: self.files[name] for name in (*tags, "manifest-sha256.txt") if name in self.files}
        self.files["tagmanifest-sha256.txt"] = lines(tagged)
        if sign is not None:
            self.files["tagmanifest-sha256.sig"] = sign(self.files["tagmanifest-sha256.txt"])

    def write(self, folder: Path) -> Path:
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder


def lines(files: Mapping[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def record(log: Log, worker: Ed25519PrivateKey, audio: bytes | None) -> tuple[str, dict[str, bytes]]:
    """Take a recording through its life; its id and the files of its content."""
    recording = log.uuid()
    subject, folder = f"rec:{recording}", f"data/recordings/{recording}"
    row = jcs({"id": log.uuid(), "from": "+14155550123", "agent": "Zoë Ñandú"})
    groups: dict[str, dict[str, Any]] = {
        "provider_meta": {"row_base64": b64(row)},
        "parties": {"from_number": "+14155550123", "agent_name": "Zoë Ñandú"},
    }
    salts = {name: log.chance.randbytes(32) for name in groups}
    priv = {name: sha256(b"custody-priv-v1\0" + salts[name] + jcs(groups[name])).hex() for name in groups}
    log.append(subject, "recording.discovered", {"provider": "plivo-us", "source": "list"}, worker, priv)
    files = {
        f"{folder}/provider.json": row,
        f"{folder}/private.json": json.dumps(
            {name: {"salt": salts[name].hex(), "data": groups[name]} for name in groups}, ensure_ascii=False
        ).encode(),
    }
    if audio is not None:
        pt, ct = hashlib.sha256(audio).hexdigest(), hashlib.sha256(audio + b"sealed").hexdigest()
        log.append(subject, "recording.downloaded", {"bytes": len(audio), "pt_sha256": pt, "http_status": 200}, worker)
        log.append(subject, "recording.verified", {"container": "mp3", "flags": []}, worker)
        sealed = {
            "alg": "cms-authenveloped-aes-256-gcm",
            "pt_sha256": pt,
            "ct_sha256": ct,
            "ct_bytes": len(audio) + 640,
        }
        log.append(subject, "recording.sealed", sealed, worker)
        stored = {"storage": "primary", "key": "calls/ab/cd", "ct_sha256": ct, "lock_mode": "compliance", "copy_no": 1}
        log.append(subject, "recording.stored", stored, worker)
        verified = {"storage": "primary", "method": "head-checksum", "result": "ok", "ct_sha256": ct}
        log.append(subject, "recording.store_verified", verified, worker)
        files[f"{folder}/audio.mp3"] = audio
    return recording, files


def make_bag(seed: str = "", recordings: int = 1, noise: int = 5, stated: int = 0, **options: Any) -> Bag:
    """A clean bag over a log with `noise` foreign events around, and `stated` days. Options of `close_bag`."""
    log, worker, exporter = Log(seed), key_of(f"worker{seed}"), key_of(f"exporter{seed}")
    log.enroll(worker)
    files: dict[str, bytes] = {}
    ids = []
    sources = sorted(AUDIO.glob("*.mp3"))
    for number in range(recordings):
        for _ in range(log.chance.randrange(noise + 1)):
            log.append(f"rec:{log.uuid()}", "recording.discovered", {"provider": "other"}, worker)
        audio = sources[(number + len(seed)) % len(sources)].read_bytes()
        recording, content = record(log, worker, audio)
        ids.append(recording)
        files |= content
    for number in range(stated):
        day = f"2026-11-{number + 1:02d}"
        files[f"data/statements/plivo-us-{day}.json"] = log.state(worker, day=day)
    log.enroll(exporter)
    return close_bag(log, exporter, ids, files, noise=noise, **options)


def close_bag(
    log: Log,
    exporter: Ed25519PrivateKey,
    recordings: list[str],
    content: dict[str, bytes],
    *,
    noise: int = 0,
    archive: Iterable[int] | None = None,
    cosigners: Mapping[str, Ed25519PrivateKey] | None = None,
    stamp: Callable[[bytes], dict[str, bytes]] | None = None,
    known: int | None = None,
    policy: str | None = None,
) -> Bag:
    """Content → export.prepared → log part → bag: the order of effects of the specification."""
    files = dict(content)
    request = {
        "export": log.uuid(),
        "requested_by": "counsel",
        "reason": "Subpoena 26-cv-118",
        "recordings": recordings,
    }
    files["data/request.json"] = json.dumps(request).encode()
    files["data/content-manifest.txt"] = lines(files)
    for recording in recordings:
        seq, prev = log.heads[f"rec:{recording}"]
        data = {
            "request": request["export"],
            "purpose": "subpoena",
            "content_manifest_sha256": hashlib.sha256(files["data/content-manifest.txt"]).hexdigest(),
            "head": {"seq": seq, "hash": prev},
        }
        log.append(f"rec:{recording}", "export.prepared", data, exporter)
    for _ in range(noise):
        log.append(f"rec:{log.uuid()}", "recording.discovered", {"provider": "other"}, exporter)
    at = int(time.time()) - 3600
    body = log.body()
    checkpoint = log.checkpoint(None, *(cosign(body, name, key, at) for name, key in (cosigners or {}).items()))
    files |= {
        "data/log/checkpoint": checkpoint,
        "data/log/checkpoint.body": body.encode(),
        "data/log/checkpoint.sig": log.key.sign(body.encode()),
        "data/trust/log.vkey": log.vkey.encode() + b"\n",
        "data/trust/log.pem": log.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "data/trust/hosts.txt": f"{log.host_hex}\n".encode(),
        "data/report.html": b"<p>report</p>",
        "data/certificate-902.txt": b"draft\n",
        "bagit.txt": b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": b"Bagging-Date: 2026-11-20\n",
        "README-VERIFY.txt": b"python3 -I verify_custody.py .\n",
        "verify_custody.py": VERIFIER,
    }
    if policy is not None:
        files["data/trust/policy.txt"] = policy.encode()
    for recording in recordings:
        for seq, index in enumerate(log.where[f"rec:{recording}"]):
            files[f"data/recordings/{recording}/events/{seq:04d}.json"] = log.entries[index]
            files[f"data/recordings/{recording}/proofs/{seq:04d}.tlog-proof"] = log.tlog_proof(index, checkpoint)
    for index in log.where.get("archive", []) if archive is None else archive:
        files[f"data/log/archive-events/{index:012d}.json"] = log.entries[index]
        files[f"data/log/archive-events/{index:012d}.tlog-proof"] = log.tlog_proof(index, checkpoint)
    if known is not None:
        files["data/log/known.checkpoint"] = log.checkpoint(known)
        files["data/log/consistency.txt"] = "".join(f"{b64(each)}\n" for each in proof(known, log.leaves)).encode()
    if stamp is not None:
        files |= stamp(checkpoint)
    bag = Bag(files, log, exporter, recordings)
    bag.seal(exporter.sign)
    return bag
