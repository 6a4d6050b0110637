"""The register of gaps, what was reconciled and stated, and the indexes that reading a million rows in order needs.

Frozen: this file says what the schema was at 0004 and imports nothing of the archiver. An archiver of 0003 that still runs finds
no gaps, and does not miss the tables.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "gap",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("source", sa.String(80), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("grade", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("since", _TIME),
        sa.Column("until", _TIME),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME),
        sa.Column("acked_at", _TIME),
        sa.Column("acked_by", sa.Text()),
        sa.Column("ack_reason", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("gap_open", "gap", ["provider", "source", "subject"], unique=True, **_where("closed_at IS NULL"))
    op.create_index("gap_subject", "gap", ["subject"])
    op.create_table(
        "reconciliation",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("storage", sa.String(64), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=False),
        sa.Column("copies", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.BigInteger(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reconciliation_latest", "reconciliation", ["storage", "finished_at"])
    op.create_table(
        "statement",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("issued_at", _TIME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "day"),
    )
    # Buckets list by bytes; PostgreSQL would sort by its locale.
    op.create_index("copy_key", "copy", ["storage", "key"], postgresql_ops={"key": "text_pattern_ops"})
    op.create_index("recording_flagged", "recording", ["provider"], **_where("flags <> '[]'"))
