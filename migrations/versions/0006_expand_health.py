"""What storages refuse and how full each host's disk is, so that whoever asks later, or elsewhere, is told.

Frozen: this file says what the schema was at 0006 and imports nothing of the archiver. An archiver of 0005 that still runs writes
none of it, and does not miss the tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.add_column("storage_state", sa.Column("every_s", sa.BigInteger()))
    op.create_table(
        "storage_fault",
        sa.Column("storage", sa.String(64), nullable=False),
        sa.Column("spool_id", sa.String(36), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("storage", "spool_id"),
    )
    op.create_table(
        "host_state",
        sa.Column("spool_id", sa.String(36), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("spool_percent", sa.Integer(), nullable=False),
        sa.Column("no_room", sa.Text()),
        sa.Column("clock_offset_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("spool_id"),
    )
