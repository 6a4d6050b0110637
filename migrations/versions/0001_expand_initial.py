"""The first schema: the ledger (evidence), the journal (working state), and who runs what.

Frozen: this file says what the schema was at 0001 and imports nothing of the archiver.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SMALLINT = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _ledger()
    _append_only()
    _recordings()
    _recording_indexes()
    _coverage()
    _replicas()


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _ledger() -> None:
    """Events and what they commit to. Rows are added, never changed."""
    op.create_table(
        "custody_subject",
        sa.Column("subject_no", _BIGINT, sa.Identity(always=True), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("head_seq", sa.Integer(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("subject_no"),
        sa.UniqueConstraint("subject", name=op.f("uq_custody_subject_subject")),
        sqlite_strict=True,
    )
    op.create_table(
        "custody_pending",
        sa.Column("pid", _BIGINT, sa.Identity(always=True), nullable=False),
        sa.Column("log_id", _SMALLINT, server_default="1", nullable=False),
        sa.Column("subject_no", _BIGINT, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(entry) <= 16384", name=op.f("ck_custody_pending_entry_size")),
        sa.ForeignKeyConstraint(
            ["subject_no"], ["custody_subject.subject_no"], name=op.f("fk_custody_pending_subject_no")
        ),
        sa.PrimaryKeyConstraint("pid"),
        sa.UniqueConstraint("subject_no", "seq", name=op.f("uq_custody_pending_subject_no_seq")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "custody_private",
        sa.Column("subject_no", _BIGINT, autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subject_no"], ["custody_subject.subject_no"], name=op.f("fk_custody_private_subject_no")
        ),
        sa.PrimaryKeyConstraint("subject_no", "seq", "grp"),
        sqlite_strict=True,
    )


_GROWS = "NEW.head_seq > OLD.head_seq AND NEW.subject = OLD.subject AND NEW.subject_no = OLD.subject_no"

_DENY = """
CREATE OR REPLACE FUNCTION custody_deny() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'append-only: % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

# Table, name, event.
_POSTGRESQL = (
    ("custody_pending", "update", "BEFORE UPDATE ON custody_pending FOR EACH ROW"),
    ("custody_pending", "delete", "BEFORE DELETE ON custody_pending FOR EACH ROW"),
    ("custody_pending", "truncate", "BEFORE TRUNCATE ON custody_pending FOR EACH STATEMENT"),
    ("custody_subject", "update", f"BEFORE UPDATE ON custody_subject FOR EACH ROW WHEN (NOT ({_GROWS}))"),
    ("custody_subject", "delete", "BEFORE DELETE ON custody_subject FOR EACH ROW"),
    ("custody_subject", "truncate", "BEFORE TRUNCATE ON custody_subject FOR EACH STATEMENT"),
    ("custody_private", "update", "BEFORE UPDATE ON custody_private FOR EACH ROW"),
)

_SAME_PENDING = """EXISTS (SELECT 1 FROM custody_pending
  WHERE pid = NEW.pid OR (subject_no = NEW.subject_no AND seq = NEW.seq))"""
_SAME_SUBJECT = "EXISTS (SELECT 1 FROM custody_subject WHERE subject_no = NEW.subject_no OR subject = NEW.subject)"

# `replace`: REPLACE deletes without firing delete triggers on connections that did not ask for recursive ones.
_SQLITE = (
    ("custody_pending", "update", "BEFORE UPDATE ON custody_pending"),
    ("custody_pending", "delete", "BEFORE DELETE ON custody_pending"),
    ("custody_pending", "replace", f"BEFORE INSERT ON custody_pending WHEN {_SAME_PENDING}"),
    ("custody_subject", "update", f"BEFORE UPDATE ON custody_subject WHEN (NOT ({_GROWS}))"),
    ("custody_subject", "delete", "BEFORE DELETE ON custody_subject"),
    ("custody_subject", "replace", f"BEFORE INSERT ON custody_subject WHEN {_SAME_SUBJECT}"),
    ("custody_private", "update", "BEFORE UPDATE ON custody_private"),
)


def _append_only() -> None:
    """Triggers: a speed bump for whoever has the database's password; the signatures are the proof."""
    execute = op.get_bind().exec_driver_sql
    if op.get_bind().dialect.name == "postgresql":
        execute(_DENY.replace("%", "%%"))
        for table, name, when in _POSTGRESQL:
            execute(f"CREATE TRIGGER {table}_{name} {when} EXECUTE FUNCTION custody_deny()")
            # ALWAYS: ordinary triggers are skipped under session_replication_role = replica.
            execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")
    else:
        for table, name, when in _SQLITE:
            execute(f"CREATE TRIGGER {table}_{name} {when} BEGIN SELECT RAISE(ABORT, 'append-only: {table}'); END")


