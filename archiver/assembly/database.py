"""Opens the configured database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver import errors
from archiver.database import check_schema, create_engine

if TYPE_CHECKING:
    from archiver.config import model
    from archiver.database import Engine


def open_database(config: model.Config) -> Engine:
    """Makes the engine of the configured database; connects to nothing yet. Raises `ConfigurationError`."""
    state_dir = Path(config.state_dir)
    if state_dir.exists() and not state_dir.is_dir():  # SQLite would only say that there is no database in it
        raise errors.ConfigurationError(f"state_dir {state_dir} is not a directory")
    return create_engine(config.database.resolve().reveal(), state_dir)


@contextmanager
def database(config: model.Config, *, checked: bool = True) -> Iterator[Engine]:
    """Opens the database alone, for a command that only reads it; `checked`: only at the schema of this version.

    Raises `ConfigurationError`; if `checked`, also `SchemaError` and `UnavailableError`.
    """
    engine = open_database(config)
    try:
        if checked:
            check_schema(engine)
        yield engine
    finally:
        engine.dispose()
