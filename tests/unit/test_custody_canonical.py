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
        (1.5, "float"),
        ({"a": [0, float("nan")]}, r"\$\.a\[1\]"),
        (2**53, "2\\^53"),
        (-(2**53), "2\\^53"),
        ({"Key": 1}, "key"),
        ({"": 1}, "key"),
        ({1: 1}, "key"),
        ({"a\n": 1}, "key"),
        ("\ud800", "surrogate"),
        ("e\u0301", "NFC"),
        (b"bytes", "bytes"),
        ({"a": {1, 2}}, "set"),
        ([[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]], "nested"),
    ],
)
def test_outside_the_profile_is_refused_with_its_place(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        canonical.dumps(value)


def test_received_data_need_not_be_normalised_but_still_is_canonical() -> None:
    assert canonical.dumps({"a": "e\u0301"}, normalised=False) == rfc8785.dumps({"a": "e\u0301"})
    with pytest.raises(ValueError, match="surrogate"):
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
