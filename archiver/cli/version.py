"""`archiver version`: shows the version."""

from __future__ import annotations

import platform
import ssl

import click

from archiver import __version__
from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.recording import Json


@click.command()
@click.pass_obj
def version(options: Options) -> None:
    """Show the version."""
    data: dict[str, Json] = {
        "version": __version__,
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }
    emit(
        options,
        "archiver.version/v1",
        dict(data),
        lambda: f"archiver {__version__} (Python {data['python']}, {data['openssl']})",
    )
