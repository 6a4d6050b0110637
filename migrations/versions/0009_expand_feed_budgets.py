"""What a provider's rows may still grow by today: edits that were told or put off, and counts of the day.

Frozen: this file says what the schema was at 0009 and imports nothing of the archiver. An archiver of 0008 that still runs tells
every edit and counts none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "feed_day",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("edits", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rejects", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("provider", "day"),
    )
    op.create_table(
        "edited_row",
        sa.Column("recording_id", sa.String(36), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("told", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deferred_since", _TIME),
        sa.PrimaryKeyConstraint("recording_id"),
    )
    op.create_index("edited_row_provider", "edited_row", ["provider", "day"])
