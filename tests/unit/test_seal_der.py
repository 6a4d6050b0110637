"""The few rules of DER that a sealed object needs: bytes written by hand, read back, and every way to break them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from archiver.errors import VerificationError
from archiver.seal import der
from archiver.seal.der import Reader


@pytest.mark.parametrize(
    ("size", "octets"),
    [
        (0, "00"),
        (0x7F, "7f"),
        (0x80, "8180"),
        (0xFF, "81ff"),
        (0x100, "820100"),
        (0xFFFF, "82ffff"),
        (0x1_0000, "83010000"),
        (2**36 - 32, "850fffffffe0"),
        (2**48 - 1, "86ffffffffffff"),
    ],
)
def test_a_length_is_written_in_its_shortest_form_and_read_back(size: int, octets: str) -> None:
    assert der.length(size).hex() == octets
    assert Reader(bytes.fromhex(f"04{octets}")).start(4) == size


def test_tags_are_those_of_x690() -> None:
    assert (der.INTEGER, der.OCTET_STRING, der.OID, der.SEQUENCE, der.SET) == (2, 4, 6, 0x30, 0x31)


def test_tags_of_a_context_are_those_of_x690() -> None:
    assert [der.context(number, constructed=True) for number in (0, 2)] == [0xA0, 0xA2]
    assert [der.context(number, constructed=False) for number in (0, 2)] == [0x80, 0x82]


def test_an_element_holds_its_parts_in_a_row() -> None:
    assert der.encode(der.SEQUENCE, b"\x02\x01\x05", b"\x05\x00").hex() == "30050201050500"
    assert der.encode(der.OCTET_STRING).hex() == "0400"


@pytest.mark.parametrize(
    ("dotted", "octets"),
    [
        ("1.2.840.113549.1.7.1", "06092a864886f70d010701"),
        ("2.16.840.1.101.3.4.1.46", "060960864801650304012e"),
        ("2.5.4.127", "060355047f"),
        ("2.5.4.128", "06045504" + "8100"),
        ("2.5.4.16384", "06055504" + "818000"),
    ],
)
def test_an_object_identifier_is_written_in_groups_of_seven_bits(dotted: str, octets: str) -> None:
    assert der.oid(dotted).hex() == octets


def test_a_reader_walks_over_elements_and_says_where_it_is() -> None:
    reader = Reader(bytes.fromhex("ff 020105 3004 0401aa 05 00".replace(" ", "")), 1, 10)
    assert (reader.at, reader.done, reader.peek()) == (1, False, der.INTEGER)
    assert reader.contents(der.INTEGER) == b"\x05"
    inner = reader.enter(der.SEQUENCE)
    assert (reader.at, reader.done, reader.peek()) == (10, True, None)
    assert inner.at == 6
    assert inner.element() == b"\x04\x01\xaa"
    assert inner.rest() == b"\x05"
    assert inner.done
    inner.finish()


def test_a_reader_reads_to_the_end_of_what_it_was_given() -> None:
    reader = Reader(b"\x05\x00")
    assert reader.element() == b"\x05\x00"
    reader.finish()


def test_a_part_that_is_expected_is_stepped_over() -> None:
    reader = Reader(b"\x00\x00\x05\x00")
    reader.expect(der.END_OF_CONTENTS)
    assert reader.at == 2
    with pytest.raises(VerificationError, match="unexpected bytes at byte 2"):
        reader.expect(der.END_OF_CONTENTS)


def test_an_indefinite_length_is_read_only_where_it_may_be() -> None:
    assert Reader(b"\x30\x80").start(der.SEQUENCE, indefinite=True) is None
    with pytest.raises(VerificationError, match="indefinite length at byte 1, where"):
        Reader(b"\x30\x80").start(der.SEQUENCE)


@pytest.mark.parametrize("octets", ["8100", "817f", "82007f", "820080", "8200ff", "83000100", "83007fff", "8300ffff"])
def test_a_length_that_has_a_shorter_form_is_refused(octets: str) -> None:
    with pytest.raises(VerificationError, match="not in its shortest form before byte"):
        Reader(bytes.fromhex(f"04{octets}")).start(4)


@pytest.mark.parametrize("octets", ["8701000000000000", "88" + "ff" * 8, "ff"])
def test_a_length_beyond_any_object_is_refused(octets: str) -> None:
    with pytest.raises(VerificationError, match="length without measure at byte 1"):
        Reader(bytes.fromhex(f"04{octets}")).start(4)


@pytest.mark.parametrize(
    ("data", "read", "says"),
    [
        ("", lambda reader: reader.start(4), "cut short: 1 bytes expected at byte 0"),
        ("04", lambda reader: reader.start(4), "cut short: 1 bytes expected at byte 1"),
        ("0482ff", lambda reader: reader.start(4), "cut short: 1 bytes expected at byte 3"),
        ("0402aa", lambda reader: reader.contents(4), "cut short: 2 bytes expected at byte 2"),
        ("00", lambda reader: reader.expect(b"\0\0"), "cut short: 2 bytes expected at byte 0"),
        ("0200", lambda reader: reader.start(4), "no element of tag 0x04 at byte 0"),
        ("", lambda reader: reader.element(), "nothing where an element should be, at byte 0"),
        ("00", lambda reader: reader.finish(), "unexpected bytes at byte 0"),
    ],
)
def test_what_is_missing_or_too_much_is_named_with_its_place(
    data: str, read: Callable[[Reader], object], says: str
) -> None:
    with pytest.raises(VerificationError, match=f": {says}$"):
        read(Reader(bytes.fromhex(data)))
