"""Decrypts one recording for a listener: opened in memory, the access recorded and published, and only then written to
a file.

What if the process dies on the way? Before the access is published nothing has left memory, and the log says that
somebody was about to listen. After it, a part of the file may exist, and the log tells who has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from archiver import durable, errors
from archiver.custody.event import Type
from archiver.custody.ledger import Appended, Ledger
from archiver.database import Connection
from archiver.ingest.journal import recatalogue
from archiver.recording import Json
from archiver.seal.cipher import open_sealed
from archiver.seal.recipients import Identity
from archiver.store.port import ObjectStore


@dataclass(frozen=True, slots=True)
class Copy:
    """One sealed copy of a recording, and the digest that its signed events state of the audio."""

    recording_id: str
    storage: str
    key: str
    version_id: str | None
    digest: str


async def hear(
    copy: Copy,
    store: ObjectStore,
    identities: Sequence[Identity],
    target: Path,
    record: Callable[[Copy], Awaitable[None]],
) -> int:
    """Write the verified audio of one copy to `target`, a new file; return its size. `record` returns once the access
    is published.

    Raises the errors of `record`, with nothing written; `NotAllowedError` when the file cannot be made.
    """
    plaintext = open_sealed(lambda: store.read(copy.key, copy.version_id), identities, copy.digest)
    async with aclosing(plaintext):
        # The first piece comes once the whole is verified. Nothing leaves memory before the access is published.
        first = await anext(plaintext, b"")
        await record(copy)
        return await _write(target, first, plaintext)


def say_heard(conn: Connection, ledger: Ledger, copy: Copy, access: Mapping[str, Json]) -> Appended:
    """Append `recording.accessed`; `access` holds person and reason, which stand beside the event."""
    data: dict[str, Json] = {"purpose": "get", "storage": copy.storage, "pt_sha256": copy.digest}
    subject, private = f"rec:{copy.recording_id}", {"access": access}
    said = ledger.append(conn, subject, Type.ACCESSED, data, private=private, actor_kind="operator")
    recatalogue(conn, copy.recording_id)
    return said


async def _write(target: Path, first: bytes, rest: AsyncGenerator[bytes, None]) -> int:
    """Write all or nothing: `target` appears when the last byte is on disk. Raises `NotAllowedError`."""
    part = target.with_name(target.name + ".part")
    written = contextlib.ExitStack()
    try:
        file = written.enter_context(durable.new_file(part))
    except OSError as problem:
        raise errors.NotAllowedError(f"{part} cannot be made: {problem.strerror}") from problem
    try:
        with written:
            size = file.write(first)
            async for piece in rest:
                size += await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(durable.place, part, target)
    except FileExistsError as taken:
        raise errors.NotAllowedError(f"{target} appeared meanwhile; get never overwrites") from taken
    except OSError as problem:
        raise errors.NotAllowedError(f"{part} cannot be written: {problem.strerror}") from problem
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()  # incomplete plaintext is removed
    return size
