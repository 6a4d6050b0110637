"""A storage that sends more than there can be is read to a limit, and its connection is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from archiver.store.bounded import LARGEST_PIECE, at_most
from archiver.store.s3_client import MIB, S3Options
from archiver.store.s3_shelf import S3Shelf
from archiver.store.s3_vault import Vault
from tests.memory_bucket import MemoryBucket


@pytest.mark.parametrize(("most", "given"), [(0, 3), (2, 3), (3, 6), (6, 9), (100, 9)])
async def test_pieces_end_with_the_first_one_beyond_the_limit(most: int, given: int) -> None:
    closed = False

    async def three() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            for _ in range(3):
                yield b"abc"
        finally:
            closed = True

    assert sum([len(each) async for each in at_most(three(), most)]) == given
    assert closed


async def test_piece_of_the_log_without_an_end_is_read_to_the_limit() -> None:
    ended = False

    class Endless(MemoryBucket):
        def read(self, key: str, version_id: str | None) -> Generator[bytes, None, None]:
            nonlocal ended
            try:
                while True:
                    yield bytes(MIB)
            finally:
                ended = True

    options, bucket = S3Options("main", "vault"), Endless()

    async def run(call: Any, *args: Any) -> Any:
        return await asyncio.to_thread(call, *args)

    shelf = S3Shelf(bucket, Vault(bucket, options), options, run, each=lambda pages: pages)  # type: ignore[arg-type, return-value]
    content = await shelf.read_current("checkpoint")
    assert content is not None
    assert LARGEST_PIECE < len(content) <= LARGEST_PIECE + MIB
    assert ended
