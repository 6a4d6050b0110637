"""Every method of every port raises whatever there is, beside good parties: the process lives, the good ones are served, the bad
ones are told by name in status, register and alerts.

The methods are found in the Protocols. The adapters are small ones in memory; everything above them is the product's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import archiver.assembly.alerts as alerts_assembly
import archiver.assembly.log as log_assembly
import archiver.assembly.providers as providers_assembly
import archiver.assembly.stores as stores_assembly
from archiver import errors
from archiver.alerts.channel.port import Channel
from archiver.alerts.message import Message
from archiver.alerts.post import Post
from archiver.assembly.process import Assembly, assemble
from archiver.cli import invoke as shipped
from archiver.clock import SystemChance, SystemClock
from archiver.completeness import parties, register
from archiver.config.load import load
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.daemon.supervise import Daemon
from archiver.demo.simulators.answer import Answer, Route
from archiver.demo.simulators.faults import Effect
from archiver.ingest import journal, listing_pages, outcomes, poll
from archiver.ingest.tables import copy, recording
from archiver.providers.port import Facts, Media, Provider
from archiver.recording import Audio, Link, Listing, Page, RecordingRef, Secret, Window
from archiver.signals import End
from archiver.store.port import ObjectStore, Shelf
from archiver.translog.anchor import Authority
from archiver.translog.http import Client
from archiver.translog.note import Signer
from archiver.translog.witness import Witness
from tests.faults.rig import rig
from tests.http_servers import says, serve
from tests.odd_parties import EXCEPTIONS, PRIVATE, Odd, methods
from tests.seal_keys import generate_local_key
from tests.timestamps import certify

SOUND = (Path(__file__).parents[1] / "data" / "audio" / "g711-mulaw-mono-8000.wav").read_bytes()

CONFIG = """
version: 1
instance: test
database: file:db
state_dir: state
providers:
  - {id: good, kind: plivo, auth_id: MA1, auth_token: file:secret}
  - {id: odd, kind: plivo, auth_id: MA2, auth_token: file:secret}
  - {id: mute, kind: plivo, auth_id: MA3, auth_token: file:secret}
storage:
  - {id: primary, kind: directory, path: copies}
  - {id: second, kind: directory, path: more, required: false}
  - {id: third, kind: directory, path: most, required: false}
encryption:
  recipients: [{id: local, kind: aes-kw-256, key: file:seal.key}]
  identities: [{id: local, key: file:seal.key}]
custody:
  signing_key: file:custody.pem
  witnesses: [{url: "http://127.0.0.1:1/", key: WITNESS}]
  timestamp: {url: "http://127.0.0.1:1/", ca: tsa.pem}
retention: {default: 2d}
alerting:
  channels:
    - {id: ops, kind: webhook, url: file:hook}
    - {id: pager, kind: webhook, url: file:hook}
  heartbeat: {url: file:hook}
