"""The wall around each party: any unexpected error of a call to a provider, a storage or another party counts as its
failure.

A port that is handed to the rest of the program is a walled one (`archiver.assembly`). Behind the wall only the errors
that the port documents come out: an error that an adapter or a library raised over an unforeseen answer is that
party's, by name, and its text stays inside, since it may quote anything. Errors that are no party's pass: a cancelled
task, an interrupt, an exit, and errors of our own parts that a port was given to call (`ours`). A bug elsewhere still
ends the process (`logs.last_words`). docs/adr/0011-a-wall-around-each-party.md gives the reasons.
"""

from __future__ import annotations

import enum
import functools
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar, cast

import structlog

from archiver import errors
from archiver.clock import Clock
from archiver.redaction import place_of, redact, traceback_of

P = TypeVar("P")
T = TypeVar("T")

log = structlog.get_logger("archiver.wall")

QUIET = timedelta(minutes=10)
"""The time for which a call has to go well before its trouble is over: one that comes and goes is one trouble, not a
hundred."""
_STANDS = timedelta(seconds=20)
_TIMES = 3
_IS_OURS = "raised_by_what_the_port_was_given"


class Kind(enum.StrEnum):
    """The parties that the archiver talks to."""

    PROVIDER = "provider"
    STORAGE = "storage"
    WITNESS = "witness"
    AUTHORITY = "time stamping authority"
    CHANNEL = "alert channel"
    KEYS = "key service"
    TASK = "task"  # no party: a task of ours with a failure that no retry mends


_FAILS_WITH: dict[Kind, type[errors.ArchiverError]] = {
    Kind.PROVIDER: errors.GarbledAnswerError,
    Kind.STORAGE: errors.DestinationError,
    Kind.KEYS: errors.KeyUnavailableError,
}
"""The error by which the callers of such a port know a passing failure; `OddAnswerError` for the others."""

_VOUCHER = (errors.UnavailableError, errors.VerificationError)
_MAY_RAISE: dict[Kind, tuple[type[errors.ArchiverError], ...]] = {
    Kind.PROVIDER: (
        errors.TransientError, errors.CredentialsRefusedError, errors.EgressRefusedError, errors.TooLargeError,
        errors.RecordingGoneError, errors.NoRecordingError, errors.NotAllowedError, errors.ConfigurationError,
    ),
    Kind.STORAGE: (
        errors.DestinationError, errors.VerificationError, errors.NotFoundError, errors.NotAllowedError,
        errors.ConfigurationError,
    ),
    Kind.WITNESS: _VOUCHER,
    Kind.AUTHORITY: _VOUCHER,
    Kind.CHANNEL: (errors.TransientError,),
    Kind.KEYS: (errors.KeyUnavailableError, errors.VerificationError, errors.ConfigurationError),
}  # fmt: skip
"""The errors that such a port documents. Any other would be taken for another party's statement: a storage's "gone" for
the provider's."""

_ONLY = {
    errors.RolledBackError: re.compile(r"(?!)"),  # raised by the database, by no party
    errors.NotFoundError: re.compile(r"read|extend|hold|.*\.read"),
    errors.NotAllowedError: re.compile(r"(?!probe|put_once).*"),
}
"""Errors that only these calls may raise."""


@dataclass(frozen=True, slots=True)
class Party:
    """One party, by the name that the configuration gives it."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """The trouble of one call to one party whose answers could not be used: since when, when last, how often."""

    party: Party
    call: str
    since: datetime
    at: datetime
    times: int
    problem: str
    over: bool = False

    def stands(self, now: datetime) -> bool:
        """Tell whether this is more than a passing fault: it came again and again, or the call has not gone well
        since."""
        return self.times >= _TIMES or (not self.over and now - self.since >= _STANDS)


class Walls:
    """The walls of one process, and the troubles that they recorded. Safe for use by several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[tuple[Party, str], Trouble] = {}
        self._worked: set[tuple[Party, str]] = set()

    def around(self, kind: Kind, name: str, port: P, *, hands_out: Sequence[str] = ()) -> P:
        """Put a wall around `port`. `hands_out` names the methods whose results are ports of the same party."""
        return cast("P", _Walled(Wall(self, Party(kind, name)), port, frozenset(hands_out)))

    @contextmanager
    def held(self, kind: Kind, name: str, call: str) -> Iterator[None]:
        """Put a wall around a few lines, for a party that is asked without a port."""
        with Wall(self, Party(kind, name)).held(call):
            yield

    def troubles(self, *, ending: bool = False) -> list[Trouble]:
        """Return the present troubles; one that has been quiet for long enough is forgotten. `ending`: this process
        tries no call again."""
        now = self._clock.now()
        for key, each in list(self._troubles.items()):
            if each.over and now - each.at >= QUIET:
                del self._troubles[key]
        known = self._troubles.values()
        standing = [each for each in known if each.stands(now) or (ending and not each.over)]
        return sorted(standing, key=lambda each: (str(each.party), each.call))

    def worked(self, party: Party, call: str) -> bool:
        """Tell whether this call has gone well in this process, and nothing is wrong with it now."""
        return (party, call) in self._worked and (party, call) not in self._troubles

    def went_well(self, party: Party, call: str) -> None:
        """Note that a call to a party brought a usable answer."""
        self._worked.add((party, call))
        if (known := self._troubles.get((party, call))) is not None and not known.over:
            self._troubles[party, call] = replace(known, over=True)

    def note(self, party: Party, call: str, problem: str) -> None:
        """Note that a call to a party brought no usable answer."""
        now = self._clock.now()
        known = self._troubles.get((party, call)) or Trouble(party, call, now, now, 0, problem)
        self._troubles[party, call] = replace(known, at=now, times=known.times + 1, problem=problem, over=False)


