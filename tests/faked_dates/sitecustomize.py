"""Speaks to S3 in the true time while the rest of the process lives in a faked one: what it signs, and the times it is told.

Python imports this module at its start when `tests/faked_dates` is on its path: only under `python3 dev.py dates`. An S3 server
that cannot be faked refuses what is signed for another day than its own, and we refuse one whose clock is not ours.
"""

from __future__ import annotations

import email.utils
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any

_TIMES = re.compile(rb"(<(?:Initiated|LastModified)>)([^<]+)")

if (seconds := os.environ.get("FAKED_BY_SECONDS")) is not None:
    import botocore.auth
    import botocore.awsrequest

    from archiver.store import s3_wire

    _ahead = timedelta(seconds=int(seconds))
    _now = botocore.auth.get_current_datetime

    def true_time(*arguments: bool, **named: bool) -> datetime:
        found: datetime = _now(*arguments, **named) - _ahead
        return found

    def here(told: datetime) -> datetime:
        """A server's time as it would be if it lived in ours; one in Python lives there already."""
        faked = datetime.now(UTC)
        return told + _ahead if abs(told - (faked - _ahead)) < abs(told - faked) else told

    def times(found: re.Match[bytes]) -> bytes:
        try:
            told = datetime.fromisoformat(found[2].decode())
            return found[1] + here(told).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        except (ValueError, TypeError):
            return found[0]  # a lie that a test tells

    class Response(botocore.awsrequest.AWSResponse):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            try:
                told = email.utils.parsedate_to_datetime(self.headers.get("date") or "")
                self.headers["date"] = email.utils.format_datetime(here(told).astimezone(UTC), usegmt=True)
            except (ValueError, TypeError):
                return  # none, or a lie that a test tells

        @property
        def content(self) -> bytes:
            found: bytes = super().content
            return _TIMES.sub(times, found) if found.startswith(b"<") else found

    _wire = s3_wire.Wire.__init__

    def wire(self: s3_wire.Wire, *arguments: Any, hear: Any = None, **named: Any) -> None:
        """Calls without the SDK sign by the SDK's time; what they hear is moved here."""

        def moved(text: str | None) -> None:
            try:
                told = here(email.utils.parsedate_to_datetime(text or ""))
                hear(email.utils.format_datetime(told.astimezone(UTC), usegmt=True))
            except (ValueError, TypeError):
                hear(text)

        _wire(self, *arguments, hear=None if hear is None else moved, **named)

    s3_wire.Wire.__init__ = wire  # type: ignore[method-assign]
    botocore.auth.get_current_datetime = true_time
    botocore.awsrequest.AWSResponse = Response
