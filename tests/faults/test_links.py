"""Links found by the id alone: whose audio they lead to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.provider_cases import sounds
from tests.faults.rig import call, rig


@pytest.mark.parametrize("case", ["vobiz", "plivo"])
async def test_the_other_recording_of_the_same_id_is_not_archived_in_place_of_this_one(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """The API, asked by id, shows the newer of the two only; the older one waits for a listing, which wakes it."""
    one = call(case, "same")
    voice = sounds("plivo-48k-stereo-22050")[0]
    other = replace(one, audio=voice, duration=voice.duration, started_at=one.started_at + timedelta(minutes=7))
    async with rig(case, tmp_path, sqlite_url, recordings=[one, other]) as it:
        assert await it.poll()
        for row in it.rows():
            it.context.links.drop(row["id"])
        await it.work()
        waiting, archived = sorted(it.rows(), key=lambda row: str(row["state"]), reverse=True)
        assert (archived["state"], it.digests()) == ("archived", [voice.digest])
        assert (waiting["state"], waiting["reason"]) == ("waiting", "link")
        assert "another recording under this id" in waiting["last_error"]
        assert await it.poll()
        await it.work()
        assert it.digests() == it.truth()


async def test_a_call_listed_before_it_was_over_is_completed_by_what_the_api_shows_later(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Another length is another revision, but what had no audio so far cannot have been confused with anything."""
    voice = sounds()[0]
    begun = call("justcall", "begun", ago=timedelta(minutes=1), audio=None, duration=timedelta(seconds=4))
    async with rig("justcall", tmp_path, sqlite_url, recordings=[begun]) as it:
        assert await it.poll()
        (before,) = it.rows()
        it.account.replace(begun.id, audio=voice, duration=voice.duration)
        await it.settle()
        (row,) = it.rows()
        assert it.digests() == [voice.digest]
        assert row["revision"] != before["revision"]
        assert await it.poll()
        assert [each["id"] for each in it.rows()] == [row["id"]]
