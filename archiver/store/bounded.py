"""Limits the bytes that a storage gives out: it may send for ever, and its statements of size are not trusted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

LARGEST_PIECE = 32 << 20
"""The most bytes of one piece of the custody log: a bundle of 256 entries has less than 17 MiB."""


async def at_most(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """Yield `pieces` up to and with the first one beyond `most` bytes, so that a caller who counts or hashes sees the
    excess."""
    seen = 0
    try:
        async for piece in pieces:
            yield piece
            seen += len(piece)
            if seen > most:
                return
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
