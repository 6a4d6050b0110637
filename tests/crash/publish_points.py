"""Where publishing can die (reference: crash table of the custody log), and a process that does.

Run as `python -m tests.crash.publish_points POINT URL NOTARY SHELF`: publishes once and kills itself at the point.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from archiver.errors import ArchiverError
from archiver.store.port import Shelf
from archiver.translog.notary import Notary
from archiver.translog.publisher import Publisher
from tests.broken_shelf import BrokenShelf
from tests.custody_examples import HOST_KEY
from tests.custody_log import CustodyLog, custody_log, folder_shelf
from tests.log_trees import LOG

Die = Callable[[], None]


class ToldToDieError(ArchiverError):
    """The test ended this here."""


def at_put(when: str, prefix: str, number: int = 1) -> Callable[[CustodyLog, Path, Shelf, Die], Publisher]:
    """Before or after the `number`-th put of a name that begins with `prefix`."""

    def arm(archive: CustodyLog, notary: Path, shelf: Shelf, die: Die) -> Publisher:
        seen = 0

        def count(name: str) -> None:
            nonlocal seen
            seen += name.startswith(prefix)
            if name.startswith(prefix) and seen == number:
                die()

        broken = BrokenShelf(shelf, **{when: count})
        return Publisher(archive.engine, archive.writer, archive.log_id, archive.notary, [broken], archive.clock)

    return arm


def within_signing(archive: CustodyLog, notary: Path, shelf: Shelf, die: Die) -> Publisher:
    """The tree is remembered, the signature is not made."""

    class Signer:
        key = LOG.key

        def sign(self, text: str, time: int) -> str:
            die()
            raise AssertionError

    dying = Notary(notary, Signer(), archive.clock)  # type: ignore[arg-type]
    return Publisher(archive.engine, archive.writer, archive.log_id, dying, [shelf], archive.clock)


def after_signing(archive: CustodyLog, notary: Path, shelf: Shelf, die: Die) -> Publisher:
    """The signature is made, nobody has heard of it."""

    class Dying(Notary):
        def add_checkpoint(self, *asked: object) -> str:
            super().add_checkpoint(*asked)  # type: ignore[arg-type]
            die()
            raise AssertionError

    dying = Dying(notary, LOG, archive.clock)
    return Publisher(archive.engine, archive.writer, archive.log_id, dying, [shelf], archive.clock)


POINTS: dict[str, Callable[[CustodyLog, Path, Shelf, Die], Publisher]] = {
    "integrate COMMIT, before S3": at_put("before", ""),
    "some bundles PUT": at_put("after", "tile/entries/", 2),
    "some tiles PUT": at_put("after", "tile/", 6),
    "all tiles PUT but the last": at_put("before", "tile/1/"),
    "notary persisted size, signature lost": within_signing,
    "signed, before DB insert": after_signing,
    "signed, before S3 PUT": at_put("before", "checkpoints/"),
    "checkpoint PUT, reply lost": at_put("after", "checkpoints/"),
    "checkpoint PUT, pointer not": at_put("before", "checkpoint", 2),
    "pointer PUT, not noted as published": at_put("after", "checkpoint", 2),
}


async def reopened(archive: CustodyLog, publisher: Publisher) -> None:
    """What a process does first."""
    await publisher.start()
    await archive.writer.run(lambda conn: archive.ledger.enroll(conn, HOST_KEY))
    await archive.grow(600)
    await publisher.publish(None)


async def main(point: str, url: str, notary: Path, folder: Path) -> None:
    shelf = await folder_shelf(folder)
    async with custody_log(url, notary, [shelf], enrol=False) as archive:
        publisher = POINTS[point](archive, notary, shelf, lambda: os.kill(os.getpid(), signal.SIGKILL))
        await reopened(archive, publisher)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
