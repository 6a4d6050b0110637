"""Parties that answer so oddly that their adapter raises: every exception there is reason to expect, from every method of a port.

The methods are found in the Protocols (and in the classes that have none), so that a new one cannot be forgotten.
"""

from __future__ import annotations

import binascii
import decimal
import inspect
import json
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from xml.etree.ElementTree import ParseError

import aiohttp
import botocore.exceptions
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

PRIVATE = "+49 170 9876543 at https://user:hunter2secret@host.example/a?sig=AKIDEXAMPLESECRET"
"""What no exception's text may bring out."""


class PanicException(BaseException):
    """As PyO3 raises it: a panic in a library written in Rust is no `Exception`."""


PanicException.__module__ = "pyo3_runtime"


def _surrogate() -> UnicodeEncodeError:
    try:
        "\ud800".encode()
    except UnicodeEncodeError as error:
        return error
    raise AssertionError


EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "overflow": lambda: OverflowError(PRIVATE),
    "index": lambda: IndexError(PRIVATE),
    "recursion": lambda: RecursionError(PRIVATE),
    "lone surrogate": _surrogate,
    "bad utf-8": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, PRIVATE),
    "memory": lambda: MemoryError(PRIVATE),
    "key": lambda: KeyError(PRIVATE),
    "value": lambda: ValueError(PRIVATE),
    "type": lambda: TypeError(PRIVATE),
    "attribute": lambda: AttributeError(PRIVATE),
    "lookup": lambda: LookupError(PRIVATE),
    "assertion": lambda: AssertionError(PRIVATE),
    "division": lambda: ZeroDivisionError(PRIVATE),
    "runtime": lambda: RuntimeError(PRIVATE),
    "not implemented": lambda: NotImplementedError(PRIVATE),
    "os": lambda: OSError(5, PRIVATE),
    "timeout": lambda: TimeoutError(PRIVATE),
    "tls": lambda: ssl.SSLError(1, PRIVATE),
    "eof": lambda: EOFError(PRIVATE),
    "struct": lambda: struct.error(PRIVATE),
    "base64": lambda: binascii.Error(PRIVATE),
    "inflate": lambda: zlib.error(PRIVATE),
    "decimal": lambda: decimal.InvalidOperation(PRIVATE),
    "json": lambda: json.JSONDecodeError(PRIVATE, "{", 1),
    "xml": lambda: ParseError(PRIVATE),
    "certificate version": lambda: x509.InvalidVersion(PRIVATE, 9),
    "algorithm": lambda: UnsupportedAlgorithm(PRIVATE),
    "http library": lambda: aiohttp.ClientPayloadError(PRIVATE),
    "s3 library": lambda: botocore.exceptions.ParamValidationError(report=PRIVATE),
    "s3 answer": lambda: botocore.exceptions.ClientError({"Error": {"Code": PRIVATE, "Message": PRIVATE}}, "PutObject"),
    "several": lambda: ExceptionGroup(PRIVATE, [KeyError(PRIVATE), ValueError(PRIVATE)]),
    "any": lambda: Exception(PRIVATE),
    "panic": lambda: PanicException(PRIVATE),
}


def methods(port: type) -> list[str]:
    """Every public method of a port, `aclose` too."""
    return sorted(name for name, value in vars(port).items() if inspect.isfunction(value) and not name.startswith("_"))


class Odd:
    """`port`, whose `method` raises the next of `errors` at each call, instead of answering; good again when they are spent."""

    def __init__(self, port: Any, shape: type, method: str, errors: Iterable[Callable[[], BaseException]]) -> None:
        self._port, self._shape, self._method = port, shape, method
        self._left: Iterator[Callable[[], BaseException]] = iter(errors)
        self.raised = 0

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._port, name)
        made = next(self._left, None)
        if made is None:
            return getattr(self._port, name)
        return _raising(getattr(self._shape, name), made, self)


def _raising(like: Callable[..., Any], made: Callable[[], BaseException], of: Odd) -> Callable[..., Any]:
    """A method of the same shape as `like` that raises where that one would work."""

    def fail() -> Any:
        of.raised += 1
        error = made()
        raise error

    async def answered(*_: Any, **__: Any) -> Any:
        return fail()

    async def iterated(*_: Any, **__: Any) -> AsyncIterator[Any]:
        fail()
        yield

    @asynccontextmanager
    async def entered(*_: Any, **__: Any) -> AsyncIterator[Any]:
        fail()
        yield

    def called(*_: Any, **__: Any) -> Any:
        return fail()

    returns = str(inspect.signature(like).return_annotation)
    if inspect.iscoroutinefunction(like):
        return answered
    if returns.startswith("AsyncIterator"):
        return iterated
    return entered if returns.startswith("AbstractAsyncContextManager") else called


async def use(result: Any) -> Any:
    """Take what a method of a port answered, to its end, whatever its shape."""
    if inspect.isawaitable(result):
        return await result
    if isinstance(result, AsyncIterator):
        return [each async for each in result]
    if hasattr(result, "__aenter__"):
        async with result as inside:
            return inside
    return result
