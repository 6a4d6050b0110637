"""What a person gives on a command line: who they are, and instants."""

from __future__ import annotations

import os
from datetime import UTC, datetime


def user() -> str:
    """Who runs this command, for custody events."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid-{os.getuid()}"


def utc(text: str) -> datetime:
    """An instant from a command line: a date or an ISO time, UTC unless it says otherwise. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
