"""Verify an evidence bundle with Python alone:

    python3 -I verify_custody.py BUNDLE --log-key 'NAME+ID+KEY' [--host-key HEX]... [--policy FILE]

Needs Python 3.9 or later, nothing else, no network; reads only; shares no line with the software that wrote the bundle. What it
checks is written in docs/spec/evidence-bundle.md. Take the keys from the contract, a letter, a web site, never from the bundle.
Exit code: 0 every claim holds · 65 a claim fails · 69 nothing fails, but a key is missing or unusable, so nothing is proved.
"""

from __future__ import annotations

import argparse
import base64
import calendar
import functools
import hashlib
import json
import re
import stat
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

try:  # several hundred times faster than the few lines below, with the same answers
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None  # type: ignore[assignment,misc]

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)
FUTURE = "which is in the future (or this computer's clock is slow)"


class Wrong(Exception):  # noqa: N818
    """A claim does not hold; the text says why."""


def need(condition: object, why: str) -> None:
    if not condition:
        raise Wrong(why)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tomorrow() -> float:
    """Clocks differ; what is dated later than this is from the future."""
    return time.time() + 86400


# --- Ed25519, RFC 8032 section 5.1, strict: canonical numbers only, no points of small order ---------------------------------

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)
Point = Any  # four integers: extended coordinates X, Y, Z, T
ZERO: Point = (0, 1, 1, 0)


def add(a: Point, b: Point) -> Point:
    p, q, r, s = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0]), 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = q - p, s - r, s + r, q + p
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor: int, point: Point) -> Point:
    total = ZERO
    while factor:
        total = add(total, point) if factor & 1 else total
        point, factor = add(point, point), factor >> 1
    return total


def same(a: Point, b: Point) -> bool:
    return bool((a[0] * b[2] - b[0] * a[2]) % P == 0 == (a[1] * b[2] - b[1] * a[2]) % P)