def _recordings() -> None:
    """What was listed, what became of it, and its copies."""
    op.create_table(
        "recording",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("provider_recording_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(16)),
        sa.Column("flags", sa.Text(), server_default="[]", nullable=False),
        sa.Column("call_started_at", _TIME),
        sa.Column("call_ended_at", _TIME),
        sa.Column("duration_ms", sa.BigInteger()),
        sa.Column("format", sa.String(16)),
        sa.Column("direction", sa.Text()),
        sa.Column("from_number", sa.Text()),
        sa.Column("to_number", sa.Text()),
        sa.Column("agent", sa.Text()),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("stable_digest", sa.String(64), nullable=False),
        sa.Column("listed_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        sa.Column("delete_at", _TIME),
        sa.Column("deadline_source", sa.Text()),
        sa.Column("archive_by", _TIME),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("next_attempt_at", _TIME),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("denials", sa.Integer(), server_default="0", nullable=False),
        sa.Column("denied_at", _TIME),
        sa.Column("last_error", sa.Text()),
        sa.Column("owner", sa.String(36)),
        sa.Column("token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("content_type", sa.Text()),
        sa.Column("media", sa.Text()),
        sa.Column("plaintext_bytes", sa.BigInteger()),
        sa.Column("plaintext_sha256", sa.String(64)),
        sa.Column("sealed_bytes", sa.BigInteger()),
        sa.Column("sealed_sha256", sa.String(64)),
        sa.Column("recipients", sa.Text()),
        sa.Column("spool_id", sa.String(36)),
        sa.Column("spool_name", sa.String(64)),
        sa.Column("retain_until", _TIME),
        sa.Column("retention_rule", sa.Text()),
        sa.Column("archived_at", _TIME),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("identity", "revision", name=op.f("uq_recording_identity_revision")),
    )
    op.create_table(
        "copy",
        sa.Column("recording_id", sa.String(36), nullable=False),
        sa.Column("storage", sa.String(64), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text()),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sealed_sha256", sa.String(64), nullable=False),
        sa.Column("lock_mode", sa.String(16), nullable=False),
        sa.Column("retain_until", _TIME),
        sa.Column("legal_hold", sa.Boolean(), nullable=False),
        sa.Column("checked_by", sa.String(32), nullable=False),
        sa.Column("stored_at", _TIME, nullable=False),
        sa.Column("verified_at", _TIME),
        sa.ForeignKeyConstraint(["recording_id"], ["recording.id"], name=op.f("fk_copy_recording_id")),
        sa.PrimaryKeyConstraint("recording_id", "storage"),
    )
    op.create_table(
        "reject",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("provider_recording_id", sa.Text()),
        sa.Column("first_seen_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", "digest"),
    )


def _recording_indexes() -> None:
    """The queue by deadline, the states, and what people search by."""
    op.create_index("recording_due", "recording", ["next_attempt_at"], **_where("next_attempt_at IS NOT NULL"))
    op.create_index("recording_from", "recording", ["from_number"])
    op.create_index("recording_owner", "recording", ["owner"], **_where("owner IS NOT NULL"))
    op.create_index(
        "recording_pending",
        "recording",
        ["provider", "state", "archive_by"],
        **_where("state IN ('listed', 'waiting', 'spooled')"),
    )
    op.create_index("recording_plaintext", "recording", ["plaintext_sha256"])
    op.create_index("recording_ready", "recording", ["provider", "archive_by", "listed_at"], **_where("ready"))
    op.create_index("recording_spool", "recording", ["spool_id"], **_where("spool_id IS NOT NULL"))
    op.create_index("recording_started", "recording", ["provider", "call_started_at"])
    op.create_index("recording_state", "recording", ["provider", "state"])
    op.create_index("recording_to", "recording", ["to_number"])


def _coverage() -> None:
    """Which provider time was enumerated, and how providers and storages are."""
    op.create_table(
        "listing_window",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("until", _TIME, nullable=False),
        sa.Column("walks", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger()),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("completed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("listing_window_span", "listing_window", ["provider", "scope", "until"])
    op.create_table(
        "coverage",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(128), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("until", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", "scope", "since"),
    )
    op.create_table(
        "provider_state",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("parked_until", _TIME),
        sa.Column("parked_reason", sa.Text()),
        sa.Column("polled_at", _TIME),
        sa.Column("poll_succeeded_at", _TIME),
        sa.Column("poll_error", sa.Text()),
        sa.Column("deep_walk_at", _TIME),
        sa.PrimaryKeyConstraint("provider"),
    )
    op.create_table(
        "storage_state",
        sa.Column("storage", sa.String(64), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("probed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("storage"),
    )


def _replicas() -> None:
    """Heartbeats, leases and rate budgets."""
    op.create_table(
        "replica",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("spool_id", sa.String(36), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("alive_until", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("until", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "budget",
        sa.Column("credential", sa.String(128), nullable=False),
        sa.Column("next_free", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("credential"),
    )
