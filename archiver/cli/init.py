"""`archiver init`: writes a configuration to edit, keys, and an empty database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver import durable
from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.clock import Chance, Clock, SystemChance
from archiver.errors import ConfigurationError, NotAllowedError
from archiver.recording import Json

if TYPE_CHECKING:
    from archiver.config.model import Config

_KEYS = ("ops.pub.pem", "escrow.pub.pem", "custody.pem")


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder; the config is DIR/archiver.yaml.",
)
@click.pass_obj
def init(options: Options, folder: Path | None) -> None:
    """Write a commented config, create keys and database; never overwrites."""
    file = options.config if options.config is not None and folder is None else (folder or Path()) / "archiver.yaml"
    try:
        keys_made = write_workspace(file, options.clock, SystemChance())
    except OSError as problem:
        raise ConfigurationError(f"{problem.filename or file}: {problem.strerror}") from problem
    database = _make_database(file)
    data: dict[str, Json] = {
        "config": str(file),
        "keys": str(file.parent / "keys"),
        "keys_made": keys_made,
        "database": database,
    }
    emit(options, "archiver.init/v1", data, lambda: _next_steps(file, keys_made, database))


def write_workspace(file: Path, clock: Clock, chance: Chance) -> bool:
    """Write the configuration `file`, with keys beside it unless they exist already; return True when keys were made.

    The keys appear all at once or not at all and the configuration comes last, so that a run that was killed half way
    can be run again. Raises `NotAllowedError` rather than change any existing file.
    """
    if file.exists():
        raise NotAllowedError(f"{file} is there already; init never overwrites")
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = file.parent / "keys"
    made = not keys.exists()
    if made:
        _make_keys(keys, clock, chance)
    missing = [name for name in _KEYS if not (keys / name).is_file()]
    if missing:
        raise NotAllowedError(f"{keys} is there already, without {missing[0]}; init never overwrites")
    durable.create(file, _template().read_bytes(), 0o640)
    return made


def _make_keys(keys: Path, clock: Clock, chance: Chance) -> None:
    from archiver.custody.keys import generate_signing_key, to_pem
    from archiver.seal.recipients import generate_rsa_keys

    part = keys.with_name(f".keys-{chance.uuid()}")
    part.mkdir(mode=0o700)
    for name in ("ops", "escrow"):
        pair = generate_rsa_keys(name, clock.now(), chance)
        _write(part / f"{name}.key.pem", pair.private_key)
        _write(part / f"{name}.pub.pem", pair.public_key)
        _write(part / f"{name}.cert.pem", pair.certificate)
    _write(part / "custody.pem", to_pem(generate_signing_key(chance)))
    durable.sync_folder(part)
    part.rename(keys)
    durable.sync_folder(keys.parent)


def _make_database(file: Path) -> str:
    """Make the embedded database with its schema, and its folder; return its path."""
    from archiver.assembly.database import database
    from archiver.config.load import load
    from archiver.database import upgrade

    config: Config = load(file, resolve_secrets=False)
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with database(config, checked=False) as engine:
        upgrade(engine)
        return str(engine.url.database)


def _template() -> Path:
    packaged = Path(__file__).parent.parent / "_data" / "config"
    checkout = Path(__file__).parent.parent.parent / "config"
    return (packaged if packaged.is_dir() else checkout) / "archiver.minimal.yaml"


def _write(path: Path, content: bytes) -> None:
    with durable.new_file(path) as file:
        file.write(content)


def _next_steps(file: Path, keys_made: bool, database: str) -> str:
    keys = file.parent / "keys"
    return f"""\
wrote    {file}
{"made" if keys_made else "kept"}     {keys}: ops and escrow open recordings, custody signs their history
made     {database}

Next
  1. Take {keys}/escrow.key.pem off this host now, to where a fire here does not reach it. Nobody else has it.
     Take ops.key.pem to the host that will open and verify recordings. The daemon needs neither.
  2. Edit {file}: your providers and your bucket. Secrets by reference.
  3. archiver -c {file} check --online
  4. archiver -c {file} run --once
  5. archiver -c {file} run"""
