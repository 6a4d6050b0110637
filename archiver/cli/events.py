"""Shows custody events, and the people in them, in the one form of every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archiver.cli.output import table

if TYPE_CHECKING:
    from archiver.custody.access import Who
    from archiver.database import Connection
    from archiver.recording import Json


def custody_events(conn: Connection, recording_id: str) -> list[dict[str, Any]]:
    """Return the recording's custody events in order, unchecked; `archiver verify` checks them."""
    from archiver.custody import history
    from archiver.custody.access import who
    from archiver.custody.event import format_time, parse
    from archiver.custody.ledger import OPERATOR

    events = [parse(entry.raw) for entry in history.entries(conn, f"rec:{recording_id}")]
    people = who(conn, [each for each in events if each.actor_kind == OPERATOR])
    return [
        {"seq": each.seq, "at": format_time(each.at), "type": each.type, "actor": each.actor_kind,
         "outcome": each.outcome, "data": dict(each.data),
         "person": told(people[each.id]) if each.id in people else None}
        for each in events
    ]  # fmt: skip


def render_events(events: list[dict[str, Any]]) -> str:
    """Return one line for each event; below it, where a person acted, the person and the reason."""
    rows: list[tuple[object, ...]] = []
    for each in events:
        rows.append(
            (each["seq"], each["at"][:19].replace("T", " "), each["type"], _brief(each["data"]), each["outcome"])
        )
        if each.get("person"):
            rows.append(("", "", "", by(each["person"]), ""))
    return table(("seq", "at", "event", "data", "outcome"), rows)


def by(person: dict[str, Any]) -> str:
    """Return the person who acted, and the reason."""
    return f"by {person['who']}" + (f": {person['reason']}" if person["reason"] else "")


def told(who: Who) -> dict[str, Json]:
    """Return person and reason, as every command shows them; `erased`: the data behind the event's commitment is
    gone."""
    group = who.group
    names = ("account", "uid", "login", "login_uid", "claimed")
    found: dict[str, Json] = {
        "who": who.said,
        "reason": who.reason,
        "erased": who.promised and not group and not who.false,
    }
    return found | {name: group.get(name) for name in names}


def _brief(data: dict[str, Any]) -> str:
    """Return the event's plain facts; digests by their beginning."""

    def short(value: Any) -> str:
        text = str(value)
        return text if len(text) <= 40 else f"{text[:16]}…"

    return " ".join(f"{name}={short(value)}" for name, value in data.items() if value not in (None, [], {}))[:160]
