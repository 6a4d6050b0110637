"""Creates triggers that keep evidence unchanged in both databases. They only slow down somebody who has the password;
the signatures are the proof.

Each table states which of its rows count as the same (SQLite's REPLACE deletes without firing delete triggers, on
connections that did not ask for recursive ones) and which change is growth, if any is allowed. TRUNCATE exists only in
PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import DDL, Table, event

_DENY = """
CREATE OR REPLACE FUNCTION custody_deny() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'append-only: % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

# Exactly the row's bytes, at the place that the row claims for them, in the log or in quarantine.
_KEPT = """EXISTS (SELECT 1 FROM custody_subject_event AS s
    JOIN custody_event AS e ON e.log_id = s.log_id AND e.leaf_index = s.leaf_index
    WHERE s.subject_no = OLD.subject_no AND s.seq = OLD.seq AND e.entry = OLD.entry)
  OR EXISTS (SELECT 1 FROM custody_quarantine AS q
    WHERE q.subject_no = OLD.subject_no AND q.seq = OLD.seq AND q.entry = OLD.entry)"""

_DENY_UNLESS_KEPT = f"""
CREATE OR REPLACE FUNCTION custody_deny_unless_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF {_KEPT} THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'append-only: % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

# Otherwise PostgreSQL would first look into a temporary table of the same name.
_FIX_SEARCH_PATH = """
DO $$ BEGIN
  EXECUTE format('ALTER FUNCTION custody_deny_unless_kept() SET search_path = %I, pg_temp', current_schema());
END $$
"""


def refuse_update(table: Table, *, unless: str = "") -> None:
    """Refuses UPDATE; with `unless`, a condition over OLD and NEW, only where the condition does not hold."""
    when = f" WHEN (NOT ({unless}))" if unless else ""
    _postgresql(table, "update", f"BEFORE UPDATE ON {table.name} FOR EACH ROW{when}")
    _sqlite(table, "update", f"BEFORE UPDATE ON {table.name}{when}")


def refuse_delete(table: Table, *, same: str) -> None:
    """Refuses DELETE, TRUNCATE, and an INSERT whose row is the same as an existing row, by the condition `same` over
    NEW."""
    _postgresql(table, "delete", f"BEFORE DELETE ON {table.name} FOR EACH ROW")
    _sqlite(table, "delete", f"BEFORE DELETE ON {table.name}")
    _refuse_wholesale(table, same)


def refuse_loss(table: Table, *, same: str) -> None:
    """Does as `refuse_delete`, for the queue: a row may go once its bytes stand in the log or in quarantine."""
    _after_create(table, "postgresql", _DENY_UNLESS_KEPT)
    _after_create(table, "postgresql", _FIX_SEARCH_PATH)
    _postgresql(table, "delete", f"BEFORE DELETE ON {table.name} FOR EACH ROW", function="custody_deny_unless_kept")
    _sqlite(table, "delete", f"BEFORE DELETE ON {table.name} WHEN NOT ({_KEPT})")
    _refuse_wholesale(table, same)


def _refuse_wholesale(table: Table, same: str) -> None:
    _postgresql(table, "truncate", f"BEFORE TRUNCATE ON {table.name} FOR EACH STATEMENT")
    exists = f"EXISTS (SELECT 1 FROM {table.name} WHERE {same})"  # noqa: S608  constants of the tables' modules
    _sqlite(table, "replace", f"BEFORE INSERT ON {table.name} WHEN {exists}")


def _postgresql(table: Table, name: str, when: str, *, function: str = "custody_deny") -> None:
    # ALWAYS: ordinary triggers are skipped under session_replication_role = replica.
    for statement in (
        _DENY,
        f"CREATE TRIGGER {table.name}_{name} {when} EXECUTE FUNCTION {function}()",
        f"ALTER TABLE {table.name} ENABLE ALWAYS TRIGGER {table.name}_{name}",
    ):
        _after_create(table, "postgresql", statement)


def _sqlite(table: Table, name: str, when: str) -> None:
    statement = f"CREATE TRIGGER {table.name}_{name} {when} BEGIN SELECT RAISE(ABORT, 'append-only: {table.name}'); END"
    _after_create(table, "sqlite", statement)


def _after_create(table: Table, dialect: str, statement: str) -> None:
    ddl = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
    event.listen(table, "after_create", ddl.execute_if(dialect=dialect))
