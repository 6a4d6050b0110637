"""Defines a line of a catalogue segment: all that the journal knows of one recording (docs/spec/catalogue.md). Pure: no
I/O, no clock.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from archiver.custody.event import format_time
from archiver.errors import VerificationError

VERSION = 1

_TIMES = frozenset(
    {
        "call_started_at", "call_ended_at", "listed_at", "delete_at", "archive_by", "denied_at", "retain_until",
        "archived_at", "stored_at", "verified_at",
    }
)  # fmt: skip
_BYTES = frozenset({"raw"})


@dataclass(frozen=True, slots=True)
class PrivateGroup:
    """A private group of event `seq`: with its salt, its canonical bytes give the event's commitment."""

    seq: int
    group: str
    salt: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class CatalogueLine:
    """One recording as it was at `written_at`, when `seq` was the newest event of its chain.

    `row` and `copies` have the journal's columns, by name, with values as the database gives them.
    """

    id: str
    seq: int
    written_at: datetime
    row: Mapping[str, Any]
    copies: tuple[Mapping[str, Any], ...]
    private: tuple[PrivateGroup, ...]

    @property
    def subject(self) -> str:
        return f"rec:{self.id}"


def dump(lines: Sequence[CatalogueLine]) -> bytes:
    """Return a segment's content: one JSON object per line, in the order given."""
    return b"".join(json.dumps(_outward(line), ensure_ascii=False, sort_keys=True).encode() + b"\n" for line in lines)


def load(content: bytes) -> Iterator[CatalogueLine]:
    """Read the lines of a segment. Unknown members and columns are kept. Raises `VerificationError`."""
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            yield _inward(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as exc:
            raise VerificationError(f"line {number} of the segment is not a catalogue line: {exc}") from exc


def _outward(line: CatalogueLine) -> dict[str, Any]:
    return {
        "v": VERSION,
        "id": line.id,
        "seq": line.seq,
        "written_at": format_time(line.written_at),
        "row": plain(line.row),
        "copies": [plain(each) for each in line.copies],
        "private": [
            {"seq": each.seq, "group": each.group, "salt": each.salt.hex(), "data": each.data.decode()}
            for each in line.private
        ],
    }


def _inward(value: dict[str, Any]) -> CatalogueLine:
    if value["v"] != VERSION or not isinstance(value["id"], str):
        raise ValueError("not of version 1")
    return CatalogueLine(
        id=value["id"],
        seq=int(value["seq"]),
        written_at=datetime.fromisoformat(value["written_at"]),
        row=_rich(value["row"]),
        copies=tuple(_rich(each) for each in value["copies"]),
        private=tuple(
            PrivateGroup(int(each["seq"]), str(each["group"]), bytes.fromhex(each["salt"]), each["data"].encode())
            for each in value["private"]
        ),
    )


def plain(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns in the form of a line: times as text, bytes in base64."""

    def outward(value: Any) -> Any:
        match value:
            case datetime():
                return format_time(value)
            case bytes():
                return base64.b64encode(value).decode()
        return value

    return {name: outward(value) for name, value in columns.items()}


def _rich(columns: Mapping[str, Any]) -> dict[str, Any]:
    def rich(name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in _TIMES:
            return datetime.fromisoformat(value)
        return base64.b64decode(value, validate=True) if name in _BYTES else value

    return {name: rich(name, value) for name, value in columns.items()}


# --- which rows go into one segment ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueRow:
    """A final row that no segment describes as it is now. `size`: the approximate bytes of its line."""

    id: str
    keep_until: datetime
    size: int


def grouped(due: Sequence[DueRow], rows: int, size: int) -> list[list[DueRow]]:
    """Divide rows into segments of up to `rows` rows and about `size` bytes, each with rows kept until the same
    month."""
    groups: list[list[DueRow]] = []
    filled = 0
    for each in sorted(due, key=lambda row: (row.keep_until, row.id)):
        last = groups[-1] if groups else []
        if not last or len(last) >= rows or filled + each.size > size or _month(last[0]) != _month(each):
            groups.append([])
            filled = 0
        groups[-1].append(each)
        filled += each.size
    return groups


def _month(due: DueRow) -> tuple[int, int]:
    return due.keep_until.year, due.keep_until.month
