"""The catalogue: which segment in the storages describes a final row, and where the segments are.

Frozen: this file says what the schema was at 0005 and imports nothing of the archiver. An archiver of 0004 that still runs
catalogues nothing; what it archives is due, and what it changes afterwards of a row that is catalogued already is not.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "catalogue_segment",
        sa.Column("sealed_sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("retain_until", _TIME, nullable=False),
        sa.Column("storages", sa.Text(), nullable=False),
        sa.Column("sealed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sealed_sha256"),
    )
    op.add_column("recording", sa.Column("segment", sa.String(64)))
    op.create_index(
        "recording_uncatalogued",
        "recording",
        ["retain_until"],
        **_where("segment IS NULL AND state IN ('archived', 'absent', 'gone')"),
    )
