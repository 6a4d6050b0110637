"""Damaged answers of providers, time stamping authorities and witnesses: read, or refused with our error, and nothing else.

What a provider's reader lets through must also fit where it goes: into the journal, into JSON, into the next request. In CI
87,000 inputs, as many times more as ARCHIVER_FUZZ says.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from archiver.clock import SystemChance
from archiver.custody.keys import generate_signing_key
from archiver.custody.ledger import Ledger
from archiver.database import create_engine
from archiver.demo.simulators import MovableClock
from archiver.errors import ArchiverError, ConfigurationError, ListingError, UnavailableError, VerificationError
from archiver.ingest import covered_spans, listing_pages, rejects
from archiver.providers import kazoo, recording_object, walk
from archiver.providers.http_answer import Answer
from archiver.providers.justcall_dialects import DIALECTS
from archiver.providers.normal import count
from archiver.providers.rows import Row, sift
from archiver.recording import Listing, Page, RecordingRef, Window
from archiver.translog import timestamp
from archiver.translog.checkpoint import parse_checkpoint
from archiver.translog.http import Answer as Said
from archiver.translog.note import parse_note, parse_vkey
from archiver.translog.witness import Witness
from tests.fuzz.mutator import PIECES, mutated, times
from tests.fuzz.test_provider_rows import DATA, NOW, READERS

JSON_PIECES = [
    *PIECES, b"NaN", b"1e999", b"-0", b"1e99", b'"\\ud800"', b'"\\u0000"', b"null", b"{}", b"[]", b"[" * 700, b"{" * 3,
    b'{"a":' * 90, b"9" * 5000, b"true", b'"id":', b"\xed\xa0\x80", b"2026-13-45T99:99:99Z", b"\xd9\xa3", b'"0":', b"-1",
    b"1.5e-7", b",", b'"',
]  # fmt: skip
"""What breaks JSON readers, and numbers and texts that fit nowhere."""


def _counts(name: str) -> Callable[[Row], tuple[Sequence[object], int | None]]:
    """The rows of a listing and the provider's total, as this adapter reads them."""
    if name in {"plivo", "vobiz"}:

        def batch(document: Row) -> tuple[Sequence[object], int | None]:
            found = recording_object.batch(document)
            found.ends(len(found.rows))
            return found.rows, found.total

        return batch
    if name == "kazoo":

        def envelope(document: Row) -> tuple[Sequence[object], int | None]:
            key = kazoo._key(document.get("next_start_key"))
            assert key is None or key.encode()
            total = count(document.get("page_size"))
            return walk.row_list(document, "data", total=total), total

        return envelope
    dialect = DIALECTS["v2.1" if name.endswith("v2.1") else "v2"]

    def numbered(document: Row) -> tuple[Sequence[object], int | None]:
        _, total = dialect.counts(document)
        return walk.row_list(document, "data", total=total), total

    return numbered


def _seed(name: str) -> bytes:
    """The provider's documented listing, with one row only: damage shall hit it."""
    document: dict[str, Any] = json.loads((DATA / f"{READERS[name][1]}.json").read_bytes())
    rows = "objects" if "objects" in document else "data"
    return json.dumps(document | {rows: document[rows][:1]}, ensure_ascii=False).encode()


def _page(name: str, body: bytes) -> Page | None:
    """One listing, read as the adapter does; None where it is refused."""
    try:
        rows, total = _counts(name)(walk._object(Answer(200, {}, body, None)))
    except ListingError:
        walk.told(Answer(500, {}, body, None)).encode()
        return None
    return sift(rows, READERS[name][0], total=total)


def _single(name: str, body: bytes) -> Listing | None:
    read: Callable[[Row], Iterable[Listing]] = READERS[name][0]
    try:
        document = walk._object(Answer(200, {}, body, None))
        return walk.only_listing(walk.only_row(document.get("data", document)), read, RecordingRef("p", "1"))
    except ArchiverError:
        return None


@pytest.mark.parametrize("name", READERS)
@pytest.mark.timeout(3600)
def test_damaged_listing_is_read_or_refused(name: str) -> None:
    chance, seeds = random.Random(name), [_seed(name)]
    read = refused = 0
    for _ in range(times(4_000)):
        body = seeds[0]
        for _ in range(chance.choice((1, 1, 2, 3))):
            body = mutated(body, seeds, chance, JSON_PIECES)
        page = _page(name, body)
        _single(name, body)
        if page is None:
            refused += 1
            continue
        read += 1
        assert page.total is None or 0 <= page.total < 2**63
        for each in page.listings:
            for said in (each.ref.recording_id, each.ref.account, each.revision, each.format or ""):
                assert "\0" not in said
                said.encode()
            json.loads(each.raw.decode())
            json.dumps(dict(each.metadata), allow_nan=False).encode()
    assert read > 100
    assert refused > 100


