"""Encodes a value as one sequence of bytes: JSON Canonicalization Scheme (RFC 8785), over a profile where that is
simple. Pure: no I/O.

Within the profile the standard library's encoder with sorted keys gives exactly the bytes of RFC 8785; outside it
(floats, keys beyond ASCII, lone surrogates) the encoder does not, so such values are refused.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Self

from archiver.errors import VerificationError
from archiver.recording import Json

_KEY = re.compile(r"[a-z0-9_.]+")
_MAX_INT = 2**53 - 1
_MAX_DEPTH = 16

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def dumps(value: object, *, normalised: bool = True) -> bytes:
    """Returns the canonical bytes of `value`. Raises ValueError, naming the place, for a value outside the profile.

    With `normalised` false, strings need not be in Unicode NFC: for data kept as it was received.
    """
    try:
        return _encode(_checked(value, 0, normalised)).encode()
    except _OutsideError as exc:
        raise ValueError(f"${exc.path}: {exc.problem}") from None


def loads(raw: bytes) -> Json:
    """Returns the value whose canonical bytes are `raw`. Raises `VerificationError` unless `raw` is exactly
    canonical."""
    try:
        value = json.loads(raw.decode())
        canonical = dumps(value)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise VerificationError("not canonical JSON") from exc
    if canonical != raw:  # also how duplicate keys, spaces and other spellings of the same value are refused
        raise VerificationError("not canonical JSON")
    return value  # type: ignore[no-any-return]  # what the profile admits is Json


class _OutsideError(ValueError):
    """The value is not in the profile. `path` is built only while the error is passed up, so that a good value costs
    nothing."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.path = ""

    def within(self, step: str) -> Self:
        self.path = step + self.path
        return self


def _checked(value: object, depth: int, normalised: bool) -> Json:
    """Returns `value` in plain dicts and lists, if the value is in the profile; else raises `_OutsideError`."""
    if isinstance(value, str):
        return _checked_text(value, normalised)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > _MAX_INT:
            raise _OutsideError("integer beyond 2^53 - 1")
        return int(value)
    if depth >= _MAX_DEPTH:
        raise _OutsideError(f"nested deeper than {_MAX_DEPTH}")
    if isinstance(value, Mapping):
        return {_checked_key(key): _checked_item(item, f".{key}", depth, normalised) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_checked_item(item, f"[{index}]", depth, normalised) for index, item in enumerate(value)]
    raise _OutsideError(f"a {type(value).__name__} is not in the profile")


def _checked_item(item: object, step: str, depth: int, normalised: bool) -> Json:
    try:
        return _checked(item, depth + 1, normalised)
    except _OutsideError as exc:
        raise exc.within(step) from None


@functools.lru_cache(maxsize=1024)
def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _OutsideError("key outside [a-z0-9_.]+")
    return str(key)


def _checked_text(value: str, normalised: bool) -> str:
    if value.isascii():
        return str(value)
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise _OutsideError("lone surrogate")
    if normalised and not unicodedata.is_normalized("NFC", value):
        raise _OutsideError("string not in NFC")
    return str(value)
