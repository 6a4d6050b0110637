"""Properties of the frame and of sealing, over any length, any recipients and any way of cutting the input."""

from __future__ import annotations

import hashlib
import io
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.clock import SystemChance
from archiver.errors import VerificationError
from archiver.seal import der, envelope
from archiver.seal.cipher import Sealer
from archiver.seal.envelope import Content, Form
from tests.seal_keys import LOCAL, LOCAL_IDENTITY, opened

_EDGES = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**24 - 1, 2**24, 2**32 - 1, 2**32, envelope.MAX_CONTENT]
_LENGTHS = st.one_of(
    st.integers(0, envelope.MAX_CONTENT),
    st.tuples(st.sampled_from(_EDGES), st.integers(-700, 700)).map(lambda pair: max(0, sum(pair))),
)
_INFOS = st.lists(
    st.one_of(
        st.builds(envelope.key_transport, st.binary(min_size=1, max_size=20), st.binary(min_size=1, max_size=512)),
        st.builds(envelope.key_encryption, st.binary(min_size=1, max_size=64), st.binary(min_size=40, max_size=40)),
    ),
    min_size=1,
    max_size=5,
)


@given(infos=_INFOS, nonce=st.binary(min_size=12, max_size=12), length=_LENGTHS)
def test_header_says_exactly_where_the_object_ends(infos: list[bytes], nonce: bytes, length: int) -> None:
    header = envelope.header(infos, nonce, length)
    outer = der.Reader(header)
    size = outer.start(der.SEQUENCE)
    assert size is not None
    assert outer.at + size == len(header) + length + len(envelope.trailer(bytes(16)))
    found = envelope.parse(header)
    assert (found.form, found.nonce) == (Form.WHOLE, nonce)
    assert found.content_at == len(header)
    assert found.content_end == len(header) + length
    assert found.recipients_sha256 == envelope.wrapped_key_sha256(infos)


@given(infos=_INFOS, length=st.integers(0, 300))
def test_header_does_not_depend_on_the_order_of_recipients(infos: list[bytes], length: int) -> None:
    assert envelope.header(infos, bytes(12), length) == envelope.header(infos[::-1], bytes(12), length)


@given(infos=_INFOS, tag=st.binary(min_size=16, max_size=16))
def test_detached_envelope_gives_back_its_parts(infos: list[bytes], tag: bytes) -> None:
    whole = envelope.detached(infos, bytes(12), tag)
    found = envelope.parse(whole)
    content = Content(found)
    assert found.form is Form.DETACHED
    assert list(content.feed(memoryview(whole)[found.content_at :])) == []
    assert content.tag() == tag


@given(data=st.binary(max_size=400))
def test_parser_raises_nothing_but_verification_errors(data: bytes) -> None:
    try:
        found = envelope.parse(data)
        content = Content(found)
        list(content.feed(memoryview(data)[found.content_at :]))
        content.tag()
    except VerificationError:
        pass
    else:
        raise AssertionError("rubbish taken for an object")


class SeededChance(SystemChance):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


@settings(max_examples=80)
@given(
    size=st.one_of(st.integers(0, 3000), st.sampled_from([65_400, 65_535, 65_536, 70_000, 1 << 20, 2_500_000])),
    seed=st.integers(0, 2**32),
)
def test_object_is_the_same_however_its_plaintext_comes(size: int, seed: int) -> None:
    """Announced or not, cut anyhow: for the same chance the same bytes, which open to the plaintext."""
    cuts = random.Random(seed)
    plaintext = cuts.randbytes(size)
    made = []
    for length in (size, None):
        file = io.BytesIO()
        sealer = Sealer(file, [LOCAL], SeededChance(seed), length)
        at = 0
        while at < size:
            step = cuts.choice((1, 15, 16, 17, 1000)) if size < 5000 else cuts.choice((33_333, 1 << 20, 2_000_000))
            sealer.write(memoryview(plaintext)[at : at + step])
            at += step
        result = sealer.finish()
        assert result.sealed_sha256 == hashlib.sha256(file.getvalue()).hexdigest()
        made.append(file.getvalue())
    assert made[0] == made[1]
    assert opened(made[0], LOCAL_IDENTITY) == plaintext
