"""Defines the log's tables: tiles, the tree's size and root, the signatures over it, and the refused rows.

The bucket is the authority for history; these tables and the leaves in `custody.tables` are its first copy and its
index.
"""

from __future__ import annotations

import enum

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

from archiver.custody.guards import refuse_delete, refuse_update
from archiver.custody.tables import BIGINT, SMALLINT
from archiver.database import UtcDateTime, metadata

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


class AnchorKind(enum.IntEnum):
    """The kind of an anchor, in `custody_anchor.kind`; 3 is kept for OpenTimestamps."""

    WITNESS = 1
    TIMESTAMP = 2  # RFC 3161


# Signatures of others over a checkpoint.
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

refuse_update(
    custody_tile,
    unless=f"{_SAME_LOG} AND NEW.level = OLD.level AND NEW.idx = OLD.idx"
    " AND length(NEW.hashes) > length(OLD.hashes) AND substr(NEW.hashes, 1, length(OLD.hashes)) = OLD.hashes",
)
refuse_delete(custody_tile, same="log_id = NEW.log_id AND level = NEW.level AND idx = NEW.idx")

refuse_update(custody_tree, unless=f"{_SAME_LOG} AND NEW.size > OLD.size AND NEW.epoch > OLD.epoch")
refuse_delete(custody_tree, same="log_id = NEW.log_id")

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
