"""Runs and asks witnesses (c2sp.org/tlog-witness), which sign that every tree they saw of a log continues the one
before.

With one honest witness nobody can show two histories, not even somebody who holds the log's key, its notary, the
database and the bucket. An auditor runs the server of this module; the client asks any witness of that protocol. A
witness sees checkpoints only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from aiohttp import web

from archiver.errors import ForkedError, UnavailableError, VerificationError
from archiver.translog.checkpoint import Checkpoint, parse_checkpoint
from archiver.translog.http import Answer, Client
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.notary import Conflict, Notary, Refused
from archiver.translog.note import (
    MAX_NOTE,
    Note,
    VerifierKey,
    from_base64,
    from_decimal,
    open_note,
    open_parsed,
    parse_note,
)

MAX_PROOF = 63
_SIZE = "text/x.tlog.size"

Prove = Callable[[int], Awaitable[Sequence[bytes]]]
"""A function that gives the consistency proof from an older tree size to that of the checkpoint in question."""


class Request(NamedTuple):
    """A request to `add-checkpoint`."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    @property
    def body(self) -> bytes:
        proof = "".join(f"{base64.b64encode(each).decode()}\n" for each in self.proof)
        return f"old {self.old_size}\n{proof}\n".encode() + self.note


def parse_request(raw: bytes) -> Request:
    """Returns the request in a body. Raises `VerificationError` for anything but the exact format; the note is not
    checked."""
    head, blank, note = raw.partition(b"\n\n")
    try:
        first, *proof = head.decode("ascii").split("\n")
    except ValueError as exc:
        raise VerificationError("not a request") from exc
    if not blank or not first.startswith("old ") or len(proof) > MAX_PROOF:
        raise VerificationError("not a request")
    hashes = tuple(map(from_base64, proof))
    if any(len(each) != HASH_BYTES for each in hashes):
        raise VerificationError(f"a hash has {HASH_BYTES} bytes")
    return Request(from_decimal(first.removeprefix("old ")), hashes, note)


# --- the server ---------------------------------------------------------------------------------------------------


def witness_app(notary: Notary, log_keys: Iterable[VerifierKey]) -> web.Application:
    """Returns an HTTP witness for these logs: `POST /add-checkpoint`, and `GET /<SHA-256 of the origin>/checkpoint` for
    monitors."""
    keys: dict[str, list[VerifierKey]] = {}
    for key in log_keys:
        keys.setdefault(key.name, []).append(key)
    by_hash = {hashlib.sha256(origin.encode()).hexdigest(): origin for origin in keys}

    async def add(request: web.Request) -> web.Response:
        body = await request.read()
        return await asyncio.to_thread(_answer, notary, keys, body)

    async def newest(request: web.Request) -> web.Response:
        origin = by_hash.get(request.match_info["origin"])
        note = await asyncio.to_thread(notary.kept, origin) if origin else None
        if note is None:
            return _say(404, "no checkpoint of this log was cosigned here")
        return web.Response(body=note, content_type="text/plain", charset="utf-8")

    app = web.Application(client_max_size=2 * MAX_NOTE)
    app.router.add_post("/add-checkpoint", add)
    app.router.add_get("/{origin}/checkpoint", newest)
    return app


def _answer(notary: Notary, keys: dict[str, list[VerifierKey]], body: bytes) -> web.Response:  # noqa: PLR0911  a row each
    """Answers a request. The checks come in the order that the protocol prescribes: known log, its signature, sizes,
    the proof."""
    try:
        asked = parse_request(body)
        note = parse_note(asked.note)
    except VerificationError as exc:
        return _say(400, exc.detail)
    trusted = keys.get(note.text.partition("\n")[0])
    if trusted is None:
        return _say(404, "this witness does not know the log")
    try:
        open_parsed(note, trusted)
    except VerificationError as exc:
        return _say(403, exc.detail)
    try:
        checkpoint = parse_checkpoint(note.text)
    except VerificationError as exc:
        return _say(422 if note.text.split("\n")[1] == "0" else 400, exc.detail)
    if asked.old_size > checkpoint.size:
        return _say(400, "the old size is larger than the checkpoint's")
    try:
        line = notary.add_checkpoint(asked.old_size, asked.proof, checkpoint)
        notary.keep(checkpoint.origin, checkpoint.size, _kept(note, trusted, line))
    except Conflict as conflict:
        return web.Response(status=409, body=b"%d\n" % conflict.last_size, content_type=_SIZE)
    except Refused as refused:
        return _say(422, refused.detail)
    except UnavailableError as exc:
        return _say(503, exc.sentence)
    return web.Response(body=line.encode(), content_type="text/plain", charset="utf-8")


