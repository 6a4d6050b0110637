"""The tables of gaps (first seen, closed, acknowledged), of comparisons, and of statements. Gaps are derived."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, Index, Integer, LargeBinary, String, Table, Text

from archiver.database import UtcDateTime, metadata
from archiver.ingest.tables import copy

gap = Table(
    "gap",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("source", String(80), nullable=False),  # the check that looks for this gap, and alone may close it
    Column("subject", Text, nullable=False),
    Column("code", String(32), nullable=False),
    Column("grade", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("since", UtcDateTime),
    Column("until", UtcDateTime),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("acked_at", UtcDateTime),
    Column("acked_by", Text),
    Column("ack_reason", Text),
)
_STILL = gap.c.closed_at.is_(None)
Index("gap_open", gap.c.provider, gap.c.source, gap.c.subject, unique=True,
      sqlite_where=_STILL, postgresql_where=_STILL)  # fmt: skip
Index("gap_subject", gap.c.subject)

# One row for each comparison, by `archiver reconcile` or by the schedule. Findings that still hold are in `gap`. A run
# of `archiver verify` is a row too: `storage` is then `verify:<depth>`, `copies` recordings, `versions` objects read.
reconciliation = Table(
    "reconciliation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("storage", String(64), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("copies", BigInteger, nullable=False),
    Column("versions", BigInteger, nullable=False),
    Column("findings", Text, nullable=False),  # {kind: count}
)
Index("reconciliation_latest", reconciliation.c.storage, reconciliation.c.finished_at)

# The newest statement of each provider and day, canonical JSON; its digest is in a signed event of subject `archive`.
statement = Table(
    "statement",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("event_seq", Integer, nullable=False),
)

# Indexes of this package's questions on the journal's tables. Buckets list by bytes; PostgreSQL would sort by its
# locale.
Index("copy_key", copy.c.storage, copy.c.key, postgresql_ops={"key": "text_pattern_ops"})

LOST = b""
"""The placeholder for the document of a statement of which only the signed event is left."""
