"""Verify an evidence bundle with Python alone:

    python3 -I verify_custody.py BUNDLE --log-key 'NAME+ID+KEY' [--host-key HEX]... [--policy FILE]

Needs Python 3.9 or later, nothing else, no network; reads only; shares no line with the software that wrote the bundle. What it
checks is written in docs/spec/evidence-bundle.md. Take the keys from the contract, a letter, a web site, never from the bundle.
Exit code: 0 every claim holds · 65 a claim fails · 69 nothing fails, but a key is missing or unusable, so nothing is proved.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import re
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple, cast

try:  # ten times faster than the few lines below, with the same answers
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None  # type: ignore[assignment,misc]

UTC = timezone.utc  # noqa: UP017  # Python 3.9 has no other name for it
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)


class Wrong(Exception):  # noqa: N818
    """A claim does not hold; the text says why."""


def need(condition: object, why: str) -> bool:
    if not condition:
        raise Wrong(why)
    return True


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def need_past(text: str, form: str, what: str) -> datetime:
    """The time that `text` has in UTC. Clocks differ, by a day at most."""
    moment = datetime.strptime(text, form).replace(tzinfo=UTC)
    late = moment > datetime.now(UTC) + timedelta(days=1)
    need(not late, f"{what} {moment:%Y-%m-%d %H:%M:%S} UTC, which is in the future (or this computer's clock is slow)")
    return moment


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
    rest = times(factor >> 1, add(point, point)) if factor else ZERO
    return add(rest, point) if factor & 1 else rest


@functools.lru_cache(maxsize=1024)
def point_of(raw: bytes) -> Point:
    y, sign = int.from_bytes(raw, "little") % 2**255, raw[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    x = x if x % 2 == sign else P - x
    need(len(raw) == 32 and y < P and x < P and x * x % P == square, "an Ed25519 key or signature is not canonical")
    need(times(8, (x, y, 1, x * y % P))[0], "an Ed25519 key or signature is a point of small order")
    return x, y, 1, x * y % P


def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` is `key`'s."""
    a, r, s = point_of(key), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:
        return False
    if Ed25519PublicKey is None:
        k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
        base = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
        one, other = times(s, base), add(r, times(k, a))
        return all((one[axis] * other[2] - other[axis] * one[2]) % P == 0 for axis in (0, 1))
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
    text: str


class Checkpoint(NamedTuple):
    raw: bytes
    body: str
    origin: str
    size: int
    root: bytes
    signatures: list[tuple[str, bytes, bytes]]  # key name, key id, signature

    def signatures_of(self, key: Key) -> list[bytes]:
        return [signature for *signer, signature in self.signatures if signer == [key.name, key.id]]

    def check_log_signature(self, key: Key, which: str) -> None:
        need(self.origin == key.name, f"{which} is foreign: it is of the log {self.origin!r}, not {key.name!r}")
        own = self.signatures_of(key)
        need(own, f"{which} is foreign: the log key {key.name}+{key.id.hex()} did not sign it")
        good = all(signed(key.public, self.body.encode(), each) for each in own)
        need(good, f"{which} was changed, or forged: the log's signature does not match")

    def cosigned(self, key: Key) -> bool:
        for signature in self.signatures_of(key):
            at = int.from_bytes(signature[:8], "big")
            message = f"cosignature/v1\ntime {at}\n{self.body}".encode()
            need(signed(key.public, message, signature[8:]), f"the cosignature of witness {key.name!r} is false")
            late = at > datetime.now(UTC).timestamp() + 86400
            need(not late, f"witness {key.name!r} dates its cosignature {at}, which is in the future")
        return bool(self.signatures_of(key))


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
        key = Key(name, sha256(name.encode() + b"\n" + raw)[:4], raw[1:], text.strip())
        need(re.fullmatch(r"[^\s\x00-\x1f]+", name) and key.id.hex() == key_id and raw[0] == kind, "")
        point_of(key.public)
    except (ValueError, Wrong) as exc:
        raise Wrong(f"{text[:100]!r} is no verifier key of this kind") from exc
    return key


