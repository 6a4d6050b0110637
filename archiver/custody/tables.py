"""The ledger's tables: evidence. Rows are added, never changed; triggers are a speed bump, the signatures are the proof."""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
)

from archiver.database import metadata

# Strict tables take INTEGER, TEXT and BLOB only.
_BIGINT = BigInteger().with_variant(Integer(), "sqlite")
_SMALLINT = SmallInteger().with_variant(Integer(), "sqlite")

# One row per chain: its newest event. Locking this row is what makes a chain a chain. -1 and NULL: no event yet.
custody_subject = Table(
    "custody_subject",
    metadata,
    Column("subject_no", _BIGINT, Identity(always=True), primary_key=True),
    Column("subject", Text, nullable=False, unique=True),
    Column("head_seq", Integer, nullable=False),
    Column("head_hash", LargeBinary),
    sqlite_strict=True,
)

# Events in the order of their arrival, as the exact bytes that were signed. The sequencer will take them from here.
custody_pending = Table(
    "custody_pending",
    metadata,
    Column("pid", _BIGINT, Identity(always=True), primary_key=True),
    Column("log_id", _SMALLINT, nullable=False, server_default="1"),
    Column("subject_no", _BIGINT, ForeignKey("custody_subject.subject_no"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    UniqueConstraint("subject_no", "seq"),
    CheckConstraint("length(entry) <= 16384", name="entry_size"),  # bytes, on both databases
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

# What events commit to without saying it. Deleting a row is erasure (and leaves every proof whole); changing one is nothing.
custody_private = Table(
    "custody_private",
    metadata,
    Column("subject_no", _BIGINT, ForeignKey("custody_subject.subject_no"), primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True),
    Column("grp", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_strict=True,
)

_DENY = """
CREATE OR REPLACE FUNCTION custody_deny() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'append-only: % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def _protect_postgresql(table: Table, name: str, when: str) -> None:
    # ALWAYS: ordinary triggers are skipped under session_replication_role = replica.
    for statement in (
        _DENY,
        f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION custody_deny()",
        f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {name}",
    ):
        _after_create(table, "postgresql", statement)


def _protect_sqlite(table: Table, name: str, when: str) -> None:
    _after_create(
        table, "sqlite", f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'append-only: {table.name}'); END"
    )


def _after_create(table: Table, dialect: str, statement: str) -> None:
    ddl = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
    event.listen(table, "after_create", ddl.execute_if(dialect=dialect))


_GROWS = "NEW.head_seq > OLD.head_seq AND NEW.subject = OLD.subject AND NEW.subject_no = OLD.subject_no"

for _table, _change in (
    (custody_pending, ""),
    (custody_subject, f"NOT ({_GROWS})"),
    (custody_private, ""),
):
    _name = _table.name
    _when = f" WHEN ({_change})" if _change else ""
    _protect_postgresql(_table, f"{_name}_update", f"BEFORE UPDATE ON {_name} FOR EACH ROW{_when}")
    _protect_sqlite(_table, f"{_name}_update", f"BEFORE UPDATE ON {_name}{_when}")

for _table, _same in (
    (custody_pending, "pid = NEW.pid OR (subject_no = NEW.subject_no AND seq = NEW.seq)"),
    (custody_subject, "subject_no = NEW.subject_no OR subject = NEW.subject"),
):
    _name = _table.name
    _protect_postgresql(_table, f"{_name}_delete", f"BEFORE DELETE ON {_name} FOR EACH ROW")
    _protect_postgresql(_table, f"{_name}_truncate", f"BEFORE TRUNCATE ON {_name} FOR EACH STATEMENT")
    _protect_sqlite(_table, f"{_name}_delete", f"BEFORE DELETE ON {_name}")
    # REPLACE deletes without firing delete triggers unless the connection asked for recursive ones; another tool may not have.
    _exists = f"EXISTS (SELECT 1 FROM {_name} WHERE {_same})"  # noqa: S608  constants of this module
    _protect_sqlite(_table, f"{_name}_replace", f"BEFORE INSERT ON {_name} WHEN {_exists}")
