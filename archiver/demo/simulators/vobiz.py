"""Simulates Vobiz's Recording API: the document's listing and, for the rest, the vendor's pages.

Listings are newest first, and have no time filter. `meta.next` lacks the `/api` prefix, as in the document. Any other
letter case, or a missing last slash, is 401.
"""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import ClassVar, Literal, Unpack
from urllib.parse import quote, unquote

from archiver.clock import Clock
from archiver.demo.simulators.answer import Answer, Ask, Json, RefusedError, Route, as_json
from archiver.demo.simulators.media import Signer, audio_answer
from archiver.demo.simulators.pages import NO_SUCH_AUDIO
from archiver.demo.simulators.recording_rows import (
    INDIA,
    days_stored,
    milliseconds,
    offset_text,
    page_of,
    paging,
    rounded_seconds,
    shortened,
    since_epoch,
)
from archiver.demo.simulators.scenario import Account, SimRecording
from archiver.demo.simulators.server import ServerOptions, Simulator

API = re.compile(r"/api/v1/Account/(?P<account>[^/]+)/Recording/(?:(?P<id>[^/]+)/)?")
MEDIA = re.compile(r"/(?:api/)?v1/Account/[^/]+/Recording/(?P<file>[^/]+)\.(?:mp3|wav)")
STORAGE = re.compile(r"/recordings/(?P<file>[^/]+)\.(?:mp3|wav)")
MEDIA_OR_API = re.compile(r"/api/v1/account/[^/]+/recording(/[^/]*)?/?", re.IGNORECASE)
Shape = Literal["full", "brief", "older"]