def parse_checkpoint(raw: bytes) -> Checkpoint:
    text = raw.decode("utf-8")
    need(len(raw) <= 65536 and not re.search(r"[\x00-\x09\x0b-\x1f]", text), "the checkpoint is no signed note")
    body, blank, rest = text.rpartition("\n\n")
    need(blank and rest.endswith("\n") and body.count("\n") == 2, "the checkpoint is cut off, or has other lines")
    lines = [re.fullmatch("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]{7,}=*)", line) for line in rest[:-1].split("\n")]
    need(all(lines) and len(lines) <= 32, "the checkpoint has a line that is no signature")
    blobs = [(line[1], unbase64(line[2])) for line in lines if line]
    origin, size, root = body.split("\n")
    return Checkpoint(raw, body + "\n", origin, number(size), unbase64(root, 32), [(n, b[:4], b[4:]) for n, b in blobs])


def check_quorum(policy: str, checkpoint: Checkpoint, log: Key) -> str:
    lines = [words for line in policy.split("\n") if (words := re.findall("[^ \t]+", line)) and words[0][0] != "#"]
    of = {kind: [words[1:] for words in lines if words[0] == kind] for kind in ("log", "witness", "group", "quorum")}
    need(sum(map(len, of.values())) == len(lines), "the policy has a line of an unknown kind")
    logs, witnesses = [parse_key(key, 1) for key, *_ in of["log"]], [parse_key(key, 4) for _, key, *_ in of["witness"]]
    met = {name: checkpoint.cosigned(key) for (name, *_), key in zip(of["witness"], witnesses)}  # noqa: B905
    twice = not len({key.public for key in witnesses}) == len(met) == len(witnesses)
    need(not twice and "none" not in met, "the policy has a witness twice, or one named none")
    counted = [name for _, _, *members in of["group"] for name in members]
    need(len(set(counted)) == len(counted), "the policy lets a witness or a group count twice")
    for name, word, *members in of["group"]:
        least = {"any": 1, "all": len(members)}.get(word) or number(word)
        good = 1 <= least <= len(members) and all(member in met for member in members) and name not in met
        need(good, f"group {name!r} of the policy is impossible, is there twice, or has an unknown member")
        met[name] = sum(met[member] for member in members) >= least
    need(log in logs or not logs, "the policy is for another log")
    (quorum,) = [name for (name,) in of["quorum"]] if len(of["quorum"]) == 1 else ("",)
    need(quorum in {"none", *met}, "the policy has no quorum, or no clear one")
    said = f"cosigned by {', '.join(key.name for key in witnesses if checkpoint.signatures_of(key)) or 'nobody'}"
    need(quorum == "none" or met[quorum], f"quorum {quorum!r} is not met; {said}")
    return f"quorum {quorum!r} is met; {said}"


# --- Merkle tree, RFC 9162 sections 2.1.3.2 and 2.1.4.2 -----------------------------------------------------------------------
def climb(at: int, last: int, path: list[bytes], *roots: bytes) -> tuple[bytes, ...]:
    """Where `path` leads from `roots`; only the first of them takes the siblings on the right."""
    for sibling in path:
        need(last, "a proof is too long")
        if at & 1 or at == last:
            roots = tuple(sha256(b"\x01" + sibling + root) for root in roots)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            roots = (sha256(b"\x01" + roots[0] + sibling), *roots[1:])
        at, last = at >> 1, last >> 1
    need(not last, "a proof is too short")
    return roots


def check_consistency(old: Checkpoint, new: Checkpoint, path: list[bytes]) -> None:
    if old.size < new.size:
        need(old.size and path, "a consistency proof is missing")
        at, last = old.size - 1, new.size - 1
        while at & 1:
            at, last = at >> 1, last >> 1
        path = path if old.size & (old.size - 1) else [old.root, *path]
        proved = climb(at, last, path[1:], path[0], path[0]) == (new.root, old.root)
    else:
        proved = old.root == new.root and not path
    need(proved, "two checkpoints of the log contradict each other")


