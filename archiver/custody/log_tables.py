"""Defines the log's tables: leaves, tiles, the tree's size and root, the signatures over it, and the refused rows.

The bucket is the authority for history; these tables are its first copy and its index. No table that grows with events
has a foreign key: checking the key would lock the row of a subject that a writer holds, or cost as much as the row
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from archiver.custody.event import Type
from archiver.custody.guards import refuse_delete, refuse_update
from archiver.custody.tables import BIGINT, SMALLINT
from archiver.database import UtcDateTime, metadata

# The numbers in `custody_subject_event.type_no`. A new type is declared at the end of `Type`; 0 is a type that we do not know.
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

# C2SP tlog-tiles of height 8: up to 256 hashes of 32 bytes. The rightmost of each level grows.
custody_tile = Table(
    "custody_tile",
    metadata,
    Column("log_id", SMALLINT, primary_key=True, autoincrement=False),
    Column("level", SMALLINT, primary_key=True, autoincrement=False),
    Column("idx", BIGINT, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
    CheckConstraint("length(hashes) BETWEEN 32 AND 8192 AND length(hashes) & 31 = 0", name="hashes"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The tree as it stands; locking this row makes batches follow one another. `epoch` counts the batches.
custody_tree = Table(
    "custody_tree",
    metadata,
    Column("log_id", SMALLINT, ForeignKey("custody_log.log_id"), primary_key=True, autoincrement=False),
    Column("size", BIGINT, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("epoch", BIGINT, nullable=False),
    CheckConstraint("size >= 0 AND length(root) = 32", name="size_root"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Signed notes over the tree. `published_at` is filled in once, when the bucket has the checkpoint.
custody_checkpoint = Table(
    "custody_checkpoint",
    metadata,
    Column("log_id", SMALLINT, ForeignKey("custody_log.log_id"), primary_key=True, autoincrement=False),
    Column("size", BIGINT, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("signed_at", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Signatures of others over a checkpoint. `kind`: 1 witness, 2 time stamp (RFC 3161), 3 OpenTimestamps.
custody_anchor = Table(
    "custody_anchor",
    metadata,
    Column("log_id", SMALLINT, ForeignKey("custody_log.log_id"), primary_key=True, autoincrement=False),
    Column("size", BIGINT, primary_key=True, autoincrement=False),
    Column("kind", SMALLINT, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("blob", LargeBinary, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The leaves that enrolled and retired a session key: an index, believed only as far as those leaves confirm it.
# Both are the same leaf where the key was retired before anything enrolled it.
custody_writer = Table(
    "custody_writer",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("host", LargeBinary, nullable=False),
    Column("log_id", SMALLINT, nullable=False, server_default="1"),
    Column("enrolled_leaf", BIGINT, nullable=False),
    Column("retired_leaf", BIGINT),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Rows of the queue that are not evidence as they stand, kept as they came. `reason`: sequencer.Refusal.
custody_quarantine = Table(
    "custody_quarantine",
    metadata,
    Column("id", BIGINT, Identity(always=True), primary_key=True),
    Column("log_id", SMALLINT, nullable=False),
    Column("subject_no", BIGINT, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("custody_quarantine_place", "subject_no", "seq"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

_SAME_LOG = "NEW.log_id = OLD.log_id"

# Besides its key, a row of this table has a rowid in SQLite, by which REPLACE finds the row too.
refuse_update(custody_event)
refuse_delete(custody_event, same="(log_id = NEW.log_id AND leaf_index = NEW.leaf_index) OR rowid = NEW.rowid")

refuse_update(custody_subject_event)
refuse_delete(
    custody_subject_event,
    same="subject_no = NEW.subject_no AND seq = NEW.seq AND log_id = NEW.log_id AND leaf_index = NEW.leaf_index",
)

refuse_update(
    custody_tile,
    unless=f"{_SAME_LOG} AND NEW.level = OLD.level AND NEW.idx = OLD.idx"
    " AND length(NEW.hashes) > length(OLD.hashes) AND substr(NEW.hashes, 1, length(OLD.hashes)) = OLD.hashes",
)
refuse_delete(custody_tile, same="log_id = NEW.log_id AND level = NEW.level AND idx = NEW.idx")

refuse_update(custody_tree, unless=f"{_SAME_LOG} AND NEW.size > OLD.size AND NEW.epoch > OLD.epoch")
refuse_delete(custody_tree, same="log_id = NEW.log_id")

refuse_update(
    custody_log,
    unless=f"{_SAME_LOG} AND NEW.origin = OLD.origin AND NEW.opened_at = OLD.opened_at"
    " AND OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL",
)
refuse_delete(custody_log, same="log_id = NEW.log_id OR origin = NEW.origin")

refuse_update(
    custody_checkpoint,
    unless=f"{_SAME_LOG} AND NEW.size = OLD.size AND NEW.root = OLD.root AND NEW.note = OLD.note"
    " AND NEW.signed_at = OLD.signed_at AND OLD.published_at IS NULL AND NEW.published_at IS NOT NULL",
)
refuse_delete(custody_checkpoint, same="log_id = NEW.log_id AND size = NEW.size")

refuse_update(custody_anchor)
refuse_delete(custody_anchor, same="log_id = NEW.log_id AND size = NEW.size AND kind = NEW.kind AND name = NEW.name")

refuse_update(
    custody_writer,
    unless=f"NEW.key = OLD.key AND NEW.host = OLD.host AND {_SAME_LOG} AND NEW.enrolled_leaf = OLD.enrolled_leaf"
    " AND OLD.retired_leaf IS NULL AND NEW.retired_leaf IS NOT NULL",
)
refuse_delete(custody_writer, same="key = NEW.key")

refuse_update(custody_quarantine)
refuse_delete(custody_quarantine, same="id = NEW.id")
