"""Defines the journal's tables: disposable working state. Losing them costs work, not evidence."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from archiver.database import UtcDateTime, metadata
from archiver.recording import PENDING

recording = Table(
    "recording",
    metadata,
    Column("id", String(36), primary_key=True),  # our UUID; custody subject is "rec:<id>"
    # sha256 over (provider, provider id, variant): provider ids may be 4 kB long, too long for an index
    Column("identity", String(64), nullable=False),
    # the provider's statement of the content: one id with two audios is two rows
    Column("revision", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("account", Text, nullable=False),
    Column("provider_recording_id", Text, nullable=False),
    Column("variant", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(16)),
    Column("flags", Text, nullable=False, server_default="[]"),
    # from the listing
    Column("call_started_at", UtcDateTime),
    Column("call_ended_at", UtcDateTime),
    Column("duration_ms", BigInteger),
    Column("format", String(16)),
    Column("direction", Text),
    Column("from_number", Text),
    Column("to_number", Text),
    Column("agent", Text),
    Column("metadata", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("stable_digest", String(64), nullable=False),
    Column("listed_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    # deadlines: delete_at is the provider's deletion, archive_by is delete_at less the safety margin
    Column("delete_at", UtcDateTime),
    Column("deadline_source", Text),
    Column("archive_by", UtcDateTime),
    # the queue: `ready` rows may be claimed now; the others become ready at next_attempt_at
    Column("ready", Boolean, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("denials", Integer, nullable=False, server_default="0"),  # denials by the provider, confirmed ≥ 1 h apart
    Column("denied_at", UtcDateTime),
    Column("last_error", Text),
    Column("owner", String(36)),
    Column("token", BigInteger, nullable=False, server_default="0"),
    # the received content, and its sealed object
    Column("content_type", Text),
    Column("media", Text),
    Column("plaintext_bytes", BigInteger),
    Column("plaintext_sha256", String(64)),
    Column("sealed_bytes", BigInteger),
    Column("sealed_sha256", String(64)),
    Column("recipients", Text),
    Column("spool_id", String(36)),  # the spool that holds the sealed object until it is stored
    Column("spool_name", String(64)),
    Column("retain_until", UtcDateTime),
    Column("retention_rule", Text),
    Column("archived_at", UtcDateTime),
    Column("segment", String(64)),  # digest of the catalogue segment that describes the row as it is; NULL: none does
    UniqueConstraint("identity", "revision"),
)

_PENDING = "state IN ({})".format(", ".join(f"'{each}'" for each in PENDING))
IN_WORK: Any = text(f"recording.{_PENDING}")
"""The condition on `recording` that its partial index answers: it must be spelled as the index spells it."""

Index("recording_ready", recording.c.provider, recording.c.archive_by, recording.c.listed_at,
      sqlite_where=recording.c.ready, postgresql_where=recording.c.ready)  # fmt: skip
_RESTS = recording.c.next_attempt_at.is_not(None)
Index("recording_due", recording.c.next_attempt_at, sqlite_where=_RESTS, postgresql_where=_RESTS)
Index("recording_owner", recording.c.owner,
      sqlite_where=recording.c.owner.is_not(None), postgresql_where=recording.c.owner.is_not(None))  # fmt: skip
Index("recording_spool", recording.c.spool_id,
      sqlite_where=recording.c.spool_id.is_not(None), postgresql_where=recording.c.spool_id.is_not(None))  # fmt: skip
Index("recording_pending", recording.c.provider, recording.c.state, recording.c.archive_by,
      sqlite_where=text(_PENDING), postgresql_where=text(_PENDING))  # fmt: skip
Index("recording_state", recording.c.provider, recording.c.state)
Index("recording_started", recording.c.provider, recording.c.call_started_at)
Index("recording_plaintext", recording.c.plaintext_sha256)
_UNCATALOGUED = text("segment IS NULL AND state IN ('archived', 'absent', 'gone')")
Index("recording_uncatalogued", recording.c.retain_until,
      sqlite_where=_UNCATALOGUED, postgresql_where=_UNCATALOGUED)  # fmt: skip
Index("recording_order", recording.c.call_started_at, recording.c.listed_at, recording.c.id)
Index("recording_provider_id", recording.c.provider_recording_id)
Index("recording_sealed", recording.c.sealed_sha256)
Index("recording_length", recording.c.provider, recording.c.duration_ms)
_ARCHIVED_AT = recording.c.archived_at.is_not(None)
Index("recording_archived", recording.c.provider, recording.c.archived_at, recording.c.plaintext_bytes,
      sqlite_where=_ARCHIVED_AT, postgresql_where=_ARCHIVED_AT)  # fmt: skip
_FLAGGED = text("flags <> '[]'")
FLAGGED: Any = text("recording.flags <> '[]'")
Index("recording_flagged", recording.c.provider, sqlite_where=_FLAGGED, postgresql_where=_FLAGGED)
Index("recording_flagged_order", recording.c.call_started_at, recording.c.listed_at, recording.c.id,
      sqlite_where=_FLAGGED, postgresql_where=_FLAGGED)  # fmt: skip
_DENIED = text("state = 'absent' AND attempts > 0")
DENIED: Any = text("recording.state = 'absent' AND recording.attempts > 0")
Index("recording_denied", recording.c.provider, sqlite_where=_DENIED, postgresql_where=_DENIED)
Index("recording_from", recording.c.from_number)
Index("recording_to", recording.c.to_number)

# The number and the weight of recordings by day (`day_counts`); triggers keep them, in the transaction of each change.
recording_day = Table(
    "recording_day",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("provider", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("silent", Integer, primary_key=True, autoincrement=False),
    Column("rate", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("unweighed_ms", BigInteger, nullable=False),
    Column("ms", BigInteger, nullable=False),
    Column("minutes", BigInteger, nullable=False),
)
recording_day.add_is_dependent_on(recording)

copy = Table(
    "copy",
    metadata,
    Column("recording_id", ForeignKey("recording.id"), primary_key=True),
    Column("storage", String(64), primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("version_id", Text),
    Column("size", BigInteger, nullable=False),
    Column("sealed_sha256", String(64), nullable=False),
    Column("lock_mode", String(16), nullable=False),
    Column("retain_until", UtcDateTime),
    Column("legal_hold", Boolean, nullable=False),
    Column("checked_by", String(32), nullable=False),
    Column("stored_at", UtcDateTime, nullable=False),
    Column("verified_at", UtcDateTime),  # when its bytes were last read again and found right
)
_UNREAD = copy.c.verified_at.is_(None)
Index("copy_unread", copy.c.storage, copy.c.stored_at, sqlite_where=_UNREAD, postgresql_where=_UNREAD)
_READ = copy.c.verified_at.is_not(None)
Index("copy_read", copy.c.storage, copy.c.verified_at, sqlite_where=_READ, postgresql_where=_READ)

# Copies that policy demands (in every configured storage) and that do not exist yet: a queue, the oldest first.
owed_copy = Table(
    "owed_copy",
    metadata,
    Column("recording_id", ForeignKey("recording.id"), primary_key=True),
    Column("storage", String(64), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("since", UtcDateTime, nullable=False),  # when the recording was archived without this copy
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcDateTime),  # NULL: at once
    Column("problem", Text),
    Column("owner", String(36)),
    Column("token", BigInteger, nullable=False, server_default="0"),
)
Index("owed_copy_oldest", owed_copy.c.storage, owed_copy.c.since)
Index("owed_copy_owner", owed_copy.c.owner,
      sqlite_where=owed_copy.c.owner.is_not(None), postgresql_where=owed_copy.c.owner.is_not(None))  # fmt: skip

# When the whole journal was last searched for copies that a storage lacks; a recording archived
# later records its owed copies in its own transaction.
copy_survey = Table(
    "copy_survey",
    metadata,
    Column("storage", String(64), primary_key=True),
    Column("surveyed_at", UtcDateTime, nullable=False),
)

# Sealed objects that describe final rows, so that the bucket alone rebuilds the journal (docs/spec/catalogue.md).
catalogue_segment = Table(
    "catalogue_segment",
    metadata,
    Column("sealed_sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("retain_until", UtcDateTime, nullable=False),
    Column("storages", Text, nullable=False),  # JSON: the ids of the storages that have it
    Column("sealed_at", UtcDateTime, nullable=False),
)

reject = Table(
    "reject",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("raw", LargeBinary, nullable=False),
    Column("problem", Text, nullable=False),
    Column("provider_recording_id", Text),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
)

# The count of edits and rejects that one provider made us keep for ever on one UTC day (`growth`).
feed_day = Table(
    "feed_day",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("edits", Integer, nullable=False, server_default="0"),
    Column("rejects", Integer, nullable=False, server_default="0"),
)

# Rows edited lately: the count of edits recorded on that day, and since when an edit is deferred.
edited_row = Table(
    "edited_row",
    metadata,
    Column("recording_id", String(36), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("day", String(10), nullable=False),
    Column("told", Integer, nullable=False, server_default="0"),
    Column("deferred_since", UtcDateTime),
)
Index("edited_row_provider", edited_row.c.provider, edited_row.c.day)

listing_window = Table(
    "listing_window",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("scope", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("walks", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("total", BigInteger),
    Column("digest", String(64), nullable=False),  # over the digests of the raw pages of the agreeing walk
    Column("completed_at", UtcDateTime, nullable=False),
)
Index("listing_window_span", listing_window.c.provider, listing_window.c.scope, listing_window.c.until)

# The spans of provider time that were enumerated to their last page, merged: a hole between rows was never enumerated.
coverage = Table(
    "coverage",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("scope", String(128), primary_key=True),
    Column("since", UtcDateTime, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
)

provider_state = Table(
    "provider_state",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("parked_until", UtcDateTime),
    Column("parked_reason", Text),
    Column("polled_at", UtcDateTime),
    Column("poll_succeeded_at", UtcDateTime),
    Column("poll_error", Text),
    Column("deep_walk_at", UtcDateTime),
)

storage_state = Table(
    "storage_state",
    metadata,
    Column("storage", String(64), primary_key=True),
    Column("trusted", Boolean, nullable=False),
    Column("report", Text, nullable=False),
    Column("probed_at", UtcDateTime, nullable=False),
    Column("every_s", BigInteger),  # seconds until the next probe by the same prober; NULL: within the hour
    Column("ways", Text),  # how objects are put there by this proof, for the next sweep soon after; NULL: not kept
)

# A storage's refusals as one host sees them: a row exists while the refusal lasts.
storage_fault = Table(
    "storage_fault",
    metadata,
    Column("storage", String(64), primary_key=True),
    Column("spool_id", String(36), primary_key=True),
    Column("since", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("problem", Text, nullable=False),
)

# The state of a host's disk, so that other hosts can report that it is full.
host_state = Table(
    "host_state",
    metadata,
    Column("spool_id", String(36), primary_key=True),
    Column("host", Text, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("spool_percent", Integer, nullable=False),
    Column("no_room", Text),
    Column("clock_offset_ms", BigInteger, nullable=False),
)

# The queue's columns say who works on a row and when it was last seen: they mean nothing in another database. The count
# of attempts is not one of them: it tells a call that never had audio from a call whose audio never came.
QUEUE = frozenset(
    {
        "ready", "next_attempt_at", "owner", "token", "spool_id", "spool_name", "last_seen_at", "segment",
    }
)  # fmt: skip


def unindexed(column: Column[str]) -> ColumnElement[str]:
    """Returns a text column as a value that no index answers, so that a partial index answers the condition beside it.

    Without statistics SQLite prefers an index on more columns, and reads the whole history by it.
    """
    return column.concat("")