class VobizSimulator(Simulator):
    """One Vobiz account.

    `shape` is that of listings: "full" and "brief" are the document's two examples, "older" is an earlier page's
    (`recordings` and `pagination`). `wrapped`: a single recording comes inside `objects`, as older pages show.
    `media_auth`: media needs the two headers. `redirects`: media then leads to a signed link on the "storage" origin,
    good for `link_life`. `india`: stamps are in +05:30, else +00:00.
    """

    origins: ClassVar[tuple[str, ...]] = ("api", "media", "storage")

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        auth_id: str,
        auth_token: str,
        shape: Shape = "full",
        wrapped: bool = False,
        media_auth: bool = True,
        redirects: bool = False,
        link_life: timedelta = timedelta(hours=1),
        india: bool = True,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(account, clock, **options)
        self.auth_id = auth_id
        self._auth_token = auth_token
        self._shape, self._wrapped, self._offset = shape, wrapped, INDIA if india else UTC
        self._media_auth, self._redirects = media_auth, redirects
        self._signer = Signer(auth_token, link_life)

    def route(self, ask: Ask) -> Route:
        if MEDIA.fullmatch(ask.path) or STORAGE.fullmatch(ask.path):
            return Route.MEDIA
        path = API.fullmatch(ask.path)
        return Route.OTHER if path is None else Route.ITEM if path["id"] else Route.LIST

    def answer(self, ask: Ask) -> Answer:
        if ask.at("media") and (named := MEDIA.fullmatch(ask.path)):
            return self._media(ask, unquote(named["file"]), named[0].rpartition(".")[2])
        if ask.at("storage") and (named := STORAGE.fullmatch(ask.path)):
            self._signer.check(ask.path, ask.query.get("token", ""), self.clock.now())
            return self._audio(ask, unquote(named["file"]))
        path = API.fullmatch(ask.path)
        if not ask.at("api") or (path is None and not MEDIA_OR_API.fullmatch(ask.path)):
            return error(404, "Not found")
        if path is None or not self._authorised(ask) or path["account"] != self.auth_id:
            return error(401, "Authentication failed")
        if path["id"] is None:
            return self._list(ask) if ask.method == "GET" else error(405, "Method not allowed")
        return self._one(ask, unquote(path["id"]))

    def _authorised(self, ask: Ask) -> bool:
        return (ask.headers.get("x-auth-id"), ask.headers.get("x-auth-token")) == (self.auth_id, self._auth_token)

    # --- media

    def _media(self, ask: Ask, file: str, suffix: str) -> Answer:
        if self._media_auth and not self._authorised(ask):
            return error(401, "Authentication failed")
        if not self._redirects:
            return self._audio(ask, file)
        path = f"/recordings/{quote(file, safe='')}.{suffix}"
        token = self._signer.token(path, self.clock.now())
        return Answer(302, {"Location": f"{self.url('storage')}{path}?token={token}"})

    def _audio(self, ask: Ask, file: str) -> Answer:
        recording = self.account.by_file(file)
        if recording is None or recording.audio is None or not self.audible(recording):
            return NO_SUCH_AUDIO
        return audio_answer(recording.audio, ask)

    # --- API

    def _list(self, ask: Ask) -> Answer:
        pages = paging(ask, most=100)
        if pages is None:
            raise RefusedError(error(400, "limit must be 1 to 100, offset must not be negative"))
        rows = [each for each in reversed(self.account.visible(self.clock.now())) if passes(each, ask)]
        shown, meta = page_of(rows, ask, f"/v1/Account/{self.auth_id}/Recording/", *pages)
        if self._shape == "brief":
            return as_json({"objects": [self._brief(each) for each in shown]})
        if self._shape == "older":
            told: Json = {"total": len(rows), "has_more": meta["next"] is not None}
            return as_json({"recordings": [self._older(each) for each in shown], "pagination": told})
        return as_json({"api_id": self.next_id(), "meta": meta, "objects": [self._row(each) for each in shown]})

    def _one(self, ask: Ask, recording_id: str) -> Answer:
        recording = self.account.find(recording_id, self.clock.now())
        if recording is None:
            return as_json({"api_id": self.next_id(), "error": "Recording not found"}, 404)
        if ask.method == "DELETE":
            self.account.delete(recording_id)
            return Answer(204)
        if ask.method != "GET":
            return error(405, "Method not allowed")
        row = self._row(recording)
        if not self._wrapped:
            return as_json(row)
        meta: Json = {"limit": 20, "next": None, "offset": 0, "previous": None, "total_count": 1}
        return as_json({"api_id": self.next_id(), "meta": meta, "objects": [row]})

    # --- shapes

    def _link(self, recording: SimRecording) -> str:
        return f"{self.media_url}/v1/Account/{self.auth_id}/Recording/{quote(recording.file, safe='')}.{recording.said_format}"

    def _row(self, recording: SimRecording) -> dict[str, Json]:
        trunk = recording.kind == "trunk"  # its captures have no start and end
        row: dict[str, Json] = {
            "add_time": shortened(offset_text(recording.listed_at, self._offset)),
            "call_uuid": recording.call_id,
            "conference_name": recording.conference_name,
            "from_number": recording.from_number,
            "monthly_recording_storage_amount": 0,
            "recording_duration_ms": milliseconds(recording.duration),
            "recording_end_ms": None if trunk else since_epoch(recording.ended_at),
            "recording_format": recording.said_format,
            "recording_id": recording.id,
            "recording_start_ms": None if trunk else since_epoch(recording.ended_at - recording.duration),
            "recording_storage_duration": days_stored(recording, self.clock.now()),
            "recording_storage_rate": 0.005,
            "recording_type": recording.kind,
            "recording_url": self._link(recording),
            "resource_uri": f"/v1/Account/{self.auth_id}/Recording/{quote(recording.id, safe='')}/",
            "rounded_recording_duration": rounded_seconds(recording),
            "to_number": recording.to_number,
        }
        return recording.shaped(row)

    def _brief(self, recording: SimRecording) -> dict[str, Json]:
        return recording.shaped(
            {
                "recording_id": recording.id,
                "recording_url": self._link(recording),
                "duration": round(recording.duration.total_seconds()),
                "file_format": recording.said_format,
            }
        )

    def _older(self, recording: SimRecording) -> dict[str, Json]:
        link = self._link(recording)
        return recording.shaped(
            {
                "recording_id": recording.id,
                "url": link,
                "download_path": link.removeprefix(self.media_url),
                "created_at": f"{recording.listed_at:%Y-%m-%dT%H:%M:%SZ}",
                "duration": round(recording.duration.total_seconds()),
                "file_size": len(recording.audio.data) if recording.audio else 0,
                "format": recording.said_format,
            }
        )


def passes(recording: SimRecording, ask: Ask) -> bool:
    return (
        ask.query.get("call_uuid", recording.call_id) == recording.call_id
        and ask.query.get("recording_type", recording.kind) == recording.kind
    )


def error(status: int, message: str) -> Answer:
    """Returns an error in the shape of the general error page."""
    told: Json = {"code": status, "message": message, "details": None}
    return as_json({"status": "error", "error": told, "timestamp": "", "requestId": ""}, status)
