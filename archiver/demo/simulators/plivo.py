"""Simulates Plivo's Recording API as its document describes it. Where the document is silent: newest first; a listing
without `subaccount` shows the main account's own recordings; `type=original` is 404 for a recording that was never
denoised."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Unpack
from urllib.parse import quote, unquote

from archiver.clock import Clock
from archiver.demo.simulators.answer import Answer, Ask, Json, RefusedError, Route, as_json
from archiver.demo.simulators.media import audio_answer, no_credentials
from archiver.demo.simulators.pages import NO_SUCH_AUDIO
from archiver.demo.simulators.recording_rows import (
    days_stored,
    milliseconds,
    offset_text,
    page_of,
    paging,
    rounded_seconds,
    since_epoch,
)
from archiver.demo.simulators.scenario import Account, SimRecording
from archiver.demo.simulators.server import ServerOptions, Simulator

API = re.compile(r"/v1/Account/(?P<account>[^/]+)/Recording/(?:(?P<id>[^/]+)/)?")
MEDIA = re.compile(r"/(?:v1/Account/(?P<account>[^/]+)/Recording|recordings_2013)/(?P<file>[^/]+)\.(?:mp3|wav)")
UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d{1,6})?)?")
DEFAULT_WINDOW, MAX_WINDOW = timedelta(days=7), timedelta(days=30)
STORAGE_RATE = 0.0004
COMPARISONS = ("", "__gt", "__gte", "__lt", "__lte")
LIST_EXAMPLE = (
    "add_time",
    "call_uuid",
    "conference_name",
    "recording_duration_ms",
    "recording_format",
    "recording_id",
    "recording_type",
    "recording_url",
)
ITEM_EXAMPLE = (*LIST_EXAMPLE, "api_id", "recording_end_ms", "recording_start_ms", "resource_uri")
# plain text: the vendor's client fails on a JSON body here
UNAUTHORISED = Answer(
    401,
    {"WWW-Authenticate": 'Basic realm="Plivo"', "Content-Type": "text/plain"},
    b"Could not verify your access level for that URL.",
)


class PlivoSimulator(Simulator):
    """One Plivo account and its `subaccounts` (auth id → auth token; a recording's `owner` names one).

    `media_auth`: the console's "HTTP Auth on recordings", where only the owner's own credentials open a recording's
    media. `terse`: rows have just the keys of the document's list and get examples, not the whole recording object.
    `legacy_urls`: links lead to a storage host (`/recordings_2013/…`), which refuses credentials, not to Plivo's.
    """

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        auth_id: str,
        auth_token: str,
        subaccounts: Mapping[str, str] | None = None,
        media_auth: bool = False,
        terse: bool = False,
        legacy_urls: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(account, clock, **options)
        self.auth_id = auth_id
        self._tokens = {auth_id: auth_token, **(subaccounts or {})}
        self._media_auth, self._terse, self._legacy_urls = media_auth, terse, legacy_urls

    def route(self, ask: Ask) -> Route:
        if MEDIA.fullmatch(ask.path):
            return Route.MEDIA
        path = API.fullmatch(ask.path)
        return Route.OTHER if path is None else Route.ITEM if path["id"] else Route.LIST

    def answer(self, ask: Ask) -> Answer:
        if ask.at("media") and (named := MEDIA.fullmatch(ask.path)):
            return self._media(ask, unquote(named["file"]))
        path = API.fullmatch(ask.path)
        if path is None or not ask.at("api"):
            return self._error(404, "not found")
        if self._who(ask) != path["account"]:
            return UNAUTHORISED
        if path["id"] is None:
            return self._list(ask, path["account"]) if ask.method == "GET" else self._error(405, "method not allowed")
        return self._one(ask, path["account"], unquote(path["id"]))

    def _who(self, ask: Ask) -> str | None:
        """Returns the auth id whose Basic credentials came along, if they are right."""
        scheme, _, encoded = ask.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user if scheme.lower() == "basic" and self._tokens.get(user) == password else None

    def _owner(self, recording: SimRecording) -> str:
        return recording.owner or self.auth_id

    # --- media

    def _media(self, ask: Ask, file: str) -> Answer:
        recording = self.account.by_file(file)
        if recording is None or not self.audible(recording):
            return NO_SUCH_AUDIO
        if self._legacy_urls:
            no_credentials(ask)
        elif self._media_auth and self._who(ask) != self._owner(recording):
            return UNAUTHORISED
        audio = recording.original if ask.query.get("type") == "original" else recording.audio
        return audio_answer(audio, ask) if audio else NO_SUCH_AUDIO

    def _link(self, recording: SimRecording) -> str:
        folder = "recordings_2013" if self._legacy_urls else f"v1/Account/{self._owner(recording)}/Recording"
        return f"{self.media_url}/{folder}/{quote(recording.file, safe='')}.{recording.said_format}"

    # --- listing

    def _list(self, ask: Ask, account: str) -> Answer:
        pages = paging(ask, most=20)
        if pages is None:
            raise RefusedError(self._error(400, "limit must be 1 to 20, offset must not be negative"))
        if "callback_url" in ask.query:
            return as_json({"api_id": self.next_id(), "message": "async api spawned"}, 202)
        rows = list(filter(self._filter(ask.query, account), reversed(self.account.visible(self.clock.now()))))
        shown, meta = page_of(rows, ask, f"/v1/Account/{account}/Recording/", *pages)
        objects: list[Json] = [self._row(each, LIST_EXAMPLE) for each in shown]
        return as_json({"api_id": self.next_id(), "meta": meta, "objects": objects})

    def _filter(self, asked: Mapping[str, str], account: str) -> Callable[[SimRecording], bool]:
        owner = asked.get("subaccount", account)
        if owner not in self._tokens or account not in (owner, self.auth_id):
            raise RefusedError(self._error(400, "subaccount not found"))
        in_time = self._time_filter(asked)

        def passes(recording: SimRecording) -> bool:
            same = {
                "from_number": recording.from_number,
                "to_number": recording.to_number,
                "call_uuid": recording.call_id,
                "mpc_name": recording.mpc_name,
                "mpc_uuid": recording.mpc_uuid,
                "conference_name": recording.conference_name or "",
                "conference_uuid": recording.conference_uuid,
            }
            agrees = all(asked.get(name, value) == value for name, value in same.items())
            return self._owner(recording) == owner and agrees and in_time(recording)

        return passes

    def _time_filter(self, asked: Mapping[str, str]) -> Callable[[SimRecording], bool]:
        """Returns a filter by time added, or by days stored, or else by the last seven days."""
        now = self.clock.now()
        times = {end: self._utc(asked[f"add_time{end}"]) for end in COMPARISONS if f"add_time{end}" in asked}
        days = {end: asked[name] for end in COMPARISONS if (name := f"recording_storage_duration{end}") in asked}
        if times and days:
            raise RefusedError(self._error(400, "recording_storage_duration cannot be used with add_time"))
        if not all(value.isdigit() for value in days.values()):
            raise RefusedError(self._error(400, "recording_storage_duration must be a number of days"))
        if days:
            return lambda one: all(holds(end, days_stored(one, now), int(value)) for end, value in days.items())
        if not times:
            return lambda one: now - DEFAULT_WINDOW <= one.listed_at
        last = min((times[end] for end in ("__lt", "__lte") if end in times), default=now)
        first = max((times[end] for end in ("__gt", "__gte") if end in times), default=last - MAX_WINDOW)
        if "" in times:
            return lambda one: one.listed_at == times[""]
        if last - first > MAX_WINDOW:
            raise RefusedError(self._error(400, "add_time filters must span no more than 30 days"))
        return lambda one: first <= one.listed_at and all(holds(end, one.listed_at, at) for end, at in times.items())

    def _utc(self, text: str) -> datetime:
        try:
            return datetime.fromisoformat(text if UTC_TEXT.fullmatch(text) else "").replace(tzinfo=UTC)
        except ValueError:
            raise RefusedError(self._error(400, "add_time must be YYYY-MM-DD HH:MM[:ss[.uuuuuu]]")) from None

    # --- one recording

    def _one(self, ask: Ask, account: str, recording_id: str) -> Answer:
        recording = self.account.find(recording_id, self.clock.now())
        if recording is None or account not in (self.auth_id, self._owner(recording)):
            return self._error(404, "not found")
        if ask.method == "DELETE":
            self.account.delete(recording_id)
            return Answer(204)
        return as_json(self._row(recording, ITEM_EXAMPLE)) if ask.method == "GET" else self._error(405, "not allowed")

    def _row(self, recording: SimRecording, example: tuple[str, ...]) -> dict[str, Json]:
        stored, rounded = days_stored(recording, self.clock.now()), rounded_seconds(recording)
        row: dict[str, Json] = {
            "add_time": offset_text(recording.listed_at),
            "api_id": self.next_id(),
            "call_uuid": recording.call_id,
            "conference_name": recording.conference_name,
            "from_number": recording.from_number,
            "recording_duration_ms": milliseconds(recording.duration),
            "recording_end_ms": since_epoch(recording.ended_at),
            "recording_format": recording.said_format,
            "recording_id": recording.id,
            "recording_start_ms": since_epoch(recording.ended_at - recording.duration),
            "recording_type": "normal" if recording.kind == "call" else recording.kind,
            "recording_url": self._link(recording),
            "resource_uri": f"/v1/Account/{self._owner(recording)}/Recording/{quote(recording.id, safe='')}/",
            "recording_storage_duration": str(stored),
            "rounded_recording_duration": str(rounded),
            "recording_storage_rate": str(STORAGE_RATE),
            "monthly_recording_storage_amount": f"{rounded / 60 * STORAGE_RATE if stored > 90 else 0:.5f}",
            "to_number": recording.to_number,
        }
        return recording.shaped({key: row[key] for key in sorted(example)} if self._terse else row)

    def _error(self, status: int, message: str) -> Answer:
        return as_json({"api_id": self.next_id(), "error": message}, status)


def holds(comparison: str, left: datetime | int, right: datetime | int) -> bool:
    """Tells whether `left` compares to `right` as the suffix of a filter says."""
    a, b = (float(side) if isinstance(side, int) else side.timestamp() for side in (left, right))
    return {"": a == b, "__gt": a > b, "__gte": a >= b, "__lt": a < b, "__lte": a <= b}[comparison]
