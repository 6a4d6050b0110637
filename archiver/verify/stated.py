"""Checks the order of the statements of completeness (docs/spec/completeness-statement.md). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from archiver.recording import Json


class Said(NamedTuple):
    """A statement by its signed event; `seq` is the event's number in the archive's chain."""

    seq: int
    data: Mapping[str, Json]


class Renamed(NamedTuple):
    """A provider account that has another name from event `seq` of the archive's chain on."""

    seq: int
    old: str
    new: str


def problems(statements: Iterable[Said], renamed: Iterable[Renamed] = ()) -> Iterator[tuple[str, str]]:
    """Yield each problem in the order of these statements, as (provider and day, sentence)."""
    days: dict[tuple[str, str], _Day] = {}
    told: list[Said | Renamed] = [*statements, *renamed]
    for each in sorted(told, key=lambda it: it.seq):
        if isinstance(each, Renamed):
            for provider, day in [key for key in days if key[0] == each.old]:
                days[each.new, day] = days.pop((provider, day))
            continue
        named = (str(each.data.get("provider")), str(each.data.get("day")))
        found = days.setdefault(named, _Day()).hear(each)
        yield from ((" ".join(named), sentence) for sentence in found)


@dataclass(slots=True)
class _Day:
    """The statements of one day so far.

    Early statements do not name the one before; once a statement does, every later one must. A statement that a
    rolled-back database made, and that was brought back into the log, counts only where it fits: it is known to be
    misplaced.
    """

    digests: dict[int, str] = field(default_factory=dict)
    last: tuple[int, str] | None = None
    complete: bool = False
    chained: bool = False

    def hear(self, it: Said) -> list[str]:
        data = it.data
        stated, digest = data.get("revision"), str(data.get("statement_sha256"))
        revision = stated if isinstance(stated, int) else 0
        whole, chained = data.get("complete") is True, self.chained or "previous" in data
        found = list(self._out_of_order(revision, digest, data, it.seq))
        if whole and self.last is not None and not self.complete and chained and not data.get("because"):
            found.append(f"event {it.seq} calls it complete, which it was not, and states no reason")
        if found and "rehomed" in data:
            return []
        self.chained, self.complete, self.last = chained, whole, (revision, digest)
        self.digests.setdefault(revision, digest)
        return found

    def _out_of_order(self, revision: int, digest: str, data: Mapping[str, Json], seq: int) -> Iterator[str]:
        known = self.digests.get(revision)
        if known is not None:
            if known != digest:
                yield f"revision {revision} was stated twice, of different content, again by event {seq}"
        elif self.last is not None and revision < self.last[0]:
            yield f"event {seq} states revision {revision}, after revision {self.last[0]}"
        elif "previous" in data and data["previous"] != self._previous():
            yield f"event {seq} does not name the statement before it: revision {revision} follows another one"

    def _previous(self) -> Json:
        return None if self.last is None else {"revision": self.last[0], "sha256": self.last[1]}
