"""`archiver witness`: runs a witness, for an auditor, beside somebody else's archive. Needs no configuration and no
database."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver import durable
from archiver.errors import Exit, VerificationError
from archiver.leaving import REST, STOP, LastResort

if TYPE_CHECKING:
    from archiver.cli.options import Options
    from archiver.translog.notary import Notary
    from archiver.translog.note import VerifierKey


@click.command()
@click.option("--name", required=True, help="Our name as a witness, e.g. witness.example.org. Never change it.")
@click.option("--key", "key_file", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="Our Ed25519 private key, PEM; made if there is none.")  # fmt: skip
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="Where we remember what we saw. Losing it means starting anew, with another key.")  # fmt: skip
@click.option("--log-key", "log_keys", multiple=True, required=True, metavar="VKEY",
              help="Verifier key of a log that we witness; several times.")  # fmt: skip
@click.option(
    "--begin", is_flag=True, help="The key is there, and has cosigned nothing yet: begin with an empty memory."
)
@click.option("--listen", default="127.0.0.1:8485", show_default=True, help="Host and port.")
@click.option("--host", "hosts", multiple=True, metavar="NAME",
              help="A name that we are asked as, beside --name and loopback; several times. Others get 421.")  # fmt: skip
@click.pass_obj
def witness(
    options: Options, name: str, key_file: Path, state: Path, log_keys: tuple[str, ...], begin: bool, listen: str,
    hosts: tuple[str, ...],
) -> int:  # fmt: skip
    """Cosign every checkpoint that continues what we saw before, and refuse any that does not (C2SP tlog-witness).

    Exit 65 when the key is there and what we saw is not: a witness that has forgotten would cosign a second history.
    """
    from archiver.clock import SystemChance
    from archiver.custody.keys import generate_signing_key, load_signing_key, to_pem
    from archiver.translog.notary import Notary
    from archiver.translog.note import Cosigner, parse_vkey

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError("--listen is host:port")
    try:
        logs = [parse_vkey(each) for each in log_keys]
    except VerificationError as problem:
        raise click.UsageError(f"--log-key: {problem.detail}") from problem
    chance = SystemChance()
    try:
        Cosigner(name, generate_signing_key(chance)).key  # noqa: B018  refuses a bad name before a key file is made for it
    except ValueError as problem:
        raise click.UsageError(f"--name: {problem}") from problem
    fresh = not key_file.exists()
    if fresh:
        # The state comes first: if the process dies here, the next start makes the key for it.
        Notary(state, Cosigner(name, generate_signing_key(chance)), options.clock).begin()
        durable.create(key_file, to_pem(generate_signing_key(chance)))
    signer = Cosigner(name, load_signing_key(key_file.read_bytes()))
    notary = Notary(state, signer, options.clock, remembers=True)
    if begin and not fresh:
        notary.begin()
    if not notary.begun:
        raise VerificationError(
            f"{state} is gone, or empty: it held what this key has cosigned. Bring it back, or begin anew with another key"
            " (--begin, if this one has never cosigned anything)"
        )
    click.echo(f"our verifier key  {signer.key.vkey}")
    with LastResort() as last:
        asyncio.run(_serve(notary, logs, (host.strip("[]"), int(port)), (name, *hosts), last))
    return Exit.OK


async def _serve(
    notary: Notary, log_keys: list[VerifierKey], address: tuple[str, int], names: tuple[str, ...], last: LastResort
) -> None:
    from archiver.doorway import Door
    from archiver.translog.witness import witness_app

    door = Door(witness_app(notary, log_keys), names=names)
    bound = await door.open(*address)
    click.echo(f"listening on {address[0]}:{bound}")
    done = asyncio.Event()

    def stop() -> None:
        last.leave_within(STOP, Exit.OK)
        done.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await done.wait()
    await door.close()
    last.leave_within(REST, Exit.OK)
