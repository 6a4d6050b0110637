"""The frame of a sealed object, byte by byte: what is written, what is read, and each way in which it may be wrong.

The objects are those of `tests/vectors/sealed-object`, and others made of their parts; no key is needed to read a frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import pytest

from archiver.errors import VerificationError
from archiver.seal import der, envelope
from archiver.seal.der import OCTET_STRING, SEQUENCE, SET, Reader
from archiver.seal.envelope import Content, Envelope, Form, KeyEncryption, KeyTransport, UnknownRecipient
from tests.seal_keys import key_file

_NONCE, _TAG = bytes(range(12)), bytes(range(16, 32))
_OAEP = (
    "303c06092a864886f70d010107302fa00f300d0609608648016503040201"
    "0500a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
_OAEP_SHORT = (
    "303806092a864886f70d010107302ba00d300b0609608648016503040201"
    "a11a301806092a864886f70d010108300b0609608648016503040201"
)


def _kek() -> bytes:
    return envelope.key_encryption(b"key", b"w" * 40)


def _rsa() -> bytes:
    return envelope.key_transport(b"id", b"encrypted")


def _read(data: bytes, step: int = 1 << 20) -> tuple[Envelope, bytes, bytes]:
    """Gives header, ciphertext and tag of a whole object that comes in pieces."""
    found = envelope.parse(data)
    content = Content(found)
    rest = memoryview(data)[found.content_at :]
    ciphertext = b"".join(piece for at in range(0, len(rest), step) for piece in content.feed(rest[at : at + step]))
    return found, ciphertext, content.tag()


def _made(ciphertext: bytes = b"ciphertext", infos: Iterable[bytes] = ()) -> bytes:
    return envelope.header(list(infos) or [_kek()], _NONCE, len(ciphertext)) + ciphertext + envelope.trailer(_TAG)


def _framed(content: bytes, end: bytes = envelope.trailer(_TAG), lengths: str = "ddd") -> bytes:
    """An object with another content or another end. `lengths` says of each level, outermost first, whether it is definite."""

    def element(tag: int, contents: bytes, length: str) -> bytes:
        return der.encode(tag, contents) if length == "d" else bytes([tag, 0x80]) + contents + b"\0\0"

    whole = Reader(_made(b"")).enter(SEQUENCE)
    kind = whole.element()
    fields = whole.enter(0xA0).enter(SEQUENCE)
    start = fields.element() + fields.element()
    info = fields.enter(SEQUENCE)
    info_start = info.element() + info.element()
    enveloped = element(SEQUENCE, start + element(SEQUENCE, info_start + content, lengths[2]) + end, lengths[1])
    return element(SEQUENCE, kind + element(0xA0, enveloped, lengths[1]), lengths[0])


def _pieces(*pieces: bytes, lengths: str = "iiii") -> bytes:
    """An object as a stream would write it."""
    joined = b"".join(pieces)
    content = der.encode(0xA0, joined) if lengths[3] == "d" else b"\xa0\x80" + joined + b"\0\0"
    return _framed(content, lengths=lengths)


# --- writing --------------------------------------------------------------------------------------------------


def test_an_object_for_a_shared_key_is_these_bytes() -> None:
    """Laid out by hand from RFC 5083, 5084 and 5652; frozen."""
    recipient = "a241020104300504036b6579300b060960864801650304012d0428" + "77" * 40
    info = "06092a864886f70d010701301e060960864801650304012e3011040c" + _NONCE.hex() + "020110800a"
    fields = "020100" + "3143" + recipient + "3037" + info + b"ciphertext".hex() + "0410" + _TAG.hex()
    size = len(fields) // 2
    whole = f"060b2a864886f70d0109100117a081{size + 3:02x}3081{size:02x}{fields}"
    assert _made().hex() == f"3081{len(whole) // 2:02x}{whole}"


def test_a_recipient_with_an_rsa_key_is_these_bytes() -> None:
    assert _rsa().hex() == "304c02010280026964" + _OAEP_SHORT + "0409" + b"encrypted".hex()


def test_parameters_of_oaep_are_written_in_any_of_their_spellings() -> None:
    """RFC 4055: a NULL more or less, and the default label written out, mean the same."""
    null = b"\x05\x00"
    assert envelope._oaep(b"", b"", b"").hex() == _OAEP_SHORT
    assert envelope._oaep(null, null, b"").hex() == _OAEP
    label = bytes.fromhex("a20f300d06092a864886f70d0101090400")
    assert envelope._oaep(b"", b"", label) == der.encode(
        SEQUENCE, bytes.fromhex(_OAEP_SHORT)[2:13], der.encode(SEQUENCE, bytes.fromhex(_OAEP_SHORT)[15:], label)
    )
    for hash_null in (b"", null):
        for mgf_null in (b"", null):
            for each in (b"", label):
                info = _transport(algorithm=envelope._oaep(hash_null, mgf_null, each))
                assert isinstance(_recipients(info)[0], KeyTransport)


def test_recipients_stand_in_the_order_of_their_bytes_and_the_digest_is_over_that_order() -> None:
    infos = [_kek(), _rsa()]
    assert infos != sorted(infos)
    assert _made(infos=infos) == _made(infos=reversed(infos))
    found = envelope.parse(_made(infos=infos))
    assert found.recipients == (KeyTransport(b"id", None, b"encrypted"), KeyEncryption(b"key", b"w" * 40))
    assert found.recipients_sha256 == hashlib.sha256(_rsa() + _kek()).hexdigest() == envelope.wrapped_key_sha256(infos)


def test_limits_are_those_of_the_specification() -> None:
    """SP 800-38D: 2^39 - 256 bits of content."""
    assert (
        len(envelope.header([_kek()], _NONCE, envelope.MAX_CONTENT)) == len(envelope.header([_kek()], _NONCE, 0)) + 22
    )
    assert envelope.MAX_CONTENT * 8 == 2**39 - 256
    assert (envelope.KEY_SIZE, envelope.NONCE_SIZE, envelope.TAG_SIZE, envelope.HEADER_LIMIT) == (32, 12, 16, 65_536)


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 40, 127, 128, 300])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_an_object_gives_back_its_parts_however_it_comes(size: int, step: int) -> None:
    data = _made(bytes(size))
    found, ciphertext, tag = _read(data, step)
    assert (ciphertext, tag) == (bytes(size), _TAG)
    assert (found.nonce, found.form) == (_NONCE, Form.WHOLE)
    assert (found.content_at, found.content_end) == (len(data) - 18 - size, len(data) - 18)
    assert found.ends == (len(data), len(data), len(data), len(data) - 18)


def test_a_detached_envelope_holds_no_content() -> None:
    data = envelope.detached([_kek()], _NONCE, _TAG)
    found, ciphertext, tag = _read(data)
    assert (found.form, found.nonce, ciphertext, tag) == (Form.DETACHED, _NONCE, b"", _TAG)
    assert found.content_at == found.content_end == len(data) - 18
    assert found.ends == (len(data), len(data), len(data), len(data) - 18)


def test_a_detached_envelope_of_indefinite_lengths_holds_no_content() -> None:
    data = _framed(b"", lengths="iii")
    found, ciphertext, tag = _read(data)
    assert (found.form, ciphertext, tag) == (Form.DETACHED, b"", _TAG)
    assert found.content_at == found.content_end
    assert found.ends == (None, None, None, None)


@pytest.mark.parametrize("lengths", ["iiii", "dddd", "diid", "iddi", "dddi", "iiid"])
@pytest.mark.parametrize("step", [1, 2, 5, 1 << 20])
def test_ciphertext_in_pieces_is_joined(lengths: str, step: int) -> None:
    long = bytes(range(200))
    pieces = [der.encode(OCTET_STRING, each) for each in (b"ab", b"", long, b"c", b"", long[:127])]
    found, ciphertext, tag = _read(_pieces(*pieces, lengths=lengths), step)
    assert (found.form, ciphertext, tag) == (Form.IN_PIECES, b"ab" + long + b"c" + long[:127], _TAG)
    assert (found.content_end is None) == (lengths[3] == "i")


def test_content_in_no_piece_is_empty() -> None:
    for lengths in ("iiii", "dddd"):
        assert _read(_pieces(lengths=lengths))[1] == b""


@pytest.mark.parametrize(
    ("name", "form", "content_at", "recipient"),
    [
        ("openssl-secretkey.der", Form.IN_PIECES, 139, KeyEncryption),
        ("openssl-stream.der", Form.IN_PIECES, 548, KeyTransport),
        ("openssl-issuer-serial.der", Form.WHOLE, 568, KeyTransport),
        ("rsa-call.der", Form.WHOLE, 554, KeyTransport),
    ],
)
def test_what_openssl_wrote_is_read(name: str, form: Form, content_at: int, recipient: type) -> None:
    data = key_file(name)
    found, ciphertext, tag = _read(data, 1)
    assert (found.form, found.content_at, len(ciphertext)) == (form, content_at, 47)
    assert tag in data[-24:]
    assert isinstance(found.recipients[0], recipient)
    assert len(found.nonce) == 12


def test_a_certificate_names_its_key_by_issuer_and_serial_number() -> None:
    (found,) = envelope.parse(key_file("openssl-issuer-serial.der")).recipients
    assert isinstance(found, KeyTransport)
    assert found.key_id is None
    assert found.issuer_and_serial is not None
    assert found.issuer_and_serial.startswith(b"\x30\x0e1\x0c0\x0a\x06\x03U\x04\x03\x0c\x03ops\x02\x10")


# --- recipients -----------------------------------------------------------------------------------------------


def _recipients(*elements: bytes) -> tuple[envelope.RecipientInfo, ...]:
    return envelope.parse(_made(infos=elements)).recipients


def _transport(
    version: bytes = b"\x02",
    name: bytes = b"\x80\x02id",
    algorithm: bytes = bytes.fromhex(_OAEP),
    key: bytes = b"\x04\x01k",
    end: bytes = b"",
) -> bytes:
    return der.encode(SEQUENCE, der.encode(der.INTEGER, version), name, algorithm, key, end)


def _shared(
    version: bytes = b"\x04",
    name: bytes = b"\x30\x04\x04\x02id",
    algorithm: bytes = bytes.fromhex("300b060960864801650304012d"),
    end: bytes = b"",
) -> bytes:
    return der.encode(0xA2, der.encode(der.INTEGER, version), name, algorithm, b"\x04\x01k", end)


_BY_ISSUER = b"\x30\x02\x31\x00"
_OTHER_ALGORITHM = b"\x30\x03\x06\x01\x2a"


@pytest.mark.parametrize(
    ("element", "found"),
    [
        (_transport(), KeyTransport(b"id", None, b"k")),
        (_transport(b"\x00", _BY_ISSUER), KeyTransport(None, b"\x31\x00", b"k")),
        (_shared(), KeyEncryption(b"id", b"k")),
    ],
)
def test_a_recipient_that_we_know_is_understood(element: bytes, found: object) -> None:
    assert _recipients(element) == (found,)


@pytest.mark.parametrize(
    "element",
    [
        _transport(algorithm=_OTHER_ALGORITHM),
        _shared(algorithm=_OTHER_ALGORITHM),
        b"\xa1\x00",
        b"\xa3\x00",
        b"\xa4\x00",
    ],
)
def test_a_recipient_of_another_kind_is_left_alone_beside_one_that_we_know(element: bytes) -> None:
    assert set(_recipients(element, _kek())) == {UnknownRecipient(element), KeyEncryption(b"key", b"w" * 40)}


@pytest.mark.parametrize(
    ("element", "says"),
    [
        (b"\xa0\x00", "a recipient of tag 0xa0"),
        (b"\xa5\x00", "a recipient of tag 0xa5"),
        (b"\x04\x00", "a recipient of tag 0x04"),
        (_transport(b"\x00"), "key transport recipient whose version does not fit"),
        (_transport(b"\x02", _BY_ISSUER), "key transport recipient whose version does not fit"),
        (_transport(end=b"\x05\x00"), "unexpected bytes"),
        (_shared(b"\x02"), "key encryption recipient whose version does not fit"),
        (_shared(end=b"\x05\x00"), "unexpected bytes"),
        (_shared(name=b"\x30\x06\x04\x02id\x05\x00"), "unexpected bytes"),
    ],
)
def test_a_recipient_that_breaks_the_format_is_refused(element: bytes, says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        _recipients(element)


# --- what is refused ------------------------------------------------------------------------------------------


def _swapped(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert data.count(bytes.fromhex(old)) == 1
        return data.replace(bytes.fromhex(old), bytes.fromhex(new))

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_swapped("2a864886f70d0109100117", "2a864886f70d0109100116"), "unexpected bytes"),
        (_swapped("2a864886f70d010701", "2a864886f70d010702"), "unexpected bytes"),
        (_swapped("020100", "020101"), "unexpected bytes"),
        (_swapped("020110", "02010c"), "unexpected bytes"),
        (_swapped("60864801650304012e", "60864801650304012d"), "unexpected bytes"),
        (_swapped("800a63", "810a63"), "no element of tag 0x80"),
        (_swapped("800a63", "808063"), "content of indefinite length that is not in pieces"),
        (_swapped("3143a2", "3243a2"), "no element of tag 0x31"),
        (_swapped("3143a2", "3181a2"), "cut short"),
        (_swapped("301e0609", "301d0609"), "cut short"),
    ],
)
def test_a_header_of_another_format_is_refused(change: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        _read(change(_made()))


@pytest.mark.parametrize("size", [0, 11, 13])
def test_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(VerificationError, match=f"a nonce of {size} bytes instead of 12"):
        envelope.parse(envelope.header([_kek()], bytes(size), 0))


@pytest.mark.parametrize("parts", ["parameters", "algorithm"])
def test_more_than_the_nonce_among_the_parameters_is_refused(parts: str) -> None:
    """Behind the size of the tag, or behind the parameters themselves."""
    inner = "040c" + _NONCE.hex() + "020110" + ("0500" if parts == "parameters" else "")
    inner = f"30{len(inner) // 2:02x}{inner}" + ("0500" if parts == "algorithm" else "")
    algorithm = f"060960864801650304012e{inner}"
    info = der.encode(
        SEQUENCE, der.oid("1.2.840.113549.1.7.1"), der.encode(SEQUENCE, bytes.fromhex(algorithm)), b"\x80\x00"
    )
    fields = der.encode(SEQUENCE, b"\x02\x01\x00", der.encode(SET, _kek()), info, envelope.trailer(_TAG))
    with pytest.raises(VerificationError, match="unexpected bytes"):
        envelope.parse(der.encode(SEQUENCE, der.oid("1.2.840.113549.1.9.16.1.23"), der.encode(0xA0, fields)))


@pytest.mark.parametrize("at", range(4))
def test_an_element_that_states_another_end_is_refused(at: int) -> None:
    """Each of the four nested elements in turn, outermost first: a byte longer than what it holds."""
    data = bytearray(_made())
    starts = [data.index(each) for each in (b"\x06\x0b\x2a", b"\x30\x81", b"\x02\x01\x00", b"\x06\x09\x2a")]
    starts[1] = data.index(b"\x30\x81", 10)
    data[starts[at] - 1] += 1
    with pytest.raises(VerificationError):
        _read(bytes(data))


def test_an_element_that_ends_too_early_is_named() -> None:
    data = bytearray(_made())
    data[2] -= 1
    with pytest.raises(VerificationError, match=f"should end at byte {len(data) - 1} ends at byte {len(data)}"):
        _read(bytes(data))


@pytest.mark.parametrize("cut", [1, 17, 18])
def test_an_object_without_its_whole_tag_is_refused(cut: int) -> None:
    with pytest.raises(VerificationError, match="cut short"):
        _read(_made()[:-cut])


@pytest.mark.parametrize("kept", [0, 1, 9])
def test_an_object_cut_within_its_content_says_where(kept: int) -> None:
    data = _made()
    at = len(data) - 28 + kept
    with pytest.raises(VerificationError, match=f"cut short within the content, at byte {at}$"):
        _read(data[:at])


@pytest.mark.parametrize("size", [0, 12, 15, 17])
def test_a_tag_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(VerificationError, match=f"a tag of {size} bytes instead of 16"):
        _read(_framed(b"\x80\x00", envelope.trailer(bytes(size))))


@pytest.mark.parametrize("extra", [1, 8, 9, 30])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_follows_the_tag_is_refused(extra: int, step: int) -> None:
    with pytest.raises(VerificationError, match="more bytes than a tag follow" if extra > 8 else "unexpected bytes"):
        _read(_made() + bytes(extra), step)


def test_the_ends_of_indefinite_elements_must_be_there_and_be_all() -> None:
    good = _pieces(b"\x04\x01a")
    assert good.endswith(_TAG + bytes(6))
    for bad in (good[:-2], good[:-1], good[:-1] + b"\x01", good + b"\0"):
        with pytest.raises(VerificationError):
            _read(bad)


@pytest.mark.parametrize(
    ("piece", "lengths", "says"),
    [
        (b"\x04\x80", "iiii", "indefinite length at byte 1"),
        (b"\x24\x80", "iiii", "no element of tag 0x04"),
        (b"\x05\x00", "iiii", "no element of tag 0x04"),
        (b"\x04\x03a", "dddd", "a piece that ends after the content does, at byte"),
        (b"\0\0", "dddd", "no element of tag 0x04"),
    ],
)
def test_a_piece_that_is_none_is_refused(piece: bytes, lengths: str, says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        _read(_pieces(piece, lengths=lengths))


@pytest.mark.parametrize("left", [b"", b"\x04", b"\x04\x82", b"\x04\x82\x01", b"\x04\x02a"])
def test_pieces_that_stop_before_their_end_are_cut_short(left: bytes) -> None:
    data = _pieces()
    data = data[: data.index(b"\xa0\x80", 60) + 2] + left
    with pytest.raises(VerificationError, match=f"cut short within the content, at byte {len(data)}$"):
        _read(data, 1)


def test_a_piece_shares_the_memory_that_it_came_in() -> None:
    data = bytearray(_made(b"speech"))
    found = envelope.parse(bytes(data))
    (piece,) = Content(found).feed(memoryview(data)[found.content_at :])
    data[found.content_at] ^= 1
    assert piece[0] == ord("s") ^ 1
