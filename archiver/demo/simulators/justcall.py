"""Simulates JustCall as its two documents describe it: call log `v2`, signed recording links.

Where the documents are silent: newest call first; days are UTC days and both ends count; a value that the parameter
table does not allow is 400. `number` is the JustCall number, which is the called one on an inbound call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Unpack
from urllib.parse import quote, unquote

from archiver.clock import Clock
from archiver.demo.simulators.answer import Answer, Ask, Json, RefusedError, Route, as_json, whole_number
from archiver.demo.simulators.media import Signer, audio_answer, no_credentials
from archiver.demo.simulators.pages import NO_SUCH_AUDIO
from archiver.demo.simulators.scenario import Account, Audio, SimRecording
from archiver.demo.simulators.server import ServerOptions, Simulator

MEDIA = re.compile(r"/rec_([^/]+)\.mp3")
STATUSES = ("completed", "missed", "voicemail", "busy")
ITEM_EXAMPLE = ("call_id", "direction", "duration", "recording_url", "recording_duration", "status")


class JustCall(Simulator):
    """The common part of both dialects: credentials as `Authorization: key:secret`, and media behind signed links.

    `link_life`: how long a link works. A link to an origin of its own is refused when credentials come with it.
    """

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        api_key: str,
        api_secret: str,
        link_life: timedelta = timedelta(hours=24),
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(account, clock, **options)
        self._credentials = f"{api_key}:{api_secret}"
        self._signer = Signer(api_secret, link_life)

    def signed_link(self, name: str) -> str:
        """Returns a fresh link to the audio that `name` names."""
        path = f"/rec_{quote(name, safe='')}.mp3"
        return f"{self.media_url}{path}?token={self._signer.token(path, self.clock.now())}"

    def authorised(self, ask: Ask) -> None:
        if ask.headers.get("authorization") != self._credentials:
            raise RefusedError(error(401, "Invalid API key or secret.", "UNAUTHORIZED"))
        if ask.method != "GET":
            raise RefusedError(error(405, "Method not allowed.", "METHOD_NOT_ALLOWED"))

    def media(self, ask: Ask, name: str) -> Answer:
        no_credentials(ask)
        self._signer.check(ask.path, ask.query.get("token", ""), self.clock.now())
        file, child, _ = name.partition("--child")
        recording = self.account.by_file(file)
        if recording is None or not self.audible(recording):
            return NO_SUCH_AUDIO
        audio: Audio | None = recording.child if child else recording.audio
        return audio_answer(audio, ask) if audio else NO_SUCH_AUDIO


class JustCallSimulator(JustCall):
    """The simulator of the documented dialect.

    `terse`: the single call has just the keys of the document's example, instead of every key that either page names.
    """

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        api_key: str,
        api_secret: str,
        link_life: timedelta = timedelta(hours=24),
        terse: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(account, clock, api_key=api_key, api_secret=api_secret, link_life=link_life, **options)
        self._terse = terse

    def route(self, ask: Ask) -> Route:
        if ask.path == "/v2/calls":
            return Route.LIST
        return (
            Route.ITEM
            if ask.path.startswith("/v2/calls/")
            else Route.MEDIA
            if MEDIA.fullmatch(ask.path)
            else Route.OTHER
        )

    def answer(self, ask: Ask) -> Answer:
        if ask.at("media") and (named := MEDIA.fullmatch(ask.path)):
            return self.media(ask, unquote(named[1]))
        if not ask.at("api"):
            return NO_SUCH_AUDIO
        self.authorised(ask)
        if ask.path == "/v2/calls":
            return self._list(ask)
        call_id = unquote(ask.path.removeprefix("/v2/calls/"))
        recording = self.account.find(call_id, self.clock.now(), outlive=True)
        if recording is None or call_id == ask.path:
            return error(404, "Call not found.", "NOT_FOUND")
        return as_json({"status": "success", "data": self._item(recording)})

    def _list(self, ask: Ask) -> Answer:
        page, size = whole_number(ask.query.get("page"), 1), whole_number(ask.query.get("per_page"), 25)
        if not page or not size or size > 100:
            raise RefusedError(error(400, "page starts at 1, per_page is at most 100.", "VALIDATION_ERROR"))
        found = list(filter(filters(ask.query), self.account.visible(self.clock.now(), outlive=True)))
        found.sort(key=lambda each: (each.started_at, each.file), reverse=True)
        data: list[Json] = [self._row(each) for each in found[(page - 1) * size : page * size]]
        pages = math.ceil(len(found) / size)
        return as_json(
            {
                "status": "success",
                "count": len(found),
                "data": data,
                "page": page,
                "per_page": size,
                "total_pages": pages,
            }
        )

    def _row(self, call: SimRecording) -> dict[str, Json]:
        return call.shaped(self._fields(call))

    def _item(self, call: SimRecording) -> dict[str, Json]:
        heard = self.audible(call)
        row = self._fields(call) | {"recording_duration": round(call.duration.total_seconds()) if heard else None}
        return call.shaped({key: row[key] for key in ITEM_EXAMPLE} if self._terse else row)

    def _fields(self, call: SimRecording) -> dict[str, Json]:
        return {
            "call_id": call.id,
            "direction": call.direction,
            "from": call.from_number,
            "to": call.to_number,
            "agent_id": call.agent_id,
            "agent_name": call.agent_name,
            "status": call.status,
            "duration": round((call.ended_at - call.started_at).total_seconds()),
            "recording_url": self.signed_link(call.file) if self.audible(call) else None,
            "voicemail": call.voicemail,
            "notes": call.notes,
            "disposition": call.disposition,
            "tags": list(call.tags),
            "started_at": f"{call.started_at:%Y-%m-%dT%H:%M:%SZ}",
            "ended_at": f"{call.ended_at:%Y-%m-%dT%H:%M:%SZ}",
        }


def filters(asked: Mapping[str, str]) -> Callable[[SimRecording], bool]:
    """Returns a filter by the parameters of the call log. Raises `RefusedError` for values that the parameter table
    does not allow."""
    first, last = _day(asked.get("start_date"), date.min), _day(asked.get("end_date"), date.max)
    agent = whole_number(asked.get("agent_id"), 0)
    direction, status = asked.get("direction", "all"), asked.get("status")
    if direction not in ("inbound", "outbound", "all") or status not in (None, *STATUSES) or agent is None:
        raise RefusedError(error(400, "direction, status or agent_id has no such value.", "VALIDATION_ERROR"))

    def passes(call: SimRecording) -> bool:
        return (
            first <= call.started_at.date() <= last
            and direction in ("all", call.direction)
            and status in (None, call.status)
            and ("agent_id" not in asked or agent == call.agent_id)
            and asked.get("number", own_number(call)) == own_number(call)
        )

    return passes


def own_number(call: SimRecording) -> str:
    """Returns the account's own number in a call."""
    return call.to_number if call.direction == "inbound" else call.from_number


def _day(text: str | None, absent: date) -> date:
    if text is None:
        return absent
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise RefusedError(error(400, "dates must be YYYY-MM-DD.", "VALIDATION_ERROR")) from None


def error(status: int, message: str, code: str) -> Answer:
    return as_json({"status": "error", "message": message, "error_code": code}, status)