@dataclass(frozen=True, slots=True)
class Wall:
    """The wall around one party."""

    walls: Walls
    party: Party

    @contextmanager
    def held(self, call: str) -> Iterator[None]:
        """Turn every error in the block that the port does not document into the party's failure."""
        try:
            yield
        except BaseException as error:
            if not self._is_its(call, error):
                raise
            raise self._failure(call, error) from None

    def went_well(self, call: str) -> None:
        self.walls.went_well(self.party, call)

    def _is_its(self, call: str, error: BaseException) -> bool:
        """Tell whether an error is the party's. A panic in a library made with PyO3 is no `Exception`, and a party's
        answer caused it."""
        if getattr(error, _IS_OURS, False):
            return False
        if isinstance(error, errors.ArchiverError):
            odd_here = isinstance(error, tuple(kind for kind, calls in _ONLY.items() if not calls.fullmatch(call)))
            return not isinstance(error, _MAY_RAISE[self.party.kind]) or odd_here
        return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"

    def _failure(self, call: str, error: BaseException) -> errors.ArchiverError:
        """Return the party's error; the original text stands only in the log, at debug, redacted, unless it is our
        own."""
        name, where = redact(type(error).__name__)[:80], place_of(error)
        own = f", {redact(str(error))}" if isinstance(error, errors.ArchiverError) else ""
        problem = f"{self.party}: nothing can be made of its answer to `{call}` ({name} at {where}{own})"
        log.warning("party.not_understood", party=str(self.party), call=call, error_type=name, error_at=where)
        if logging.getLogger("archiver.wall").isEnabledFor(logging.DEBUG):
            log.debug("party.traceback", party=str(self.party), call=call, traceback=traceback_of(error))
        self.walls.note(self.party, call, problem)
        return _FAILS_WITH.get(self.party.kind, errors.OddAnswerError)(problem)


def ours(act: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Wrap `act`, for a port to call: its errors are no fault of the party that the port speaks to, and pass the
    wall."""

    @functools.wraps(act)
    async def call(*args: Any, **kwargs: Any) -> T:
        try:
            return await act(*args, **kwargs)
        except Exception as bug:
            setattr(bug, _IS_OURS, True)
            raise

    return call


class Ours:
    """A part of ours with asynchronous methods, for a port to call; see `ours`."""

    def __init__(self, part: object) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return ours(getattr(self._part, name))


class _Walled:
    """A port behind a wall: each method is wrapped by the type of its result, so that a new method cannot be
    forgotten."""

    def __init__(self, wall: Wall, port: Any, hands_out: frozenset[str], above: str = "") -> None:
        self._wall, self._port, self._hands_out, self._above = wall, port, hands_out, above

    def __repr__(self) -> str:
        return f"<{self._wall.party}, walled>"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._method(name, found) if callable(found) else found

    def _method(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        wall, called = self._wall, f"{self._above}{name}"

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with wall.held(called):
                result = method(*args, **kwargs)
            if isinstance(result, Awaitable):
                return _closed(wall, called, result) if name == "aclose" else _awaited(wall, called, result)
            if isinstance(result, AsyncIterator):
                return _iterated(wall, called, result)
            if isinstance(result, AbstractAsyncContextManager):
                return _Entered(wall, called, result)
            wall.went_well(called)
            return _Walled(wall, result, frozenset(), f"{called}.") if name in self._hands_out else result

        return call


async def _awaited(wall: Wall, call: str, result: Awaitable[T]) -> T:
    with wall.held(call):
        value = await result
    wall.went_well(call)
    return value


async def _closed(wall: Wall, call: str, result: Awaitable[object]) -> None:
    """Close, and log a failure without raising it: nothing depends on it, and all other parties are closed as well."""
    with suppress(errors.ArchiverError):
        await _awaited(wall, call, result)


async def _iterated(wall: Wall, call: str, source: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    try:
        while True:
            with wall.held(call):
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    break
            yield item  # outside the wall: the caller's own errors are the caller's
        wall.went_well(call)
    finally:
        if isinstance(source, AsyncGenerator):
            with wall.held(call):
                await source.aclose()


class _Entered:
    """A context of a party's, such as an open download; its result is walled too. Errors of the block stay the
    block's."""

    def __init__(self, wall: Wall, call: str, context: AbstractAsyncContextManager[Any]) -> None:
        self._wall, self._call, self._context = wall, call, context

    async def __aenter__(self) -> Any:
        with self._wall.held(self._call):
            inside = await self._context.__aenter__()
        self._wall.went_well(self._call)
        return _Walled(self._wall, inside, frozenset(), f"{self._call}.")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        try:
            return await self._context.__aexit__(kind, error, at)
        except BaseException as raised:
            if raised is error:
                raise
            with self._wall.held(self._call):
                raise
