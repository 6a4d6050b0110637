"""Writes the report for machines: JSON (`archiver.report/v1`) and CSV. Pure: the same bytes for the same facts."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from archiver.compliance.facts import Account, Kept, Late, Place, Report, Storage
from archiver.compliance.month import Month
from archiver.compliance.rules import unchecked
from archiver.instants import precise, to_second_or_none
from archiver.recording import Json
from archiver.spreadsheet import as_csv

SCHEMA = "archiver.report/v1"

# The instants that are stated to the second: of calls, deadlines and locks. All others have six digits of it.
_TO_SECOND: Mapping[type, frozenset[str]] = {
    Account: frozenset({"since"}),
    Kept: frozenset({"first_until", "last_until"}),
    Late: frozenset({"called_at", "archive_by", "delete_at"}),
    Storage: frozenset({"first_until"}),
}


def as_json(it: Report) -> dict[str, Json]:
    """The JSON document: the facts by their names, spans in seconds, instants in UTC. Within a version, names are only
    added."""
    data: Any = _plain(it)
    data |= {
        "preliminary": it.preliminary,
        "complete": it.complete,
        "unsettled": it.unsettled,
        "losses": [each.id for each in it.losses],
        "not_checked": list(unchecked(it)),
    }
    for shown, each in zip(data["accounts"], it.accounts, strict=True):
        shown |= {
            "coverage": _share(each.coverage),
            "capture": _share(each.capture),
            "storage_cost": None if each.storage_cost is None else each.storage_cost.as_json(),
        }
    return {"schema": SCHEMA, "generated_at": _plain(it.made_at), "data": data}


def report_json(it: Report) -> bytes:
    return json.dumps(as_json(it), ensure_ascii=False, indent=2).encode() + b"\n"


def days_csv(it: Report) -> bytes:
    """The CSV with a row for each provider and day."""
    head = (
        "provider", "day", "verdict", "asked_s", "covered_s", "listed", "archived", "without_audio", "pending", "gone", "absent",
        "disposed", "gaps_open", "gaps_acknowledged", "rejects", "archived_bytes", "archived_s", "statement_revision",
        "statement_sha256", "statement_leaf", "statement_published", "statement_problem", "changed_since",
    )  # fmt: skip
    rows = []
    for account in it.accounts:
        for day in account.days:
            stated = day.stated
            rest: Sequence[object] = ("",) * 6
            if stated is not None:
                rest = (
                    stated.revision, stated.sha256, stated.place.leaf, stated.place.published, stated.problem,
                    " ".join(stated.changed),
                )  # fmt: skip
            rows.append((
                account.provider, day.day, day.verdict, day.asked, day.covered, day.listed, day.archived, day.without_audio,
                day.pending, day.gone, day.absent, day.disposed, day.gaps_open, day.gaps_acknowledged, day.rejects,
                day.archived_bytes, day.archived_for, *rest,
            ))  # fmt: skip
    return _csv(head, rows)


def gaps_csv(it: Report) -> bytes:
    """The CSV with a row for each gap.

    `*_leaf` is the leaf of the event in the custody log; empty when there is no event or it still waits for the log.
    """
    head = (
        "id", "provider", "subject", "code", "standing", "loss", "detail", "evidence", "since", "until", "opened_at", "closed_at",
        "acked_at", "acked_by", "ack_reason", "opened_leaf", "acknowledged_leaf", "closed_leaf",
    )  # fmt: skip
    rows = [
        (
            each.id, each.provider, each.subject, each.code, each.standing, each.loss, each.detail,
            json.dumps(dict(each.evidence), sort_keys=True), each.since, each.until, each.opened_at, each.closed_at,
            each.acked_at, each.acked_by, each.ack_reason,
            *(_leaf(each.events.get(status)) for status in ("opened", "acknowledged", "closed")),
        )
        for each in it.gaps
    ]  # fmt: skip
    return _csv(head, rows)


def _leaf(place: Place | None) -> int | None:
    return None if place is None else place.leaf


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    return as_csv(head, ([_plain(value) for value in row] for row in rows)).encode()


def _share(value: float | None) -> float | None:
    """A share with six decimal places, rounded down: only the whole is shown as 1."""
    return None if value is None else int(value * 1_000_000) / 1_000_000


def _plain(value: object) -> Any:  # noqa: PLR0911  one line for each kind of value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Month):
            return str(value)
        whole = _TO_SECOND.get(type(value), ())
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {name: to_second_or_none(each) if name in whole else _plain(each) for name, each in fields.items()}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return precise(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