"""

PARTIES: dict[type, str] = {
    Provider: "odd",
    Media: "mute",
    ObjectStore: "second",
    Shelf: "third",
    Channel: "pager",
    Post: "heartbeat",
    Witness: "witness.example.org",
    Authority: "tsa",
}
"""Who is bad, by the port that raises."""

UNUSED = {
    (Provider, "scopes"): "asks nobody: it is the configuration's",
    (ObjectStore, "shelf"): "asks nobody",
    (Witness, "remember"): "asks nobody",
    (Provider, "delete"): "nothing is deleted at providers by this version",
    (ObjectStore, "extend"): "by hand only",
    (ObjectStore, "hold"): "by hand only",
    (ObjectStore, "inspect"): "each day a part of the copies is asked for; `verify` asks for all",
    (ObjectStore, "resume"): "asks nobody: it goes the ways of an earlier proof",
    (ObjectStore, "read"): "for verification and second copies",
    (Shelf, "lock"): "for verification",
    (Shelf, "versions"): "for verification",
    (Post, "send"): "no ping is sent while anything is wrong",
}
"""Methods that no sweep uses, and why; `aclose` of all is used when everything is over."""

_USED = {port: [each for each in methods(port) if (port, each) not in UNUSED] for port in PARTIES}
ROUNDS = [
    {port: names[number % len(names)] for port, names in _USED.items() if names}
    for number in range(max(map(len, _USED.values())))
]
"""In each round every party has one bad method, until each method had its turn."""


@dataclass
class Opened:
    """A download from memory."""

    content: bytes = SOUND
    status: int = 200
    content_type: str | None = "audio/wav"
    content_encoding: str | None = None
    length: int | None = len(SOUND)
    etag: str | None = None
    framed: bool = True
    offset: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.content


class Calls:
    """An account with two recordings. Their links come by `refresh` only, so that it is used."""

    def __init__(self, name: str, media: Callable[[], Any] = Opened) -> None:
        self.id, self._media = name, media
        self._since = SystemClock().now() - timedelta(days=1)
        self.facts = Facts(timedelta(days=31), self._since, stable_paging=True)

    def scopes(self) -> Sequence[str]:
        return ["account"]

    async def list(self, scope: str, window: Window) -> AsyncIterator[Page]:
        rows = tuple(self._listing(str(each), with_link=False) for each in range(2))
        yield Page(rows, hashlib.sha256(scope.encode()).hexdigest())

    async def refresh(self, ref: RecordingRef) -> Listing:
        return self._listing(ref.recording_id, with_link=True)

    @asynccontextmanager
    async def open(self, ref: RecordingRef, link: Link | None, **_: Any) -> AsyncIterator[Any]:
        yield self._media()

    async def delete(self, ref: RecordingRef) -> None: ...

    async def aclose(self) -> None: ...

    def _listing(self, name: str, *, with_link: bool) -> Listing:
        digest = hashlib.sha256(f"{self.id}{name}".encode()).hexdigest()
        began = self._since + timedelta(hours=1 + int(name))
        link = Link(Secret("https://media.example/x"), SystemClock().now()) if with_link else None
        return Listing(
            RecordingRef(self.id, name), digest, Audio.PRESENT, began, began + timedelta(seconds=1), None, b"{}", digest,
            link=link,
        )  # fmt: skip


class Phone:
    """An alert channel that remembers what it was told."""

    def __init__(self, name: str, told: list[Message]) -> None:
        self.id, self._told = name, told

    async def send(self, message: Message) -> str:
        self._told.append(message)
        return ""

    async def aclose(self) -> None: ...


@dataclass
class Scene:
    """One archive with bad parties. `bad`: which method of which port raises from the next assembly on. `odd`: their ports."""

    path: Path
    bad: dict[type, str]
    odd: dict[type, list[Odd]]
    told: list[Message]

    async def assembled(self) -> Assembly:
        return await assemble(load(self.path, resolve_secrets=True))

    def raised(self, port: type) -> int:
        return sum(each.raised for each in self.odd.get(port, ()))


Make = Callable[..., Scene]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_url: str) -> Make:
    """Makes an archive in which these methods of the bad parties raise: each call the next of all exceptions."""
    monkeypatch.setattr("archiver.daemon.times.PATIENCE", timedelta(0))
    monkeypatch.setattr(poll, "_TRIES", 1)

    def make(bad: Mapping[type, str], raised: Iterable[Callable[[], BaseException]] = EXCEPTIONS.values()) -> Scene:
        it = Scene(tmp_path / "archiver.yaml", dict(bad), {port: [] for port in PARTIES}, [])
        turns = itertools.cycle(raised)
        for _ in bad:  # each begins with another one
            next(turns)

        def odd(port: type, good: Any) -> Any:
            if port not in it.bad:
                return good
            it.odd[port].append(Odd(good, port, it.bad[port], turns))
            return it.odd[port][-1]

        def provider(settings: Any, *_: Any) -> Any:
            if settings.id == "odd":
                return odd(Provider, Calls("odd"))
            return Calls(settings.id, (lambda: odd(Media, Opened())) if settings.id == "mute" else Opened)

        build = stores_assembly._adapter

        def store(settings: Any, *rest: Any) -> Any:
            made: Any = build(settings, *rest)
            if settings.id == "third":
                shelf = odd(Shelf, made.shelf())
                made.shelf = lambda **_: shelf
            return odd(ObjectStore, made) if settings.id == "second" else made

        def channel(settings: Any, _clock: Any) -> Any:
            phone = Phone(settings.id, it.told)
            return odd(Channel, phone) if settings.id == "pager" else phone

        monkeypatch.setattr(providers_assembly, "_adapter", provider)
        monkeypatch.setattr(stores_assembly, "_adapter", store)
        monkeypatch.setattr(alerts_assembly, "_adapter", channel)
        monkeypatch.setattr(alerts_assembly, "Post", lambda name, *_, **__: odd(Post, Phone(name, [])))
        monkeypatch.setattr(log_assembly, "Witness", lambda *given: odd(Witness, Witness(*given)))
        monkeypatch.setattr(log_assembly, "Authority", lambda *given: odd(Authority, Authority(*given)))
        chance = SystemChance()
        witness = Signer("witness.example.org", generate_signing_key(chance)).key.vkey
        secrets = {
            "custody.pem": to_pem(generate_signing_key(chance)),
            "seal.key": generate_local_key(chance),
            "db": sqlite_url.encode(),
            "secret": b"s3cret",
            "hook": b"https://hook.example/x",
            "tsa.pem": certify("tsa", authority=True).pem,
        }
        for name, secret in secrets.items():
            (tmp_path / name).write_bytes(secret)
            (tmp_path / name).chmod(0o400)
        it.path.write_text(CONFIG.replace("WITNESS", json.dumps(witness)))
        (tmp_path / "state").mkdir(mode=0o700)
        return it

    return make


async def _archived(it: Assembly) -> dict[str, int]:
    """How many recordings of each provider are archived in the good storage."""
    query = select(recording.c.provider).join(copy, copy.c.recording_id == recording.c.id)
    query = query.where(recording.c.state == "archived", copy.c.storage == "primary")
    found = await it.read(lambda conn: conn.execute(query).scalars().all())
    return {each: found.count(each) for each in found}


@pytest.mark.parametrize("bad", ROUNDS, ids=["-".join(each.values()) for each in ROUNDS])
async def test_parties_that_raise_leave_the_good_ones_served_and_are_told_by_name(
    scene: Make, bad: Mapping[type, str]
) -> None:
    it = scene(bad)
    assembly = await it.assembled()
    try:
        process = Daemon(assembly)
        await process.once()
        await process._loops.guarded("daily", assembly.rounds.daily)
        for _ in range(2):  # what is wrong with a channel is told by the others at the next look
            await assembly.rounds.parties(ending=True)
            await assembly.alarm.swept(complete=True)
        archived, report = await _archived(assembly), await assembly.report()
        gaps = await assembly.read(lambda conn: register.of_source(conn, parties.SOURCE))
    finally:
        await assembly.aclose()
    assert archived["good"] == 2
    assert {port for port in bad if not it.raised(port)} == set()
    awaited = {PARTIES[port] for port, method in bad.items() if method != "aclose"}
    assert {str(each["subject"]).partition(":")[2].rpartition("/")[0] for each in gaps} == awaited
    assert {each["code"] for each in gaps} == {"answer_not_understood"}
    assert {each.subject for each in report.judgement.concerns if each.kind.value == "answers.odd"} == awaited
    told = "".join(each.text for each in it.told)
    assert {name for name in awaited if f"{name}: answers that nothing could be made of" in told} == awaited


TYPED: list[Callable[[], BaseException]] = [
    lambda: errors.VerificationError("x"),
    lambda: errors.NotFoundError("x"),
    lambda: errors.NotLockedError("x"),
    lambda: errors.EgressRefusedError("x"),
    lambda: errors.RecordingGoneError("x"),
    lambda: errors.KeyUnavailableError("x"),
    lambda: errors.NotAllowedError("x"),
    lambda: errors.TooLargeError("x"),
]


@pytest.mark.parametrize("bad", ROUNDS, ids=["-".join(each.values()) for each in ROUNDS])
async def test_typed_error_that_no_retry_mends_ends_nothing_either(scene: Make, bad: Mapping[type, str]) -> None:
    """Of those that a port may raise for something else, or by a mistake in its adapter."""
    it = scene(bad, TYPED)
    assembly = await it.assembled()
    try:
        process = Daemon(assembly)
        await process.once()
        await process._loops.guarded("daily", assembly.rounds.daily)
        assert (await _archived(assembly))["good"] == 2
    finally:
        await assembly.aclose()


@pytest.mark.parametrize("what", ["poll", "worker", "housekeeping"])
def test_bug_of_ours_ends_a_sweep_with_one_redacted_line(
    scene: Make, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError(PRIVATE)

    it = scene({})
    target = {
        "poll": (listing_pages, "note_page"),
        "worker": (outcomes, "archived"),
        "housekeeping": (journal, "wake_due"),
    }
    monkeypatch.setattr(*target[what], broken)
    code = shipped(["-c", str(it.path), "run", "--once"])
    assert code == errors.Exit.UNEXPECTED
    said = capsys.readouterr().err
    lines = [json.loads(line) for line in said.splitlines() if '"process.bug"' in line]
    assert [each["error_type"] for each in lines] == ["KeyError"]
    assert "hunter2" not in said


@pytest.mark.parametrize("method", ["inspect", "read"])
async def test_verify_is_not_ended_by_a_storage_that_raises_and_does_not_call_it_well(
    scene: Make, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    it = scene({})
    assembly = await it.assembled()
    try:
        await Daemon(assembly).once()
    finally:
        await assembly.aclose()
    it.bad |= {ObjectStore: method, Shelf: "lock"}
    code = await asyncio.to_thread(shipped, ["-c", str(it.path), "verify", "--all"])
    said = capsys.readouterr()
    assert code not in {errors.Exit.OK, errors.Exit.UNEXPECTED}, said
    assert it.raised(ObjectStore)
    assert "storage second: nothing can be made of its answer" in said.out + said.err


async def test_daemon_lives_with_parties_that_raise_at_every_call_and_ends_in_good_order(scene: Make) -> None:
    it = scene(ROUNDS[-1] | {Provider: "list", ObjectStore: "put_once", Shelf: "put_new"})
    assembly = await it.assembled()
    process = Daemon(assembly)
    running = asyncio.create_task(process.forever())
    try:
        async with asyncio.timeout(60):
            while (await _archived(assembly)).get("good") != 2 or not all(
                map(it.raised, (Provider, ObjectStore, Shelf))
            ):
                await asyncio.wait([running], timeout=0.1)
                assert not running.done()
        process.stop()
        assert await running is End.STOP
    finally:
        running.cancel()
        await assembly.aclose()


# --- values that ended the process --------------------------------------------------------------------------------


@dataclass
class Instead(Effect):
    """The provider's own listing, one value of its envelope replaced. `at`: where, dotted. `value`: as JSON."""

    at: str
    value: bytes

    def alter(self, answer: Answer) -> Answer:
        document: dict[str, Any] = json.loads(answer.body)
        *path, last = self.at.split(".")
        inside = document
        for each in path:
            inside = inside[each]
        inside[last] = "HERE"
        return replace(answer, body=json.dumps(document).encode().replace(b'"HERE"', self.value))


