"""How objects go to a storage by its last proof, so that a sweep within the hour need not prove it again.

Frozen: this file says what the schema was at 0008 and imports nothing of the archiver. An archiver of 0007 that still runs leaves
the column as it is when it probes: what it says is then older than `probed_at`, and as good, for it is of the same configuration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("storage_state", sa.Column("ways", sa.Text()))
