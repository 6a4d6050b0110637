"""Chooses the transport to a database on another machine: TLS, with the server's name verified, unless the URL says
otherwise. Pure but for the question whether this user has certificates of his own (libpq, "SSL Support")."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_VERIFIED = "verify-full"


def tls_settings(url: URL) -> dict[str, str]:
    """Returns the driver's settings besides the URL: none for a database on this machine, or where the URL states them
    itself.

    The certificates are those of the system where neither URL, environment nor home names any.
    """
    if _local(url) or "sslmode" in url.query or "service" in url.query:
        return {}
    own = os.environ.get("PGSSLROOTCERT") or (Path.home() / ".postgresql" / "root.crt").exists()
    return {"sslmode": _VERIFIED} | ({} if own or "sslrootcert" in url.query else {"sslrootcert": "system"})


def tls_doubt(url: str) -> str | None:
    """Returns a warning when the server behind this URL is not verified, so that it may be a false one; else None."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    mode = parsed.query.get("sslmode")
    if not parsed.drivername.startswith("postgres") or mode in {None, _VERIFIED} or _local(parsed):
        return None
    return f"the database is on another machine, and its URL says sslmode={mode}: who answers is not verified"


def _local(url: URL) -> bool:
    return all(each.startswith("/") or _loopback(each) for each in _hosts(url))


def _hosts(url: URL) -> Iterator[str]:
    """Yields every host that the driver may connect to; none for the default socket of this machine."""
    named = [url.host, url.query.get("host"), url.query.get("hostaddr")]
    for each in named:
        for one in (each,) if isinstance(each, str) else each or ():
            for host in one.split(","):
                yield host if host.startswith("/") or host.count(":") > 1 else host.partition(":")[0]


def _loopback(host: str) -> bool:
    if host.lower() in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
