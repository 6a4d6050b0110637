"""Sealing: what is written, what is said of it, and what happens when the input or the file is not as announced."""

from __future__ import annotations

import errno
import hashlib
import io
from pathlib import Path

import pytest

from archiver.clock import SystemChance
from archiver.errors import ConfigurationError, CutShortError, TooLargeError, TransientError
from archiver.seal import envelope
from archiver.seal.cipher import Sealer
from archiver.seal.envelope import MAX_CONTENT
from tests.seal_keys import LOCAL, LOCAL_IDENTITY, OPS, OTHER, opened, seal, verified


class RecordedChance(SystemChance):
    """The system's, remembered."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def token(self, size: int) -> bytes:
        self.given.append(super().token(size))
        return self.given[-1]


def test_every_object_has_a_data_key_and_a_nonce_of_its_own() -> None:
    chance = RecordedChance()
    objects = [seal(b"the same speech", [LOCAL], chance=chance)[0] for _ in range(50)]
    assert [len(token) for token in chance.given] == [32, 12] * 50
    assert len(set(chance.given)) == 100
    assert len({envelope.parse(each).nonce for each in objects}) == 50
    assert [envelope.parse(each).nonce for each in objects] == chance.given[1::2]


@pytest.mark.parametrize("pinned", [True, False])
def test_result_says_what_the_file_holds(pinned: bool) -> None:
    plaintext = bytes(range(256)) * 5000
    sealed, result = seal(plaintext, [OPS, OTHER, LOCAL], pinned=pinned)
    facts = verified(sealed, LOCAL_IDENTITY)
    assert result.size == len(sealed)
    assert result.sealed_sha256 == facts.sealed_sha256 == hashlib.sha256(sealed).hexdigest()
    assert result.plaintext_size == facts.plaintext_size == len(plaintext)
    assert facts.plaintext_sha256 == hashlib.sha256(plaintext).hexdigest()
    assert result.plaintext_sha256 is None
    assert result.recipients == ("ops", "other", "local")
    assert result.wrapped_key_sha256 == envelope.parse(sealed).recipients_sha256


def test_plaintext_is_hashed_only_when_asked() -> None:
    sealer = Sealer(io.BytesIO(), [LOCAL], SystemChance(), plaintext_digest=True)
    sealer.write(b"spe")
    sealer.write(memoryview(bytearray(b"ech")))
    assert sealer.finish().plaintext_sha256 == hashlib.sha256(b"speech").hexdigest()


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("unbuffered", [True, False])
@pytest.mark.parametrize("size", [0, 100, 70_000, 3_000_000])
def test_real_file_holds_one_object_from_its_first_byte_to_its_last(
    tmp_path: Path, size: int, unbuffered: bool, pinned: bool
) -> None:
    path = tmp_path / "part"
    plaintext = hashlib.shake_128(b"x").digest(size)
    with path.open("w+b", buffering=0 if unbuffered else -1) as file:
        sealer = Sealer(file, [LOCAL], SystemChance(), size if pinned else None)
        for start in range(0, size, 9999):
            sealer.write(plaintext[start : start + 9999])
        result = sealer.finish()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == result.sealed_sha256, "finish() flushes"
    assert opened(path.read_bytes(), LOCAL_IDENTITY) == plaintext


class ShortWrites(io.BytesIO):
    """Takes a thousand bytes at a time, as an unbuffered file may."""

    def write(self, data: object, /) -> int:
        return super().write(memoryview(data)[:1000])  # type: ignore[arg-type]

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 777) if size and size > 0 else size)


@pytest.mark.parametrize("size", [60_000, 17_000_000])
@pytest.mark.parametrize("pinned", [True, False])
def test_file_that_takes_and_gives_little_at_a_time_still_gets_all(size: int, pinned: bool) -> None:
    file = ShortWrites()
    sealer = Sealer(file, [LOCAL], SystemChance(), size if pinned else None)
    sealer.write(bytes(size))
    result = sealer.finish()
    assert len(file.getvalue()) == result.size
    assert verified(file.getvalue(), LOCAL_IDENTITY).sealed_sha256 == result.sealed_sha256


def test_fewer_bytes_than_announced_is_cut_short() -> None:
    sealer = Sealer(io.BytesIO(), [LOCAL], SystemChance(), 10)
    sealer.write(b"123456789")
    with pytest.raises(CutShortError, match="9 of 10 bytes"):
        sealer.finish()


def test_more_bytes_than_announced_are_not_written() -> None:
    file = io.BytesIO()
    sealer = Sealer(file, [LOCAL], SystemChance(), 10)
    sealer.write(b"1234567890")
    before = file.getvalue()
    with pytest.raises(TransientError, match="more than the 10 bytes announced"):
        sealer.write(b"1")
    assert file.getvalue() == before


def test_nobody_to_open_it_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        Sealer(io.BytesIO(), [], SystemChance())


def test_more_recipients_than_a_reader_looks_at_are_a_configuration_error() -> None:
    sealed, _ = seal(b"speech", [OPS] * 130 + [LOCAL])
    assert opened(sealed, LOCAL_IDENTITY) == b"speech"
    with pytest.raises(ConfigurationError, match="140 recipients"):
        seal(b"speech", [OPS] * 140)


def test_more_than_gcm_can_hold_is_refused_before_a_byte_is_written() -> None:
    file = io.BytesIO()
    with pytest.raises(TooLargeError):
        Sealer(file, [LOCAL], SystemChance(), MAX_CONTENT + 1)
    assert file.getvalue() == b""
    Sealer(file, [LOCAL], SystemChance(), MAX_CONTENT)


def test_unannounced_flood_stops_at_what_gcm_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.seal.cipher.MAX_CONTENT", 1000)
    sealer = Sealer(io.BytesIO(), [LOCAL], SystemChance())
    sealer.write(bytes(1000))
    with pytest.raises(TooLargeError):
        sealer.write(b"1")


class FullDisk(io.BytesIO):
    def write(self, data: object, /) -> int:
        if self.tell() > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def test_what_the_file_raises_reaches_who_opened_it() -> None:
    sealer = Sealer(FullDisk(), [LOCAL], SystemChance())
    with pytest.raises(OSError, match="No space left"):
        sealer.write(bytes(5_000_000))
    sealer.abandon()


def test_abandoned_sealer_writes_no_more() -> None:
    sealer = Sealer(io.BytesIO(), [LOCAL], SystemChance())
    sealer.abandon()
    sealer.abandon()
    with pytest.raises(AssertionError):
        sealer.write(b"1")
    with pytest.raises(AssertionError):
        sealer.finish()


def test_plaintext_never_reaches_the_file() -> None:
    class Watched(io.BytesIO):
        def write(self, data: object, /) -> int:
            assert b"SPOKEN WORDS" not in bytes(data)  # type: ignore[call-overload]
            return super().write(data)  # type: ignore[arg-type]

    for length in (None, 12_000):
        sealer = Sealer(Watched(), [LOCAL], SystemChance(), length)
        sealer.write(b"SPOKEN WORDS" * 1000)
        sealer.finish()
