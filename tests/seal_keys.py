"""Keys, objects and streams for the tests of `archiver.seal`."""

from __future__ import annotations

import asyncio
import base64
import io
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from archiver.clock import Chance, SystemChance
from archiver.seal.cipher import OpenedFacts, Sealer, SealResult, open_sealed, verify_sealed
from archiver.seal.envelope import KEY_SIZE
from archiver.seal.recipients import Identity, Recipient, load_identity, load_local_key, load_recipient

VECTORS = Path(__file__).parent / "vectors" / "sealed-object"


def key_file(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


LOCAL_KEY = load_local_key(key_file("local.key"))

OPS = load_recipient("ops", "rsa-oaep-256", key_file("ops.pub.pem"))
OTHER = load_recipient("other", "rsa-oaep-256", key_file("other.pub.pem"))
LOCAL = load_recipient("local", "aes-kw-256", key_file("local.key"))

OPS_IDENTITY = load_identity("ops", "rsa-oaep-256", key_file("ops.key.pem"))
OTHER_IDENTITY = load_identity("other", "rsa-oaep-256", key_file("other.key.pem"))
LOCAL_IDENTITY = load_identity("local", "aes-kw-256", key_file("local.key"))


def seal(
    plaintext: bytes,
    recipients: Sequence[Recipient] = (OPS,),
    *,
    pinned: bool = True,
    chance: Chance | None = None,
) -> tuple[bytes, SealResult]:
    """A sealed object in memory and what its sealer says of it."""
    file = io.BytesIO()
    sealer = Sealer(file, recipients, chance or SystemChance(), len(plaintext) if pinned else None)
    sealer.write(plaintext)
    result = sealer.finish()
    return file.getvalue(), result


def reading(data: bytes, step: int = 1 << 20) -> Callable[[], AsyncIterator[bytes]]:
    """What a storage does: the bytes from the start, in pieces, each time it is asked."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), step):
            yield data[start : start + step]

    return pieces


def opened(
    data: bytes, *identities: Identity, expect: str | None = None, detached: bytes | None = None, step: int = 1 << 20
) -> bytes:
    async def run() -> bytes:
        pieces = open_sealed(reading(data, step), identities, expect, detached=detached)
        return b"".join([piece async for piece in pieces])

    return asyncio.run(run())


def verified(data: bytes, *identities: Identity, step: int = 1 << 20) -> OpenedFacts:
    return asyncio.run(verify_sealed(reading(data, step)(), identities))


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run the stock `openssl`. Without it these tests fail: they are the promise to the stranger of twenty years hence."""
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False, timeout=60)


def generate_local_key(chance: Chance) -> bytes:
    """The contents of a fresh local key file."""
    return base64.b64encode(chance.token(KEY_SIZE)) + b"\n"
