"""Simulates JustCall as its vendor describes `v2.1` (the API's reference page).

Filter times are in the account's time zone, stamps are in UTC without saying so, pages count from 0, links lead to a
redirector, and Sales Dialer calls are a collection of their own.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Unpack
from urllib.parse import unquote, urlencode
from zoneinfo import ZoneInfo

from archiver.clock import Clock
from archiver.demo.simulators.answer import Answer, Ask, Json, RefusedError, Route, as_json, whole_number
from archiver.demo.simulators.justcall import MEDIA, JustCall, own_number
from archiver.demo.simulators.pages import NO_SUCH_AUDIO
from archiver.demo.simulators.scenario import Account, SimRecording
from archiver.demo.simulators.server import ServerOptions

PATH = re.compile(r"/v2\.1/(?P<dialer>sales_dialer/)?calls(?:/(?P<id>[^/]+))?")
REDIRECTOR = re.compile(r"/rec-redirect/(CA[0-9a-f]{32})")
TYPES = {"completed": "Answered", "missed": "Missed", "voicemail": "Voicemail", "busy": "Busy"}


class JustCallV21Simulator(JustCall):
    """The simulator of the vendor's dialect.

    `timezone` is the account user's time zone. `first_page`: 0 as documented for lists, or 1 as other clients found it.
    Recordings with `sales_dialer` show only in the Sales Dialer's collection; `child` gives a second link.
    """

    origins: ClassVar[tuple[str, ...]] = ("api", "media", "site")

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        api_key: str,
        api_secret: str,
        link_life: timedelta = timedelta(hours=24),
        timezone: str = "UTC",
        first_page: int = 0,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(account, clock, api_key=api_key, api_secret=api_secret, link_life=link_life, **options)
        self._zone = ZoneInfo(timezone)
        self._first_page = first_page

    def route(self, ask: Ask) -> Route:
        if MEDIA.fullmatch(ask.path) or REDIRECTOR.fullmatch(ask.path):
            return Route.MEDIA
        path = PATH.fullmatch(ask.path)
        return Route.OTHER if path is None else Route.ITEM if path["id"] else Route.LIST

    def answer(self, ask: Ask) -> Answer:
        if ask.at("media") and (named := MEDIA.fullmatch(ask.path)):
            return self.media(ask, unquote(named[1]))
        if ask.at("site") and (named := REDIRECTOR.fullmatch(ask.path)):
            return self._redirect(named[1])
        path = PATH.fullmatch(ask.path)
        if path is None or not ask.at("api"):
            return error(404, "Not Found")
        self.authorised(ask)
        dialer = path["dialer"] is not None
        calls = [each for each in self.account.visible(self.clock.now(), outlive=True) if each.sales_dialer == dialer]
        if path["id"] is None:
            return self._list(ask, calls)
        found = [each for each in calls if str(call_number(each)) == path["id"]]
        return as_json({"status": "success", "data": self._row(found[-1])}) if found else error(404, "Not Found")

    def _redirect(self, sid: str) -> Answer:
        for call in self.account.visible(self.clock.now()):
            for suffix in ("", "--child"):
                if sid == call_sid(call, suffix):
                    return Answer(302, {"Location": self.signed_link(call.file + suffix)})
        return NO_SUCH_AUDIO

    def _list(self, ask: Ask, calls: list[SimRecording]) -> Answer:
        page = whole_number(ask.query.get("page"), self._first_page)
        size = whole_number(ask.query.get("per_page"), 20)
        if page is None or page < self._first_page or not size or size > 100:
            raise RefusedError(error(400, "Bad Request"))
        descending = ask.query.get("order", "desc").lower() != "asc"
        key = (lambda call: call.started_at.timestamp()) if ask.query.get("sort") == "datetime" else call_number
        found = sorted(filter(self._filter(ask.query), calls), key=key, reverse=descending)
        if last := whole_number(ask.query.get("last_call_id_fetched"), 0):
            found = [each for each in found if (call_number(each) < last) == descending and call_number(each) != last]
        start = (page - self._first_page) * size
        data: list[Json] = [self._row(each) for each in found[start : start + size]]
        return as_json(
            {
                "status": "success",
                "count": len(data),
                "total_count": len(found),
                "current_page": page,
                "per_page": size,
                "next_page_link": self._page_link(ask, page + 1) if start + size < len(found) else None,
                "prev_page_link": self._page_link(ask, page - 1) if start else None,
                "data": data,
            }
        )

    def _page_link(self, ask: Ask, page: int) -> str:
        return f"{self.base_url}{ask.path}?{urlencode({**ask.query, 'page': str(page)})}"

    def _filter(self, asked: Mapping[str, str]) -> Callable[[SimRecording], bool]:
        first = self._instant(asked["from_datetime"]) if "from_datetime" in asked else None
        last = self._instant(asked["to_datetime"]) if "to_datetime" in asked else None

        def passes(call: SimRecording) -> bool:
            way = "outgoing" if call.direction == "outbound" else "incoming"
            return (
                (first is None or call.started_at >= first)
                and (last is None or call.started_at <= last)
                and asked.get("call_direction", way).lower() == way
                and asked.get("agent_id", str(call.agent_id)) == str(call.agent_id)
                and asked.get("justcall_number", bare(own_number(call))) == bare(own_number(call))
                and asked.get("contact_number", bare(contact(call))) == bare(contact(call))
                and asked.get("call_type", call_type(call)) == call_type(call)
            )

        return passes

    def _instant(self, text: str) -> datetime:
        """Reads a time in the user's local time. A bare date is that day's first moment."""
        pattern = "%Y-%m-%d" if len(text) <= 10 else "%Y-%m-%d %H:%M:%S"
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=self._zone).astimezone(UTC)
        except ValueError:
            raise RefusedError(error(400, "Bad Request")) from None

    def _row(self, call: SimRecording) -> dict[str, Json]:
        talked, total = round(call.duration.total_seconds()), round((call.ended_at - call.started_at).total_seconds())
        local, heard = call.started_at.astimezone(self._zone), self.audible(call)
        links = f"{self.url('site')}/rec-redirect/"
        row: dict[str, Json] = {
            "call_id" if call.sales_dialer else "id": call_number(call),
            "call_sid": call_sid(call),
            "contact_number": bare(contact(call)),
            "contact_name": "",
            "contact_email": "",
            "justcall_number": bare(own_number(call)),
            "justcall_line_name": "Sales Line",
            "agent_id": call.agent_id,
            "agent_name": call.agent_name,
            "agent_email": "agent@example.com",
            "agent_active": True,
            "call_date": f"{call.started_at:%Y-%m-%d}",
            "call_user_date": f"{local:%Y-%m-%d}",
            "call_time": f"{call.started_at:%H:%M:%S}",
            "call_user_time": f"{local.hour}:{local:%M:%S}",
            "cost_incurred": 0.005,
            "call_info": {
                "direction": "Outgoing" if call.direction == "outbound" else "Incoming",
                "type": TYPES.get(call.status, "Answered"),
                "missed_call_reason": "",
                "status": "Unarchived",
                "disposition": call.disposition,
                "notes": call.notes,
                "rating": "",
                "recording": links + call_sid(call) if heard else "",
                "recording_child": links + call_sid(call, "--child") if heard and call.child else "",
                "voicemail_transcription": "",
                "call_traits": [],
            },
            "call_duration": {
                "total_duration": total,
                "friendly_duration": str(timedelta(seconds=total)).rjust(8, "0"),
                "handle_time": total,
                "ring_time": total - talked,
                "conversation_time": talked,
                "queue_wait_time": 0,
                "hold_time": 0,
                "wrap_up_time": 0,
            },
        }
        return call.shaped(row)


def call_number(call: SimRecording) -> int:
    """Returns the integer by which the vendor knows a call; the integer grows with time."""
    return int(call.started_at.timestamp()) * 1000 + zlib.crc32(call.id.encode()) % 1000


def call_sid(call: SimRecording, suffix: str = "") -> str:
    return "CA" + hashlib.sha256((call.file + suffix).encode()).hexdigest()[:32]


def call_type(call: SimRecording) -> str:
    way = "OUTGOING" if call.direction == "outbound" else "INCOMING"
    return f"{way}_{TYPES.get(call.status, 'Answered').upper()}"


def contact(call: SimRecording) -> str:
    return call.from_number if call.direction == "inbound" else call.to_number


def bare(number: str) -> str:
    """Returns a number in the vendor's form, without the plus."""
    return number.removeprefix("+")


def error(status: int, message: str) -> Answer:
    return as_json({"status": "error", "message": message, "error": message}, status)
