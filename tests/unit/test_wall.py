"""The wall: whatever a party's port raises is that party's failure, named and without its words; what is not a party's passes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from archiver import errors, logs
from archiver.alerts.channel.port import Channel
from archiver.alerts.post import Post
from archiver.cli import invoke as shipped
from archiver.demo.simulators import MovableClock
from archiver.providers.port import Media, Provider
from archiver.seal.recipients import Identity
from archiver.store.port import ObjectStore, Shelf
from archiver.translog.anchor import Authority
from archiver.translog.witness import Witness
from archiver.wall import QUIET, Kind, Party, Walls, ours
from tests.odd_parties import EXCEPTIONS, Odd, methods, use

START = datetime(2026, 11, 30, tzinfo=UTC)
PORTS: dict[type, tuple[Kind, type[errors.ArchiverError]]] = {
    Provider: (Kind.PROVIDER, errors.GarbledAnswerError),
    Media: (Kind.PROVIDER, errors.GarbledAnswerError),
    ObjectStore: (Kind.STORAGE, errors.DestinationError),
    Shelf: (Kind.STORAGE, errors.DestinationError),
    Witness: (Kind.WITNESS, errors.OddAnswerError),
    Authority: (Kind.AUTHORITY, errors.OddAnswerError),
    Channel: (Kind.CHANNEL, errors.OddAnswerError),
    Post: (Kind.CHANNEL, errors.OddAnswerError),
    Identity: (Kind.KEYS, errors.KeyUnavailableError),
}
ALL = [(port, method) for port in PORTS for method in methods(port)]


def walls() -> tuple[Walls, MovableClock]:
    clock = MovableClock(START)
    return Walls(clock), clock


def fail(name: str) -> NoReturn:
    error = EXCEPTIONS[name]()
    raise error


class Slow:
    """A port of which each method works, and one in each shape."""

    id = "slow"

    async def answer(self, what: str = "yes") -> str:
        return what

    async def pieces(self) -> AsyncIterator[int]:
        try:
            for each in range(3):
                yield each
        finally:
            self.closed = True

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Slow]:
        try:
            yield self
        finally:
            self.left = True

    def part(self) -> Slow:
        return self


@pytest.mark.parametrize(("port", "method"), ALL, ids=[f"{port.__name__}.{method}" for port, method in ALL])
async def test_whatever_a_method_of_a_port_raises_is_its_partys_failure(port: type, method: str) -> None:
    kind, expected = PORTS[port]
    for name, made in EXCEPTIONS.items():
        known, _ = walls()
        walled: Any = known.around(kind, "acme", Odd(None, port, method, [made]))
        if method == "aclose":  # nothing depends on it, and the others want to be let go, too
            await walled.aclose()
            assert len(known.troubles(ending=True)) == 1
            continue
        with pytest.raises(errors.ArchiverError) as caught:
            await use(getattr(walled, method)())
        assert type(caught.value) is expected, name
        said = str(caught.value)
        assert f"{kind} acme" in said
        assert f"`{method}`" in said
        assert "odd_parties.py:" in said
        assert not any(secret in said for secret in ("hunter2", "AKID", "9876543")), name


@pytest.mark.parametrize("passes", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_is_no_partys_passes(passes: type[BaseException]) -> None:
    known, _ = walls()
    walled: Any = known.around(Kind.STORAGE, "acme", Odd(None, ObjectStore, "probe", [passes]))
    with pytest.raises(passes):
        await walled.probe()
    assert known.troubles(ending=True) == []


@pytest.mark.parametrize(
    ("kind", "typed", "passes"),
    [
        (Kind.PROVIDER, errors.RecordingGoneError, True),
        (Kind.PROVIDER, errors.ThrottledError, True),
        (Kind.PROVIDER, errors.VerificationError, False),
        (Kind.STORAGE, errors.NotLockedError, True),
        (Kind.STORAGE, errors.NotFoundError, False),  # of `read` only
        (Kind.STORAGE, errors.RecordingGoneError, False),  # would be taken for the provider's word
        (Kind.STORAGE, errors.RolledBackError, False),  # would end the process
        (Kind.WITNESS, errors.VerificationError, True),
        (Kind.WITNESS, errors.LeaseLostError, False),
        (Kind.CHANNEL, errors.ThrottledError, True),
        (Kind.CHANNEL, errors.ConfigurationError, False),
        (Kind.KEYS, errors.KeyUnavailableError, True),
        (Kind.KEYS, errors.UnavailableError, False),
    ],
)
async def test_what_a_port_is_documented_to_raise_passes_as_it_is_and_nothing_else(
    kind: Kind, typed: type[errors.ArchiverError], passes: bool
) -> None:
    known, _ = walls()
    walled: Any = known.around(kind, "acme", Odd(None, Provider, "refresh", [lambda: typed("because")]))
    with pytest.raises(errors.ArchiverError) as caught:
        await walled.refresh()
    assert (type(caught.value) is typed) is passes
    assert "because" in str(caught.value)
    assert (known.troubles(ending=True) == []) is passes


async def test_what_only_one_call_raises_passes_there() -> None:
    for port, method, typed in (
        (ObjectStore, "read", errors.NotFoundError),
        (Provider, "delete", errors.NotAllowedError),
    ):
        kind = PORTS[port][0]
        walled: Any = walls()[0].around(kind, "acme", Odd(None, port, method, [typed]))
        with pytest.raises(typed):
            await use(getattr(walled, method)())


async def test_what_our_own_part_raised_that_a_port_was_given_to_call_is_no_fault_of_the_party() -> None:
    class Asking:
        async def cosign(self, prove: Any) -> Any:
            return await prove(3)

    async def prove(_: int) -> None:
        raise KeyError("a bug of ours")

    walled = walls()[0].around(Kind.WITNESS, "w", Asking())
    with pytest.raises(KeyError):
        await walled.cosign(ours(prove))
    with pytest.raises(errors.OddAnswerError):
        await walled.cosign(prove)


async def test_what_the_user_of_a_port_raises_is_the_users() -> None:
    port = Slow()
    walled = walls()[0].around(Kind.PROVIDER, "slow", port)
    with pytest.raises(KeyError):
        async with walled.opened():
            raise KeyError("ours")
    assert port.left
    pieces = walled.pieces()
    assert await anext(pieces) == 0
    with pytest.raises(KeyError):
        await pieces.athrow(KeyError("ours"))
    assert port.closed


async def test_a_walled_port_works_as_it_does_without_and_what_it_hands_out_is_walled() -> None:
    known, _ = walls()
    walled = known.around(Kind.STORAGE, "slow", Slow(), hands_out=["part"])
    assert (await walled.answer("no"), [each async for each in walled.pieces()], walled.id) == ("no", [0, 1, 2], "slow")
    for inside in (walled.part(), await use(walled.opened())):
        assert type(inside) is type(walled)
        assert await inside.answer() == "yes"
    assert known.worked(Party(Kind.STORAGE, "slow"), "part.answer")
    with pytest.raises(AttributeError):
        _ = walled.nothing_of_the_kind  # type: ignore[attr-defined]


async def test_trouble_that_comes_and_goes_is_one_trouble_until_it_has_been_quiet_for_a_while() -> None:
    known, clock = walls()
    party = Party(Kind.STORAGE, "acme")
    good = Slow()
    walled: Any = known.around(Kind.STORAGE, "acme", Odd(good, Slow, "answer", [KeyError]))
    with pytest.raises(errors.DestinationError):
        await walled.answer()
    assert known.troubles() == []  # once is nothing yet
    assert len(known.troubles(ending=True)) == 1
    clock.move(timedelta(seconds=20))
    (trouble,) = known.troubles()
    assert (trouble.party, trouble.call, trouble.times) == (party, "answer", 1)
    assert not known.worked(party, "answer")
    await walled.answer()
    assert known.troubles() == []
    for _ in range(3):
        known.note(party, "answer", "again")
        known.went_well(party, "answer")
    assert [each.times for each in known.troubles()] == [4]
    clock.move(QUIET)
    assert known.troubles() == []
    assert known.worked(party, "answer")


def test_the_words_of_the_original_stand_in_the_log_at_debug_only_and_redacted(
    log_to: Any,
) -> None:
    for level, told in (("info", False), ("debug", True)):
        stream = log_to(level)
        with pytest.raises(errors.OddAnswerError), walls()[0].held(Kind.CHANNEL, "hook", "send"):
            fail("value")
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert lines[0]["event"] == "party.not_understood"
        assert lines[0]["party"] == "alert channel hook"
        assert ("party.traceback" in {each["event"] for each in lines}) is told
        assert not any(secret in stream.getvalue() for secret in ("hunter2", "AKID", "9876543"))


@pytest.fixture
def log_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    import logging

    import structlog

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(at: str) -> io.StringIO:
        stream = io.StringIO()
        logs.configure("json", at, stream)
        return stream

    yield configure
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_bug_of_ours_ends_the_process_with_one_redacted_line_of_json(
    log_to: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import archiver.cli.version as command

    def broken() -> NoReturn:
        fail("key")

    stream = log_to("info")
    monkeypatch.setattr(command.version, "callback", broken)
    assert shipped(["version"]) == errors.Exit.UNEXPECTED
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["error_type"]) == ("process.bug", "critical", "KeyError")
    assert "Traceback" in told["traceback"]
    said = capsys.readouterr().err
    assert "this is a bug" in said
    assert not any(secret in line + said for secret in ("hunter2", "AKID", "9876543"))
