"""Witnesses: the protocol as c2sp.org/tlog-witness has it, and the publisher that asks them."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from archiver import errors
from archiver.clock import SystemClock
from archiver.errors import VerificationError
from archiver.store.port import Shelf
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.http import Client
from archiver.translog.merkle import verify_consistency
from archiver.translog.notary import Notary
from archiver.translog.note import Cosigner, open_note, parse_note
from archiver.translog.witness import Request, Witness, parse_request, witness_app
from tests.custody_log import custody_log, folder_shelf
from tests.log_trees import LOG, ORIGIN, WITNESS, Tree, forked, honest, private_key
from tests.timestamps import serving

TREE = honest(300)
BY_HASH = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    return Notary(tmp_path / "witness.db", WITNESS, SystemClock())


@pytest.fixture
async def url(notary: Notary) -> AsyncIterator[str]:
    async with serving(witness_app(notary, [LOG.key])) as base:
        yield base


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client(timeout=timedelta(seconds=5)) as client:
        yield client


async def submit(url: str, body: bytes) -> tuple[int, str, bytes]:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/add-checkpoint", data=body) as answer:
        return answer.status, answer.content_type, await answer.read()


def request(tree: Tree, old: int, new: int) -> bytes:
    return Request(old, tuple(tree.proof(old, new)), tree.note(new)).body


# --- the server, over plain HTTP ----------------------------------------------------------------------------------


async def test_checkpoint_that_continues_is_cosigned(url: str) -> None:
    for old, new in ((0, 5), (5, 5), (5, 17), (17, 300)):
        status, _, body = await submit(url, request(TREE, old, new))
        assert status == 200
        checkpoint, seen_by = open_checkpoint(TREE.note(new) + body, LOG.key, [WITNESS.key])
        assert checkpoint.size == new
        assert [key for key, _ in seen_by] == [WITNESS.key]
        assert seen_by[0][1] > 0


async def test_wrong_old_size_is_told_the_right_one(url: str) -> None:
    await submit(url, request(TREE, 0, 17))
    for old in (0, 5):
        assert await submit(url, request(TREE, old, 20)) == (409, "text/x.tlog.size", b"17\n")


async def test_tree_that_does_not_continue_is_not_cosigned(url: str, notary: Notary) -> None:
    await submit(url, request(TREE, 0, 17))
    other = forked(9, 30)
    proof = TREE.proof(17, 30)
    for body in (
        request(other, 17, 30),
        Request(17, (), forked(9, 17).note()).body,
        Request(17, tuple(proof[:-1]), TREE.note(30)).body,
        Request(17, (*proof, proof[0]), TREE.note(30)).body,
        Request(17, (), TREE.note(30)).body,
    ):
        assert (await submit(url, body))[0] == 422
    assert notary.last(ORIGIN).size == 17


async def test_first_checkpoint_takes_no_proof(url: str) -> None:
    body = Request(0, tuple(TREE.proof(5, 17)), TREE.note(17)).body
    assert (await submit(url, body))[0] == 422


async def test_unknown_log_is_not_found(url: str) -> None:
    note = TREE.note(5).replace(ORIGIN.encode(), b"elsewhere.example")
    assert (await submit(url, Request(0, (), note).body))[0] == 404


async def test_checkpoint_that_the_log_did_not_sign_is_forbidden(url: str) -> None:
    body = TREE.checkpoint(5).body
    stranger = Cosigner(ORIGIN, private_key("stranger")).sign(body, 1)
    forged = TREE.note(5).replace(b"5\n", b"6\n", 1)
    for note in (f"{body}\n{stranger}".encode(), forged):
        assert (await submit(url, Request(0, (), note).body))[0] == 403


async def test_old_size_beyond_the_checkpoint_is_a_bad_request(url: str) -> None:
    await submit(url, request(TREE, 0, 17))
    assert (await submit(url, Request(17, (), TREE.note(5)).body))[0] == 400


async def test_empty_tree_has_one_root(url: str) -> None:
    empty = honest(0)
    assert (await submit(url, Request(0, (), empty.note()).body))[0] == 200
    body = empty.checkpoint().body.replace(base64.b64encode(empty.checkpoint().root).decode(), "A" * 43 + "=")
    wrong = f"{body}\n{LOG.sign(body)}".encode()
    assert (await submit(url, Request(0, (), wrong).body))[0] == 422


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"",
        lambda body: body.replace(b"old ", b"new ", 1),
        lambda body: body.replace(b"old 0", b"old 00", 1),
        lambda body: body.replace(b"old 0", b"old +0", 1),
        lambda body: body.replace(b"old 0", b"old 99999999999999999999", 1),
        lambda body: body.replace(b"old 0\n", b"old 0\r\n", 1),
        lambda body: body.replace(b"old 0\n", b"old 0\nAAAA\n", 1),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + b"A" * 42 + b"B=\n", 1),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + (b"A" * 43 + b"=\n") * 64, 1),
        lambda body: body[:-1],
        lambda body: body.split(b"\n\n")[0] + b"\n\n",
    ],
)
async def test_anything_but_the_exact_format_is_a_bad_request(url: str, spoil: Callable[[bytes], bytes]) -> None:
    assert (await submit(url, spoil(request(TREE, 0, 5))))[0] == 400


def test_request_is_read_as_it_is_written() -> None:
    asked = Request(17, tuple(TREE.proof(17)), TREE.note())
    assert parse_request(asked.body) == asked
    with pytest.raises(VerificationError):
        parse_request(b"old 17\n" + asked.note.replace(b"\n\n", b"\n"))


async def test_request_that_is_too_long_is_not_read(url: str) -> None:
    assert (await submit(url, request(TREE, 0, 5) + b"x" * 1_000_000))[0] == 413


async def test_file_that_cannot_be_used_is_service_unavailable(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    broken = Notary(tmp_path / "folder", WITNESS, SystemClock())
    async with serving(witness_app(broken, [LOG.key])) as url:
        assert (await submit(url, request(TREE, 0, 5)))[0] == 503


async def test_monitor_reads_the_newest_checkpoint_with_both_signatures(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for address, status in ((BY_HASH, 404), ("/00ff/checkpoint", 404)):
            async with session.get(url + address) as answer:
                assert answer.status == status
        stranger = Cosigner("stranger.example", private_key("stranger")).sign(TREE.checkpoint(17).body, 1)
        await submit(url, Request(0, (), TREE.note(17) + stranger.encode()).body)
        async with session.get(url + BY_HASH) as answer:
            note = await answer.read()
    assert [key for key, _ in open_note(note, [LOG.key, WITNESS.key]).verified] == [LOG.key, WITNESS.key]
    assert len(parse_note(note).signatures) == 2


# --- the client ---------------------------------------------------------------------------------------------------


def prover(tree: Tree, size: int) -> Callable[[int], object]:
    async def prove(old: int) -> list[bytes]:
        return tree.proof(old, size)

    return prove


async def cosign(witness: Witness, tree: Tree, size: int) -> str:
    return await witness.cosign(tree.checkpoint(size), tree.note(size), prover(tree, size))  # type: ignore[arg-type]


async def test_client_catches_up_with_where_the_witness_stands(url: str, client: Client) -> None:
    await submit(url, request(TREE, 0, 5))
    fresh = Witness(WITNESS.key, url, client)
    for size in (17, 17, 300):
        line = await cosign(fresh, TREE, size)
        assert open_checkpoint(TREE.note(size) + line.encode(), LOG.key, [WITNESS.key])[1]


async def test_witness_of_another_history_is_said_so(url: str, client: Client) -> None:
    witness = Witness(WITNESS.key, url, client)
    await cosign(witness, TREE, 17)
    with pytest.raises(errors.VerificationError, match="another history"):
        await cosign(witness, forked(9, 30), 30)
    with pytest.raises(errors.VerificationError, match="17 leaves"):
        await cosign(witness, TREE, 9)
    assert await cosign(Witness(WITNESS.key, f"{url}/", client), TREE, 30)


async def test_signature_by_another_key_is_not_taken(tmp_path: Path, client: Client) -> None:
    imposter = Notary(tmp_path / "imposter.db", Cosigner(WITNESS.name, private_key("imposter")), SystemClock())
    async with serving(witness_app(imposter, [LOG.key])) as url:
        with pytest.raises(errors.VerificationError, match="no signature of its own"):
            await cosign(Witness(WITNESS.key, url, client), TREE, 17)


async def test_witness_that_does_not_know_the_log_or_is_away_is_unavailable(tmp_path: Path, client: Client) -> None:
    stranger = Notary(tmp_path / "stranger.db", WITNESS, SystemClock())
    async with serving(witness_app(stranger, [])) as url:
        with pytest.raises(errors.UnavailableError, match="404"):
            await cosign(Witness(WITNESS.key, url, client), TREE, 17)
    with pytest.raises(errors.UnavailableError):
        await cosign(Witness(WITNESS.key, url, client), TREE, 17)


# --- with the publisher -------------------------------------------------------------------------------------------


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


async def test_published_checkpoints_carry_the_cosignature(
    database_url: str, shelf: Shelf, url: str, client: Client, tmp_path: Path
) -> None:
    witness = Witness(WITNESS.key, url, client)
    async with custody_log(database_url, tmp_path / "notary.db", [shelf], [witness]) as archive:
        await archive.publisher.start()
        for count in (3, 300):
            await archive.grow(count)
            issued = await archive.publisher.publish(None)
            assert issued is not None
            checkpoint, seen_by = open_checkpoint(await shelf.read_current("checkpoint") or b"", LOG.key, [WITNESS.key])
            assert checkpoint == issued.checkpoint
            assert [key for key, _ in seen_by] == [WITNESS.key]
            assert not issued.problems


async def test_witness_that_is_away_holds_nobody_up(
    sqlite_url: str, shelf: Shelf, client: Client, tmp_path: Path
) -> None:
    away = Witness(WITNESS.key, "http://127.0.0.1:9", client)
    async with custody_log(sqlite_url, tmp_path / "notary.db", [shelf], [away]) as archive:
        await archive.publisher.start()
        problems = []
        for _ in range(2):
            await archive.grow(3)
            issued = await archive.publisher.publish(None)
            assert issued is not None
            problems.append({name: type(each) for name, each in issued.problems.items()})
        assert problems == [{WITNESS.name: errors.UnavailableError}, {}]  # for a minute it is not asked again


async def test_fork_drill_two_archives_from_one_backup(
    sqlite_url: str, url: str, client: Client, tmp_path: Path, backup: Callable[[str], str]
) -> None:
    """T8: the witness refuses the second history, the monitor's check fails, and two notes prove it to anyone."""
    first_shelf, second_shelf = await folder_shelf(tmp_path / "first"), await folder_shelf(tmp_path / "second")
    async with custody_log(sqlite_url, tmp_path / "notary.db", [first_shelf]) as archive:
        await archive.publisher.start()
        common = await archive.grow(20)
        await archive.publisher.publish(None)
    copy = backup(sqlite_url)
    shutil.copy(tmp_path / "notary.db", tmp_path / "copy-notary.db")

    async with custody_log(
        sqlite_url, tmp_path / "notary.db", [first_shelf], [Witness(WITNESS.key, url, client)]
    ) as first:
        await first.publisher.start()
        await first.grow(30)
        issued = await first.publisher.publish(None)
        assert issued is not None
        assert not issued.problems
        first_tree = first.tree()

    async with custody_log(
        copy, tmp_path / "copy-notary.db", [second_shelf], [Witness(WITNESS.key, url, client)]
    ) as second:
        await second.publisher.start()
        await second.grow(30)
        forged = await second.publisher.publish(None)
        assert forged is not None
        assert isinstance(forged.problems[WITNESS.name], errors.VerificationError)
        assert second.tree()[0] == first_tree[0]
        # Where the two meet, on one shelf, the gate closes.
        async with custody_log(copy, tmp_path / "copy-notary.db", [first_shelf], enrol=False) as meeting:
            with pytest.raises(errors.VerificationError, match="another history"):
                await meeting.publisher.start()

    # Anyone with the log's public key sees it: what the witness kept, and what the second archive published.
    async with aiohttp.ClientSession() as session, session.get(url + BY_HASH) as answer:
        witnessed = await answer.read()
    a, seen_by = open_checkpoint(witnessed, LOG.key, [WITNESS.key])
    b, _ = open_checkpoint(forged.note, LOG.key, [WITNESS.key])
    assert seen_by
    assert (a.size, a.root) == first_tree
    assert a.size == b.size
    assert a.size > common
    assert a.root != b.root
    with pytest.raises(errors.VerificationError):
        verify_consistency(a.size, a.root, b.size, b.root, [])