@pytest.mark.parametrize("name", READERS)
def test_what_the_readers_let_through_the_journal_takes(name: str, database_url: str) -> None:
    """Whatever a damaged listing still says can be written down: nothing of it ends the process in the database."""
    chance, seeds = random.Random(name), [_seed(name)]
    engine, clock, noted = create_engine(database_url, None), MovableClock(NOW), 0
    ledger, day = Ledger.open(clock, SystemChance()), Window(NOW - timedelta(days=1), NOW)

    def note(conn: Connection, page: Page) -> None:
        rejects.understood(conn, "p", "account", page.listings, NOW)
        rejects.note(conn, "p", "account", page.rejects, NOW)
        listing_pages.note_page(conn, ledger, SystemChance(), page.listings, NOW, lambda _: None)
        walked = covered_spans.Walked("account", day, 1, len(page.listings), page.total, page.digest)
        covered_spans.cover(conn, SystemChance(), "p", walked, NOW)

    with engine.connect() as conn:
        transaction = conn.begin()
        ledger.enroll(conn, generate_signing_key(SystemChance()))
        for _ in range(times(400)):
            body = seeds[0]
            for _ in range(chance.choice((1, 2))):
                body = mutated(body, seeds, chance, JSON_PIECES)
            page = _page(name, body)
            if page is None or noted >= times(25):
                continue
            noted += 1
            before = conn.begin_nested()
            note(conn, page)
            before.rollback()
        transaction.rollback()
    engine.dispose()
    assert noted > 15


# --- time stamps ------------------------------------------------------------------------------------------------

STAMPS = Path(__file__).parent.parent / "data" / "timestamp"
TOKEN, ROOT, STAMPED = (STAMPS / "token.tsr").read_bytes(), (STAMPS / "root.pem").read_bytes(), b"a checkpoint\n"
V3, V10 = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")


def test_a_time_stamp_holds_and_one_with_a_certificate_of_unknown_version_does_not() -> None:
    roots, odd = timestamp.load_roots(ROOT), TOKEN.replace(V3, V10)
    assert odd != TOKEN
    assert timestamp.open_token(TOKEN, STAMPED, roots).at == datetime(2026, 11, 30, 3, 3, 36, tzinfo=UTC)
    for read in (timestamp.open_token, lambda *given: timestamp.read_token(*given[:2])):
        with pytest.raises(VerificationError):
            read(odd, STAMPED, roots)


@pytest.mark.timeout(3600)
def test_damaged_time_stamp_never_holds_and_is_never_more_than_refused() -> None:
    roots, chance, seeds = timestamp.load_roots(ROOT), random.Random("token"), [TOKEN]
    at = timestamp.stamped_at(TOKEN)
    refused = 0
    for _ in range(times(8_000)):
        raw = TOKEN
        for _ in range(chance.choice((1, 1, 2))):
            raw = mutated(raw, seeds, chance, [V3, V10, b"\x30\x80", b"\xff\xff", b"\x02\x01\x00", b"\x18\x0f"])
        timestamp.refusal(raw)
        try:
            timestamp.read_token(raw, STAMPED)
        except VerificationError:
            refused += 1
        try:
            assert timestamp.verify_token(raw, STAMPED, roots) == at
        except VerificationError:
            refused += 1
    assert refused > times(8_000) / 2


@pytest.mark.timeout(3600)
def test_damaged_certificates_are_refused_as_configuration() -> None:
    chance = random.Random("roots")
    for _ in range(times(4_000)):
        try:
            timestamp.load_roots(mutated(ROOT, [ROOT], chance))
        except ConfigurationError:
            continue


# --- witnesses --------------------------------------------------------------------------------------------------


class Saying:
    """A witness's client that gives one answer after the other."""

    def __init__(self) -> None:
        self.answers: list[Said] = []

    async def post(self, *_: Any) -> Said:
        return self.answers.pop() if self.answers else Said(200, b"")

    async def get(self, *_: Any) -> Said:
        return self.answers.pop() if self.answers else Said(404, b"")


@pytest.mark.timeout(3600)
def test_damaged_answer_of_a_witness_gives_its_own_signature_or_nothing() -> None:
    vectors = json.loads((DATA.parent.parent / "vectors" / "log" / "checkpoints.json").read_text())
    signed = next(
        each["note"] for each in vectors["checkpoints"] if each["note"].count("— ") > 1 and "witness" in each["note"]
    )
    checkpoint = parse_checkpoint(parse_note(signed.encode()).text)
    lines = [f"{line}\n".encode() for line in signed.split("\n\n", 1)[1].split("\n") if line]
    ours, seeds = lines[0], [*lines, b"7\n", b"0\n", b"9999999999999999999999\n", b"\xd9\xa3\n"]
    note = signed.split("\n\n", 1)[0].encode() + b"\n\n" + ours
    client, chance = Saying(), random.Random("witness")

    async def prove(_: int) -> list[bytes]:
        return []

    async def run() -> int:
        given = 0
        for _ in range(times(55_000)):
            witness = Witness(parse_vkey(vectors["witness"]), "http://w.example", client)  # type: ignore[arg-type]
            client.answers = [
                Said(chance.choice((200, 200, 409, 422, 503)), mutated(chance.choice(seeds), seeds, chance))
                for _ in range(2)
            ]
            try:
                line = await witness.cosign(checkpoint, note, prove)
            except (UnavailableError, VerificationError):
                continue
            assert line.encode() in lines[1:]
            given += 1
        return given

    assert asyncio.run(run()) > 100