@pytest.mark.parametrize(
    ("case", "at", "value", "covers"),
    [
        ("kazoo", "next_start_key", b'"\\ud800"', False),
        ("kazoo", "next_start_key", b"[" * 600 + b"]" * 600, False),
        ("kazoo", "next_start_key", b'{"a": NaN}', False),
        ("kazoo", "page_size", b"1e99", True),
        ("kazoo", "tokens", b'{"remaining": -1e99}', True),
        ("plivo", "meta.total_count", b"1e99", True),
        ("vobiz", "meta.total_count", b"1e99", True),
    ],
    ids=["surrogate", "brackets", "nan", "page size", "tokens", "plivo total", "vobiz total"],
)
async def test_one_value_of_a_listing_that_cannot_be_is_no_end_of_the_process_and_its_rows_are_fetched(
    case: str, at: str, value: bytes, covers: bool, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "_TRIES", 1)
    async with rig(case, tmp_path, sqlite_url, calls=2) as it:
        it.simulator.fail(Route.LIST, Instead(at, value), times=None)
        assert await it.poll() is covers
        await it.work()
        assert it.digests() == it.truth()
        assert (it.status().poll_error is None) is covers


async def test_a_witness_may_call_its_answer_what_it_likes() -> None:
    """`Content-Type` is the other side's, and says nothing that is needed."""
    for kind in ("", ";", 'text/plain; charset="', "\x80/\xff", "a/b/c; =;;", "multipart/" + "x" * 4000):
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n\r\nok".encode("latin-1")
        async with serve(says(head)) as server, Client() as client:
            answer = await client.post("witness w", f"{server.origin}/add-checkpoint", b"x", "text/plain")
            assert (answer.status, answer.body) == (200, b"ok")
