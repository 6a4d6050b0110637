"""Copies that are demanded and not there: what each storage owes, and until when the journal was looked through for it.

Frozen: this file says what the schema was at 0007 and imports nothing of the archiver. An archiver of 0006 that still runs notes
nothing that it could not copy; the daily look through the journal finds it.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "owed_copy",
        sa.Column("recording_id", sa.String(36), nullable=False),
        sa.Column("storage", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", _TIME),
        sa.Column("problem", sa.Text()),
        sa.Column("owner", sa.String(36)),
        sa.Column("token", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["recording_id"], ["recording.id"]),
        sa.PrimaryKeyConstraint("recording_id", "storage"),
    )
    op.create_index("owed_copy_oldest", "owed_copy", ["storage", "since"])
    op.create_index("owed_copy_owner", "owed_copy", ["owner"], **_where("owner IS NOT NULL"))
    op.create_table(
        "copy_survey",
        sa.Column("storage", sa.String(64), nullable=False),
        sa.Column("surveyed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("storage"),
    )
