"""Keeps and logs anchors: time stamps of an authority, which prove that a checkpoint, and so every leaf under it,
existed at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from archiver.clock import Chance, Clock
from archiver.custody.event import ARCHIVE, Type, format_time
from archiver.custody.ledger import Ledger
from archiver.database import Connection, Engine, Writer, read
from archiver.errors import ConfigurationError, DestinationError, UnavailableError
from archiver.store.port import Shelf
from archiver.translog import publication_rows, reader
from archiver.translog.heartbeat import EVERY, due
from archiver.translog.http import Client
from archiver.translog.publication_rows import Anchor
from archiver.translog.tables import AnchorKind
from archiver.translog.timestamp import Token, anchor_name, anchor_place, make_request, open_token, refusal

MAX_SKEW = timedelta(minutes=5)


class Authority:
    """One time stamping authority, and the root certificates that we trust for it. The names of its files begin with
    `name`."""

    def __init__(self, name: str, url: str, roots: Sequence[x509.Certificate], client: Client, chance: Chance) -> None:
        if anchor_place(anchor_name(0, name)) is None or not roots:
            raise ConfigurationError("a time stamping authority has a name of [A-Za-z0-9._-] and a trusted certificate")
        self.name = name
        self._url = url
        self.roots = tuple(roots)
        self._client = client
        self._chance = chance

    async def stamp(self, data: bytes) -> Token:
        """Requests a time stamp over `data`. Raises `UnavailableError` when none is given, `VerificationError` when the
        time stamp does not hold."""
        who = f"time stamping authority {self.name}"
        nonce = int.from_bytes(self._chance.token(8), "big")
        request = make_request(data, nonce)
        answer = await self._client.post(who, self._url, request, "application/timestamp-query")
        if answer.status != 200:
            raise UnavailableError(f"{who} answered {answer.status}")
        if status := refusal(answer.body):
            raise UnavailableError(f"{who} refused with status {status}")
        return open_token(answer.body, data, self.roots, nonce)


@dataclass(frozen=True, slots=True)
class Anchored:
    """The tree of `size` leaves has this time stamp, stored and logged."""

    size: int
    token: Token


class Anchorer:
    """Has the newest published checkpoint stamped by one authority, every so often.

    What if we die after any step? The next call finds the token on a storage and continues with it, or asks for
    another.
    """

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        log_id: int,
        authority: Authority,
        shelves: Sequence[Shelf],
        ledger: Ledger,
        clock: Clock,
        every: timedelta = EVERY,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._log_id = log_id
        self._authority = authority
        self._shelves = shelves
        self._ledger = ledger
        self._clock = clock
        self._every = every

    async def anchor(self, until: datetime | None) -> Anchored | None:
        """Anchors the newest published checkpoint, if the last anchor is old enough and the tree has grown since.
        Returns None otherwise.

        Raises `UnavailableError` and `DestinationError` (try later; archiving does not wait for it), and
        `VerificationError` for a token that does not hold.
        """
        newest, last = await read(self._engine, self._standing)
        if newest is None or (last is not None and last.size >= newest.size) or not self._due(last):
            return None
        note = newest.note.encode()
        token = await self._found(newest.size, note) or await self._authority.stamp(note)
        for shelf in self._shelves:
            await self._put(shelf, newest.size, token, until)
        now = self._clock.now()
        await self._writer.run(lambda conn: self._keep(conn, newest.size, note, token, now))
        return Anchored(newest.size, token)

    def _standing(self, conn: Connection) -> tuple[reader.Signed | None, Anchor | None]:
        token = publication_rows.newest_anchor(conn, self._log_id, AnchorKind.TIMESTAMP, f"{self._authority.name}.tsr")
        return reader.newest_checkpoint(conn, self._log_id, published=True), token

    def _due(self, last: Anchor | None) -> bool:
        now = self._clock.now()
        if last is None or last.at - now > MAX_SKEW:
            return True
        return due(min(last.at, now), now, self._every)  # the authority's clock may be a little ahead of ours

    async def _found(self, size: int, note: bytes) -> Token | None:
        """Returns a token that an earlier call left on a storage, since two different tokens under one name would be a
        conflict."""
        for shelf in self._shelves:
            try:
                response = await shelf.read(anchor_name(size, f"{self._authority.name}.tsr"))
            except DestinationError:
                if shelf.required:
                    raise
                continue
            if response is not None:
                return open_token(response, note, self._authority.roots)
        return None

    async def _put(self, shelf: Shelf, size: int, token: Token, until: datetime | None) -> None:
        """Stores the answer first, because the other files are derived from it."""
        name = self._authority.name
        try:
            await shelf.put_new(anchor_name(size, f"{name}.tsr"), token.response, until)
            await shelf.put_new(anchor_name(size, f"{name}.tsq"), token.request, until)
            chain = anchor_name(size, f"{name}.pem")
            if await shelf.read(chain) is None:  # the roots that were configured then are as good
                await shelf.put_new(chain, token.chain, until)
        except DestinationError:
            if shelf.required:
                raise

    def _keep(self, conn: Connection, size: int, note: bytes, token: Token, now: datetime) -> None:
        name = self._authority.name
        files = {f"{name}.tsr": token.response, f"{name}.tsq": token.request, f"{name}.pem": token.chain}
        if not publication_rows.keep_anchor(conn, self._log_id, AnchorKind.TIMESTAMP, files, size, token.at):
            return
        self._ledger.append(
            conn,
            ARCHIVE,
            Type.LOG_ANCHORED,
            {
                "kind": "rfc3161",
                "authority": name,
                "size": size,
                "note_sha256": hashlib.sha256(note).hexdigest(),
                "token_sha256": token.sha256,
                "at": format_time(token.at),
            },
        )
        if abs(now - token.at) > MAX_SKEW:
            told = {"authority": name, "stamped": format_time(token.at), "ours": format_time(now)}
            self._ledger.append(conn, ARCHIVE, Type.CLOCK_SKEW, told)
