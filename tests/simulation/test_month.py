"""Thirty days at each provider: nothing wrong and nothing said; then one loss after another, each said for what it is."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.completeness import issue, statement
from archiver.custody.event import parse
from archiver.demo.simulators import EmptyList, Route, Rows
from tests.log_oracle import signed_statements
from tests.simulation.instants import beginning_at
from tests.simulation.month import CYCLE, DAYS, Month, month

KINDS = ("justcall", "kazoo", "vobiz", "plivo")


@beginning_at("kind", KINDS)
async def test_thirty_clean_days_have_no_gap_and_a_complete_statement_each(
    kind: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    async with month(kind, tmp_path, sqlite_url, start) as it:
        for _ in range(2 * DAYS):
            told = await it.cycle()
            assert told == set(), [(each["detail"], each["evidence"]) for each in it.gaps()]
        assert it.it.digests() == it.it.truth()
        today = it.it.clock.now().date()
        with it.it.engine.connect() as conn:
            issued = issue.statements(conn, it.it.provider.id, today.replace(year=today.year - 1), today)
            signed = signed_statements(conn, issued)
        month_of = issued[-(DAYS - 1) :]
        assert len(month_of) == DAYS - 1
        stated = [statement.check(each.document, parse(signed[each.seq]).data) for each in month_of]
        assert all(each["complete"] for each in stated)
        assert sum(int(str(each["listed"])) for each in stated) > 0


WITH_TOTALS = ("justcall", "vobiz", "plivo")
WITH_USERS = {"justcall": "agent_id", "kazoo": "owner_id"}


def named(row: Any) -> str:
    return str(
        row.get("recording_id") or row.get("call_id") if "recording_id" in row or "agent_id" in row else row["id"]
    )


def without(*names: str) -> Rows:
    return Rows(lambda rows: [row for row in rows if named(row) not in names])


async def hidden_from_the_list(it: Month) -> None:
    """Never shown, though the provider's own total counts it; or shown once and hidden then, where there are no totals."""
    if it.kind in WITH_TOTALS:
        name = it.next_calls()[0].id
        it.it.simulator.fail(Route.LIST, without(name), times=None)
        assert "never_listed" in await it.cycle() | await it.cycle()
    else:
        name = it.it.rows()[-1]["provider_recording_id"]
        it.it.simulator.fail(Route.LIST, without(name), times=None)
        assert "no_longer_listed" in await it.cycle()
    it.it.simulator.heal()
    await it.cycle()
    assert await it.cycle() == set()
    assert it.it.row(name)["state"] == "archived"


async def shifted_to_a_page_that_was_read_already(it: Month) -> None:
    """One walk steps over it, the next does not: said in between, where the provider counts."""
    name = it.next_calls()[-1].id
    it.it.simulator.fail(Route.LIST, without(name), times=None)
    told = await it.cycle() | await it.cycle()
    assert told == ({"never_listed"} if it.kind in WITH_TOTALS else set())
    it.it.simulator.heal()
    await it.cycle()
    assert await it.cycle() == set()
    assert it.it.row(name)["state"] == "archived"


async def no_link(it: Month) -> None:
    """Listed, and never any audio: not ready for as long as it may come, not recorded from then on."""
    name = it.next_calls(CYCLE - timedelta(hours=2))[0].id
    it.it.account.replace(name, audio=None, duration=timedelta(minutes=4))
    assert "not_ready" in await it.cycle()
    assert it.reasons(name) == ["not_ready"]
    for _ in range(8):
        await it.cycle()
    assert it.it.row(name)["state"] == "absent"
    assert it.reasons(name) == ["not_recorded"]


async def gone(it: Month) -> None:
    """Listed, and then 404: suspected after the first denial, believed after the third."""
    name = it.next_calls()[0].id
    await it.it.pass_time(CYCLE)
    await it.it.poll()
    it.it.account.delete(name)
    it.it.context.links.drop(it.it.row(name)["id"])
    await it.it.work()
    await it.watch.look(it.watched())
    assert it.reasons(name) == ["gone_at_provider"]
    for _ in range(2):
        await it.cycle()
    assert it.it.row(name)["state"] == "gone"
    (gap,) = [each for each in it.gaps() if each["code"] == "gone_at_provider"]
    assert gap["grade"] == "open"


async def truncated(it: Month) -> None:
    """Two seconds of audio for twenty minutes of call."""
    name = it.next_calls()[0].id
    it.it.account.replace(name, duration=timedelta(minutes=20))
    await it.it.pass_time(timedelta(minutes=20))
    assert "truncated_at_provider" in await it.cycle()
    assert it.reasons(name) == ["truncated_at_provider"]


async def object_deleted(it: Month) -> None:
    """An object that was stored, confirmed, and is not there any more."""
    it.it.stored()[0].unlink()
    told = await it.cycle() | await it.cycle()
    assert "missing_here" in told


async def silently_empty(it: Month) -> None:
    """A listing of nothing, with totals to match: nothing is covered by it, and that is said."""
    it.it.simulator.fail(Route.LIST, EmptyList(), times=None)
    assert "suspicious_empty" in await it.cycle()
    it.it.simulator.heal()
    assert "suspicious_empty" not in await it.cycle()


async def narrowed(it: Month) -> None:
    """From one day to the next the credentials see fewer users; where there are none, some of the listing."""
    party = WITH_USERS.get(it.kind)
    while len(known := [row for row in it.it.rows() if it.recent(row)]) < 4:
        assert await it.cycle() == set()  # a quiet night
    if party is None:
        some = {row["provider_recording_id"] for row in known[:3]}
        it.it.simulator.fail(Route.LIST, without(*some), times=None)
        assert "history_gone" in await it.cycle()
    else:
        rows = [json.loads(row["raw"]) for row in known]
        users = Counter(str(row[party]) for row in rows)
        user = users.most_common(1)[0][0]
        fewer = Rows(lambda rows: [row for row in rows if str(row[party]) != user])
        it.it.simulator.fail(Route.LIST, fewer, times=None)
        assert "credentials_narrowed" in await it.cycle()
    it.it.simulator.heal()
    await it.cycle()  # what a deep walk did not show stands until the next one, a day later, shows it
    assert not {"credentials_narrowed", "history_gone"} & await it.cycle()


LOSSES = (
    hidden_from_the_list,
    shifted_to_a_page_that_was_read_already,
    silently_empty,
    narrowed,
    truncated,
    gone,
    no_link,
    object_deleted,
)


@beginning_at("kind", KINDS)
async def test_each_loss_is_reported_within_a_cycle_with_its_reason(
    kind: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    async with month(kind, tmp_path, sqlite_url, start, calls=220 if kind == "plivo" else 300) as it:
        assert await it.days(2) == set()
        for loss in LOSSES:
            await loss(it)
        lasting = {str(row["code"]) for row in it.gaps() if row["grade"] == "open"}
        expected = {"gone_at_provider", "not_recorded", "truncated_at_provider", "missing_here"}
        assert lasting == expected
        issued = it.stated
        assert not all(json.loads(each.document)["complete"] for each in issued)
