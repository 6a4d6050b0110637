"""Defines faults of listings: changes of the rows and of the page around them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

from archiver.demo.simulators.answer import Answer, Json
from archiver.demo.simulators.faults import Effect

ListedRows: TypeAlias = list[Json]


@dataclass(frozen=True, slots=True)
class JsonChange(Effect):
    """A change of the JSON document that was going to be sent."""

    change: Callable[[dict[str, Json]], Json]

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, body=json.dumps(self.change(json.loads(answer.body))).encode())


@dataclass(frozen=True, slots=True)
class Rows(Effect):
    """A change of the listed rows; totals and links stay as they were. For garbage rows, duplicates, missing rows."""

    change: Callable[[ListedRows], ListedRows]

    def alter(self, answer: Answer) -> Answer:
        def change(document: dict[str, Json]) -> Json:
            key = rows_key(document)
            return {**document, key: self.change(cast("ListedRows", document[key]))}

        return JsonChange(change).alter(answer)


@dataclass(frozen=True, slots=True)
class EmptyList(Effect):
    """A well-formed listing of nothing, with totals to match."""

    def alter(self, answer: Answer) -> Answer:
        return JsonChange(emptied).alter(answer)


@dataclass(slots=True)
class RepeatedPage(Effect):
    """The first page that was asked for, again and again, whatever page is asked for later."""

    first: Answer | None = None

    def alter(self, answer: Answer) -> Answer:
        self.first = self.first or answer
        return self.first


def rows_key(document: Mapping[str, Json]) -> str:
    """Returns the key under which a listing of any of the four providers keeps its rows."""
    return next(key for key in ("objects", "data", "recordings") if isinstance(document.get(key), list))


def emptied(document: dict[str, Json]) -> Json:
    zero: dict[str, Json] = {key: 0 for key in ("count", "total_count", "total_pages", "page_size") if key in document}
    document = {**document, **zero, rows_key(document): []}
    document.pop("next_start_key", None)
    if "next_page_link" in document:
        document["next_page_link"] = None
    if isinstance(meta := document.get("meta"), dict):
        document["meta"] = {**meta, "total_count": 0, "next": None, "previous": None}
    return document
