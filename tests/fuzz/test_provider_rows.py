"""Hostile rows and bytes: every row comes out as listings or as a reject, and nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.errors import ListingError
from archiver.providers import kazoo_document, recording_object
from archiver.providers.justcall_dialects import DIALECTS, Context
from archiver.providers.rows import Row, parse, sift
from archiver.recording import Link, Listing, Secret

DATA = Path(__file__).parent.parent / "data" / "providers"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Read = Callable[[Row], Iterable[Listing]]


def _link(value: object) -> Link | None:
    return Link(Secret(value), NOW) if isinstance(value, str) and value else None


def _shared(row: Row) -> Iterable[Listing]:
    yield recording_object.read(row, provider="p", account="MA1", now=NOW, link=_link)


def _kazoo(row: Row) -> Iterable[Listing]:
    yield kazoo_document.read(row, provider="k", account="a1", now=NOW, link=lambda name: Link(Secret(name), NOW))


def _justcall(dialect: str) -> Read:
    return lambda row: DIALECTS[dialect].read(row, Context("j", NOW, _link))


READERS: dict[str, tuple[Read, str]] = {
    "plivo": (_shared, "plivo-duplicate"),
    "vobiz": (_shared, "vobiz-list"),
    "kazoo": (_kazoo, "kazoo-list"),
    "justcall": (_justcall("v2"), "justcall-calls"),
    "justcall-v2.1": (_justcall("v2.1"), "justcall-v21-calls"),
}

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800") | st.just("a\0")
    | st.integers(min_value=10**30).map(str) | st.sampled_from(["7880.00000", "2026-05-07 09:45:35.79276+05:30", "NaN"])
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _check(body: bytes, read: Read) -> None:
    try:
        document = parse(body)
    except ListingError:
        return
    rows = document if isinstance(document, list) else [document]
    page = sift(rows, read)
    assert len(page.rejects) + len({id(listing) for listing in page.listings}) >= len(rows)
    for listing in page.listings:
        json.loads(listing.raw.decode())
        json.dumps(dict(listing.metadata), allow_nan=False).encode()
        assert listing.ref.recording_id
        assert len(listing.revision) == len(listing.stable_digest) == 64
    for reject in page.rejects:
        json.loads(reject.raw.decode())
        assert reject.problem


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_structured_rows(name: str, data: st.DataObject) -> None:
    """A document's own row with some of its values, at any depth, replaced by anything."""
    read, file = READERS[name]
    document: Any = json.loads((DATA / f"{file}.json").read_bytes())
    rows = document.get("data") or document["objects"]
    row = dict(data.draw(st.sampled_from(rows)))
    for key in data.draw(st.sets(st.sampled_from(sorted(row)), max_size=5)):
        inner = row[key]
        if isinstance(inner, dict) and inner and data.draw(st.booleans()):
            row[key] = {**inner, data.draw(st.sampled_from(sorted(inner))): data.draw(values)}
        else:
            row[key] = data.draw(values)
    row |= data.draw(st.dictionaries(st.text(), values, max_size=2))
    _check(json.dumps([row]).encode(), read)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_bytes(name: str, data: st.DataObject) -> None:
    """A document's bytes with some of them cut, overwritten or inserted."""
    read, file = READERS[name]
    document: Any = json.loads((DATA / f"{file}.json").read_bytes())
    body = bytearray(json.dumps(document.get("data") or document["objects"], ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        length = data.draw(st.integers(0, 8))
        body[at : at + length] = data.draw(st.binary(max_size=8))
    _check(bytes(body), read)
