"""Puts into words what several documents say: an instant, a span of time, an event. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

EVENTS: Mapping[str, str] = {
    "recording.discovered": "The provider listed the recording",
    "recording.source_refreshed": "The provider's details of it changed",
    "recording.downloaded": "Downloaded from the provider",
    "recording.verified": "Examined: is it sound audio?",
    "recording.sealed": "Encrypted",
    "recording.stored": "Written to a storage",
    "recording.store_verified": "Read back from the storage",
    "recording.fixity_checked": "Checked again in the storage",
    "recording.accessed": "Opened by a person",
    "recording.rewrapped": "Encryption key renewed",
    "recording.shredded": "Made unreadable for ever",
    "recording.purged": "Removed from the storage",
    "provider.delete_intended": "Deletion at the provider decided",
    "provider.deleted": "Deleted at the provider",
    "provider.delete_confirmed": "The provider no longer has it",
    "hold.placed": "Legal hold placed",
    "hold.released": "Legal hold released",
    "retention.set": "Retention set",
    "retention.extended": "Retention extended",
    "disposition.approved": "Disposal approved",
    "export.prepared": "Exported: the content of a bundle fixed",
    "export.delivered": "The bundle of an export was finished",
    "writer.enrolled": "A process was admitted as writer",
    "writer.retired": "A writer was retired",
    "reconcile.completed": "Compared, stated or verified",
    "log.anchored": "Time-stamped by an authority",
}
"""Events in words, for readers without tools. A type that is not here is shown by its name."""


def format_instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def elapsed(span: timedelta) -> str:
    """Write a span in its two largest units that are not zero: "3 y 41 d", "2 h 5 min", "12 s"; "−5 s" for a span below
    zero."""
    if round(span.total_seconds()) < 0:
        return f"−{elapsed(-span)}"
    left = round(span.total_seconds())
    parts: list[tuple[int, str]] = []
    for unit, seconds in (("y", 31_557_600), ("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"
