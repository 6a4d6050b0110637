"""Fixed keys, clock and chance for custody tests, and strategies for events."""

from __future__ import annotations

import hashlib
import unicodedata
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from archiver.custody.event import Event, Type
from archiver.custody.keys import public_hex

HOST_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"host").digest())
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"session").digest())
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"other").digest())
WRITER = public_hex(KEY)
SUBJECT = "rec:01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e"
OTHER_SUBJECT = "rec:01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2f"


class SteadyClock:
    """Every reading is a second later."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 20, 12, 34, 56, 123456, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()


class FixedChance:
    """The same bytes in every run: SHA-256 over a counter."""

    def __init__(self, seed: str = "") -> None:
        self._seed, self._count = seed, 0

    def token(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(f"{self._seed}{self._count}".encode()).digest(size)

    def uuid(self) -> str:
        value = self.token(16).hex()
        return f"{value[:8]}-{value[8:12]}-7{value[13:16]}-8{value[17:20]}-{value[20:]}"


_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).map(
    lambda value: unicodedata.normalize("NFC", value)
)
_key = st.from_regex(r"[a-z0-9_.]{1,12}", fullmatch=True)
_scalar = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _text
json_values = st.recursive(
    _scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_key, inner, max_size=4), max_leaves=15
)
json_objects = st.dictionaries(_key, json_values, max_size=5)
_digest = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def events(draw: st.DrawFn) -> Event:
    seq = draw(st.integers(0, 2**31))
    return Event(
        subject=draw(st.sampled_from(["archive", SUBJECT, "hold:H-2026.014_x"])),
        seq=seq,
        prev=None if seq == 0 else draw(_digest),
        type=draw(st.sampled_from(list(Type))),
        at=draw(st.datetimes(timezones=st.just(UTC))),
        id=str(draw(st.uuids())),
        writer=WRITER,
        actor_kind=draw(st.sampled_from(["worker", "host", "operator"])),
        user=draw(st.none() | _text.filter(bool)),
        op=draw(st.none() | _text.filter(bool)),
        outcome=draw(st.sampled_from(["ok", "failed"])),
        data=draw(json_objects),
        priv=draw(st.dictionaries(_key, _digest, max_size=3)),
    )
