"""The Merkle log: leaves, tiles, tree, checkpoints, anchors; `custody_pending` becomes a queue whose rows may leave for the log.

Frozen: this file says what the schema was at 0002 and imports nothing of the archiver. An archiver of 0001 that still runs
goes on appending to the queue, and reads only what has not left it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SMALLINT = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _log()
    _over_the_tree()
    _beside_the_tree()
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def _log() -> None:
    """Leaves, where they stand, and the tree over them."""
    op.create_table(
        "custody_log",
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME),
        sa.PrimaryKeyConstraint("log_id"),
        sa.UniqueConstraint("origin", name=op.f("uq_custody_log_origin")),
        sqlite_strict=True,
    )
    op.create_table(
        "custody_event",
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("leaf_index", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(entry) <= 16384", name=op.f("ck_custody_event_entry_size")),
        sa.CheckConstraint("leaf_index >= 0", name=op.f("ck_custody_event_leaf_index")),
        sa.PrimaryKeyConstraint("log_id", "leaf_index"),
        sqlite_strict=True,
    )
    op.create_table(
        "custody_subject_event",
        sa.Column("subject_no", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("leaf_index", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("type_no", _SMALLINT, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("subject_no", "seq", "log_id", "leaf_index"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "custody_tile",
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("level", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("idx", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "length(hashes) BETWEEN 32 AND 8192 AND length(hashes) & 31 = 0", name=op.f("ck_custody_tile_hashes")
        ),
        sa.PrimaryKeyConstraint("log_id", "level", "idx"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "custody_tree",
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("size", _BIGINT, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", _BIGINT, nullable=False),
        sa.CheckConstraint("size >= 0 AND length(root) = 32", name=op.f("ck_custody_tree_size_root")),
        sa.ForeignKeyConstraint(["log_id"], ["custody_log.log_id"], name=op.f("fk_custody_tree_log_id")),
        sa.PrimaryKeyConstraint("log_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _over_the_tree() -> None:
    """What we and others signed."""
    op.create_table(
        "custody_checkpoint",
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("size", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signed_at", _TIME, nullable=False),
        sa.Column("published_at", _TIME),
        sa.ForeignKeyConstraint(["log_id"], ["custody_log.log_id"], name=op.f("fk_custody_checkpoint_log_id")),
        sa.PrimaryKeyConstraint("log_id", "size"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "custody_anchor",
        sa.Column("log_id", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("size", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("kind", _SMALLINT, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["custody_log.log_id"], name=op.f("fk_custody_anchor_log_id")),
        sa.PrimaryKeyConstraint("log_id", "size", "kind", "name"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _beside_the_tree() -> None:
    """Whose signatures count, and what was refused."""
    op.create_table(
        "custody_writer",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("host", sa.LargeBinary(), nullable=False),
        sa.Column("log_id", _SMALLINT, server_default="1", nullable=False),
        sa.Column("enrolled_leaf", _BIGINT, nullable=False),
        sa.Column("retired_leaf", _BIGINT),
        sa.PrimaryKeyConstraint("key"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "custody_quarantine",
        sa.Column("id", _BIGINT, sa.Identity(always=True), nullable=False),
        sa.Column("log_id", _SMALLINT, nullable=False),
        sa.Column("subject_no", _BIGINT, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("custody_quarantine_place", "custody_quarantine", ["subject_no", "seq"])


_SAME_LOG = "NEW.log_id = OLD.log_id"

# Table: when a row may change (never, if empty), and when SQLite's REPLACE would overwrite a row.
_GUARDS = {
    "custody_event": ("", "(log_id = NEW.log_id AND leaf_index = NEW.leaf_index) OR rowid = NEW.rowid"),
    "custody_subject_event": (
        "",
        "subject_no = NEW.subject_no AND seq = NEW.seq AND log_id = NEW.log_id AND leaf_index = NEW.leaf_index",
    ),
    "custody_tile": (
        (
            f"{_SAME_LOG} AND NEW.level = OLD.level AND NEW.idx = OLD.idx"
            " AND length(NEW.hashes) > length(OLD.hashes) AND substr(NEW.hashes, 1, length(OLD.hashes)) = OLD.hashes"
        ),
        "log_id = NEW.log_id AND level = NEW.level AND idx = NEW.idx",
    ),
    "custody_tree": (f"{_SAME_LOG} AND NEW.size > OLD.size AND NEW.epoch > OLD.epoch", "log_id = NEW.log_id"),
    "custody_log": (
        (
            f"{_SAME_LOG} AND NEW.origin = OLD.origin AND NEW.opened_at = OLD.opened_at"
            " AND OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL"
        ),
        "log_id = NEW.log_id OR origin = NEW.origin",
    ),
    "custody_checkpoint": (
        (
            f"{_SAME_LOG} AND NEW.size = OLD.size AND NEW.root = OLD.root AND NEW.note = OLD.note"
            " AND NEW.signed_at = OLD.signed_at AND OLD.published_at IS NULL AND NEW.published_at IS NOT NULL"
        ),
        "log_id = NEW.log_id AND size = NEW.size",
    ),
    "custody_anchor": ("", "log_id = NEW.log_id AND size = NEW.size AND kind = NEW.kind AND name = NEW.name"),
    "custody_writer": (
        (
            f"NEW.key = OLD.key AND NEW.host = OLD.host AND {_SAME_LOG} AND NEW.enrolled_leaf = OLD.enrolled_leaf"
            " AND OLD.retired_leaf IS NULL AND NEW.retired_leaf IS NOT NULL"
        ),
        "key = NEW.key",
    ),
    "custody_quarantine": ("", "id = NEW.id"),
}

# When a row may leave the queue: its very bytes stand, at the place that it claims, in the log or in quarantine.
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

# Else a temporary table of the same name would be looked into first.
_FIX_SEARCH_PATH = """
DO $$ BEGIN
  EXECUTE format('ALTER FUNCTION custody_deny_unless_kept() SET search_path = %I, pg_temp', current_schema());
