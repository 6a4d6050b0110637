"""Defines the tables of events: chains, the queue into the log, and the leaves of the log with their index.

Rows are added, and leave the queue only for the log or quarantine. No table that grows with events has a foreign key to
the log: checking the key would lock the row of a subject that a writer holds, or cost as much as the row itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

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

from archiver.custody.event import Type
from archiver.custody.guards import refuse_delete, refuse_loss, refuse_update
from archiver.database import UtcDateTime, metadata

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

# Events in the order of their arrival, as the exact bytes that were signed. The sequencer takes them from here,
# whatever `log_id` says: no row can hide from it.
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

# Private groups, to which events commit. Deleting a row is erasure (and leaves every proof whole); no row may be
# changed.
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

# The numbers in `custody_subject_event.type_no`. A new type is declared at the end of `Type`; 0 is a type that we do
# not know.
TYPE_NUMBERS: Mapping[str, int] = MappingProxyType({type_: number for number, type_ in enumerate(Type, 1)})

# One tree under one name (`origin`, the checkpoints' first line).
custody_log = Table(
    "custody_log",
    metadata,
    Column("log_id", SMALLINT, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False, unique=True),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    sqlite_strict=True,
)

# Leaves: the entries as signed. Leaf hash = SHA-256(0x00 ‖ entry), kept in the tiles only.
custody_event = Table(
    "custody_event",
    metadata,
    Column("log_id", SMALLINT, primary_key=True, autoincrement=False),
    Column("leaf_index", BIGINT, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    CheckConstraint("length(entry) <= 16384", name="entry_size"),
    CheckConstraint("leaf_index >= 0", name="leaf_index"),
    sqlite_strict=True,
)

# The places of a subject's events: an index, which says nothing that the entries do not. `type_no`: see TYPE_NUMBERS.
custody_subject_event = Table(
    "custody_subject_event",
    metadata,
    Column("subject_no", BIGINT, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("log_id", SMALLINT, primary_key=True, autoincrement=False),
    Column("leaf_index", BIGINT, primary_key=True, autoincrement=False),
    Column("type_no", SMALLINT, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

refuse_update(custody_pending)
refuse_loss(custody_pending, same="pid = NEW.pid OR (subject_no = NEW.subject_no AND seq = NEW.seq)")
refuse_update(
    custody_subject,
    unless="NEW.head_seq > OLD.head_seq AND NEW.subject = OLD.subject AND NEW.subject_no = OLD.subject_no",
)
refuse_delete(custody_subject, same="subject_no = NEW.subject_no OR subject = NEW.subject")
refuse_update(custody_private)

# Besides its key, a row of this table has a rowid in SQLite, by which REPLACE finds the row too.
refuse_update(custody_event)
refuse_delete(custody_event, same="(log_id = NEW.log_id AND leaf_index = NEW.leaf_index) OR rowid = NEW.rowid")

refuse_update(custody_subject_event)
refuse_delete(
    custody_subject_event,
    same="subject_no = NEW.subject_no AND seq = NEW.seq AND log_id = NEW.log_id AND leaf_index = NEW.leaf_index",
)

refuse_update(
    custody_log,
    unless="NEW.log_id = OLD.log_id AND NEW.origin = OLD.origin AND NEW.opened_at = OLD.opened_at"
    " AND OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL",
)
refuse_delete(custody_log, same="log_id = NEW.log_id OR origin = NEW.origin")
