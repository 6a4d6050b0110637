"""Moves everything that the archive knows of a provider account to another name, in one transaction, with an event.

Sealed objects and signed events keep the old name; the new event says that both names are one account. When it is run
again after a lost answer, it finds the work done.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, select, update

from archiver import errors
from archiver.alerts.rule import Kind
from archiver.alerts.tables import alert_state
from archiver.completeness.tables import gap, statement
from archiver.custody.event import ARCHIVE, Type, parse
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import custody_pending, custody_subject
from archiver.database import db_now
from archiver.ingest.renamed import accounts_of, move, renames
from archiver.ingest.tables import (
    coverage,
    edited_row,
    feed_day,
    listing_window,
    owed_copy,
    provider_state,
    recording,
    reject,
)
from archiver.recording import Json
from archiver.schedule.tables import budget, lease, replica

_KNOWN_BY = (recording, listing_window, coverage, reject, gap, statement)
"""Tables whose rows must not be mixed with another provider's."""


@dataclass(frozen=True, slots=True)
class Target:
    """The configured provider that is to have the rows: its id, its kind, and the accounts that its rows may be of."""

    id: str
    kind: str
    accounts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Renamed:
    """The number of recordings moved; `already`: an earlier run had moved them, and nothing was changed now."""

    recordings: int
    already: bool = False


def rename(
    conn: Connection, ledger: Ledger, old: str, to: Target, configured: Collection[str], *, by: str, reason: str = ""
) -> Renamed:
    """Move everything that is known of `old` to `to`, and append an event of subject `archive`.

    Raises `NotAllowedError` while `old` is configured, a daemon runs, `to` has rows already, or the rows are of no
    account of `to`; `NotFoundError` when nothing is known of `old`.
    """
    if not _known(conn, old):
        if told(conn, old, to.id):
            return Renamed(0, already=True)
        raise errors.NotFoundError(f"nothing is known of a provider {old[:80]!r}")
    if old in configured:
        raise errors.NotAllowedError(f"{old} is still configured: rename it in the configuration first")
    if conn.execute(select(replica.c.host).where(replica.c.alive_until > db_now()).limit(1)).first():
        raise errors.NotAllowedError("an archiver is running: stop it first")
    if _known(conn, to.id):
        raise errors.NotAllowedError(f"{to.id} has rows already: two histories cannot be joined under one name")
    _demand_same_account(conn, old, to)
    moved = move(conn, old, to.id)
    _move_the_rest(conn, old, to.id)
    data: dict[str, Json] = {"from": old, "to": to.id, "kind": to.kind, "recordings": moved}
    private: dict[str, dict[str, Json]] = {"rename": {"user": by, "reason": reason}}
    ledger.append_many(conn, [Draft(ARCHIVE, Type.PROVIDER_RENAMED, data, private, actor_kind="operator")])
    return Renamed(moved)


def told(conn: Connection, old: str, new: str) -> bool:
    """Tell whether an event says that `old` became `new`, in the log or in its queue."""
    ours = select(custody_pending.c.entry).join(custody_subject).where(custody_subject.c.subject == ARCHIVE)
    waiting = conn.execute(ours).scalars()
    events = [*renames(conn), *(each for each in map(parse, waiting) if each.type == Type.PROVIDER_RENAMED)]
    return any((each.data.get("from"), each.data.get("to")) == (old, new) for each in events)


def _known(conn: Connection, provider: str) -> bool:
    return any(
        conn.execute(select(table.c.provider).where(table.c.provider == provider).limit(1)).first()
        for table in _KNOWN_BY
    )


def _demand_same_account(conn: Connection, old: str, to: Target) -> None:
    """Require that the rows' account is one of `to`: with another kind or account, every recording would be listed
    anew."""
    accounts = accounts_of(conn, old)
    if accounts and not accounts & to.accounts:
        raise errors.NotAllowedError(
            f"the recordings of {old} are of another kind of provider, or of another account, than {to.id} ({to.kind})"
        )


def _move_the_rest(conn: Connection, old: str, new: str) -> None:
    """Move the other tables, and delete the state of a failed first try under the new name: polling, lease, budget,
    alerts."""
    for table in (listing_window, coverage, reject, gap, statement, owed_copy, edited_row):
        conn.execute(update(table).where(table.c.provider == old).values(provider=new))
    conn.execute(delete(feed_day).where(feed_day.c.provider == old))
    conn.execute(delete(provider_state).where(provider_state.c.provider == new))
    conn.execute(update(provider_state).where(provider_state.c.provider == old).values(provider=new))
    conn.execute(delete(budget).where(budget.c.credential == new))
    conn.execute(update(budget).where(budget.c.credential == old).values(credential=new))
    conn.execute(delete(lease).where(lease.c.name == f"poll:{new}"))
    conn.execute(update(lease).where(lease.c.name == f"poll:{old}").values(name=f"poll:{new}"))
    others = alert_state.alias()
    there = exists().where(
        others.c.kind == alert_state.c.kind, others.c.channel == alert_state.c.channel, others.c.subject == new
    )
    of_provider = (alert_state.c.subject == old, alert_state.c.kind != Kind.STORAGE_NOT_TRUSTED)
    conn.execute(delete(alert_state).where(*of_provider, there))
    conn.execute(update(alert_state).where(*of_provider).values(subject=new))


def as_json(old: str, new: str, it: Renamed) -> dict[str, Json]:
    """Return the JSON form, `archiver.providers-rename/v1`."""
    return {"from": old, "to": new, "recordings": it.recordings, "already": it.already}