# --- custody events, docs/spec/custody-event.md -------------------------------------------------------------------------------
HEX32, WORD = r"[0-9a-f]{64}", r"[a-z][a-z0-9_]{0,31}"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TYPE = b"application/vnd.compliance-archiver.custody-event.v1+json"
SHAPE = {  # member -> what its JSON text must be
    "actor": rf'\{{"kind":"{WORD}","user":(null|"([^"\\]|\\.)+"),"writer":"{HEX32}"\}}', "data": r"\{.*\}",
    "at": r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"', "op": r'null|".+"',
    "id": f'"{UUID}"', "outcome": f'"{WORD}"', "prev": f'null|"{HEX32}"', "seq": r"[0-9]+", "v": "1",
    "priv": rf'\{{("[a-z0-9_.]{{1,64}}":"{HEX32}",?)*\}}', "type": r'"[a-z_]{1,32}\.[a-z_]{1,32}"',
    "subject": rf'"(archive|rec:{UUID}|hold:[A-Za-z0-9._-]{{1,64}})"',
}  # fmt: skip
AFTER = {  # type -> what must have come before, and what both must then say alike
    "recording.sealed": ("recording.downloaded", "pt_sha256"), "recording.stored": ("recording.sealed", "ct_sha256"),
    "recording.store_verified": ("recording.stored", "storage", "ct_sha256"), "export.delivered": ("export.prepared",),
    "provider.deleted": ("provider.delete_intended",), "provider.delete_confirmed": ("provider.deleted",),
}  # fmt: skip


class Event(NamedTuple):
    ev: dict[str, Any]
    hash: bytes
    leaf: int


def loads(raw: bytes) -> Any:
    """JSON that all readers read alike: no fractions, no member twice."""
    once = lambda pairs: need(len(dict(pairs)) == len(pairs), "JSON names a member twice") and dict(pairs)  # noqa: E731
    return json.loads(raw.decode("utf-8"), parse_float=number, parse_constant=number, object_pairs_hook=once)


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
    entry = loads(raw)
    need(len(raw) <= 16384 and canonical(entry) == raw and in_profile(entry), "it is not in canonical form")
    ev, sig = entry["ev"], unbase64(entry["sig"], 64)
    good = entry.keys() == {"ev", "sig"} and ev.keys() == SHAPE.keys() and (ev["prev"] is None) == (ev["seq"] == 0)
    good = good and all(re.fullmatch(shape, canonical(ev[name]).decode()) for name, shape in SHAPE.items())
    good = good and all(len(text or "") <= 200 for text in (ev["op"], ev["actor"]["user"]))
    need(good, "it is no custody event of format v1")
    body = canonical(ev)
    message = b"DSSEv1 %d %b %d %b" % (len(TYPE), TYPE, len(body), body)
    need(signed(bytes.fromhex(ev["actor"]["writer"]), message, sig), "its writer's signature is false")
    need_past(ev["at"], "%Y-%m-%dT%H:%M:%S.%fZ", "it is dated")
    return ev  # type: ignore[no-any-return]


def check_order(events: list[Event]) -> None:
    need(events[0].ev["type"] == "recording.discovered", "its first event is not recording.discovered")
    for place, (ev, _, _) in enumerate(events):
        earlier, *alike = AFTER.get(ev["type"], ("",))
        before = [e.ev["data"] for e in events[:place] if e.ev["type"] == earlier]
        found = any(all(data.get(name) == ev["data"].get(name) for name in alike) for data in before)
        need(found or not earlier, f"event {place} is {ev['type']}, but no {earlier} of the same thing came before it")


# --- RFC 3161 time stamps: what they cover and when; who signed them is for openssl ------------------------------------------
def check_stamp(raw: bytes, covered: bytes) -> datetime:
    """When the time stamp response `raw` says that `covered` existed: TSTInfo has digest, serial, genTime."""
    need(re.match(rb"\x30(?:[^\x80-\xff]|\x81.|\x82..)\x30.\x02\x01[\x00\x01]", raw, re.DOTALL), "it was not granted")
    time = rb"(?:\x17\x0d([0-9]{12})|\x18[\x0f-\x16]([0-9]{14})(?:\.[0-9]+)?)Z"  # UTCTime or GeneralizedTime
    info = re.search(re.escape(b"\x04\x20" + sha256(covered)) + rb"\x02.{2,40}?" + time, raw, re.DOTALL)
    at = info[2] if info else None
    if at is None:
        raise Wrong("it is a time stamp of something else, or not by SHA-256")
    for old, new, old_end, new_end in re.findall(rb"\x30[\x1e-\x22]" + time + time, raw):  # a certificate's validity
        since, until = (new or (b"20" if old < b"5" else b"19") + old for old, new in ((old, new), (old_end, new_end)))
        need(since <= at <= until, "a certificate in it had expired, or was not valid yet, at its time")
    return need_past(at.decode(), "%Y%m%d%H%M%S", "it is dated")


