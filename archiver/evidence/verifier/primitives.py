"""What is checked by arithmetic alone: Ed25519, signed notes and their witnesses, proofs in the Merkle tree."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

# --- what every part needs ---------------------------------------------------------------------------------------------------
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
ROTATION = "compliance-archiver/log-key-rotation/v1"


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


def parse_rotation(raw: bytes) -> tuple[Key, Key, int]:
    """By which note the log's key became another: the old key, the new one, and up to which size the old one signs."""
    text, blank, rest = raw.decode("utf-8").rpartition("\n\n")
    lines, body = text.split("\n"), f"{text}\n".encode()
    need(blank and len(lines) == 7 and lines[0] == ROTATION, "a note of the log's keys is damaged")
    old, new = (parse_key(line[4:], 1) for line in lines[4:6])
    need(old.name == new.name == lines[1] and old != new, "a note of the log's keys is of another log")
    found = [re.fullmatch("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]{7,}=*)", line) for line in rest[:-1].split("\n")]
    blobs = [(line[1], unbase64(line[2])) for line in found if line]
    for key in (old, new):
        own = [blob[4:] for name, blob in blobs if (name, blob[:4]) == (key.name, key.id)]
        need(
            own and all(signed(key.public, body, each) for each in own),
            "a new log key was not introduced by the old one",
        )
    return old, new, number(lines[2])


def check_quorum(policy: str, checkpoint: Checkpoint, log: Key) -> str:
    told = [re.findall("[^ \t]+", line) for line in policy.split("\n")]
    lines = [words for words in told if words and words[0][0] != "#"]
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
