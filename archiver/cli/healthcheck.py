"""`archiver healthcheck`: for containers, which ask every few seconds. So it loads little: no database, no storage."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import click

from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import ConfigurationError, UnavailableError

_PATIENCE = 5.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  the address to ask when it listens everywhere


@click.command()
@click.option("--url", help="Scheme, host and port of the daemon; without it, web.listen of the config.")
@click.pass_obj
def healthcheck(options: Options, url: str | None) -> None:
    """Ask the running daemon whether it is alive. Exit 69 when it is not."""
    secure, host, port = _address(options, url)
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/-/healthy", headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        why = getattr(problem, "strerror", None) or type(problem).__name__
        raise UnavailableError(f"the daemon at {host}:{port}: {why}") from problem
    finally:
        connection.close()
    if status != 200:
        raise UnavailableError(f"the daemon at {host}:{port} answers {status}")
    emit(options, "archiver.healthcheck/v1", {"healthy": True}, lambda: "healthy")


def _address(options: Options, url: str | None) -> tuple[bool, str, int]:
    if url is None:
        web = options.load(resolve_secrets=False).web
        if web is None:
            raise ConfigurationError("web.listen is not set, so the daemon answers nobody; set it or give --url")
        return False, _ANY.get(web.listen.host, web.listen.host), web.listen.port
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
    except ValueError as problem:
        raise click.UsageError("--url is not a URL like http://127.0.0.1:9090") from problem
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.UsageError("--url is not a URL like http://127.0.0.1:9090")
    return secure, parts.hostname, port
