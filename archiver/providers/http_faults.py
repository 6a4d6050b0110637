"""Turns exceptions of the HTTP library into the archiver's own; no other module does.

The library's texts are dropped: `str(ClientResponseError)` holds the whole signed URL. A short code for metrics and a
sentence without any text of the other side are kept. Hence `raise … from None` around here: a chained exception would
bring the text back.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import aiohttp
from aiohttp.http import HttpProcessingError

LIBRARY_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, EOFError)
"""Everything that the HTTP client may raise because of the other side. `TimeoutError` and `ssl.SSLError` are `OSError`.
"""

REFUSED_ADDRESS = -0xE9
"""The errno of a connection that the address policy refused. Negative, so that no kernel can give it."""


class AddressRefused(OSError):  # noqa: N818 - internal: it only carries the reason through the library
    """The address policy refused this socket address."""

    def __init__(self, problem: str) -> None:
        super().__init__(REFUSED_ADDRESS, problem)


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of the HTTP library. `code` names the kind for metrics; `sentence` is fit for logs."""

    code: str
    sentence: str


def fault(exc: BaseException) -> Fault:
    """Describe an exception of the library in the archiver's own words."""
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(cause, ssl.SSLError):
        return Fault("tls", f"TLS: {_tls_words(cause)}")
    if isinstance(cause, OSError) and cause.errno == REFUSED_ADDRESS:
        return Fault("egress", cause.strerror or "")
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        return Fault("proxy", "the proxy cannot be reached")
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        wrong = exc.status == 407
        return Fault("proxy", "the proxy refuses our credentials" if wrong else f"the proxy answered {exc.status}")
    for kinds, known in _KINDS:
        if isinstance(exc, kinds):
            return known
    reason = (
        os.strerror(cause.errno).lower() if isinstance(cause, OSError) and cause.errno else "the connection was lost"
    )
    return Fault("connection", reason)


def _tls_words(exc: ssl.SSLError) -> str:
    """Return OpenSSL's own reason; it names at most the host that was asked for."""
    words = exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else exc.reason
    return (words or "handshake failed")[:160].lower().replace("_", " ")


_KINDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Fault], ...] = (
    (aiohttp.ClientConnectorDNSError, Fault("dns", "its name could not be resolved")),
    (TimeoutError, Fault("timeout", "it took too long")),
    (aiohttp.ClientPayloadError, Fault("cut", "the answer ended early or its framing is broken")),
    (aiohttp.ServerDisconnectedError, Fault("connection", "the connection was closed without an answer")),
    ((aiohttp.ClientResponseError, HttpProcessingError), Fault("protocol", "the answer is not valid HTTP")),
)
