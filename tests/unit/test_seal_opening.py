"""Opening: nothing is released before the whole is verified, and nothing that was not verified."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Callable

import pytest

from archiver.errors import KeyUnavailableError, UnavailableError, VerificationError
from archiver.seal import envelope
from archiver.seal.cipher import STEP, open_sealed, verify_sealed
from tests.seal_keys import LOCAL, LOCAL_IDENTITY, OPS, OPS_IDENTITY, OTHER, key_file, opened, reading, seal, verified

_LONG = hashlib.shake_128(b"long").digest(3 * STEP + 5)


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _in_turn(*objects: bytes) -> Callable[[], AsyncIterator[bytes]]:
    """A storage that answers differently each time."""
    return iter([reading(each)() for each in objects]).__next__


async def _release(read: Callable[[], AsyncIterator[bytes]], released: list[bytes]) -> None:
    async for piece in open_sealed(read, [LOCAL_IDENTITY], None):
        released.append(piece)  # noqa: PERF401  # what came out before an error counts too


@pytest.mark.parametrize("step", [1000, STEP - 1, STEP, STEP + 1, 10 * STEP])
@pytest.mark.parametrize("size", [0, 1, STEP - 300, STEP, 2 * STEP, 3 * STEP + 5])
def test_object_opens_however_the_storage_cuts_it(size: int, step: int) -> None:
    sealed, _ = seal(_LONG[:size], [LOCAL])
    expect = hashlib.sha256(_LONG[:size]).hexdigest()
    assert opened(sealed, LOCAL_IDENTITY, expect=expect, step=step) == _LONG[:size]


def test_facts_name_the_key_that_opened_it() -> None:
    sealed, result = seal(b"speech", [OPS, LOCAL])
    facts = verified(sealed, LOCAL_IDENTITY, OPS_IDENTITY)
    assert facts.recipient_id == "local"
    assert facts.sealed_sha256 == result.sealed_sha256


@pytest.mark.parametrize("at", [-1, -STEP, 1000])
async def test_changed_object_releases_nothing(at: int) -> None:
    sealed, _ = seal(_LONG, [LOCAL])
    released: list[bytes] = []
    with pytest.raises(VerificationError):
        await _release(reading(_flipped(sealed, at)), released)
    assert released == []


async def test_storage_that_changes_its_answer_releases_only_what_was_verified() -> None:
    """Three steps: the second differs the second time, so that the first alone comes out."""
    sealed, _ = seal(_LONG, [LOCAL])
    at = envelope.parse(sealed).content_at
    released: list[bytes] = []
    with pytest.raises(VerificationError, match="read differently the second time"):
        await _release(_in_turn(sealed, _flipped(sealed, STEP + 10)), released)
    assert b"".join(released) == _LONG[: STEP - at]


async def test_storage_that_swaps_the_object_for_a_genuine_other_is_seen() -> None:
    """Same key, same size, its tag in order: yet not what was verified."""
    first, _ = seal(b"what was verified", [LOCAL])
    second, _ = seal(b"what came instead", [LOCAL])
    released: list[bytes] = []
    with pytest.raises(VerificationError, match="differently"):
        await _release(_in_turn(first, second), released)
    assert released == []


@pytest.mark.parametrize("keep", [0, STEP, 2 * STEP])
async def test_storage_that_stops_early_the_second_time_is_seen(keep: int) -> None:
    sealed, _ = seal(_LONG, [LOCAL])
    with pytest.raises(VerificationError, match="shorter the second time"):
        await _release(_in_turn(sealed, sealed[:keep]), [])


async def test_storage_that_gives_more_the_second_time_is_seen() -> None:
    sealed, _ = seal(_LONG, [LOCAL])
    with pytest.raises(VerificationError, match="differently"):
        await _release(_in_turn(sealed, sealed + bytes(2 * STEP)), [])


async def test_storage_that_fails_while_reading_is_no_verdict_on_the_object() -> None:
    sealed, _ = seal(_LONG, [LOCAL])

    async def broken() -> AsyncIterator[bytes]:
        yield sealed[:STEP]
        raise UnavailableError("connection reset")

    with pytest.raises(UnavailableError):
        await verify_sealed(broken(), [LOCAL_IDENTITY])


def test_other_plaintext_than_custody_says_is_refused() -> None:
    """GCM does not commit to its key; the digest in the signed event does."""
    sealed, _ = seal(b"speech", [LOCAL])
    with pytest.raises(VerificationError, match="has the digest"):
        opened(sealed, LOCAL_IDENTITY, expect=hashlib.sha256(b"other speech").hexdigest())


def test_wrong_data_key_for_one_recipient_is_refused() -> None:
    """A genuine wrap of another data key put in the place of the true one."""
    sealed, _ = seal(b"speech", [LOCAL])
    header = envelope.parse(sealed)
    forged = envelope.header([LOCAL.wrap(bytes(32))], header.nonce, 6) + sealed[header.content_at :]
    with pytest.raises(VerificationError, match="tag does not fit"):
        opened(forged, LOCAL_IDENTITY)


def test_detached_and_attached_are_not_taken_for_each_other() -> None:
    with pytest.raises(VerificationError, match="kept elsewhere"):
        opened(key_file("detached.der"), LOCAL_IDENTITY)
    with pytest.raises(VerificationError, match="within it"):
        opened(key_file("detached.body"), LOCAL_IDENTITY, detached=key_file("kek-call.der"))


@pytest.mark.parametrize("at", [0, -1])
def test_changed_detached_content_is_refused(at: int) -> None:
    with pytest.raises(VerificationError):
        opened(_flipped(key_file("detached.body"), at), LOCAL_IDENTITY, detached=key_file("detached.der"))


def test_detached_content_cut_short_is_refused() -> None:
    for body in (b"", key_file("detached.body")[:-1], key_file("detached.body") + b"1"):
        with pytest.raises(VerificationError):
            opened(body, LOCAL_IDENTITY, detached=key_file("detached.der"))


def test_new_recipient_joins_by_a_detached_envelope_without_touching_the_content() -> None:
    """How a key is added to a locked object later: same data key, same nonce, same tag, another RecipientInfo."""
    sealed, _ = seal(b"speech", [LOCAL])
    header = envelope.parse(sealed)
    info = header.recipients[0]
    data_key = LOCAL_IDENTITY.unwrap(info)
    assert data_key is not None
    side = envelope.detached([OPS.wrap(data_key)], header.nonce, sealed[-16:])
    body = sealed[header.content_at : -18]
    assert opened(body, OPS_IDENTITY, detached=side) == b"speech"
    with pytest.raises(KeyUnavailableError):
        opened(sealed, OPS_IDENTITY)


async def test_reader_that_stops_early_leaves_no_stream_open() -> None:
    sealed, _ = seal(_LONG, [LOCAL])
    closed = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            async for piece in reading(sealed)():
                yield piece
        finally:
            closed += 1

    plaintext = open_sealed(pieces, [LOCAL_IDENTITY], None)
    await anext(plaintext)
    await plaintext.aclose()
    assert closed == 2


async def test_memory_stays_bounded_whatever_the_size() -> None:
    sealed, _ = seal(bytes(40 * STEP), [OPS, OTHER, LOCAL])
    tracemalloc.start()
    try:
        async for _ in open_sealed(reading(sealed), [LOCAL_IDENTITY], None):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * STEP