# --- the bundle ---------------------------------------------------------------------------------------------------------------
PATH = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
RECORDING = rf"recordings/{UUID}/"
CONTENT = rf"data/(request\.json|statements/[\w.-]+\.json|{RECORDING}(audio\.[a-z0-9]+|provider\.json|private(-\d{{4,}})?\.json))"
OTHER = (  # with the content, all that may lie below data/: what no rule is about could say anything
    rf"data/(content-manifest\.txt|report\.(html|pdf)|certificate-902\.txt|{RECORDING}(events/\d+\.json|proofs/\d+\.tlog-proof)"
    r"|log/(checkpoint(\.body|\.sig)?|known\.checkpoint|consistency\.txt|archive-events/\d+\.(json|tlog-proof))"
    r"|tsa/[\w-]+\.(tsr|tsq|pem|crl|checkpoint|consistency)|trust/(log\.vkey|log\.pem|hosts\.txt|policy\.txt))"
)
TAGS = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "README-VERIFY.txt", "verify_custody.py"}
UNSAFE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # what a terminal or a page obeys
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


class Bundle:
    """One bundle under examination. `lines` says what holds and what does not, `unproved` what nothing here proves."""

    def __init__(self, root: Path, key: Key, hosts: Iterable[str]) -> None:
        self.root, self.key, self.hosts = root, key, set(hosts)
        self.lines: list[tuple[str, str]] = []
        self.unproved: list[str] = []
        self.last, self.checkpoint = "", cast("Checkpoint", None)  # `last` is the file that was opened last
        self.admitted: dict[str, dict[str, int]] = {"writer.enrolled": {}, "writer.retired": {}}  # key -> leaf
        self.chains: dict[str, list[Event]] = {}
        self.stated: list[Event] = []  # what the archive's own events state of a provider's day
        self.digest = functools.lru_cache(maxsize=None)(self.compute_digest)

    def claim(self, what: str, check: Callable[..., str], *args: str) -> None:
        try:
            mark, said = "PASS", check(*args)
        except Wrong as exc:
            mark, said = "FAIL", str(exc)
        except UNREADABLE as exc:
            mark, said = "FAIL", f"damaged or not in the format ({type(exc).__name__}): {self.last}"
        self.lines.append((mark, re.sub(UNSAFE, "?", f"{what}: {said}")))

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        found = (path.name for path in (self.root / folder).glob(pattern))
        return sorted(found, key=lambda name: (len(name), name))  # 10000.json comes after 9999.json

    def file(self, name: str) -> Path:
        self.last = name
        need((self.root / name).is_file(), f"{name} is missing: the bundle is incomplete or was cut off")
        return self.root / name

    def read(self, name: str) -> bytes:
        need(self.file(name).stat().st_size < 2**28, f"{name} is too long")
        return self.file(name).read_bytes()

    def compute_digest(self, name: str) -> str:
        total = hashlib.sha256()
        with self.file(name).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                total.update(block)
        return total.hexdigest()

    def manifest(self, name: str) -> set[str]:
        """The files that a list in the format of sha256sum names, each compared with its digest."""
        *lines, end = self.read(name).decode("utf-8").split("\n")
        pairs = [line.partition("  ")[::2] for line in lines]
        sound = not end and pairs and len({path for _, path in pairs}) == len(pairs)
        need(sound, f"{name} is cut off, empty, or lists a file twice")
        for digest, path in pairs:
            need(re.fullmatch(PATH, path), f"{name} lists a file {path[:200]!r}, whose name is outside the format")
            need(self.digest(path) == digest, f"{path} was changed: {name} has another SHA-256")
        return {path for _, path in pairs}

    def check_files(self) -> str:
        need(self.read("bagit.txt") == BAGIT, "bagit.txt is not that of a BagIt 1.0 bag")
        known = self.manifest("manifest-sha256.txt")
        for name in sorted(known):
            need(re.fullmatch(f"{CONTENT}|{OTHER}", name), f"{name} has no place in the format: nothing vouches for it")
        need(self.manifest("tagmanifest-sha256.txt") == TAGS, "the tag manifest lists the wrong files")
        known |= TAGS | {"tagmanifest-sha256.txt", "tagmanifest-sha256.sig"}
        for path in sorted(self.root.rglob("*")):
            mode, name = path.lstat().st_mode, path.relative_to(self.root).as_posix()
            need(stat.S_ISDIR(mode) or stat.S_ISREG(mode), f"{name} is no ordinary file")
            need(not stat.S_ISDIR(mode) or any(path.iterdir()), f"{name} is an empty folder that nothing accounts for")
            need(stat.S_ISDIR(mode) or name in known, f"{name} is in the bundle, but in no manifest")
        return f"{len(known)} files, exactly those that the manifests list, with the digests that they list"

    def check_checkpoint(self) -> str:
        checkpoint = parse_checkpoint(self.read("data/log/checkpoint"))
        checkpoint.check_log_signature(self.key, "the checkpoint")
        self.checkpoint = checkpoint
        body, pem = self.read("data/log/checkpoint.body"), self.read("data/trust/log.pem").split(b"\n")
        need(body == self.checkpoint.body.encode(), "data/log/checkpoint.body is no true copy: do not check by it")
        spki = b"MCowBQYDK2VwAyEA" + base64.b64encode(self.key.public)  # RFC 8410
        need(
            pem[1:] == [spki, b"-----END PUBLIC KEY-----", b""], "data/trust/log.pem is another key: do not check by it"
        )
        return f"{self.checkpoint.size} leaves, root {self.checkpoint.root.hex()}, signed by {self.key.name}"

    def related(self, name: str, proof: str) -> Checkpoint:
        """Another checkpoint of the log, proved to tell the same history."""
        other = parse_checkpoint(self.read(name))
        other.check_log_signature(self.key, name)
        path = [unbase64(line, 32) for line in self.read(proof).decode("utf-8").splitlines()]
        old, new = sorted((other, self.checkpoint), key=lambda each: each.size)
        check_consistency(old, new, path)
        return other

    def check_known(self) -> str:
        known = self.related("data/log/known.checkpoint", "data/log/consistency.txt")
        need(known.size <= self.checkpoint.size, "the earlier checkpoint is from the future: it has more leaves")
        return f"the log began with the {known.size} leaves of root {known.root.hex()}; compare with your own copy"

    def event(self, entry: str, proof: str) -> Event:
        """The event in the file `entry`: well-formed, signed, in the log, and by a writer who might write then."""
        head, _, note = self.read(proof).decode("utf-8").partition("\n\n")
        first, index, *path = head.split("\n")
        need(first == "c2sp.org/tlog-proof@v1" and index.startswith("index "), f"{proof} is no log proof")
        need(note.encode() == self.checkpoint.raw, f"{proof} is foreign: it is for another checkpoint")
        leaf, siblings, raw = number(index[6:]), [unbase64(line, 32) for line in path], self.read(entry)
        size, digest = self.checkpoint.size, sha256(b"\x00" + raw)
        need(leaf < size, f"{entry} is from the future: leaf {leaf}, but the checkpoint has only {size}")
        found = climb(leaf, size - 1, siblings, digest)
        need(found == (self.checkpoint.root,), f"{entry} is not in the log: its proof does not lead to the root")
        try:
            event = Event(parse_event(raw), digest, leaf)
        except Wrong as exc:
            raise Wrong(f"{entry}: {exc}") from exc
        writer, host = event.ev["actor"]["writer"], event.ev["type"] in self.admitted
        need((writer in self.hosts) == host, f"{entry}: {writer} is {'no' if host else 'a'} host's key")
        need(not host or event.ev["subject"] == "archive", f"{entry}: it admits a writer, but not to the archive")
        enrolled, retired = (self.admitted[kind].get(writer, leaf) for kind in self.admitted)
        need(host or enrolled < leaf, f"{entry}: its writer {writer} was not enrolled before it")
        need(host or retired >= leaf, f"{entry}: its writer {writer} had been retired before it")
        return event

    def check_archive(self) -> str:
        names = self.names("data/log/archive-events", "*.json")
        for name in names:
            path = f"data/log/archive-events/{name[:-5]}"
            event = self.event(f"{path}.json", f"{path}.tlog-proof")
            need(name == f"{event.leaf:012d}.json", f"{path}.json is leaf {event.leaf}")
            if event.ev["type"] in self.admitted:
                self.admitted[event.ev["type"]].setdefault(event.ev["data"]["writer"], event.leaf)
            if event.ev["type"] == "reconcile.completed" and event.ev["data"].get("kind") == "completeness":
                need(event.ev["subject"] == "archive", f"{path}.json states completeness, but not as the archive")
                self.stated.append(event)
        enrolled, retired = map(len, self.admitted.values())
        return f"{len(names)} events of the archive itself; {enrolled} writers enrolled, {retired} retired"

    def check_statement(self, name: str) -> str:
        """After `check_archive`: the newest that an event states of its day, repeated there rightly, free of contradiction."""
        raw = self.read(f"data/statements/{name}")
        named = [each for each in self.stated if each.ev["data"].get("statement_sha256") == sha256(raw).hex()]
        need(named, "no event in this bundle states it: it was changed, or its event was left out")
        said, (ev, _, leaf) = loads(raw), named[0]
        need(canonical(said) == raw and in_profile(said), "it is not in canonical form")
        need(said["schema"] == "archiver.completeness/v1", "it is no completeness statement of format v1")
        provider, day, states, holes, gaps = (said[of] for of in ("provider", "day", "states", "holes", "gaps"))
        need(name == f"{provider}-{day}.json", "its file is named after another provider or day")
        codes = [gap["code"] for gap in gaps]
        repeated = {"gaps": {code: codes.count(code) for code in codes}, "archived": states.get("archived", 0)}
        repeated |= {of: said[of] for of in ("provider", "day", "revision", "complete", "listed", "without_audio")}
        repeated |= {"statement_bytes": len(raw), "listings": len(said["listings"])}
        for of, value in repeated.items():
            need(canonical(ev["data"][of]) == canonical(value), f"it and the event that states it differ in {of}")
        need(sum(states.values()) == said["listed"], "its states do not add up to what was listed")
        unexcused = holes or [gap for gap in gaps if gap["grade"] == "open" and not gap["acknowledged"]]
        need(not (said["complete"] and unexcused), "it calls the day complete and names what is missing")
        all_of_day = [
            e.ev["data"] for e in self.stated if (e.ev["data"]["provider"], e.ev["data"]["day"]) == (provider, day)
        ]
        newest = max(each["revision"] for each in all_of_day)
        need(said["revision"] == newest, f"it is revision {said['revision']}, but {newest} was stated of this day")
        counts = [f"{states[state]} {state}" for state in sorted(states)] + [f"{said['without_audio']} without audio"]
        counts += [f"{said['rejects']} rows not understood"] if said["rejects"] else []
        counts += [f"{len(holes)} spans of the day never listed in full"] if holes else []
        counts += [f"gap {code}: {codes.count(code)}" for code in sorted(set(codes))]
        verdict = f"{'COMPLETE' if said['complete'] else 'NOT COMPLETE'} (revision {said['revision']})"
        stated = f"So stated by the archive on {ev['at'][:19].replace('T', ' ')} UTC, leaf {leaf}"
        return f"{provider} listed {said['listed']} recordings of {day}; {'; '.join(counts)}; {verdict}. {stated}"

    def check_chain(self, recording: str) -> str:
        folder, events, prev = f"data/recordings/{recording}", self.chains.setdefault(recording, []), None
        for seq, name in enumerate(self.names(f"{folder}/events")):
            need(name == f"{seq:04d}.json", f"event {seq} is missing")
            event = self.event(f"{folder}/events/{name}", f"{folder}/proofs/{seq:04d}.tlog-proof")
            place = event.ev["subject"], event.ev["seq"], event.ev["prev"]
            need(place == (f"rec:{recording}", seq, prev), f"event {seq} does not follow the one before it")
            events.append(event)
            prev = event.hash.hex()
        if not self.names(folder, "audio.*"):
            self.unproved.append(f"what recording {recording} sounds like: its audio is not in this bundle")
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
        events, groups = self.chains[recording], loads(self.read(f"data/recordings/{recording}/{name}"))
        among = events if name == "private.json" else [events[int(name[8:-5])]]
        for group, kept in groups.items():
            salted = b"custody-priv-v1\x00" + bytes.fromhex(kept["salt"]) + canonical(kept["data"])
            need(re.fullmatch(HEX32, kept["salt"]) and kept.keys() == {"salt", "data"}, f"group {group} is malformed")
            logged = sha256(salted).hex() in [event.ev["priv"].get(group) for event in among]
            need(logged, f"group {group} is not what was logged")
        return f"{', '.join(sorted(groups)) or 'nothing'} as committed to in the log"

    def check_provider(self, recording: str, name: str) -> str:
        """After `check_private`: the answer stands in the private group provider_meta."""
        answer = loads(self.read(f"data/recordings/{recording}/private.json"))["provider_meta"]["data"]["row_base64"]
        same = self.read(f"data/recordings/{recording}/{name}") == unbase64(answer)
        need(same, "it is not the provider's answer that was logged")
        return "the provider's answer as private.json has it"

    def check_export(self) -> str:
        ends = [chain[-1].ev for chain in self.chains.values() if chain]
        vouched = len(ends) == len(self.chains) > 0 and all(ev["type"] == "export.prepared" for ev in ends)
        need(vouched, "no event in the log vouches for all recordings in the bundle")
        content = {name for name in self.manifest("manifest-sha256.txt") if re.fullmatch(CONTENT, name)}
        need(self.manifest("data/content-manifest.txt") == content, "the content manifest does not list the content")
        request = loads(self.read("data/request.json"))
        need(sorted(request["recordings"]) == sorted(self.chains), "request.json names other recordings")
        need(all(ev["data"]["request"] == request["export"] for ev in ends), "request.json is of another export")
        tags, signature = self.read("tagmanifest-sha256.txt"), self.read("tagmanifest-sha256.sig")
        good = all(signed(bytes.fromhex(ev["actor"]["writer"]), tags, signature) for ev in ends)
        need(good, "the bundle was changed after its exporter signed it: tagmanifest-sha256.sig does not match")
        return f"{request['export']}: content as logged, the whole signed by its exporter"

    def check_time(self, name: str) -> str:
        stamped, path = self.checkpoint, "data/log/checkpoint"
        if self.names("data/tsa", f"{name}.checkpoint"):
            path = f"data/tsa/{name}.checkpoint"
            stamped = self.related(path, f"data/tsa/{name}.consistency")
        at = check_stamp(self.read(f"data/tsa/{name}.tsr"), stamped.raw)
        need(re.fullmatch(r"[A-Za-z0-9_-]+", name), "its file name is outside the format")
        self.unproved.append(
            f"that time stamp {name} is its authority's. With the authority's own root certificate as ROOT.pem, run:\n"
            f"    openssl ts -verify -data {path} -in data/tsa/{name}.tsr -untrusted data/tsa/{name}.pem"
            f" -CAfile ROOT.pem -attime {at.timestamp():.0f}"
        )
        return f"it dates the log's first {stamped.size} leaves to {at:%Y-%m-%d %H:%M:%S} UTC; whose it is, see below"

    def check_all(self, policy: str) -> None:
        self.claim("files", self.check_files)
        self.claim("checkpoint", self.check_checkpoint)
        if not self.checkpoint:
            self.unproved.append("anything: there is no checkpoint of the log to measure the rest by")
            return
        self.claim("archive", self.check_archive)
        for name in self.names("data/statements"):
            self.claim(f"statement {name}", self.check_statement, name)
        kinds = (("audio.*", self.check_audio), ("private*", self.check_private), ("provider*", self.check_provider))
        for recording in self.names("data/recordings"):
            self.claim(f"recording {recording}", self.check_chain, recording)
            for pattern, check in kinds:
                for name in self.names(f"data/recordings/{recording}", pattern):
                    self.claim(f"recording {recording} {name}", check, recording, name)
        self.claim("export", self.check_export)
        for name in self.names("data/tsa", "*.tsr"):
            self.claim(f"time stamp {name[:-4]}", self.check_time, name[:-4])
        if self.names("data/log", "known.checkpoint"):
            self.claim("earlier checkpoint", self.check_known)
        if policy or self.names("data/trust", "policy.txt"):
            whose = "by your policy" if policy else "by the bundle's own policy, which proves nothing by itself"
            self.claim(f"witnesses, {whose}", self.check_witnesses, policy)

    def check_witnesses(self, policy: str) -> str:
        text = policy or self.read("data/trust/policy.txt").decode("utf-8")
        self.last = "the policy"
        return check_quorum(text, self.checkpoint, self.key)


