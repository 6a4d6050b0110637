"""What was told to whom, so that a restart or a second replica does not tell it again.

Frozen: this file says what the schema was at 0003 and imports nothing of the archiver. An archiver of 0002 that still runs tells
nobody anything, and does not miss the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "alert_state",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("cleared_at", _TIME),
        sa.Column("told_at", _TIME),
        sa.Column("told_weight", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("claim", sa.String(36)),
        sa.Column("claimed_until", _TIME),
        sa.PrimaryKeyConstraint("kind", "subject", "channel"),
    )
