"""PUT, HEAD and GET without the SDK: what happens when an answer is lost, odd, late or a lie, beside the SDK."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode, Stored
from archiver.store import s3_connection, s3_wire
from archiver.store.s3 import S3Options, S3Store
from tests import lying_s3 as lies
from tests.http_servers import authority
from tests.lying_s3 import Answer, Call, Fault, Onward
from tests.memory_s3 import MemoryS3, changing, memory_s3, options_for, refused, saying
from tests.raw_s3 import RawS3, once
from tests.sealed_files import SealedFile, listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
LOCK = Lock(LockMode.COMPLIANCE, datetime(2093, 6, 10, tzinfo=UTC))
SIZE = 40_000


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with memory_s3() as made:
        yield made


@pytest.fixture
def gate(server: MemoryS3) -> Iterator[RawS3]:
    with RawS3(server) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> SealedFile:
    return sealed_file(tmp_path, pattern(SIZE))


@asynccontextmanager
async def proved(
    gate: RawS3, server: MemoryS3, heard: list[str | None] | None = None, **more: Any
) -> AsyncIterator[S3Store]:
    """A store whose probe is over, and forgotten by gate and server."""
    options = replace(options_for(server), endpoint=gate.endpoint, **more)
    made = S3Store(options, SystemClock(), SystemChance(), None if heard is None else heard.append)
    try:
        assert (await made.probe()).trusted
        assert not any(gate.by_wire("PUT") + gate.by_wire("HEAD") + gate.by_wire("GET")), "the probe is the SDK's"
        gate.heads.clear()
        server.calls.clear()
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def store(gate: RawS3, server: MemoryS3) -> AsyncIterator[S3Store]:
    async with proved(gate, server) as made:
        yield made


async def is_there_once(store: S3Store, file: SealedFile, stored: Stored) -> None:
    assert (stored.sealed_sha256, stored.retain_until) == (file.sealed_sha256, LOCK.retain_until)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]
    assert await read_all(store, stored) == file.path.read_bytes()


# --- the plain case ---------------------------------------------------------------------------------------------


async def test_recording_of_a_proved_bucket_is_put_shown_and_read_over_one_connection(
    store: S3Store, gate: RawS3, file: SealedFile
) -> None:
    before = gate.connections
    stored = await file.put(store, KEY, LOCK)
    assert await read_all(store, stored) == file.path.read_bytes()
    assert await store.inspect(stored.key, stored.version_id) == stored
    assert [gate.by_wire(method) for method in ("PUT", "HEAD", "GET")] == [[True], [True, True], [True]]
    assert gate.connections == before + 1
    assert stored.checked_by == "head-checksum"


async def test_log_is_put_and_read_the_same_way_and_its_pointer_by_the_sdk(store: S3Store, gate: RawS3) -> None:
    shelf = store.shelf()
    await shelf.put_new("checkpoints/1", b"one", LOCK.retain_until)
    assert gate.by_wire("PUT") == [True]
    assert await shelf.read("checkpoints/1") == b"one"
    await shelf.put_current("checkpoint", b"two")
    assert await shelf.read_current("checkpoint") == b"two"
    assert gate.by_wire("PUT") == [True, False]


UNPROVED: dict[str, tuple[list[Fault], bool]] = {
    "a second version is not refused": ([lies.ignore_conditions()], True),
    "no digest is shown": ([changing("x-amz-checksum-sha256", lambda _: None)], True),
    "locks do not hold": ([lies.drop_lock(), lies.ignore_retention()], False),
}


@pytest.mark.parametrize("kind", UNPROVED)
async def test_bucket_that_did_not_prove_itself_has_only_the_sdk(
    gate: RawS3, server: MemoryS3, file: SealedFile, kind: str
) -> None:
    faults, trusted = UNPROVED[kind]
    server.lie(*faults)
    made = S3Store(replace(options_for(server), endpoint=gate.endpoint), SystemClock(), SystemChance())
    assert (await made.probe()).trusted is trusted
    if trusted:
        await read_all(made, await file.put(made, KEY, LOCK))
    assert not any(gate.by_wire("PUT") + gate.by_wire("HEAD") + gate.by_wire("GET"))
    await made.aclose()


async def test_proof_that_is_taken_over_from_another_process_serves_as_well(
    gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    async with proved(gate, server) as first:
        report = await first.probe()
        second = S3Store(replace(options_for(server), endpoint=gate.endpoint), SystemClock(), SystemChance())
        gate.heads.clear()
        assert second.resume(report)
        await is_there_once(second, file, await file.put(second, KEY, LOCK))
        assert all(gate.by_wire("PUT"))
        await second.aclose()


async def test_object_that_goes_up_in_parts_is_the_sdks(store: S3Store, gate: RawS3, tmp_path: Path) -> None:
    file = sealed_file(tmp_path, pattern(120_000))
    await is_there_once(store, file, await file.put(store, KEY, LOCK))
    assert not any(gate.by_wire("PUT"))


async def test_signed_bodies_are_signed_by_the_digest_that_is_known(
    gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    async with proved(gate, server, sign_payload=True) as store:
        await is_there_once(store, file, await file.put(store, KEY, LOCK))
        assert gate.by_wire("PUT") == [True]
        assert f"x-amz-content-sha256: {file.sealed_sha256}\r\n".encode() in gate.heads[0] + b"\r\n"


async def test_many_at_once_share_a_few_connections(
    store: S3Store, gate: RawS3, server: MemoryS3, tmp_path: Path
) -> None:
    files = [sealed_file(tmp_path, pattern(900, n), f"f{n}") for n in range(64)]
    before = gate.connections
    stored = await asyncio.gather(*(each.put(store, f"{KEY}{n}", LOCK) for n, each in enumerate(files)))
    assert [each.sealed_sha256 for each in stored] == [each.sealed_sha256 for each in files]
    assert gate.by_wire("PUT").count(True) >= 40, "while the first thread asks the SDK, others have it do their calls"
    assert gate.connections - before <= 3 * 8, "eight threads, and each client of the SDK has connections of its own"


async def test_time_of_each_plain_answer_is_heard(gate: RawS3, server: MemoryS3, file: SealedFile) -> None:
    heard: list[str | None] = []
    async with proved(gate, server, heard) as store:
        heard.clear()
        await read_all(store, await file.put(store, KEY, LOCK))
        assert len([each for each in heard if each]) == 3


# --- lost and broken --------------------------------------------------------------------------------------------


async def test_answer_lost_after_put_does_not_duplicate(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    server.lie(lies.lose_answer("PutObject"))
    await is_there_once(store, file, await file.put(store, KEY, LOCK))
    assert gate.by_wire("PUT") == [True, False], "the second try, refused by the condition, is the SDK's"


async def test_put_lost_on_its_way_is_sent_again_by_the_vault_alone(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    server.lie(lies.lose_request("PutObject"))
    await is_there_once(store, file, await file.put(store, KEY, LOCK))
    assert gate.by_wire("PUT") == [True, False]


async def test_put_whose_every_answer_is_lost_is_a_failure_and_found_later(
    store: S3Store, server: MemoryS3, file: SealedFile
) -> None:
    server.lie(lies.lose_answer("PutObject", times=None))
    with pytest.raises(errors.DestinationError, match=r"PutObject: the connection (was closed|ended) before"):
        await file.put(store, KEY, LOCK)
    server.faults.clear()
    await is_there_once(store, file, await file.put(store, KEY, LOCK))


async def test_connection_reset_in_the_midst_of_a_body_leaves_one_version(
    gate: RawS3, server: MemoryS3, tmp_path: Path
) -> None:
    limits = {"multipart_threshold": 9_000_000, "single_limit": 9_000_000}
    file = sealed_file(tmp_path, pattern(8_000_000))
    async with proved(gate, server, **limits) as store:
        gate.reset_within = 100_000
        await is_there_once(store, file, await file.put(store, KEY, LOCK))
        assert gate.by_wire("PUT") == [True, False]


async def test_kept_connection_that_the_server_closed_is_not_used_again(
    store: S3Store, gate: RawS3, tmp_path: Path
) -> None:
    for n in range(3):
        file = sealed_file(tmp_path, pattern(500, n))
        assert (await file.put(store, f"{KEY}{n}", LOCK)).sealed_sha256 == file.sealed_sha256
        gate.close_kept()
        closed = [each for each in store._bucket._ways.wire._bound.connections._kept if each.sound()]  # type: ignore[union-attr]
        assert not closed
    assert gate.by_wire("PUT") == gate.by_wire("HEAD") == [True] * 3


async def test_connection_that_lay_idle_for_long_is_not_used_again(
    store: S3Store, gate: RawS3, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_connection, "IDLE_SECONDS", -1.0)
    before = gate.connections
    await file.put(store, KEY, LOCK)
    assert gate.connections - before == 2
    assert gate.by_wire("PUT") == gate.by_wire("HEAD") == [True]


async def test_question_that_a_closing_connection_swallowed_is_asked_once_more_on_a_new_one(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    gate.changes.append(once("HeadObject", lambda _: None))
    await is_there_once(store, file, await file.put(store, KEY, LOCK))
    assert gate.by_wire("HEAD") == [True, True]
    gate.changes += [once("HeadObject", lambda _: None)] * 2
    assert await store.inspect(f"calls/{KEY}", None)
    assert gate.by_wire("HEAD") == [True] * 4 + [False]


async def test_file_that_became_shorter_while_it_was_sent_is_no_object(
    store: S3Store, server: MemoryS3, gate: RawS3, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_wire, "_size", lambda _: SIZE)
    file.path.write_bytes(file.path.read_bytes()[:-1])
    monkeypatch.setattr("archiver.store.s3_upload.os.fstat", lambda _: type("_", (), {"st_size": SIZE}))
    with pytest.raises(errors.ArchiverError):
        await file.put(store, KEY, LOCK)
    assert gate.by_wire("PUT")[0]
    assert await listed(store) == []


async def test_after_trouble_the_sdk_makes_such_calls_for_a_minute(
    store: S3Store, gate: RawS3, server: MemoryS3, tmp_path: Path
) -> None:
    class Clock(SystemClock):
        ahead = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.ahead

    wire = store._bucket._ways.wire
    assert wire is not None
    wire._clock = clock = Clock()
    server.lie(lies.lose_answer("PutObject"))
    for n, ahead in enumerate([0, s3_wire.REST_SECONDS / 2, s3_wire.REST_SECONDS * 2]):
        clock.ahead = float(ahead)
        await sealed_file(tmp_path, pattern(500, n)).put(store, f"{KEY}{n}", LOCK)
    assert gate.by_wire("PUT") == [True, False, False, True]
    assert all(gate.by_wire("HEAD"))


# --- odd answers ------------------------------------------------------------------------------------------------


def without(name: bytes) -> Callable[[bytes], bytes]:
    return lambda answer: b"\r\n".join(line for line in answer.split(b"\r\n") if not line.lower().startswith(name))


def with_line(line: bytes) -> Callable[[bytes], bytes]:
    return lambda answer: answer.replace(b"\r\n", b"\r\n" + line + b"\r\n", 1)


ODD: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda _: b"\x00\xffgarbage\r\n\r\n",
    "a page and no head": lambda _: b"<html>Sign in</html>\r\n\r\n",
    "a head without an end": lambda answer: answer[:-4] + b"\r\nX: " + b"x" * 200_000,
    "a thousand headers": with_line(b"\r\n".join(b"X-%d: x" % n for n in range(1000))),
    "HTTP/1.0": lambda answer: answer.replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HTTP/2": lambda answer: answer.replace(b"HTTP/1.1", b"HTTP/2.0", 1),
    "no length": without(b"content-length"),
    "two lengths": with_line(b"Content-Length: 7"),
    "no number for a length": lambda answer: without(b"content-length")(with_line(b"Content-Length: none")(answer)),
    "a folded line": with_line(b"X-A: a\r\n b"),
    "two versions": with_line(b"x-amz-version-id: v999"),
    "half a head": lambda answer: answer[: len(answer) // 2].replace(b"ontent-", b"on-"),
    "nothing": lambda _: b"HTTP/1.1 204 No Content\r\n\r\n",
    "in pieces": lambda answer: without(b"content-length")(answer)[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "continue first": lambda answer: b"HTTP/1.1 100 Continue\r\n\r\n" + answer,
    "two continues first": lambda answer: b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" * 2 + answer,
    "closed behind it": with_line(b"Connection: close"),
    "more behind it": lambda answer: answer + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-amz-version-id: v998\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("operation", ["PutObject", "HeadObject"])
@pytest.mark.parametrize("kind", ODD)
async def test_odd_answer_once_costs_no_recording_and_makes_no_second_version(
    store: S3Store, gate: RawS3, file: SealedFile, operation: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_wire, "_ODD_SECONDS", 0.2)
    gate.changes.append(once(operation, ODD[kind]))
    try:
        stored = await file.put(store, KEY, LOCK)
    except errors.DestinationError:
        stored = await file.put(store, KEY, LOCK)
    assert not gate.changes
    await is_there_once(store, file, stored)
    assert await store.inspect(stored.key, stored.version_id) == stored


@pytest.mark.parametrize("kind", ODD)
async def test_odd_answer_to_a_read_once_gives_all_bytes_or_a_failure(
    store: S3Store, gate: RawS3, file: SealedFile, kind: str
) -> None:
    stored = await file.put(store, KEY, LOCK)

    def change(answer: bytes) -> bytes:
        head, end, body = answer.partition(b"\r\n\r\n")
        changed = ODD[kind](head + end)
        return (
            changed
            if kind in {"a head without an end", "in pieces", "nothing"}
            else changed.replace(end, end + body, 1)
        )

    gate.changes.append(once("GetObject", change))
    try:
        read = await read_all(store, stored)
    except errors.DestinationError:
        read = await read_all(store, stored)
    assert read in {file.path.read_bytes(), b""} if kind in {"in pieces", "nothing"} else read == file.path.read_bytes()
    assert await read_all(store, stored) == file.path.read_bytes()


REFUSALS = [
    refused(403, "AccessDenied"),
    refused(403, "SignatureDoesNotMatch"),
    refused(400, "ExpiredToken"),
    refused(400, "BadDigest"),
    refused(403, "RequestTimeTooSkewed", RequestTime="2026-11-29T20:20:00Z", ServerTime="2026-11-29T21:20:00Z"),
    refused(404, "NoSuchBucket"),
    refused(409, "ConditionalRequestConflict"),
    refused(413, "EntityTooLarge"),
    Answer(429, {"Retry-After": "7"}, b""),
    refused(500, "InternalError"),
    refused(501, "NotImplemented"),
    Answer(502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>"),
    refused(503, "SlowDown"),
    refused(507, ""),
    Answer(403, {"Content-Type": "text/html"}, b"<html>Sign in<br></html>"),
    Answer(200, {}, b"<Error><Code>InternalError</Code></Error>"),
    Answer(301, {"x-amz-bucket-region": "<b>"}, b""),
    Answer(307, {"Location": "x"}, b""),
    Answer(304, {}, b""),
    Answer(999, {}, b"?"),
]


@pytest.mark.parametrize(
    "answer", REFUSALS, ids=lambda each: f"{each.status}-{each.body[13:40].decode().partition('<')[0]}"
)
async def test_refused_put_is_told_and_counted_as_the_sdk_does(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile, answer: Answer
) -> None:
    told: list[tuple[object, ...]] = []
    for wire in (True, False):
        store._bucket.trust(proved=wire)
        server.lie(lambda call, onward: answer if call.operation == "PutObject" else onward(call))
        gate.heads.clear()
        with pytest.raises(errors.ArchiverError) as failed:
            await file.put(store, KEY, LOCK)
        assert gate.by_wire("PUT")[0] is wire
        told.append(
            (
                type(failed.value),
                str(failed.value),
                getattr(failed.value, "retry_after", None),
                len(gate.by_wire("PUT")),
            )
        )
        server.faults.clear()
        assert await listed(store) == []
    assert told[0] == told[1]


async def test_put_that_is_refused_because_it_is_there_adopts_it(store: S3Store, gate: RawS3, file: SealedFile) -> None:
    first = await file.put(store, KEY, LOCK)
    assert await file.put(store, KEY, LOCK) == first
    assert gate.by_wire("PUT") == [True, True]
    await is_there_once(store, file, first)


async def test_bucket_that_moved_to_another_region_is_followed_by_the_sdk(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    moved = Answer(301, {"x-amz-bucket-region": "eu-west-9"}, b"<Error><Code>PermanentRedirect</Code></Error>")

    def elsewhere(call: Call, onward: Onward) -> Answer | None:
        return onward(call) if b"/eu-west-9/s3/" in gate.heads[-1] or call.operation != "PutObject" else moved

    server.lie(elsewhere)
    await is_there_once(store, file, await file.put(store, KEY, LOCK))
    assert gate.by_wire("PUT") == [True, False]


PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"


@pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
async def test_web_page_with_200_in_an_objects_place_is_no_object(
    store: S3Store, server: MemoryS3, file: SealedFile, operation: str
) -> None:
    stored = await file.put(store, KEY, LOCK)
    server.lie(saying(PAGE, Content_Type="text/html")(operation))
    with pytest.raises(errors.DestinationError, match="a web page came instead of S3's answer"):
        await (store.inspect(stored.key, stored.version_id) if operation == "HeadObject" else read_all(store, stored))


async def test_web_page_with_200_in_place_of_an_answer_to_put_is_not_believed(
    store: S3Store, server: MemoryS3, file: SealedFile
) -> None:
    server.lie(saying(PAGE, Content_Type="text/html")("PutObject"))
    with pytest.raises(errors.VerificationError, match="does not have it"):
        await file.put(store, KEY, LOCK)


LIES: dict[str, tuple[Fault, type[errors.ArchiverError]]] = {
    "another digest": (
        changing("x-amz-checksum-sha256", lambda _: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        errors.VerificationError,
    ),
    "another size": (changing("content-length", lambda _: "7", "HeadObject"), errors.VerificationError),
    "another mode": (changing("x-amz-object-lock-mode", lambda _: "GOVERNANCE"), errors.NotLockedError),
    "an earlier date": (
        changing("x-amz-object-lock-retain-until-date", lambda _: "2030-01-01T00:00:00Z"),
        errors.NotLockedError,
    ),
    "no readable date": (changing("x-amz-object-lock-retain-until-date", lambda _: "soon"), errors.DestinationError),
    "no lock": (changing("x-amz-object-lock-mode", lambda _: None), errors.NotLockedError),
}


@pytest.mark.parametrize("kind", LIES)
async def test_head_that_shows_other_than_was_asked_claims_nothing(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile, kind: str
) -> None:
    fault, kind_of_error = LIES[kind]
    server.lie(fault)
    with pytest.raises(kind_of_error):
        await file.put(store, KEY, LOCK)
    assert gate.by_wire("HEAD")[0]


async def test_head_without_a_checksum_has_the_object_read(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile
) -> None:
    server.lie(changing("x-amz-checksum-sha256", lambda _: None))
    assert (await file.put(store, KEY, LOCK)).checked_by == "full-read"
    assert gate.by_wire("GET") == [True]


async def test_head_of_what_is_not_there_is_the_sdks_to_explain(store: S3Store, gate: RawS3) -> None:
    assert await store.inspect(KEY, None) is None
    with pytest.raises(errors.NotFoundError):
        await anext(store.read(KEY, None))  # type: ignore[call-overload]
    assert gate.by_wire("HEAD") == gate.by_wire("GET") == [True, False]


async def test_slow_answer_to_a_question_is_asked_for_by_the_sdk_and_one_to_a_put_is_waited_for(
    store: S3Store, gate: RawS3, server: MemoryS3, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_wire, "_ASK_SECONDS", 0.2)
    monkeypatch.setattr(s3_wire, "READ_SECONDS", 30)
    asked_again, put_is_late = threading.Event(), threading.Event()

    def slow(call: Call, onward: Onward) -> Answer | None:
        if call.operation == "PutObject":
            put_is_late.wait(0.5)
        elif call.operation == "HeadObject":
            if "amz-sdk-invocation-id" in {name.lower() for name in call.headers}:
                asked_again.set()
            asked_again.wait(30)
        return onward(call)

    server.lie(slow)
    await is_there_once(store, file, await file.put(store, KEY, LOCK))
    assert (gate.by_wire("PUT"), gate.by_wire("HEAD")) == ([True], [True, False])


async def test_body_that_is_cut_is_a_failure_and_one_left_early_costs_its_connection(
    gate: RawS3, server: MemoryS3, tmp_path: Path
) -> None:
    limits = {"multipart_threshold": 9_000_000, "single_limit": 9_000_000}
    file = sealed_file(tmp_path, pattern(5_000_000))
    async with proved(gate, server, **limits) as store:
        stored = await file.put(store, KEY, LOCK)
        pieces = store.read(stored.key, stored.version_id)
        assert len(await anext(pieces)) == 1024 * 1024  # type: ignore[call-overload]
        await pieces.aclose()  # type: ignore[attr-defined]
        assert await read_all(store, stored) == file.path.read_bytes()
        server.lie(lies.cut_on_read(after=2_000_017))
        with pytest.raises(errors.DestinationError, match="ended"):
            await read_all(store, stored)
        server.faults.clear()
        assert await read_all(store, stored) == file.path.read_bytes()
        assert all(gate.by_wire("GET"))


# --- keys and certificates --------------------------------------------------------------------------------------


async def test_keys_of_a_role_that_change_between_two_puts_are_used_at_once(
    gate: RawS3, server: MemoryS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "keys.json"
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = {sys.executable} -c \"print(open('{given}').read())\"\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    def give(name: str) -> None:
        soon = (datetime.now(UTC) + timedelta(minutes=2)).isoformat()  # within the time in which the SDK asks anew
        given.write_text(
            json.dumps(
                {
                    "Version": 1,
                    "AccessKeyId": name,
                    "SecretAccessKey": "s",
                    "SessionToken": f"t{name}",
                    "Expiration": soon,
                }
            )
        )

    give("FIRST")
    async with proved(gate, server, access_key=None, secret_key=None) as store:
        for n, name in enumerate(("FIRST", "SECOND")):
            give(name)
            gate.heads.clear()
            file = sealed_file(tmp_path, pattern(500, n))
            assert (await file.put(store, f"{KEY}{n}", LOCK)).sealed_sha256 == file.sealed_sha256
            assert gate.by_wire("PUT") == gate.by_wire("HEAD") == [True]
            for head in gate.heads:
                assert f"Credential={name}/".encode() in head
                assert f"x-amz-security-token: t{name}\r\n".encode() in head


async def test_keys_that_cannot_be_had_are_the_storages_failure(
    gate: RawS3, server: MemoryS3, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import CredentialRetrievalError

    async with proved(gate, server) as store:

        def fails(*_: object) -> None:
            raise CredentialRetrievalError(provider="role", error_msg="secret words")

        monkeypatch.setattr("archiver.store.s3_site.Keyring.now", fails)
        with pytest.raises(errors.DestinationError, match="credentials cannot be had") as told:
            await file.put(store, KEY, LOCK)
        assert "secret words" not in str(told.value)


async def test_tls_trusts_whom_the_sdk_trusts(server: MemoryS3, tmp_path: Path, file: SealedFile) -> None:
    made = authority(tmp_path)
    with RawS3(server, made.context()) as gate:
        async with proved(gate, server, ca_bundle=made.bundle) as store:
            await is_there_once(store, file, await file.put(store, KEY, LOCK))
            assert [gate.by_wire(method) for method in ("PUT", "HEAD")] == [[True], [True]]
            gate.tls = made.context(names=("s3.example",))
            gate.close_kept()
            with pytest.raises(errors.DestinationError, match="certificate is not trusted; it is for another"):
                await store.inspect(f"calls/{KEY}", None)


async def test_certificates_of_the_environment_count_as_they_do_for_the_sdk(
    server: MemoryS3, tmp_path: Path, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = authority(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(made.bundle))
    with RawS3(server, made.context()) as gate:
        async with proved(gate, server) as store:
            await is_there_once(store, file, await file.put(store, KEY, LOCK))
            assert gate.by_wire("PUT") == [True]


def test_options_have_no_way_around_certificates() -> None:
    assert not [each for each in S3Options.__dataclass_fields__ if "verify" in each or "insecure" in each]
