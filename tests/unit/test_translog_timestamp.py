"""Time stamps: what is asked for, what an answer says, and which answers prove nothing.

`tests/data/timestamp/kinds` holds answers that `openssl ts` gave on 2026-11-30, and the root of their authority.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from archiver.errors import ConfigurationError, VerificationError
from archiver.translog.timestamp import (
    anchor_name,
    anchor_place,
    load_roots,
    make_request,
    open_token,
    read_token,
    refusal,
    stamped_at,
    verify_token,
)

_KINDS = Path(__file__).parents[1] / "data" / "timestamp" / "kinds"
GRANTED, REFUSED, NO_NONCE = ((_KINDS / f"{name}.tsr").read_bytes() for name in ("granted", "refused", "without-nonce"))
DATA, ROOT = (_KINDS / "stamped").read_bytes(), (_KINDS / "root.pem").read_bytes()
OTHER_ROOT = (_KINDS.parent / "root.pem").read_bytes()
NONCE = 0x1234567890ABCDEF
AT = datetime(2026, 11, 30, 6, 9, 52, tzinfo=UTC)


@pytest.mark.parametrize(
    ("nonce", "written"), [(0, "020100"), (0x7F, "02017f"), (0x80, "02020080"), (NONCE, "02081234567890abcdef")]
)
def test_a_request_asks_for_the_digest_and_the_certificates(nonce: int, written: str) -> None:
    """Laid out by hand from RFC 3161 §2.4.1: version 1, SHA-256, the nonce as an unsigned number, certReq."""
    imprint = "3031300d060960864801650304020105000420" + hashlib.sha256(DATA).hexdigest()
    content = "020101" + imprint + written + "0101ff"
    assert make_request(DATA, nonce).hex() == f"30{len(content) // 2:02x}{content}"


def test_a_token_is_kept_with_its_request_and_its_certificates() -> None:
    token = open_token(GRANTED, DATA, load_roots(ROOT), NONCE)
    assert (token.at, token.response, token.request) == (AT, GRANTED, make_request(DATA, NONCE))
    assert token.sha256 == hashlib.sha256(GRANTED).hexdigest()
    certificates = x509.load_pem_x509_certificates(token.chain)
    assert {each.subject.rfc4514_string() for each in certificates} == {"CN=Test Root", "CN=Test Time Stamping"}
    assert token.chain == b"".join(sorted(each.public_bytes(Encoding.PEM) for each in certificates))
    assert verify_token(GRANTED, DATA, load_roots(ROOT)) == stamped_at(GRANTED) == AT


def test_a_token_is_read_without_a_root() -> None:
    token = read_token(GRANTED, DATA)
    assert (token.at, token.response, token.request) == (AT, GRANTED, make_request(DATA, NONCE))
    assert len(x509.load_pem_x509_certificates(token.chain)) == 1


@pytest.mark.parametrize(
    ("response", "data", "root", "nonce"),
    [
        (GRANTED, DATA + b"x", ROOT, NONCE),
        (GRANTED, DATA, OTHER_ROOT, NONCE),
        (GRANTED, DATA, ROOT, NONCE + 1),
        (NO_NONCE, DATA, ROOT, NONCE),
        (GRANTED[:-1] + bytes([GRANTED[-1] ^ 1]), DATA, ROOT, NONCE),
    ],
)
def test_a_token_that_does_not_hold_says_so(response: bytes, data: bytes, root: bytes, nonce: int) -> None:
    for check in (verify_token, open_token):
        with pytest.raises(VerificationError, match=r"the time stamp does not hold: ."):
            check(response, data, load_roots(root), nonce)


@pytest.mark.parametrize("response", [b"", b"rubbish", REFUSED, GRANTED[:-1]])
def test_an_answer_without_a_token_is_none(response: bytes) -> None:
    for read in (
        stamped_at,
        lambda each: read_token(each, DATA),
        lambda each: verify_token(each, DATA, load_roots(ROOT)),
    ):
        with pytest.raises(VerificationError, match=r"not a time stamp$"):
            read(response)


def test_an_answer_over_something_else_is_refused_unverified_too() -> None:
    with pytest.raises(VerificationError, match="over something else"):
        read_token(GRANTED, DATA + b"x")


def test_an_answer_to_a_request_that_had_no_nonce_is_none_of_ours() -> None:
    with pytest.raises(VerificationError, match=r"not an answer to a request of ours$"):
        open_token(NO_NONCE, DATA, load_roots(ROOT))


def test_an_answer_that_grants_nothing_states_why() -> None:
    assert refusal(REFUSED) == 2
    assert refusal(b"rubbish") is None


@pytest.mark.parametrize("pem", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_certificates_names_no_authority(pem: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not PEM"):
        load_roots(pem)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("anchors/0/root.pem", (0, "root.pem")),
        ("anchors/4711/a-b_C.tsr", (4711, "a-b_C.tsr")),
        ("anchors/9999999999999999999/a", (9999999999999999999, "a")),
        ("anchors/01/a", None),
        ("anchors/12345678901234567890/a", None),
        ("anchors/1/.a", None),
        ("anchors/1/a/b", None),
        ("anchors/1/", None),
        ("x/anchors/1/a", None),
    ],
)
def test_a_file_of_an_anchor_is_found_by_its_name(name: str, place: tuple[int, str] | None) -> None:
    assert anchor_place(name) == place
    assert place is None or anchor_name(*place) == name
