"""Seals in one pass and opens in two: AES-256-GCM around the frame of `envelope` (docs/spec/sealed-object.md).

GCM tells only at the end whether its input was genuine. So an object is read once to verify its tag, and read again to
release its plaintext, each step only after the ciphertext so far has proved equal to the verified one: memory stays
bounded, nothing touches the disk, and a storage that answers differently the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import (
    AEADDecryptionContext,
    AEADEncryptionContext,
    Cipher,
    algorithms,
    modes,
)

from archiver.clock import Chance
from archiver.errors import ConfigurationError, CutShortError, TooLargeError, TransientError, VerificationError
from archiver.seal import envelope
from archiver.seal.envelope import (
    HEADER_LIMIT,
    KEY_SIZE,
    MAX_CONTENT,
    NONCE_SIZE,
    Content,
    Envelope,
    Form,
    RecipientInfo,
    parse,
)
from archiver.seal.recipients import DataKey, Identity, Recipient, unwrap

STEP = 1 << 20
"""The number of bytes that are processed at once."""

_BLOCK = 16
_LIKELY_LENGTH = 1 << 20  # for any content of 64 KiB to 16 MiB, the header is as long as for this length


# --- sealing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealResult:
    """The facts of a written object. `wrapped_key_sha256` is over the RecipientInfos in the order of the object."""

    size: int
    sealed_sha256: str
    plaintext_size: int
    plaintext_sha256: str | None
    wrapped_key_sha256: str
    recipients: tuple[str, ...]


class Sealer:
    """Writes one sealed object into `file`, which is empty, binary and open for reading and writing.

    Every object has a data key and a nonce of its own. With `length`, the exact size of the plaintext, the object is
    written front to back. Without `length`, the header comes last, and the object is read once more for its digest.

    Blocking; for one thread at a time. Errors of `file` pass through; the caller syncs the file to disk. After any
    error the file's contents must be thrown away.
    """

    def __init__(
        self,
        file: BinaryIO,
        recipients: Sequence[Recipient],
        chance: Chance,
        length: int | None = None,
        *,
        plaintext_digest: bool = False,
    ) -> None:
        """Raises `TooLargeError` above 64 GiB - 32 bytes (GCM), `ConfigurationError` for no recipients or too many."""
        if not recipients:
            raise ConfigurationError("nobody could open an object without recipients")
        if length is not None and length > MAX_CONTENT:
            raise TooLargeError(f"{length} bytes; one sealed object holds at most {MAX_CONTENT}")
        self._file = file
        self._length = length
        self._recipients = tuple(recipient.id for recipient in recipients)
        data_key = chance.token(KEY_SIZE)
        self._nonce = chance.token(NONCE_SIZE)
        self._infos = [recipient.wrap(data_key) for recipient in recipients]
        self._encryptor: AEADEncryptionContext | None = Cipher(
            algorithms.AES(data_key), modes.GCM(self._nonce)
        ).encryptor()
        self._buffer = memoryview(bytearray(STEP + _BLOCK))
        self._plaintext = hashlib.sha256() if plaintext_digest else None
        self._plaintext_size = 0
        self._digest = None if length is None else hashlib.sha256()
        header = envelope.header(self._infos, self._nonce, _LIKELY_LENGTH if length is None else length)
        if len(header) > HEADER_LIMIT:
            raise ConfigurationError(f"{len(recipients)} recipients are more than an object can name")
        self._reserved = len(header)
        if self._digest is None:
            file.seek(self._reserved)
        else:
            self._put(header)

    def write(self, data: bytes | memoryview) -> None:
        """Seals the next bytes. Raises `TooLargeError`, or `TransientError` for more bytes than `length`."""
        assert self._encryptor is not None, "finished or abandoned"
        view = memoryview(data).cast("B")
        size = self._plaintext_size + len(view)
        if size > MAX_CONTENT:
            raise TooLargeError(f"more than {MAX_CONTENT} bytes, which is all that one sealed object holds")
        if self._length is not None and size > self._length:
            raise TransientError(f"more than the {self._length} bytes announced")
        self._plaintext_size = size
        if self._plaintext is not None:
            self._plaintext.update(view)
        for start in range(0, len(view), STEP):
            written = self._encryptor.update_into(view[start : start + STEP], self._buffer)
            self._put(self._buffer[:written])

    def finish(self) -> SealResult:
        """Completes the object. Raises `CutShortError` for fewer bytes than `length`."""
        assert self._encryptor is not None, "finished or abandoned"
        if self._length is not None and self._plaintext_size < self._length:
            raise CutShortError(f"{self._plaintext_size} of {self._length} bytes")
        self._encryptor.finalize()
        trailer = envelope.trailer(self._encryptor.tag)
        self._encryptor = None
        self._put(trailer)
        header = envelope.header(self._infos, self._nonce, self._plaintext_size)
        body = self._plaintext_size + len(trailer)
        if self._digest is None:
            self._move(body, len(header))
            self._file.seek(0)
            self._put(header)
        self._file.flush()
        digest = self._digest or self._reread()
        return SealResult(
            size=len(header) + body,
            sealed_sha256=digest.hexdigest(),
            plaintext_size=self._plaintext_size,
            plaintext_sha256=self._plaintext.hexdigest() if self._plaintext is not None else None,
            wrapped_key_sha256=envelope.wrapped_key_sha256(self._infos),
            recipients=self._recipients,
        )

    def abandon(self) -> None:
        """Drops the data key, so that only the recipients can open what the file holds. May be called again."""
        self._encryptor = None

    def _put(self, data: bytes | memoryview) -> None:
        """Writes all of `data`: an unbuffered file may take less at a time."""
        view = memoryview(data)
        if self._digest is not None:
            self._digest.update(view)
        while view:
            view = view[self._file.write(view) :]

    def _move(self, size: int, target: int) -> None:
        """Moves the `size` bytes behind the reserved room to `target`, where the true header ends."""
        distance = target - self._reserved
        if distance == 0:
            return
        starts = range(0, size, STEP)
        # Rightwards from the last step, leftwards from the first, so that no step overwrites what is still to be read.
        for start in reversed(starts) if distance > 0 else starts:
            self._file.seek(self._reserved + start)
            step = self._read(min(STEP, size - start))
            self._file.seek(target + start)
            self._put(step)
        self._file.truncate(target + size)

    def _reread(self) -> hashlib._Hash:
        digest = hashlib.sha256()
        self._file.seek(0)
        while step := self._file.read(STEP):
            digest.update(step)
        return digest

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size and (part := self._file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


# --- opening --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenedFacts:
    """The facts of a sealed object whose tag was verified. `sealed_sha256` is over all bytes read; for a detached
    object, over its ciphertext alone."""

    plaintext_sha256: str
    plaintext_size: int
    sealed_sha256: str
    recipient_id: str


async def verify_sealed(
    chunks: AsyncIterator[bytes], identities: Sequence[Identity], *, detached: bytes | None = None
) -> OpenedFacts:
    """Reads a sealed object to its end and verifies it, releasing no plaintext.

    `detached` is the envelope of an object whose `chunks` are the ciphertext alone. Raises `VerificationError` when the
    bytes are no sealed object, or were changed or cut; `KeyUnavailableError` when no identity opens the object. Errors
    of `chunks` pass through.
    """
    return (await _verify(chunks, identities, detached)).facts


async def open_sealed(
    read: Callable[[], AsyncIterator[bytes]],
    identities: Sequence[Identity],
    expect_plaintext_sha256: str | None,
    *,
    detached: bytes | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yields the plaintext of the object. `read` is called twice, and reads the object from its start each time.

    No plaintext is released before the whole object has been verified, and none that was not verified.
    `expect_plaintext_sha256` comes from the signed custody event: GCM does not commit to its key, this digest does.
    Raises as `verify_sealed`.
    """
    verified = await _verify(read(), identities, detached)
    if expect_plaintext_sha256 is not None and verified.facts.plaintext_sha256 != expect_plaintext_sha256:
        found = verified.facts.plaintext_sha256
        raise VerificationError(f"the plaintext has the digest {found}, not {expect_plaintext_sha256}")
    again = _Reading(lambda _: verified.data_key, detached)
    expected = iter(verified.prefixes)

    def release(step: bytes) -> bytes:
        if again.absorb(step) != next(expected, None):
            raise VerificationError("the object read differently the second time")
        return bytes(again.plaintext())

    async with aclosing(_steps(read())) as steps:
        async for step in steps:
            if piece := await asyncio.to_thread(release, step):
                yield piece
    if next(expected, None) is not None:
        raise VerificationError("the object was shorter the second time")


