"""Names recordings that only custody knows since a database was lost, when their provider lists them again.

The provider's id is private, and the salt of its commitment is gone. Among the account's recordings that no other row
knows, the one of the same variant that began at the same instant is taken as the match, and an event states the ground.
No claim about the content was made before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from archiver.custody.event import Type
from archiver.custody.ledger import Draft
from archiver.ingest.tables import recording
from archiver.recording import Json, Listing, State

_OPEN = (State.LISTED, State.ABSENT, State.GONE)  # an archived recording was identified by its bytes
_PAGE = 500


class Nameless:
    """The nameless rows that the listings of one page may name; each row is taken once."""

    def __init__(self, conn: Connection, listings: Sequence[Listing]) -> None:
        self._waiting: dict[tuple[str, str, datetime | None], list[str]] = {}
        starts = sorted({each.started_at for each in listings if each.started_at is not None})
        providers = {each.ref.provider for each in listings}
        for provider in providers:
            for first in range(0, len(starts), _PAGE):
                wanted = {"of": provider, "starts": starts[first : first + _PAGE]}
                for row in conn.execute(_WAITING, wanted):
                    key = (provider, row.variant, row.call_started_at)
                    self._waiting.setdefault(key, []).append(row.id)

    def take(self, listing: Listing) -> str | None:
        """Return the id of the nameless row that this listing names, if one is left."""
        ids = self._waiting.get((listing.ref.provider, listing.ref.variant, listing.started_at))
        return ids.pop() if ids else None


def name(conn: Connection, values: Mapping[str, object]) -> None:
    """Turn the nameless row with the id in `values` into a newly listed row."""
    known = {name: value for name, value in values.items() if name not in ("id", "listed_at")}
    blank = dict.fromkeys(("last_error", "segment", "denied_at", "plaintext_sha256", "plaintext_bytes", "media"))
    conn.execute(update(recording).where(recording.c.id == values["id"]).values(**blank, **known))


def found_again(recording_id: str, private: Mapping[str, Mapping[str, Json]]) -> Draft:
    """Return the event that a nameless recording was listed again."""
    data: dict[str, Json] = {"why": "listed again after a loss of the database", "matched": "variant and start"}
    return Draft(f"rec:{recording_id}", Type.SOURCE_REFRESHED, data, private)


_WAITING = (
    select(recording.c.id, recording.c.variant, recording.c.call_started_at)
    .where(
        recording.c.provider == bindparam("of"),
        recording.c.call_started_at.in_(bindparam("starts", expanding=True)),
        recording.c.provider_recording_id == "",
        recording.c.state.in_(_OPEN),
    )
    .order_by(recording.c.id.desc())
)
