"""Time stamps: a token over the checkpoint as published, verified by us and by OpenSSL, kept, and logged."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from archiver import errors
from archiver.clock import SystemChance
from archiver.custody.event import Type, format_time
from archiver.custody.keys import generate_signing_key
from archiver.database import reading
from archiver.store.port import Shelf
from archiver.translog import publication_rows, reader
from archiver.translog.anchor import Anchorer, Authority
from archiver.translog.heartbeat import due, new_day
from archiver.translog.http import MAX_ANSWER, Client
from archiver.translog.recover import recover
from archiver.translog.tables import AnchorKind
from archiver.translog.timestamp import anchor_name, load_roots, make_request, stamped_at, verify_token
from tests.broken_shelf import BrokenShelf, fails
from tests.custody_examples import HOST_KEY
from tests.custody_log import CustodyLog, MovableClock, custody_log, folder_shelf
from tests.timestamps import TestAuthority, authority, certify

NOTE = b"archive.example\n1\n...\n"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client(timeout=timedelta(seconds=5)) as client:
        yield client


@pytest.fixture
async def tsa(tmp_path: Path) -> AsyncIterator[TestAuthority]:
    async with authority(tmp_path / "tsa") as server:
        yield server


def trusting(tsa: TestAuthority, client: Client, name: str = "tsa") -> Authority:
    return Authority(name, tsa.url, load_roots(tsa.root.pem), client, SystemChance())


async def openssl(folder: Path, *arguments: str) -> str:
    command = ["openssl", "ts", *arguments]
    done = await asyncio.to_thread(subprocess.run, command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


# --- tokens -------------------------------------------------------------------------------------------------------


async def test_token_is_verified_by_openssl_with_the_kept_files_alone(
    tsa: TestAuthority, client: Client, tmp_path: Path
) -> None:
    token = await trusting(tsa, client).stamp(NOTE)
    assert abs(token.at - datetime.now(UTC)) < timedelta(minutes=1)
    for name, content in (("note", NOTE), ("a.tsq", token.request), ("a.tsr", token.response), ("a.pem", token.chain)):
        (tmp_path / name).write_bytes(content)
    verify = ("-verify", "-in", "a.tsr", "-CAfile", "a.pem")
    assert "Verification: OK" in await openssl(tmp_path, *verify, "-data", "note")
    assert "Verification: OK" in await openssl(tmp_path, *verify, "-queryfile", "a.tsq")
    (tmp_path / "note").write_bytes(NOTE + b"x")
    assert "Verification: FAILED" in await openssl(tmp_path, *verify, "-data", "note")
    asked = await openssl(tmp_path, "-query", "-in", "a.tsq", "-text")
    assert "Hash Algorithm: sha256" in asked
    assert "Certificate required: yes" in asked
    assert "Nonce: 0x" in asked
    assert token.request == tsa.requests[0]


async def test_token_holds_after_the_authoritys_certificate_has_expired(client: Client, tmp_path: Path) -> None:
    root = certify("Test Root", authority=True)
    signer = certify("Short Lived", root, until=timedelta(seconds=3))
    async with authority(tmp_path / "tsa", signer, root) as tsa:
        token = await trusting(tsa, client).stamp(NOTE)
        # Certificates end by the machine's clock, on a whole second.
        await asyncio.sleep(max(0.0, (signer.certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() + 1))
        assert verify_token(token.response, NOTE, [root.certificate]) == token.at


async def test_token_of_an_expired_authority_is_refused(client: Client, tmp_path: Path) -> None:
    root = certify("Test Root", authority=True)
    signer = certify("Expired", root, since=timedelta(days=-9), until=timedelta(days=-1))
    async with authority(tmp_path / "tsa", signer, root) as tsa:
        with pytest.raises(errors.VerificationError, match="time stamp"):
            await trusting(tsa, client).stamp(NOTE)


async def test_token_by_an_authority_that_we_do_not_trust_is_refused(tsa: TestAuthority, client: Client) -> None:
    other = certify("Other Root", authority=True)
    with pytest.raises(errors.VerificationError):
        await Authority("tsa", tsa.url, [other.certificate], client, SystemChance()).stamp(NOTE)


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 2**55, 2**56 - 1, 2**63 - 1, 2**63, 2**64 - 1])
async def test_request_is_der_with_any_nonce(nonce: int, tmp_path: Path) -> None:
    (tmp_path / "a.tsq").write_bytes(make_request(NOTE, nonce))
    asked = await openssl(tmp_path, "-query", "-in", "a.tsq", "-text")
    assert int(asked.partition("Nonce: 0x")[2].split()[0], 16) == nonce


async def test_answer_to_another_request_is_refused(tsa: TestAuthority, client: Client) -> None:
    """A replay of an earlier answer over the same data has another nonce; one over other data has another digest."""
    stamping = trusting(tsa, client)
    earlier = await stamping.stamp(NOTE)
    tsa.spoil = lambda _: earlier.response
    with pytest.raises(errors.VerificationError, match="Nonce"):
        await stamping.stamp(NOTE)
    with pytest.raises(errors.VerificationError):
        verify_token(earlier.response, NOTE + b"x", [tsa.root.certificate])


async def test_spoiled_token_is_never_taken_for_another_time_or_text(tsa: TestAuthority, client: Client) -> None:
    """A few bytes of a token are signed by nobody; no change of any byte may change what it says."""
    token = await trusting(tsa, client).stamp(NOTE)
    for position in range(len(token.response)):
        spoiled = bytearray(token.response)
        spoiled[position] ^= 0x41
        try:
            assert verify_token(bytes(spoiled), NOTE, [tsa.root.certificate]) == token.at
        except errors.VerificationError:
            continue
    for length in range(0, len(token.response), 7):
        with pytest.raises(errors.VerificationError):
            verify_token(token.response[:length], NOTE, [tsa.root.certificate])
        with pytest.raises(errors.VerificationError):
            stamped_at(token.response[:length])


@pytest.mark.parametrize("answer", [b"", b"<html>maintenance</html>", b"\x30\x80" * 40])
async def test_rubbish_for_an_answer_is_refused(tsa: TestAuthority, client: Client, answer: bytes) -> None:
    tsa.spoil = lambda _: answer
    with pytest.raises(errors.VerificationError):
        await trusting(tsa, client).stamp(NOTE)


async def test_authority_that_is_down_or_unwilling_is_try_again_later(
    tsa: TestAuthority, client: Client, tmp_path: Path
) -> None:
    stamping = trusting(tsa, client)
    for status in (500, 302, 404, 429):
        tsa.status = status
        with pytest.raises(errors.UnavailableError, match=str(status)):
            await stamping.stamp(NOTE)
    tsa.status = 200
    tsa.spoil = lambda _: b"x" * (MAX_ANSWER + 1)
    with pytest.raises(errors.UnavailableError):
        await stamping.stamp(NOTE)
    # A rejection as RFC 3161 §2.4.2 has it: PKIStatusInfo with status 2 and no token.
    tsa.spoil = lambda _: bytes.fromhex("30053003020102")
    with pytest.raises(errors.UnavailableError, match="status 2"):
        await stamping.stamp(NOTE)
    nowhere = Authority("tsa", "http://user:secret@127.0.0.1:9/tsa", [tsa.root.certificate], client, SystemChance())
    with pytest.raises(errors.UnavailableError) as raised:
        await nowhere.stamp(NOTE)
    assert "secret" not in str(raised.value)


def test_certificates_that_are_none_are_a_configuration_error() -> None:
    with pytest.raises(errors.ConfigurationError):
        load_roots(b"-----BEGIN NOTHING-----")


def test_system_root_from_before_the_rules_is_loaded_without_a_word() -> None:
    """A serial number of zero, which RFC 5280 forbids and one root of every Linux has. A warning would fail this test."""
    key = generate_signing_key(SystemChance())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Old Root")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + timedelta(days=1)).sign(key, None)
    der = made.public_bytes(Encoding.DER).replace(bytes.fromhex("a003020102020101"), bytes.fromhex("a003020102020100"))
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    (root,) = load_roots(pem)
    assert root.subject == name


# --- anchors ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


@pytest.fixture
async def archive(database_url: str, shelf: Shelf, tmp_path: Path) -> AsyncIterator[CustodyLog]:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf], clock=MovableClock()) as archive:
        await archive.publisher.start()
        yield archive


def anchorer(archive: CustodyLog, stamping: Authority, shelf: Shelf) -> Anchorer:
    return Anchorer(archive.engine, archive.writer, archive.log_id, stamping, [shelf], archive.ledger, archive.clock)


def anchored_events(archive: CustodyLog) -> list[dict[str, object]]:
    return [dict(event.data) for event in archive.all_events() if event.type == Type.LOG_ANCHORED]


async def test_newest_published_checkpoint_is_anchored_kept_and_logged(
    archive: CustodyLog, shelf: Shelf, tsa: TestAuthority, client: Client
) -> None:
    anchoring = anchorer(archive, trusting(tsa, client), shelf)
    assert await anchoring.anchor(None) is None  # nothing is published
    size = await archive.grow(20)
    assert await anchoring.anchor(None) is None
    issued = await archive.publisher.publish(None)
    assert issued is not None
    anchored = await anchoring.anchor(None)
    assert anchored is not None
    assert anchored.size == size
    assert verify_token(anchored.token.response, issued.note, [tsa.root.certificate]) == anchored.token.at
    assert await shelf.read(anchor_name(size, "tsa.tsr")) == anchored.token.response
    assert await shelf.read(anchor_name(size, "tsa.tsq")) == anchored.token.request == tsa.requests[0]
    assert await shelf.read(anchor_name(size, "tsa.pem")) == anchored.token.chain
    with reading(archive.engine) as conn:
        kept = publication_rows.newest_anchor(conn, archive.log_id, AnchorKind.TIMESTAMP)
    assert kept is not None
    assert (kept.size, kept.name, kept.blob, kept.at) == (size, "tsa.tsr", anchored.token.response, anchored.token.at)
    await archive.integrate()
    assert anchored_events(archive) == [
        {
            "kind": "rfc3161",
            "authority": "tsa",
            "size": size,
            "note_sha256": hashlib.sha256(issued.note).hexdigest(),
            "token_sha256": hashlib.sha256(anchored.token.response).hexdigest(),
            "at": format_time(anchored.token.at),
        }
    ]


async def test_anchor_comes_once_an_hour_and_only_when_the_tree_has_grown(
    archive: CustodyLog, shelf: Shelf, tsa: TestAuthority, client: Client
) -> None:
    anchoring = anchorer(archive, trusting(tsa, client), shelf)
    clock = archive.clock
    assert isinstance(clock, MovableClock)
    await archive.grow(3)
    await archive.publisher.publish(None)
    assert await anchoring.anchor(None) is not None
    assert await anchoring.anchor(None) is None
    await archive.integrate()  # its own event
    await archive.publisher.publish(None)
    assert await anchoring.anchor(None) is None
    clock.later = timedelta(minutes=61)
    assert await anchoring.anchor(None) is not None
    clock.later = timedelta(hours=3)
    assert await anchoring.anchor(None) is None
    assert len(tsa.requests) == 2


async def test_heartbeat_after_an_anchor_names_its_token(
    archive: CustodyLog, shelf: Shelf, tsa: TestAuthority, client: Client
) -> None:
    size = await archive.grow(3)
    await archive.publisher.publish(None)
    anchored = await anchorer(archive, trusting(tsa, client), shelf).anchor(None)
    assert anchored is not None
    await archive.writer.run(
        lambda conn: publication_rows.beat(conn, archive.ledger, archive.log_id, archive.clock.now())
    )
    await archive.integrate()
    (beat,) = [event for event in archive.all_events() if event.type == Type.LOG_HEARTBEAT]
    assert beat.data["timestamp"] == {"size": size, "token_sha256": anchored.token.sha256}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_death_while_anchoring_goes_on_with_the_token_that_is_there(
    archive: CustodyLog, shelf: Shelf, tsa: TestAuthority, client: Client, when: str, number: int
) -> None:
    size = await archive.grow(3)
    await archive.publisher.publish(None)
    broken = BrokenShelf(shelf, **{when: fails("anchors/", number)})
    stamping = trusting(tsa, client)
    with pytest.raises(errors.DestinationError):
        await anchorer(archive, stamping, broken).anchor(None)
    assert (await shelf.read(anchor_name(size, "tsa.tsr")) is None) == ((when, number) == ("before", 1))
    again = await anchorer(archive, stamping, shelf).anchor(None)
    assert again is not None
    assert len(tsa.requests) == (2 if (when, number) == ("before", 1) else 1)
    assert await shelf.read(anchor_name(size, "tsa.tsq")) == tsa.requests[-1]
    await archive.integrate()
    assert [each["token_sha256"] for each in anchored_events(archive)] == [again.token.sha256]


async def test_two_authorities_anchor_the_same_tree(
    archive: CustodyLog, shelf: Shelf, tsa: TestAuthority, client: Client, tmp_path: Path
) -> None:
    size = await archive.grow(3)
    await archive.publisher.publish(None)
    async with authority(tmp_path / "second") as second:
        for each, name in ((tsa, "first"), (second, "qualified")):
            assert await anchorer(archive, trusting(each, client, name), shelf).anchor(None) is not None
    for name in ("first", "qualified"):
        assert await shelf.read(anchor_name(size, f"{name}.tsr")) is not None


async def test_clock_that_the_authority_contradicts_is_said_in_the_log(
    archive: CustodyLog, shelf: Shelf, tsa: TestAuthority, client: Client
) -> None:
    assert isinstance(archive.clock, MovableClock)
    archive.clock.later = timedelta(minutes=20)
    await archive.grow(3)
    await archive.publisher.publish(None)
    assert await anchorer(archive, trusting(tsa, client), shelf).anchor(None) is not None
    await archive.integrate()
    (skew,) = [event for event in archive.all_events() if event.type == Type.CLOCK_SKEW]
    assert skew.data["authority"] == "tsa"


async def test_anchors_come_back_with_a_recovery(
    sqlite_url: str, shelf: Shelf, tsa: TestAuthority, client: Client, tmp_path: Path, backup: object
) -> None:
    assert callable(backup)
    old = backup(sqlite_url)
    async with custody_log(sqlite_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        size = await archive.grow(3)
        await archive.publisher.publish(None)
        anchored = await anchorer(archive, trusting(tsa, client), shelf).anchor(None)
        assert anchored is not None
        await archive.grow(300)
        await archive.publisher.publish(None)
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        await recover(archive.writer, archive.notary, [shelf], archive.ledger, HOST_KEY, archive.clock)
        with reading(archive.engine) as conn:
            kept = publication_rows.newest_anchor(conn, archive.log_id, AnchorKind.TIMESTAMP)
            sizes = [each.size for each in reader.checkpoints(conn, archive.log_id)]
        assert kept is not None
        assert (kept.size, kept.blob, kept.at) == (size, anchored.token.response, anchored.token.at)
        assert sizes == [size, archive.tree()[0]]
        await archive.publisher.start()


# --- when ---------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, True),
        (NOON, False),
        (NOON - HOUR + timedelta(seconds=1), False),
        (NOON - HOUR, True),
        (NOON - 30 * HOUR, True),
        (NOON + timedelta(seconds=1), True),
    ],
)
def test_due_an_hour_after_the_last(last: datetime | None, expected: bool) -> None:
    assert due(last, NOON) is expected


def test_day_is_that_of_utc() -> None:
    assert new_day(None, NOON)
    assert not new_day(NOON, NOON + timedelta(hours=11, minutes=59))
    assert new_day(NOON, NOON + timedelta(hours=12))