def _kept(note: Note, trusted: Sequence[VerifierKey], line: str) -> bytes:
    """Returns the note with the log's signatures and ours, and no other signatures."""
    known = {(key.name, key.key_id) for key in trusted}
    lines = [
        f"— {each.name} {base64.b64encode(each.key_id + each.signature).decode()}\n"
        for each in note.signatures
        if (each.name, each.key_id) in known
    ]
    return "".join([note.text, "\n", *lines, line]).encode()


def _say(status: int, why: str) -> web.Response:
    return web.Response(status=status, text=f"{why}\n")


# --- the client ---------------------------------------------------------------------------------------------------


class Witness:
    """The client of one witness. It remembers the witness's last size, so that an answer usually costs one request."""

    def __init__(self, key: VerifierKey, url: str, client: Client) -> None:
        self.key = key
        self._base = url.rstrip("/")
        self._client = client
        self._last = self._cosigned = 0

    def remember(self, size: int) -> None:
        """Records that the witness cosigned a tree of this size before this process began: a smaller size in an answer
        means that it lost its memory."""
        self._last = self._cosigned = max(self._cosigned, size)

    async def cosign(self, checkpoint: Checkpoint, note: bytes, prove: Prove) -> str:
        """Returns the witness's verified signature line under `note`, which carries the log's signature over
        `checkpoint`.

        Raises `UnavailableError` when the witness gives no signature; `ForkedError` when it saw a history that ours
        does not continue; another `VerificationError` when its answer is no signature of its own, or it has forgotten
        what it cosigned.
        """
        name = self.key.name
        answer = await self._ask(checkpoint, note, prove)
        if answer.status == 409:
            self._last = _size(name, answer.body)
            if self._last < self._cosigned:
                raise VerificationError(
                    f"witness {name} has forgotten: it cosigned {self._cosigned} leaves, and knows {self._last}"
                )
            answer = await self._ask(checkpoint, note, prove)
        if answer.status == 422:
            raise await self._forked(checkpoint, note, f"witness {name} has seen another history of this log", None)
        if answer.status != 200:
            raise UnavailableError(f"witness {name} answered {answer.status}")
        line = self._own_line(note, answer.body)
        self._last = self._cosigned = checkpoint.size
        return line

    async def _forked(self, checkpoint: Checkpoint, note: bytes, detail: str, size: int | None) -> ForkedError:
        """Returns the error with both heads: the one that we signed, and the one that the witness saw last, if the
        witness shows it."""
        name, theirs = self.key.name, "it does not show what it saw"
        path = hashlib.sha256(checkpoint.origin.encode()).hexdigest()
        with contextlib.suppress(UnavailableError):
            answer = await self._client.get(f"witness {name}", f"{self._base}/{path}/checkpoint")
            if answer.status == 200:
                theirs = answer.body.decode("utf-8", "replace")
        if size is not None:
            theirs = f"size {size}\n{theirs}"
        return ForkedError(detail, where=f"witness {name}", ours=note.decode(), theirs=theirs, size=size)

    async def _ask(self, checkpoint: Checkpoint, note: bytes, prove: Prove) -> Answer:
        name = self.key.name
        if self._last > checkpoint.size:
            seen, self._last = self._last, self._cosigned
            raise await self._forked(
                checkpoint, note, f"witness {name} has seen {seen} leaves, and here are {checkpoint.size}", seen
            )
        proof = await prove(self._last) if self._last else ()
        request = Request(self._last, tuple(proof), note)
        return await self._client.post(f"witness {name}", f"{self._base}/add-checkpoint", request.body, "text/plain")

    def _own_line(self, note: bytes, body: bytes) -> str:
        """Returns the witness's own signature line; lines by unknown keys are passed over, as the protocol says."""
        try:
            lines = body.decode().split("\n")
        except ValueError:
            lines = []
        for line in lines:
            try:
                open_note(note + f"{line}\n".encode(), [self.key])
            except VerificationError:
                continue
            return f"{line}\n"
        raise VerificationError(f"witness {self.key.name} gave no signature of its own")


def _size(name: str, body: bytes) -> int:
    try:
        text = body.decode("ascii")
    except ValueError as exc:
        raise VerificationError(f"witness {name} names no size") from exc
    if not text.endswith("\n"):
        raise VerificationError(f"witness {name} names no size")
    return from_decimal(text[:-1])