@functools.lru_cache(maxsize=1024)
def point_of(raw: bytes) -> Point:
    y, sign = int.from_bytes(raw, "little") % 2**255, raw[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    x = x if x % 2 == sign else P - x
    need(len(raw) == 32 and y < P and x < P and x * x % P == square, "an Ed25519 key or signature is not canonical")
    need(not same(times(8, (x, y, 1, x * y % P)), ZERO), "an Ed25519 key or signature is a point of small order")
    return x, y, 1, x * y % P


def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` is `key`'s."""
    a, r, s = point_of(key), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:
        return False
    if Ed25519PublicKey is None:
        k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
        base = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
        return same(times(s, base), add(r, times(k, a)))
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


# --- keys, checkpoints, witnesses (c2sp.org: signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy) --------------------


class Key(NamedTuple):
    name: str
    id: bytes
    public: bytes


class Checkpoint(NamedTuple):
    raw: bytes
    body: str
    origin: str
    size: int
    root: bytes
    signatures: list[tuple[str, bytes, bytes]]  # key name, key id, signature


def unbase64(text: str, size: int = 0) -> bytes:
    raw = base64.b64decode(text.encode("ascii"), validate=True)
    need(base64.b64encode(raw).decode() == text and len(raw) == (size or len(raw)), "base64 of a wrong form or length")
    return raw


def number(text: str) -> int:
    need(re.fullmatch(r"0|[1-9][0-9]{0,18}", text) and int(text) < 2**63, f"{text[:30]!r} is no canonical number")
    return int(text)


def parse_key(text: str, kind: int) -> Key:
    """The verifier key NAME+ID+KEY of `kind`: 1 for a log, 4 for a witness."""
    try:
        name, key_id, encoded = text.strip().split("+", 2)
        raw = unbase64(encoded, 33)
        key = Key(name, sha256(name.encode() + b"\n" + raw)[:4], raw[1:])
        need(re.fullmatch(r"[^\s\x00-\x1f\x7f-\x9f]+", name) and key.id.hex() == key_id, "")
        need(raw[0] == kind and point_of(key.public), "")
    except (ValueError, Wrong) as exc:
        raise Wrong(f"{text[:100]!r} is no verifier key of this kind") from exc
    return key


def parse_checkpoint(raw: bytes) -> Checkpoint:
    text = raw.decode("utf-8")
    need(len(raw) <= 65536 and not re.search(r"[\x00-\x09\x0b-\x1f]", text), "the checkpoint is no signed note")
    body, blank, rest = text.rpartition("\n\n")
    need(blank and rest.endswith("\n") and body.count("\n") == 2, "the checkpoint is cut off, or has other lines")
    form = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]{6}[A-Za-z0-9+/]*=*)")
    lines = [form.fullmatch(line) for line in rest[:-1].split("\n")]
    need(all(lines) and len(lines) <= 32, "the checkpoint has a line that is no signature")
    blobs = [(line[1], unbase64(line[2])) for line in lines if line]
    origin, size, root = body.split("\n")
    return Checkpoint(raw, body + "\n", origin, number(size), unbase64(root, 32), [(n, b[:4], b[4:]) for n, b in blobs])


def check_log_signature(checkpoint: Checkpoint, key: Key, which: str) -> None:
    need(checkpoint.origin == key.name, f"{which} is foreign: it is of the log {checkpoint.origin!r}, not {key.name!r}")
    own = [signature for name, key_id, signature in checkpoint.signatures if (name, key_id) == key[:2]]
    need(own, f"{which} is foreign: the log key {key.name}+{key.id.hex()} did not sign it")
    good = all(signed(key.public, checkpoint.body.encode(), each) for each in own)
    need(good, f"{which} was changed, or forged: the log's signature does not match")


def cosigned(checkpoint: Checkpoint, key: Key) -> bool:
    for name, key_id, signature in checkpoint.signatures:
        if (name, key_id) == key[:2]:
            at = int.from_bytes(signature[:8], "big")
            message = f"cosignature/v1\ntime {at}\n{checkpoint.body}".encode()
            need(signed(key.public, message, signature[8:]), f"the cosignature of witness {name!r} is false")
            need(at <= tomorrow(), f"witness {name!r} dates its cosignature {at}, {FUTURE}")
            return True
    return False


def check_quorum(policy: str, checkpoint: Checkpoint) -> str:
    met: dict[str, bool] = {"none": True}
    witnesses = []
    for words in (line.split() for line in policy.splitlines() if line.strip() and line.strip()[0] != "#"):
        if words[0] == "witness":
            met[words[1]] = cosigned(checkpoint, parse_key(words[2], 4))
            witnesses += [words[1]] * met[words[1]]
        elif words[0] == "group":
            members = [met[name] for name in words[3:]]
            least = {"any": 1, "all": len(members)}.get(words[2]) or number(words[2])
            need(1 <= least <= len(members) == len(set(words[3:])), "the policy has an impossible group")
            met[words[1]] = sum(members) >= least
        elif words[0] == "quorum":
            need(met[words[1]], f"quorum {words[1]!r} is not met; cosigned by {', '.join(witnesses) or 'nobody'}")
            return f"quorum {words[1]!r} is met; cosigned by {', '.join(witnesses) or 'nobody'}"
        need(words[0] in {"log", "witness", "group"}, "the policy has a line of an unknown kind")
    raise Wrong("the policy has no quorum")


# --- Merkle tree, RFC 9162 sections 2.1.3.2 and 2.1.4.2 -----------------------------------------------------------------------


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def climb(at: int, last: int, path: list[bytes], *roots: bytes) -> tuple[bytes, ...]:
    """Where `path` leads from `roots`; only the first of them takes the siblings on the right."""
    for sibling in path:
        need(last, "a proof is too long")
        if at & 1 or at == last:
            roots = tuple(node(sibling, root) for root in roots)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            roots = (node(roots[0], sibling), *roots[1:])
        at, last = at >> 1, last >> 1
    need(not last, "a proof is too short")
    return roots


def check_consistency(old: Checkpoint, new: Checkpoint, path: list[bytes]) -> None:
    at, last = old.size - 1, new.size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    path = path if old.size & (old.size - 1) else [old.root, *path]
    need(0 < old.size < new.size and path, "a consistency proof is missing")
    proved = climb(at, last, path[1:], path[0], path[0]) == (new.root, old.root)
    need(proved, "two checkpoints of the log contradict each other")


# --- custody events, docs/spec/custody-event.md -------------------------------------------------------------------------------

HEX32, WORD = r"[0-9a-f]{64}", r"[a-z][a-z0-9_]{0,31}"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TYPE = b"application/vnd.compliance-archiver.custody-event.v1+json"
SHAPE = {  # member -> what its JSON text must be
    "actor": rf'\{{"kind":"{WORD}","user":(null|".+"),"writer":"{HEX32}"\}}',
    "at": r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"',
    "data": r"\{.*\}",
    "id": f'"{UUID}"',
    "op": r'null|".+"',
    "outcome": f'"{WORD}"',
    "prev": f'null|"{HEX32}"',
    "priv": rf'\{{("[a-z0-9_.]{{1,64}}":"{HEX32}",?)*\}}',
    "seq": r"[0-9]+",
    "subject": rf'"(archive|rec:{UUID}|hold:[A-Za-z0-9._-]{{1,64}})"',
    "type": r'"[a-z_]{1,32}\.[a-z_]{1,32}"',
    "v": "1",
}
BY_HOST = {"writer.enrolled", "writer.retired"}
AFTER: dict[str, tuple[str, list[str]]] = {  # type -> what must have come before, and what both must then say alike
    "recording.sealed": ("recording.downloaded", ["pt_sha256"]),
    "recording.stored": ("recording.sealed", ["ct_sha256"]),
    "recording.store_verified": ("recording.stored", ["storage", "ct_sha256"]),
    "provider.deleted": ("provider.delete_intended", []),
    "provider.delete_confirmed": ("provider.deleted", []),
    "export.delivered": ("export.prepared", []),
}


class Event(NamedTuple):
    ev: dict[str, Any]
    hash: bytes
    leaf: int


def refuse(literal: str) -> NoReturn:
    raise ValueError(literal)


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def in_profile(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (dict, list)):
        keys, items = (list(value), value.values()) if isinstance(value, dict) else ([], value)
        names = all(re.fullmatch(r"[a-z0-9_.]+", key) for key in keys)
        return depth < 16 and names and all(in_profile(item, depth + 1) for item in items)
    return unicodedata.is_normalized("NFC", value) if isinstance(value, str) else value is None or abs(value) < 2**53


def parse_event(raw: bytes) -> dict[str, Any]:
    """The event of an entry in the right form and truly signed; whether its writer is the archive's is not asked here."""
    entry = json.loads(raw.decode("utf-8"), parse_float=refuse, parse_constant=refuse)
    need(len(raw) <= 16384 and canonical(entry) == raw and in_profile(entry), "it is not in canonical form")
    ev, sig = entry["ev"], unbase64(entry["sig"], 64)
    good = entry.keys() == {"ev", "sig"} and ev.keys() == SHAPE.keys() and (ev["prev"] is None) == (ev["seq"] == 0)
    good = good and all(re.fullmatch(shape, canonical(ev[name]).decode()) for name, shape in SHAPE.items())
    good = good and all(len(text or "") <= 200 for text in (ev["op"], ev["actor"]["user"]))
    need(good, "it is no custody event of format v1")
    body = canonical(ev)
    message = b"DSSEv1 %d %b %d %b" % (len(TYPE), TYPE, len(body), body)
    need(signed(bytes.fromhex(ev["actor"]["writer"]), message, sig), "its writer's signature is false")
    need(ev["at"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(tomorrow())), f"it is dated {ev['at']}, {FUTURE}")
    return ev  # type: ignore[no-any-return]


def check_order(events: list[Event]) -> None:
    need(events[0].ev["type"] == "recording.discovered", "its first event is not recording.discovered")
    for place, (ev, _, _) in enumerate(events):
        earlier, alike = AFTER.get(ev["type"], ("", []))
        before = [e.ev["data"] for e in events[:place] if e.ev["type"] == earlier]
        found = any(all(data.get(name) == ev["data"].get(name) for name in alike) for data in before)
        need(found or not earlier, f"event {place} is {ev['type']}, but no {earlier} of the same thing came before it")


# --- RFC 3161 time stamps: what they cover and when; who signed them is for openssl ------------------------------------------


def check_stamp(raw: bytes, covered: bytes) -> int:
    """When, in Unix time, the time stamp response `raw` says that `covered` existed: TSTInfo has digest, serial, genTime."""
    time_ = rb"(?:\x17\x0d([0-9]{12})|\x18[\x0f-\x16]([0-9]{14})(?:\.[0-9]+)?)Z"  # UTCTime or GeneralizedTime
    info = re.search(re.escape(b"\x04\x20" + sha256(covered)) + rb"\x02.{2,40}?" + time_, raw, re.DOTALL)
    need(info and info[2], "it is a time stamp of something else, or not by SHA-256")
    at = info[2] if info else b""
    for old, new, old_end, new_end in re.findall(rb"\x30[\x1e-\x22]" + time_ + time_, raw):  # a certificate's validity
        since, until = (new or (b"20" if old < b"5" else b"19") + old for old, new in ((old, new), (old_end, new_end)))
        need(since <= at <= until, "a certificate in it had expired, or was not valid yet, at its time")
    moment = calendar.timegm(time.strptime(at.decode(), "%Y%m%d%H%M%S"))
    need(moment <= tomorrow(), f"it is dated {at.decode()}, {FUTURE}")
    return moment


# --- the bundle ---------------------------------------------------------------------------------------------------------------

PATH = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
CONTENT = rf"data/(request\.json|recordings/{UUID}/(audio\.[a-z0-9]+|provider\.json|private(-[0-9]{{4,}})?\.json))"
TAGS = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "README-VERIFY.txt", "verify_custody.py"}
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


class Bundle:
    """One bundle under examination. `lines` says what holds and what does not, `unproved` what nothing here proves."""

    def __init__(self, root: Path, key: Key, hosts: Iterable[str]) -> None:
        self.root, self.key, self.hosts = root, key, set(hosts)
        self.lines: list[tuple[str, str]] = []
        self.unproved: list[str] = []
        self.checkpoint: Any = None
        self.writers: dict[str, int] = {}  # session key -> leaf of its enrolment
        self.retired: dict[str, int] = {}
        self.chains: dict[str, list[Event]] = {}
        self.digest = functools.lru_cache(maxsize=None)(self.compute_digest)

    def claim(self, what: str, check: Callable[..., str], *args: str) -> None:
        try:
            mark, said = "PASS", check(*args)
        except Wrong as exc:
            mark, said = "FAIL", str(exc)
        except UNREADABLE as exc:
            mark, said = "FAIL", f"damaged or not in the format ({type(exc).__name__})"
        self.lines.append((mark, re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", f"{what}: {said}")))

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        return sorted(path.name for path in (self.root / folder).glob(pattern))

    def file(self, name: str) -> Path:
        need((self.root / name).is_file(), f"{name} is missing: the bundle is incomplete or was cut off")
        return self.root / name

    def read(self, name: str) -> bytes:
        need(self.file(name).stat().st_size < 2**28, f"{name} is too long")
        return self.file(name).read_bytes()

    def hashes(self, lines: list[str]) -> list[bytes]:
        return [unbase64(line, 32) for line in lines]

    def compute_digest(self, name: str) -> str:
        total = hashlib.sha256()
        with self.file(name).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                total.update(block)
        return total.hexdigest()

    def manifest(self, name: str) -> set[str]:
        """The files that a list in the format of sha256sum names, each compared with its digest."""
        lines = self.read(name).decode("ascii").split("\n")
        pairs = [line.split("  ", 1) for line in lines[:-1]]
        sound = lines[-1] == "" and pairs and len({path for _, path in pairs}) == len(pairs)
        need(sound, f"{name} is cut off, empty, or lists a file twice")
        for digest, path in pairs:
            need(re.fullmatch(PATH, path), f"{name} lists a file {path[:200]!r}, whose name is outside the format")
            need(self.digest(path) == digest, f"{path} was changed: {name} has another SHA-256")
        return {path for _, path in pairs}

    def check_files(self) -> str:
        need(self.read("bagit.txt") == BAGIT, "bagit.txt is not that of a BagIt 1.0 bag")
        known = self.manifest("manifest-sha256.txt") | {"tagmanifest-sha256.txt", "tagmanifest-sha256.sig"}
        need(self.manifest("tagmanifest-sha256.txt") == TAGS and not known & TAGS, "the manifests list the wrong files")
        for path in sorted(self.root.rglob("*")):
            mode, name = path.lstat().st_mode, path.relative_to(self.root).as_posix()
            if stat.S_ISDIR(mode):
                need(any(path.iterdir()), f"{name} is an empty folder that nothing accounts for")
            else:
                need(stat.S_ISREG(mode), f"{name} is no ordinary file")
                need(name in known | TAGS, f"{name} is in the bundle, but in no manifest")
        return f"{len(known | TAGS)} files, all accounted for and unchanged"

    def check_checkpoint(self) -> str:
        self.checkpoint = parse_checkpoint(self.read("data/log/checkpoint"))
        check_log_signature(self.checkpoint, self.key, "the checkpoint")
        return f"{self.checkpoint.size} leaves, root {self.checkpoint.root.hex()}, signed by {self.key.name}"

    def related(self, name: str, proof: str) -> Checkpoint:
        """Another checkpoint of the log, proved to tell the same history."""
        other = parse_checkpoint(self.read(name))
        check_log_signature(other, self.key, name)
        if other.body != self.checkpoint.body:
            old, new = sorted((other, self.checkpoint), key=lambda each: each.size)
            check_consistency(old, new, self.hashes(self.read(proof).decode("ascii").splitlines()))
        return other

    def check_known(self) -> str:
        known = self.related("data/log/known.checkpoint", "data/log/consistency.txt")
        need(known.size <= self.checkpoint.size, "the earlier checkpoint is from the future: it has more leaves")
        return f"the log began with the {known.size} leaves of root {known.root.hex()}; compare with your own copy"

    def check_witnesses(self, policy: str) -> str:
        return check_quorum(policy or self.read("data/trust/policy.txt").decode("utf-8"), self.checkpoint)

    def event(self, entry: str, proof: str) -> Event:
        """The event in the file `entry`: well-formed, signed, in the log, and by a writer who might write then."""
        raw, (head, _, note) = self.read(entry), self.read(proof).decode("utf-8").partition("\n\n")
        first, index, *path = head.split("\n")
        need(first == "c2sp.org/tlog-proof@v1" and index.startswith("index "), f"{proof} is no log proof")
        need(note.encode() == self.checkpoint.raw, f"{proof} is foreign: it is for another checkpoint")
        leaf, size, digest = number(index[6:]), self.checkpoint.size, sha256(b"\x00" + raw)
        need(leaf < size, f"{entry} is from the future: leaf {leaf}, but the checkpoint has only {size}")
        found = climb(leaf, size - 1, self.hashes(path), digest)
        need(found == (self.checkpoint.root,), f"{entry} is not in the log: its proof does not lead to the root")
        try:
            event = Event(parse_event(raw), digest, leaf)
        except Wrong as exc:
            raise Wrong(f"{entry}: {exc}") from exc
        writer, subject = event.ev["actor"]["writer"], event.ev["subject"]
        if event.ev["type"] in BY_HOST:
            need(subject == "archive" and writer in self.hosts, f"{entry}: {writer} is no host's key")
        else:
            need(self.writers.get(writer, leaf) < leaf, f"{entry}: its writer {writer} was not enrolled before it")
            need(self.retired.get(writer, leaf) >= leaf, f"{entry}: its writer {writer} had been retired before it")
        return event

    def check_archive(self) -> str:
        names = self.names("data/log/archive-events", "*.json")
        for name in names:
            path = f"data/log/archive-events/{name[:-5]}"
            event = self.event(f"{path}.json", f"{path}.tlog-proof")
            need(name == f"{event.leaf:012d}.json", f"{path}.json is leaf {event.leaf}")
            if event.ev["type"] in BY_HOST:
                of = self.writers if event.ev["type"] == "writer.enrolled" else self.retired
                of.setdefault(event.ev["data"]["writer"], event.leaf)
        return f"{len(names)} events of the archive itself; {len(self.writers)} writers enrolled, {len(self.retired)} retired"

    def check_chain(self, recording: str) -> str:
        folder, events, prev = f"data/recordings/{recording}", self.chains.setdefault(recording, []), None
        for seq, name in enumerate(self.names(f"{folder}/events")):
            need(name == f"{seq:04d}.json", f"event {seq} is missing")
            event = self.event(f"{folder}/events/{name}", f"{folder}/proofs/{seq:04d}.tlog-proof")
            place = event.ev["subject"], event.ev["seq"], event.ev["prev"]
            need(place == (f"rec:{recording}", seq, prev), f"event {seq} does not follow the one before it")
            need(not events or events[-1].leaf < event.leaf, f"event {seq} was logged before the one that it follows")
            events.append(event)
            prev = event.hash.hex()
        need(events, "it has no events")
        check_order(events)
        ev, data = events[-1].ev, events[-1].ev["data"]
        need(ev["type"] == "export.prepared", "the last event is not an export: events were left out at the end")
        named, head = data["content_manifest_sha256"], {"seq": ev["seq"] - 1, "hash": ev["prev"]}
        need(named == self.digest("data/content-manifest.txt"), "the last event is an export of other content")
        need(data.get("head", head) == head, "the export names another event as the one before it")
        return f"events 0 to {ev['seq']} unbroken and in the log; the last, leaf {events[-1].leaf}, is this export"

    def check_audio(self, recording: str, name: str) -> str:
        stated = [e.ev for e in self.chains[recording] if e.ev["type"] in {"recording.sealed", "recording.downloaded"}]
        need(stated, "no event says what it is")
        digest = self.digest(f"data/recordings/{recording}/{name}")
        need(digest == stated[-1]["data"]["pt_sha256"], "it is not what was downloaded and sealed")
        return f"byte for byte what event {stated[-1]['seq']} states, SHA-256 {digest}"

    def check_private(self, recording: str, name: str) -> str:
        events, folder = self.chains[recording], f"data/recordings/{recording}"
        groups = json.loads(self.read(f"{folder}/{name}"), parse_float=refuse, parse_constant=refuse)
        among = events if name == "private.json" else [events[int(name[8:-5])]]
        for group, kept in groups.items():
            salted = b"custody-priv-v1\x00" + bytes.fromhex(kept["salt"]) + canonical(kept["data"])
            need(len(kept["salt"]) == 64 and kept.keys() == {"salt", "data"}, f"group {group} is malformed")
            logged = sha256(salted).hex() in [event.ev["priv"].get(group) for event in among]
            need(logged, f"group {group} is not what was logged")
        return f"{', '.join(sorted(groups)) or 'nothing'} as committed to in the log"

    def check_provider(self, recording: str, name: str) -> str:
        """After `check_private`: the answer stands in the private group provider_meta."""
        folder = f"data/recordings/{recording}"
        groups = json.loads(self.read(f"{folder}/private.json"))
        answer = unbase64(groups["provider_meta"]["data"]["row_base64"])
        need(self.read(f"{folder}/{name}") == answer, "it is not the provider's answer that was logged")
        return "the provider's answer as private.json has it"

    def check_export(self) -> str:
        request = json.loads(self.read("data/request.json"))
        ends = [chain[-1].ev for chain in self.chains.values() if chain]
        vouched = len(ends) == len(self.chains) > 0 and all(ev["type"] == "export.prepared" for ev in ends)
        need(vouched, "no event in the log vouches for all recordings in the bundle")
        content = {name for name in self.manifest("manifest-sha256.txt") if re.fullmatch(CONTENT, name)}
        need(self.manifest("data/content-manifest.txt") == content, "the content manifest does not list the content")
        need(sorted(request["recordings"]) == sorted(self.chains), "request.json names other recordings")
        need(all(ev["data"]["request"] == request["export"] for ev in ends), "request.json is of another export")
        tags, signature = self.read("tagmanifest-sha256.txt"), self.read("tagmanifest-sha256.sig")
        exporters = {bytes.fromhex(ev["actor"]["writer"]) for ev in ends}
        good = all(signed(key, tags, signature) for key in exporters)
        need(good, "the bundle was changed after its exporter signed it: tagmanifest-sha256.sig does not match")
        return f"{request['export']}: content as logged, the whole signed by its exporter"

    def check_time(self, name: str) -> str:
        stamped, path = self.checkpoint, "data/log/checkpoint"
        if (self.root / f"data/tsa/{name}.checkpoint").exists():
            path = f"data/tsa/{name}.checkpoint"
            stamped = self.related(path, f"data/tsa/{name}.consistency")
        at = check_stamp(self.read(f"data/tsa/{name}.tsr"), stamped.raw)
        need(re.fullmatch(r"[A-Za-z0-9_-]+", name), "its file name is outside the format")
        self.unproved.append(
            f"that time stamp {name} is its authority's. With the authority's own root certificate as ROOT.pem, run:\n"
            f"    openssl ts -verify -data {path} -in data/tsa/{name}.tsr -untrusted data/tsa/{name}.pem"
            f" -CAfile ROOT.pem -attime {at}"
        )
        return f"the log's first {stamped.size} leaves existed at {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))} UTC"

    def check_all(self, policy: str) -> None:
        self.claim("files", self.check_files)
        self.claim("checkpoint", self.check_checkpoint)
        if self.checkpoint is None:
            return  # nothing to measure the rest by
        self.claim("archive", self.check_archive)
        kinds = (("audio.*", self.check_audio), ("private*", self.check_private), ("provider*", self.check_provider))
        for recording in self.names("data/recordings"):
            self.claim(f"recording {recording}", self.check_chain, recording)
            for pattern, check in kinds:
                for name in self.names(f"data/recordings/{recording}", pattern):
                    self.claim(f"recording {recording} {name}", check, recording, name)
            if not self.names(f"data/recordings/{recording}", "audio.*"):
                self.unproved += ["what a recording sounds like whose audio is not in this bundle"]
        self.claim("export", self.check_export)
        for name in self.names("data/tsa", "*.tsr"):
            self.claim(f"time stamp {name[:-4]}", self.check_time, name[:-4])
        if (self.root / "data/log/known.checkpoint").exists():
            self.claim("earlier checkpoint", self.check_known)
        if policy or (self.root / "data/trust/policy.txt").exists():
            whose = "by your policy" if policy else "by the bundle's own policy, which proves nothing by itself"
            self.claim(f"witnesses, {whose}", self.check_witnesses, policy)


def examine(root: Path, log_key: str = "", host_keys: Iterable[str] = (), policy: str = "") -> Bundle:
    """Every claim of the bundle in `root`, checked. Raises `Wrong` where a key is missing or unusable."""
    trust = root / "data/trust"
    try:
        key = parse_key(log_key or (trust / "log.vkey").read_text("utf-8"), 1)
        hosts = set(host_keys) or (trust / "hosts.txt").read_text("ascii").split()
    except UNREADABLE as exc:
        raise Wrong("no key was given, and the bundle's own copy in data/trust cannot be read") from exc
    need(all(re.fullmatch(HEX32, host) for host in hosts), "a host key is 64 lower-case hexadecimal digits")
    bundle = Bundle(root, key, hosts)
    bundle.check_all(policy)
    return bundle


def caveats(bundle: Bundle, log_key: bool, host_key: bool, policy: bool) -> list[str]:
    """What an honest reader must know that nothing here proves."""
    own = "+".join((bundle.key.name, bundle.key.id.hex(), base64.b64encode(b"\x01" + bundle.key.public).decode()))
    hosts = "".join(f"\n    {host}" for host in sorted(bundle.hosts))
    stamped = any(text.startswith("time stamp") for _, text in bundle.lines)
    said = [
        (log_key, f"that this log is the archive's: no --log-key was given. Is this its key?\n    {own}"),
        (host_key, f"that the archive's host admitted the writers: no --host-key. Are these its keys?{hosts}"),
        (policy, "that others were shown the same log: no --policy says which witnesses must have cosigned it"),
        (stamped, "when this log existed: no time stamp of an outside authority is here"),
        (False, "the times in the events: they are the archive's own clock, bounded only by time stamps"),
        (False, "what the provider did before the download, and who speaks"),
        (False, "that the selection in request.json left nothing out, and what happened after this export"),
        (False, "that no writer had been retired, beyond what the archive events in this bundle say"),
        (False, "what report, certificate draft and request.json say in words: the events are the evidence"),
    ]
    return [text for settled, text in said if not settled] + bundle.unproved


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="verify_custody.py", description="Verify an evidence bundle of recordings.")
    parser.add_argument("bundle", type=Path, help="the folder that holds bagit.txt")
    parser.add_argument("--log-key", default="", metavar="NAME+ID+KEY", help="the log's key, had from elsewhere")
    parser.add_argument("--host-key", default=[], action="append", metavar="HEX", help="the archive host's public key")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="your witnesses and quorum, a c2sp.org/tlog-policy")
    given = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    print(f"verify_custody.py, SHA-256 {sha256(Path(__file__).read_bytes()).hex()}: compare it with the published one")
    try:
        policy = given.policy.read_text("utf-8") if given.policy else ""
        bundle = examine(given.bundle, given.log_key, given.host_key, policy)
    except (Wrong, OSError, ValueError) as exc:
        print(f"RESULT NOT PROVED: a key is missing or unusable: {exc}")
        return 69
    for mark, text in bundle.lines:
        print(f"{mark}  {text}")
    print("\nNOT PROVED here:")
    for text in caveats(bundle, bool(given.log_key), bool(given.host_key), bool(policy)):
        print(f"  - {text}")
    failed = sum(mark == "FAIL" for mark, _ in bundle.lines)
    result = f"FAIL, claims: {failed}" if failed else "PASS" if given.log_key else "NOT PROVED: no --log-key"
    print(f"\nRESULT {result}")
    return 65 if failed else 0 if given.log_key else 69


if __name__ == "__main__":
    sys.exit(main())
