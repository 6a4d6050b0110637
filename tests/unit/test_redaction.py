"""What a text may show."""

from __future__ import annotations

import base64
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.redaction import LONGEST, redact

SHA256 = "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"


@pytest.mark.parametrize(
    "text",
    [
        "GET https://media.example.com/a.mp3?X-Amz-Signature=CANARY&Expires=1 failed",
        "https://user:CANARY@host/a",
        "postgresql+psycopg://me:CAN/ARY@db/x CANARY@".replace(" CANARY@", ""),
        "postgresql://me:CANARY?x@db/archive",
        "redis://:CANARY@cache:6379/0",
        "see 'https://h/x#CANARY'",
        "Authorization: Basic Q0FOQVJZOkNBTkFSWQ==",
        "authorization: CANARY:secret words too CANARY",
        "{'X-Auth-Token': 'CANARY', 'X-Auth-ID': 'CANARY'}",
        "b'X-Auth-Token', b'CANARY'",
        '"Authorization": "key:CANARY"',
        "Cookie: a=CANARY; b=CANARY",
        "password=CANARY",
        "PGPASSWORD=CANARY",
        "aws_secret_access_key = CANARY",
        "x-amz-security-token: CANARY",
        "api_key=CANARY&x",
        "/v1/x?auth_token=CANARY",
        "token=CANARY",
        "Bearer CANARYcanary1234",
        "eyJCANARY.eyJCANARY.CANARY",
        "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nCANARY",
        '{\\"password\\": \\"CANARY of CANARY\\"}',
        json.dumps(json.dumps({"api_key": "the CANARY, twice: CANARY"})),
        "p\\u0061ssword=CANARY",
        "password%3DCANARY",
        "password%253DCANARY",
        "%22client_secret%22%3A%20%22CANARY%22",
        "password: blue CANARY battery CANARY",
        '"passphrase": "blue CANARY, CANARY"',
        "secret key = CANARY",
        f"x {base64.b64encode(b'password=CANARY').decode()} y",
        base64.urlsafe_b64encode(b'{"auth_token": "CANARY?>"}').decode(),
        base64.b64encode(b"user:CANARY").decode(),
    ],
)
def test_no_secret_is_shown(text: str) -> None:
    shown = redact(text)
    assert "CANARY" not in shown
    assert "Q0FOQVJZ" not in shown
    assert not any(b"CANARY" in decoded(word) for word in re.findall(r"[A-Za-z0-9+/_-]{8,}", shown))
    assert "**redacted**" in shown


def decoded(word: str) -> bytes:
    return base64.urlsafe_b64decode(word[: len(word) // 4 * 4].translate(str.maketrans("+/", "-_")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=a b c host=db", "password=**redacted** host=db"),
        ("from +14155551234 to +442079460958", "from ***234 to ***958"),
        ("4155551234", "***234"),
        ("+1 (415) 555-1234.", "***234."),
        ("415-555-1234, 1-800-555-9876", "***234, ***876"),
        ("tel:+14155551234", "tel:***234"),
        ("callee=0049301234567;", "callee=***567;"),
        ("+919812345678@example", "***678@example"),
    ],
)
def test_phone_number_keeps_its_last_three_digits(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        SHA256,
        f"sha256:{SHA256}",
        "0123456789" * 6 + "0123",
        "12345678-1234-1234-1234-123456789012",
        "0198c5f1-7d6e-7abc-8def-0123456789ab",
        "2026-01-02T03:04:05.123456Z",
        "2026-01-02 03:04:05+05:30",
        "20260102T030405Z",
        "20260102",
        "1767312000",
        "1767312000123",
        "1767312000.25",
        "12345678 bytes",
        "2147483648 B",
        "archive of 10000000 recordings",
        "media.example.com answered 503",
        "http://127.0.0.1:8000/v2/accounts",
        "lease 12: token=7 is held by another replica",
        "key: calls/ab/cd/ef",
        "use Basic authentication",
        "sent 400 of 1000 bytes",
        "Überlänge – ü×≤",
        "see https://media.example.com/a%20b/c.mp3",
        base64.b64encode(bytes.fromhex(SHA256)).decode(),
    ],
)
def test_evidence_and_plain_words_stay_whole(text: str) -> None:
    assert redact(text) == text


def test_a_text_is_one_line_without_terminal_or_direction_tricks() -> None:
    shown = redact("a\x1b[2J\r\nINFO forged\x00\x85\u202egpj\u2028\ud800\x7f")
    assert shown == "a\\x1b[2J\\r\\nINFO forged\\x00\\x85\\u202egpj\\u2028\\ud800\\x7f"
    shown.encode()


@given(st.text(max_size=300))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    shown = redact(text)
    shown.encode()
    assert not any(c in shown for c in "\r\n\x00\x1b")


# fmt: off
PARTS = st.sampled_from([
    "https://", "u:p@", "h.example", "?sig=a", "#", " ", "token=", "Authorization: ", "'", '"', "+14155551234", "-",
    SHA256, "\n", "Basic ", "QWxhZGRpbjpv", "2026-01-02", ":", "/", "@", "eyJabcdef.", "415 555 1234", "***", "x-auth-token",
    "secret", "**redacted**",
])
# fmt: on


@given(
    st.lists(PARTS, max_size=6).map("".join),
    st.sampled_from(["https://h/a?", "https://u:", "X-Auth-Token: ", "password="]),
)
def test_canary_never_survives_after_what_names_it(around: str, naming: str) -> None:
    end = "@h/x" if naming.endswith("u:") else ""
    shown = redact(f"{around} {naming}CANARY7{end} {around}")
    assert "CANARY7" not in shown
    assert "CANARY7" not in redact(shown)


@pytest.mark.parametrize(
    "hostile",
    [
        "://a:",
        "1 ",
        "+1 ",
        "authorization: ",
        "api_",
        "-----BEGIN PRIVATE KEY-----",
        "https://",
        "((",
        "eyJaaaaaa.",
        "a:",
        "a",
        "%41",
        "aaaa=",
        "\\u0061",
        'password=\\"',
        "password=a b ",
    ],
)
def test_hostile_text_is_redacted_in_bounded_time_and_length(hostile: str) -> None:
    started = time.perf_counter()
    assert len(redact(hostile * 1_000_000)) < 6 * LONGEST
    assert time.perf_counter() - started < 2