END $$
"""


def _guard_postgresql() -> None:
    """ENABLE ALWAYS: ordinary triggers are skipped under session_replication_role = replica."""
    execute = op.get_bind().exec_driver_sql
    execute(_DENY_UNLESS_KEPT.replace("%", "%%"))
    execute(_FIX_SEARCH_PATH.replace("%", "%%"))
    execute("DROP TRIGGER custody_pending_delete ON custody_pending")
    triggers = [("custody_pending", "delete", "BEFORE DELETE ON custody_pending FOR EACH ROW", "_unless_kept")]
    for table, (change, _) in _GUARDS.items():
        when = f" WHEN (NOT ({change}))" if change else ""
        triggers += [
            (table, "update", f"BEFORE UPDATE ON {table} FOR EACH ROW{when}", ""),
            (table, "delete", f"BEFORE DELETE ON {table} FOR EACH ROW", ""),
            (table, "truncate", f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT", ""),
        ]
    for table, name, when, how in triggers:
        execute(f"CREATE TRIGGER {table}_{name} {when} EXECUTE FUNCTION custody_deny{how}()")
        execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")


def _guard_sqlite() -> None:
    """`replace`: REPLACE deletes without firing delete triggers on connections that did not ask for recursive ones."""
    execute = op.get_bind().exec_driver_sql
    execute("DROP TRIGGER custody_pending_delete")
    triggers = [("custody_pending", "delete", f"BEFORE DELETE ON custody_pending WHEN NOT ({_KEPT})")]
    for table, (change, same) in _GUARDS.items():
        when = f" WHEN (NOT ({change}))" if change else ""
        exists = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608  constants of this module
        triggers += [
            (table, "update", f"BEFORE UPDATE ON {table}{when}"),
            (table, "delete", f"BEFORE DELETE ON {table}"),
            (table, "replace", f"BEFORE INSERT ON {table} WHEN {exists}"),
        ]
    for table, name, when in triggers:
        execute(f"CREATE TRIGGER {table}_{name} {when} BEGIN SELECT RAISE(ABORT, 'append-only: {table}'); END")