@dataclass(frozen=True, slots=True)
class _Verified:
    """The result of the first reading. `prefixes` holds the sealed digest as it stood after each step, 32 bytes per
    MiB; the second reading is compared with these digests."""

    facts: OpenedFacts
    data_key: DataKey
    prefixes: list[bytes]


async def _verify(chunks: AsyncIterator[bytes], identities: Sequence[Identity], detached: bytes | None) -> _Verified:
    reading = _Reading(lambda infos: unwrap(infos, identities), detached)
    digest, size = hashlib.sha256(), 0
    prefixes: list[bytes] = []

    def absorb(step: bytes) -> int:
        prefixes.append(reading.absorb(step))
        plaintext = reading.plaintext()
        digest.update(plaintext)
        return len(plaintext)

    async with aclosing(_steps(chunks)) as steps:
        async for step in steps:
            size += await asyncio.to_thread(absorb, step)
    data_key = await asyncio.to_thread(reading.verify)
    facts = OpenedFacts(
        plaintext_sha256=digest.hexdigest(),
        plaintext_size=size,
        sealed_sha256=reading.sealed_sha256,
        recipient_id=data_key.identity,
    )
    return _Verified(facts, data_key, prefixes)


class _Reading:
    """One reading of an object, step by step. Its plaintext must not be trusted before `verify`."""

    def __init__(self, unwrap: Callable[[Sequence[RecipientInfo]], DataKey], detached: bytes | None) -> None:
        self._unwrap = unwrap
        self._detached = detached
        self._digest = hashlib.sha256()
        self._opened: _Opened | None = None
        self._ciphertext: Iterable[memoryview] = ()
        self._buffer = memoryview(bytearray(STEP + _BLOCK))

    @property
    def sealed_sha256(self) -> str:
        return self._digest.hexdigest()

    def absorb(self, step: bytes) -> bytes:
        """Takes the next `STEP` bytes, fewer only at the end. Returns the digest of all bytes so far."""
        self._digest.update(step)
        view = memoryview(step)
        if self._opened is None:
            self._opened = self._open(step)
            if self._detached is None:
                view = view[self._opened.envelope.content_at :]
        self._ciphertext = (view,) if self._detached is not None else self._opened.content.feed(view)
        return self._digest.digest()

    def plaintext(self) -> memoryview:
        """Returns the plaintext of the last step; it is valid until the next step."""
        assert self._opened is not None
        filled = 0
        try:
            for piece in self._ciphertext:
                filled += self._opened.decryptor.update_into(piece, self._buffer[filled:])
        except ValueError as exc:
            raise VerificationError("more content than one GCM message can hold") from exc
        return self._buffer[:filled]

    def verify(self) -> DataKey:
        """Verifies the whole object, after the last step. Raises `VerificationError` when the object is not genuine."""
        opened = self._opened or self._open(b"")
        try:
            opened.decryptor.finalize_with_tag(opened.content.tag())
        except InvalidTag as exc:
            raise VerificationError("the tag does not fit: the object was changed, or another key was wrapped") from exc
        return opened.data_key

    def _open(self, beginning: bytes) -> _Opened:
        header = parse((beginning if self._detached is None else self._detached)[:HEADER_LIMIT])
        if (header.form is Form.DETACHED) != (self._detached is not None):
            raise VerificationError(f"an envelope whose content is {header.form.value}")
        data_key = self._unwrap(header.recipients)
        content = Content(header)
        if self._detached is not None:
            list(content.feed(memoryview(self._detached)[header.content_at :]))  # it holds no ciphertext, only the tag
        decryptor = Cipher(algorithms.AES(data_key.key), modes.GCM(header.nonce)).decryptor()
        return _Opened(header, content, data_key, decryptor)


@dataclass(frozen=True, slots=True)
class _Opened:
    envelope: Envelope
    content: Content
    data_key: DataKey
    decryptor: AEADDecryptionContext


async def _steps(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yields the same bytes in steps of exactly `STEP`; the last step may be shorter."""
    buffer = bytearray()
    try:
        async for chunk in chunks:
            if not buffer and len(chunk) == STEP:
                yield chunk
                continue
            buffer += chunk
            while len(buffer) >= STEP:
                yield bytes(memoryview(buffer)[:STEP])
                del buffer[:STEP]
        if buffer:
            yield bytes(buffer)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
