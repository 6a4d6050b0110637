"""Sends calls to S3 for one bucket: which client sends them or none, whether they are sent again, and why a call was
refused.

The client repeats a call that only reads once; a call with an effect is sent once, because an unseen repeat may leave a
second version behind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

from archiver import errors
from archiver.store.s3_answer import Unreadable
from archiver.store.s3_client import S3Options, connect, new_session, translated
from archiver.store.s3_refusal import Refused
from archiver.store.s3_wire import Wire

_T = TypeVar("_T")
Again = Callable[[str, errors.DestinationError, int], bool]
"""A function that decides whether to send a call again, from the operation, the failure, and the number of tries."""


@dataclass(slots=True)
class _Ways:
    """The ways to make a call: one client sends it once, the other repeats it, and `wire` makes the plain ones
    itself."""

    once: Any = None
    twice: Any = None
    wire: Wire | None = None
    signs: bool = False
    answers: int = 0  # no lock: readers only ask whether the number changes


class Calls:
    """The calls to one bucket. Blocking, safe for use by several threads. Raises `Refused` for a refusal,
    `DestinationError` for no answer."""

    def __init__(self, options: S3Options, hear: Callable[[str | None], None] | None = None) -> None:
        self._options = options
        self._hear = hear
        self._session = new_session(options)
        self._ways = _Ways()
        self._again: Again = _never
        self.sign_payloads(options.sign_payload or False)

    @property
    def name(self) -> str:
        return self._options.bucket

    @property
    def signs(self) -> bool:
        """True when bodies are signed."""
        return self._ways.signs

    @property
    def answers(self) -> int:
        """The number of answers so far, of any kind."""
        return self._ways.answers

    @property
    def _once(self) -> Any:
        return self._ways.once

    @property
    def _twice(self) -> Any:
        return self._ways.twice

    def sign_payloads(self, on: bool) -> None:
        """Build the clients, with or without a signature over each body (a third hash pass, which some servers insist
        on).

        Calls under way keep the client that they began with.
        """
        options = self._options
        self._ways.signs = on
        self._ways.once = connect(self._session, options, sign=on, attempts=1)
        self._ways.twice = connect(self._session, options, sign=on, attempts=2)
        for client in (self._ways.once, self._ways.twice):
            client.meta.events.register("before-parse.s3", self._listen)
        if self._ways.wire is not None:
            self._ways.wire.close()
        self._ways.wire = Wire(self._session, self._ways.once, options, signs=on, hear=self._hear)

    def trust(self, *, proved: bool) -> None:
        """Make the plain calls without the SDK from now on, in a bucket that is `proved`; or leave all to the SDK."""
        if self._ways.wire is not None:
            self._ways.wire.trusted = proved

    def _listen(self, response_dict: Any, **_: Any) -> None:
        """Pass on the date of each answer, of a refusal too: a storage refuses a signature by a wrong clock, and tells
        nothing else."""
        if self._hear is not None:
            self._hear(response_dict["headers"].get("date"))

    def patient(self, again: Again) -> Self:
        """Return the same bucket for a caller that may repeat every effect: a failed call is sent again while `again`
        says so.

        `again` itself waits between the tries.
        """
        other = copy.copy(self)
        other._again = again  # noqa: SLF001 - the copy is of this class too
        return other

    def close(self) -> None:
        self._once.close()
        self._twice.close()
        if self._ways.wire is not None:
            self._ways.wire.close()

    def _call(self, operation: str, call: Callable[..., _T], **fields: Any) -> _T:
        tries = 1
        while True:
            try:
                with translated(operation):
                    answer = self._made(operation, call, {**self._owner(), **fields})
            except errors.DestinationError as failed:
                self._ways.answers += isinstance(failed, (Refused, Unreadable))
                if not self._again(operation, failed, tries):
                    raise
                tries += 1
            else:
                self._ways.answers += 1
                return answer

    def _made(self, operation: str, call: Callable[..., _T], fields: Mapping[str, Any]) -> _T:
        """Make a call by the shortest way that is allowed. A caller that may repeat all effects, the probe, has the SDK
        do everything: it proves what is allowed."""
        wire = self._ways.wire
        if wire is not None and self._again is _never and (answer := wire.call(operation, fields)) is not None:
            return cast(_T, answer)
        return call(Bucket=self.name, **fields)

    def _told(self, asked: str, refused: Refused, operation: str, call: Callable[..., Any], **fields: Any) -> Any:
        """Find the reason for a refused HEAD, whose answer has no body, by one GET. Raises `Refused` with the reason
        that the GET was given.

        Returns the answer to a GET that is allowed: then only the HEAD is refused.
        """
        if not (refused.nameless and refused.status in {301, 302, 307, 400, 401, 403, 405, 501}):
            raise refused
        try:
            return self._call(operation, call, **fields)
        except Refused as told:
            if told.nameless or told.unsupported:
                raise refused from told
            raise Refused(asked, told.code, told.status, cause=told.cause if told.passing else None) from told

    def _owner(self) -> dict[str, str]:
        """Return the expected owner for every call, so that a bucket of the same name in another account is neither
        written nor read."""
        owner = self._options.bucket_owner
        return {} if owner is None else {"ExpectedBucketOwner": owner}


def _never(_operation: str, _failed: errors.DestinationError, _tries: int) -> bool:
    return False
