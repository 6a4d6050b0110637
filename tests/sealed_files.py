"""Files to store, as the sealing stage leaves them: bytes on disk, their size and SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from archiver.recording import Lock, Stored
from archiver.store.port import ObjectStore, Version


@dataclass(frozen=True, slots=True)
class SealedFile:
    path: Path
    size: int
    sealed_sha256: str

    async def put(self, store: ObjectStore, key: str, lock: Lock) -> Stored:
        return await store.put_once(key, self.path, size=self.size, sealed_sha256=self.sealed_sha256, lock=lock)


def sealed_file(folder: Path, content: bytes, name: str = "object.sealed") -> SealedFile:
    path = folder / name
    path.write_bytes(content)
    return SealedFile(path, len(content), hashlib.sha256(content).hexdigest())


async def read_all(store: ObjectStore, stored: Stored) -> bytes:
    return b"".join([piece async for piece in store.read(stored.key, stored.version_id)])


async def listed(store: ObjectStore, prefix: str = "recordings/") -> list[Version]:
    return [version async for version in store.versions(prefix)]


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes that no two offsets share for long, so that a part lost or doubled is seen."""
    block = hashlib.sha512(str(seed).encode()).digest()
    return b"".join(hashlib.sha512(block + n.to_bytes(8, "big")).digest() for n in range(size // 64 + 1))[:size]
