"""Moves everything that the archive knows of a provider account to another name, in one transaction, with an event.

Sealed objects and signed events keep the old name; the new event says that both names are one account. When it is run
again after a lost answer, it finds the work done.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from archiver import errors
from archiver.alerts import state
from archiver.completeness import renamed as completeness
from archiver.custody.event import ARCHIVE, Type, parse
from archiver.custody.ledger import Draft, Ledger
from archiver.database import Connection
from archiver.ingest import provider_names as ingest
from archiver.recording import Json
from archiver.schedule import budget, lease
from archiver.translog import queries


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
    if lease.anybody_alive(conn):
        raise errors.NotAllowedError("an archiver is running: stop it first")
    if _known(conn, to.id):
        raise errors.NotAllowedError(f"{to.id} has rows already: two histories cannot be joined under one name")
    _demand_same_account(conn, old, to)
    moved = ingest.move(conn, old, to.id)
    _move_the_rest(conn, old, to.id)
    data: dict[str, Json] = {"from": old, "to": to.id, "kind": to.kind, "recordings": moved}
    private: dict[str, dict[str, Json]] = {"rename": {"user": by, "reason": reason}}
    ledger.append_many(conn, [Draft(ARCHIVE, Type.PROVIDER_RENAMED, data, private, actor_kind="operator")])
    return Renamed(moved)


def told(conn: Connection, old: str, new: str) -> bool:
    """Tell whether an event says that `old` became `new`, in the log or in its queue."""
    waiting = map(parse, queries.queued(conn, [ARCHIVE]))
    events = [*ingest.renames(conn), *(each for each in waiting if each.type == Type.PROVIDER_RENAMED)]
    return any((each.data.get("from"), each.data.get("to")) == (old, new) for each in events)


def _known(conn: Connection, provider: str) -> bool:
    return ingest.knows(conn, provider) or completeness.knows(conn, provider)


def _demand_same_account(conn: Connection, old: str, to: Target) -> None:
    """Require that the rows' account is one of `to`: with another kind or account, every recording would be listed
    anew."""
    accounts = ingest.accounts_of(conn, old)
    if accounts and not accounts & to.accounts:
        raise errors.NotAllowedError(
            f"the recordings of {old} are of another kind of provider, or of another account, than {to.id} ({to.kind})"
        )


def _move_the_rest(conn: Connection, old: str, new: str) -> None:
    """Move the other tables, and delete the state of a failed first try under the new name: polling, lease, budget,
    alerts."""
    ingest.move_listings(conn, old, new)
    completeness.move(conn, old, new)
    budget.rename(conn, old, new)
    lease.rename(conn, f"poll:{old}", f"poll:{new}")
    state.rename(conn, old, new)


def as_json(old: str, new: str, it: Renamed) -> dict[str, Json]:
    """Return the JSON form, `archiver.providers-rename/v1`."""
    return {"from": old, "to": new, "recordings": it.recordings, "already": it.already}
