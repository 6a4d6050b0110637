"""`archiver access`: shows who heard or exported which recording, when, and why."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.events import told
from archiver.cli.instants import FORMS, instant
from archiver.cli.lookup import resolve
from archiver.cli.options import Options
from archiver.cli.output import emit, table

if TYPE_CHECKING:
    from archiver.custody.access import Access


@click.group()
def access() -> None:
    """Show who heard or exported which recording, when, and why."""


@access.command("list")
@click.option("--since", callback=instant, metavar="TIME", help=f"From this time on: {FORMS}.")
@click.option("--until", callback=instant, metavar="TIME", help="Before this time.")
@click.option("--recording", "wanted", metavar="ID", help="Only of this recording.")
@click.option("--person", help="Only by this account, login, user id or claimed name.")
@click.pass_obj
def list_(
    options: Options, since: datetime | None, until: datetime | None, wanted: str | None, person: str | None
) -> None:
    """Every recording that was heard or exported, oldest first: by which account, who it claimed to be, and its
    reason."""
    from archiver.assembly.database import database
    from archiver.custody.access import accesses
    from archiver.custody.person import names
    from archiver.database import reading

    with database(options.load(resolve_secrets=False)) as engine, reading(engine) as conn:
        subject = None if wanted is None else f"rec:{resolve(conn, wanted)}"
        found = [
            each
            for each in accesses(conn, since, until, subject)
            if person is None or person.casefold() in names(each.who.group)
        ]
    rows: list[dict[str, Any]] = [_row(each) for each in found]
    emit(options, "archiver.access/v1", [*rows], lambda: _table(rows) if rows else "nobody heard or exported any")


def _row(it: Access) -> dict[str, Any]:
    from archiver.custody.event import format_time

    event = it.event
    return {
        "at": format_time(event.at),
        "what": it.what,
        "recording": it.recording,
        "storage": event.data.get("storage"),
        "export": event.data.get("request"),
        "purpose": event.data.get("purpose"),
        "delivered_at": None if it.delivered_at is None else format_time(it.delivered_at),
        **told(it.who),
        "type": event.type,
        "seq": event.seq,
        "leaf": it.leaf,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    return table(
        ("at", "recording", "what", "who", "why", "leaf"),
        [
            (
                each["at"][:19].replace("T", " "),
                each["recording"],
                _what(each),
                each["who"],
                each["reason"],
                each["leaf"],
            )
            for each in rows
        ],
    )


def _what(row: dict[str, Any]) -> str:
    return f"{row['what']}, not finished" if row["export"] and row["delivered_at"] is None else str(row["what"])
