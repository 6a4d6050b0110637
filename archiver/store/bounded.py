"""A limit for what a storage gives out: it may send for ever, and its word on sizes is not ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

LARGEST_PIECE = 32 << 20
"""Bytes of one piece of the custody log, at most: a bundle of 256 entries has less than 17 MiB."""


async def at_most(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """`pieces` up to and with the first one beyond `most` bytes: whoever counts or hashes sees that it is too much."""
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
