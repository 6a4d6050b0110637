"""Defines the ledger's tables: evidence on its way into the log. Rows are added, and leave the queue only for the log
or quarantine."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from archiver.custody.guards import refuse_delete, refuse_loss, refuse_update
from archiver.database import metadata

# Strict tables take INTEGER, TEXT and BLOB only.
BIGINT = BigInteger().with_variant(Integer(), "sqlite")
SMALLINT = SmallInteger().with_variant(Integer(), "sqlite")

# One row per chain: its newest event. Locking this row keeps a chain from forking. -1 and NULL: no event yet.
custody_subject = Table(
    "custody_subject",
    metadata,
    Column("subject_no", BIGINT, Identity(always=True), primary_key=True),
    Column("subject", Text, nullable=False, unique=True),
    Column("head_seq", Integer, nullable=False),
    Column("head_hash", LargeBinary),
    sqlite_strict=True,
)

# Events in the order of their arrival, as the exact bytes that were signed. The sequencer takes them from here, whatever
# `log_id` says: no row can hide from it.
custody_pending = Table(
    "custody_pending",
    metadata,
    Column("pid", BIGINT, Identity(always=True), primary_key=True),
    Column("log_id", SMALLINT, nullable=False, server_default="1"),
    Column("subject_no", BIGINT, ForeignKey("custody_subject.subject_no"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    UniqueConstraint("subject_no", "seq"),
    CheckConstraint("length(entry) <= 16384", name="entry_size"),  # bytes, on both databases
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

# Private groups, to which events commit. Deleting a row is erasure (and leaves every proof whole); no row may be changed.
custody_private = Table(
    "custody_private",
    metadata,
    Column("subject_no", BIGINT, ForeignKey("custody_subject.subject_no"), primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True),
    Column("grp", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_strict=True,
)

refuse_update(custody_pending)
refuse_loss(custody_pending, same="pid = NEW.pid OR (subject_no = NEW.subject_no AND seq = NEW.seq)")
refuse_update(
    custody_subject,
    unless="NEW.head_seq > OLD.head_seq AND NEW.subject = OLD.subject AND NEW.subject_no = OLD.subject_no",
)
refuse_delete(custody_subject, same="subject_no = NEW.subject_no OR subject = NEW.subject")
refuse_update(custody_private)
