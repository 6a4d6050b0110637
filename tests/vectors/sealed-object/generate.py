"""Derives the sealed-object vectors from fixed keys and fixed chance; run once, it wrote them.

RSAES-OAEP is done by hand here (RFC 8017 §7.1.1) because a vector needs a fixed seed, which no library lets one choose.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from archiver.seal import der, envelope
from archiver.seal.cipher import Sealer
from archiver.seal.recipients import AesKwRecipient, Recipient, load_local_key, subject_key_identifier

HERE = Path(__file__).parent
_EXPLICIT_0 = der.context(0, constructed=True)


class FixedChance:
    """SHA-256 of a name and a counter: the same bytes for ever."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def token(self, size: int) -> bytes:
        made = b""
        while len(made) < size:
            made += hashlib.sha256(f"sealed-object vector {self._name} {self._count}".encode()).digest()
            self._count += 1
        return made[:size]

    def uuid(self) -> str:
        raise AssertionError("sealing needs no identifiers")


class FixedOaepRecipient:
    """`rsa-oaep-256` with a seed that follows from the data key."""

    def __init__(self, id: str, pem: bytes) -> None:  # noqa: A002
        public_key = serialization.load_pem_public_key(pem)
        assert isinstance(public_key, rsa.RSAPublicKey)
        self.id = id
        self._public_key = public_key

    def wrap(self, data_key: bytes) -> bytes:
        numbers, size = self._public_key.public_numbers(), self._public_key.key_size // 8
        seed = hashlib.sha256(b"seed" + data_key).digest()
        block = hashlib.sha256(b"").digest()
        block += bytes(size - len(data_key) - 2 * 32 - 2) + b"\x01" + data_key
        masked = _xor(block, _mgf1(seed, len(block)))
        message = b"\x00" + _xor(seed, _mgf1(masked, 32)) + masked
        encrypted = pow(int.from_bytes(message, "big"), numbers.e, numbers.n).to_bytes(size, "big")
        return envelope.key_transport(subject_key_identifier(self._public_key), encrypted)


def plaintexts() -> Mapping[str, bytes]:
    """What the vectors hold: nothing, one GCM block, a call, and enough for lengths of three bytes."""
    return {
        "empty": b"",
        "block": b"sixteen bytes :)",
        "call": b"This call is recorded for compliance purposes.\n",
        "long": FixedChance("plaintext").token(70_000),
    }


def derive() -> dict[str, bytes]:
    """Every vector that our code makes, by file name."""
    texts = plaintexts()
    ops = FixedOaepRecipient("ops", (HERE / "ops.pub.pem").read_bytes())
    other = FixedOaepRecipient("other", (HERE / "other.pub.pem").read_bytes())
    local = AesKwRecipient("local", load_local_key((HERE / "local.key").read_bytes()))
    made = {
        "rsa-empty.der": _seal("rsa-empty", texts["empty"], [ops]),
        "rsa-call.der": _seal("rsa-call", texts["call"], [ops]),
        "kek-block.der": _seal("kek-block", texts["block"], [local]),
        "kek-call.der": _seal("kek-call", texts["call"], [local]),
        "three-long.der": _seal("three-long", texts["long"], [ops, other, local]),
    }
    call = made["kek-call.der"]
    head = envelope.parse(call)
    end = len(call) - 18
    made["detached.body"] = call[head.content_at : end]
    chance = FixedChance("kek-call")
    infos, nonce = [local.wrap(chance.token(32))], chance.token(12)
    made["detached.der"] = envelope.detached(infos, nonce, call[-16:])
    made |= {
        "bad-content.der": _flip(call, head.content_at),
        "bad-tag.der": _flip(call, len(call) - 1),
        "bad-nonce.der": _flip(call, call.index(head.nonce)),
        "bad-wrapped-key.der": _flip(call, call.index(infos[0]) + len(infos[0]) - 1),
        "bad-cut-in-tag.der": call[:-1],
        "bad-cut-in-content.der": call[: head.content_at + 20],
        "bad-trailing.der": call + b"\x00",
        "bad-long-length.der": call[:1] + b"\x82\x00" + call[2:],
        "bad-attributes.der": _reframed(call, lambda contents: contents + _attributes()),
        "bad-short-tag.der": _reframed(call, lambda contents: contents[:-18] + envelope.trailer(contents[-16:-4])),
        "bad-wrong-recipient.der": _seal("bad-wrong-recipient", texts["call"], [other]),
    }
    return made


def _seal(name: str, plaintext: bytes, recipients: Sequence[Recipient]) -> bytes:
    file = io.BytesIO()
    sealer = Sealer(file, recipients, FixedChance(name), len(plaintext))
    sealer.write(plaintext)
    sealer.finish()
    return file.getvalue()


def _reframed(whole: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The object with the contents of its AuthEnvelopedData changed, every length made to fit again."""
    outer = der.Reader(whole).enter(der.SEQUENCE)
    content_type = outer.element()
    contents = outer.enter(_EXPLICIT_0).contents(der.SEQUENCE)
    return der.encode(der.SEQUENCE, content_type, der.encode(_EXPLICIT_0, der.encode(der.SEQUENCE, change(contents))))


def _attributes() -> bytes:
    """Unauthenticated attributes, as RFC 5083 would allow them after the mac."""
    attribute = der.encode(
        der.SEQUENCE, der.oid("1.2.840.113549.1.9.16.2.4"), der.encode(der.SET, der.encode(12, b"?"))
    )
    return der.encode(der.context(2, constructed=True), attribute)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _mgf1(seed: bytes, size: int) -> bytes:
    return b"".join(hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(-(-size // 32)))[:size]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


if __name__ == "__main__":
    for name, content in derive().items():
        if (HERE / name).exists():
            sys.exit(f"{name} is there already: published vectors never change")
        (HERE / name).write_bytes(content)
