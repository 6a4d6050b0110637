"""Changed sealed objects: every one is refused, with an error of ours, in bounded time; none ever gives other plaintext."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from archiver.errors import KeyUnavailableError, VerificationError
from archiver.seal import envelope
from archiver.seal.cipher import verify_sealed
from archiver.seal.envelope import KeyEncryption, KeyTransport
from archiver.seal.recipients import Identity
from tests.seal_keys import LOCAL_IDENTITY, OPS_IDENTITY, key_file, reading

_CASES = 5_000  # of each object


def _flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _replace(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0x81, 0x84, 0xFF, 0x30, 0xA0, 0x24))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randint(1, 8)]


def _insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.randint(1, 8))


def _double(data: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(data)), chance.randint(1, 60)
    data[at:at] = data[at : at + size]


def _swap(data: bytearray, chance: random.Random) -> None:
    size = chance.randint(1, 30)
    a, b = sorted(chance.sample(range(len(data) - size), 2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _flip, _replace, _cut, _remove, _insert, _double, _swap,
)  # fmt: skip


def _without_names(sealed: bytes) -> bytes:
    """The object with the key identifiers blanked: they only say which key to try, and nothing authenticates them."""
    for info in envelope.parse(sealed).recipients:
        assert isinstance(info, KeyTransport | KeyEncryption)
        assert info.key_id is not None
        sealed = sealed.replace(info.key_id, bytes(len(info.key_id)), 1)
    return sealed


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("kek-call.der", LOCAL_IDENTITY),
        ("kek-block.der", LOCAL_IDENTITY),
        ("rsa-call.der", OPS_IDENTITY),
        ("openssl-secretkey.der", LOCAL_IDENTITY),
    ],
)
async def test_changed_object_never_opens_to_anything_else(name: str, identity: Identity) -> None:
    good = key_file(name)
    genuine = await verify_sealed(reading(good)(), [identity])
    chance = random.Random(name)
    refused = 0
    for _ in range(_CASES):
        changed = bytearray(good)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            chance.choice(_CHANGES)(changed, chance)
            if len(changed) < 80:
                break
        if changed == good:
            continue
        try:
            facts = await verify_sealed(reading(bytes(changed))(), [identity])
        except (VerificationError, KeyUnavailableError):
            refused += 1
        else:
            assert _without_names(bytes(changed)) == _without_names(good)
            assert facts.plaintext_sha256 == genuine.plaintext_sha256
            assert facts.sealed_sha256 != genuine.sealed_sha256
    assert refused > _CASES * 0.8


async def test_rubbish_is_refused() -> None:
    chance = random.Random(1)
    starts = [b"", key_file("kek-call.der")[:40], key_file("openssl-stream.der")[:60], b"\x30\x80" * 50, b"\x30\x84"]
    for _ in range(2_000):
        rubbish = chance.choice(starts) + chance.randbytes(chance.choice((0, 1, 2, 50, 300)))
        with pytest.raises((VerificationError, KeyUnavailableError)):
            await verify_sealed(reading(rubbish)(), [LOCAL_IDENTITY, OPS_IDENTITY])


def _bombs() -> Iterator[tuple[str, bytes]]:
    good = key_file("openssl-secretkey.der")
    content_at = envelope.parse(good).content_at
    yield "a million empty pieces and no end", good[:content_at] + b"\x04\x00" * 1_000_000
    yield "a million pieces of one byte", good[:content_at] + b"\x04\x01?" * 1_000_000
    yield "nested pieces", good[:content_at] + b"\x24\x80" * 500_000
    yield "a hundred thousand elements deep", b"\x30\x80" * 100_000
    yield "a header of recipients only", good[:22] + b"\x31\x83\x0f\xff\xff" + b"\xa1\x00" * 500_000
    yield "a length of 2^40 bytes", b"\x30\x86\x01\x00\x00\x00\x00\x00" + good[2:]
    yield "two megabytes behind the end", good + bytes(2_000_000)


@pytest.mark.parametrize("bomb", [pytest.param(data, id=name) for name, data in _bombs()])
@pytest.mark.timeout(20)
async def test_bomb_is_refused_in_time(bomb: bytes) -> None:
    with pytest.raises(VerificationError):
        await verify_sealed(reading(bomb)(), [LOCAL_IDENTITY])
