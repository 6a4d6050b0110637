"""Canonical JSON: the bytes of RFC 8785, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from archiver.custody import canonical
from archiver.errors import VerificationError
from tests.custody_examples import json_objects, json_values


@given(json_values)
def test_bytes_are_those_of_rfc_8785(value: Any) -> None:
    assert canonical.dumps(value) == rfc8785.dumps(value)


@given(json_objects)
def test_what_is_dumped_loads_equal(value: Any) -> None:
    assert canonical.loads(canonical.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1.5, "$: a float is not in the profile"),
        ({"a": [0, float("nan")]}, "$.a[1]: a float is not in the profile"),
        (2**53, "$: integer beyond 2^53 - 1"),
        (-(2**53), "$: integer beyond 2^53 - 1"),
        ({"Key": 1}, "$: key outside [a-z0-9_.]+"),
        ({"a": {"": 1}}, "$.a: key outside [a-z0-9_.]+"),
        ({1: 1}, "$: key outside [a-z0-9_.]+"),
        ({"a\n": 1}, "$: key outside [a-z0-9_.]+"),
        ("\ud800", "$: lone surrogate"),
        (["a", "b\udfff"], "$[1]: lone surrogate"),
        ("e\u0301", "$: string not in NFC"),
        ({"a": [{"b": "e\u0301"}]}, "$.a[0].b: string not in NFC"),
        (b"bytes", "$: a bytes is not in the profile"),
        ({"a": {1, 2}}, "$.a: a set is not in the profile"),
        ([[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]], "$" + "[0]" * 16 + ": nested deeper than 16"),
    ],
)
def test_outside_the_profile_is_refused_with_its_place(value: Any, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        canonical.dumps(value)
    assert str(caught.value) == says


def test_the_edges_of_the_profile_are_within_it() -> None:
    for edge in (2**53 - 1, -(2**53) + 1, "\ud7ff\ue000", [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]):
        assert canonical.loads(canonical.dumps(edge)) == edge


def test_received_data_need_not_be_normalised_but_still_is_canonical() -> None:
    assert canonical.dumps({"a": "e\u0301"}, normalised=False) == rfc8785.dumps({"a": "e\u0301"})
    assert canonical.dumps(["e\u0301"], normalised=False) == rfc8785.dumps(["e\u0301"])
    with pytest.raises(ValueError, match="lone surrogate"):
        canonical.dumps({"a": "\udfff"}, normalised=False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" {}",
        b"{}\n",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 5000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_any_other_spelling_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError):
        canonical.loads(raw)


@given(
    st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | json_values.map(lambda v: json.dumps(v).encode())
)
def test_loading_only_refuses_or_returns_what_dumps_to_the_same_bytes(raw: bytes) -> None:
    try:
        value = canonical.loads(raw)
    except VerificationError:
        return
    assert canonical.dumps(value) == raw
