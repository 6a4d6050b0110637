"""Runs migrations on the connection that it is given (archiver.database.upgrade), or for developers on ARCHIVER_DATABASE_URL."""

import os
from pathlib import Path

from alembic import context
from sqlalchemy import Connection

# Their import fills `metadata`, which `alembic revision --autogenerate` compares the database with.
import archiver.alerts.tables
import archiver.completeness.tables
import archiver.ingest.day_counts
import archiver.schedule.tables
import archiver.translog.tables  # noqa: F401
from archiver.database import create_engine, metadata


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(os.environ["ARCHIVER_DATABASE_URL"], Path.cwd()).connect() as own:
        run(own)
