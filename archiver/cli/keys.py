"""`archiver keys`: shows the keys that sign the custody log, and replaces one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.errors import Exit

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.recording import Json
    from archiver.translog.rotation import Rotation


@click.group()
def keys() -> None:
    """Show the keys that sign the custody log, replace one."""


@keys.command()
@click.pass_obj
def show(options: Options) -> None:
    """The log's verifier keys, the present one and those before it, and the keys of the hosts; all of them public."""
    from archiver.assembly.keys import hosts, verifier_keys

    config = options.load(resolve_secrets=False)
    known = verifier_keys(config)
    chain: list[tuple[str, int | None]] = [(each.old.vkey, each.size) for each in known.rotations]
    chain.append((known.current.vkey, None))
    data: dict[str, Json] = {
        "origin": known.name,
        "keys": [{"vkey": vkey, "until_size": size, "current": size is None} for vkey, size in chain],
        "hosts": [*sorted(hosts(config))],
    }
    rows = [(vkey, "now" if size is None else f"up to {size} leaves") for vkey, size in chain]
    hosts_ = table(("host key",), [(each,) for each in sorted(hosts(config))])
    emit(options, "archiver.keys/v1", data, lambda: f"{table(('log key', 'signs'), rows)}\n\n{hosts_}")


@keys.group()
def rotate() -> None:
    """Replace a key by a new one that the old one introduces."""


@rotate.command("custody")
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="The new custody key, PEM; made if there is none.")  # fmt: skip
@click.option("--note", type=click.Path(dir_okay=False, path_type=Path),
              help="Where to write the note by which the old key introduces the new one; default: beside it.")  # fmt: skip
@click.pass_obj
def custody_(options: Options, target: Path, note: Path | None) -> int:
    """Replace the custody key, and the log key that follows from it. Stop every daemon first; run it again if
    interrupted.

    Where the log has a key of its own (custody.log_key), that one is replaced. The configuration still names the old
    key; what to write into it is printed at the end.
    """
    written, config = note or target.with_name(target.name + ".note"), options.load()
    done = asyncio.run(_rotate(config, target, written))
    name = "signing_key" if config.custody.log_key is None else "log_key"
    data: dict[str, Json] = {
        "old": done.old.vkey, "new": done.new.vkey, "size": done.size, "key": str(target), "note": str(written),
    }  # fmt: skip
    emit(options, "archiver.key_rotation/v1", data, lambda: _next(done, name, target, written))
    return Exit.OK


def _next(done: Rotation, name: str, target: Path, note: Path) -> str:
    return (
        f"the log's key up to {done.size} leaves  {done.old.vkey}\nfrom then on             {done.new.vkey}\n\n"
        "In the configuration of every host, under custody:\n"
        f"  {name}: file:{target}\n"
        f"  former_key: <what {name} was>     until everybody who verifies has the new key\n"
        f"  rotations: [{note}]     with those that are there already"
    )


async def _rotate(config: Config, target: Path, note: Path) -> Rotation:
    from archiver.assembly.rotating import new_signing_key, rotate
    from archiver.assembly.session import Archive
    from archiver.custody.keys import generate_signing_key, load_signing_key, to_pem

    async with Archive(config) as archive:
        new_signing_key(target, to_pem(generate_signing_key(archive.chance)))
        key = load_signing_key(await asyncio.to_thread(target.read_bytes))
        return await rotate(archive, key, note)