def examine(root: Path, log_key: str = "", host_keys: Iterable[str] = (), policy: str = "") -> Bundle:
    """Every claim of the bundle in `root`, checked. Raises `Wrong` where a key is missing or unusable."""
    trust, which = root / "data/trust", "host" if log_key else "log"
    try:
        key = parse_key(log_key or (trust / "log.vkey").read_text("utf-8"), 1)
        hosts = set(host_keys) or (trust / "hosts.txt").read_text("ascii").split()
    except UNREADABLE as exc:
        raise Wrong(f"no {which} key was given, and the bundle's own copy in data/trust cannot be read") from exc
    need(all(re.fullmatch(HEX32, host) for host in hosts), "a host key is 64 lower-case hexadecimal digits")
    bundle = Bundle(root, key, hosts)
    bundle.check_all(policy)
    return bundle


def caveats(bundle: Bundle, log_key: bool, host_key: bool, policy: bool) -> list[str]:
    """What an honest reader must know that nothing here proves."""
    hosts = "".join(f"\n    {host}" for host in sorted(bundle.hosts))
    stated, stamped = bundle.names("data/statements"), bundle.names("data/tsa", "*.tsr")
    said = [
        (log_key, f"that this log is the archive's: no --log-key was given. Is this its key?\n    {bundle.key.text}"),
        (host_key, f"that the archive's host admitted the writers: no --host-key. Are these its keys?{hosts}"),
        (policy, "that others were shown the same log: no --policy says which witnesses must have cosigned it"),
        (stamped, "when this log existed: no time stamp of an outside authority is here"),
        (stated, "that the archive had all of any day: no completeness statement is here"),
        (not stated, "that a provider's lists and totals, by which completeness is stated, showed all that it had"),
        (not stated, "that a completeness statement still held when this bundle was made: it tells of its own time"),
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
    if not given.bundle.is_dir():
        print(
            re.sub(UNSAFE, "?", f"RESULT FAIL: {str(given.bundle)!r} is no folder; name the one that holds bagit.txt")
        )
        return 65
    try:
        policy = given.policy.read_text("utf-8") if given.policy else ""
        need(policy.strip() or not given.policy, f"the policy {str(given.policy)!r} is empty")
        bundle = examine(given.bundle, given.log_key, given.host_key, policy)
    except (Wrong, OSError, ValueError) as exc:
        print(re.sub(UNSAFE, "?", f"RESULT NOT PROVED: a key is missing or unusable: {exc}"))
        return 69
    for mark, text in bundle.lines:
        print(f"{mark}  {text}")
    print("\nNOT PROVED here:")
    for text in caveats(bundle, bool(given.log_key), bool(given.host_key), bool(policy)):
        print("\n".join(re.sub(UNSAFE, "?", line) for line in f"  - {text}".split("\n")))
    failed = sum(mark == "FAIL" for mark, _ in bundle.lines)
    result = f"FAIL, claims: {failed}" if failed else "PASS" if given.log_key else "NOT PROVED: no --log-key"
    print(f"\nRESULT {result}")
    return 65 if failed else 0 if given.log_key else 69


if __name__ == "__main__":
    sys.exit(main())
