"""Simulates KAZOO's call recording API: envelopes, tokens, Gregorian windows, keyset pages, media by content
negotiation.

It follows the document and, where the document is silent, crossbar's source.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Unpack
from urllib.parse import unquote

from archiver.clock import Clock
from archiver.demo.simulators.answer import Answer, Ask, Json, RefusedError, Route, as_json, whole_number
from archiver.demo.simulators.kazoo_auth import Credentials, Token, Tokens
from archiver.demo.simulators.media import audio_answer
from archiver.demo.simulators.scenario import Account, SimRecording
from archiver.demo.simulators.server import ServerOptions, Simulator

GREGORIAN = 62_167_219_200
MAX_RANGE = 2_682_000
MEDIA_TYPES = ("audio/mpeg", "audio/mp3")
BUCKET, REFILL, LOGIN_COST = 100, 10, 35
PATH = re.compile(r"/v2/accounts/(?P<account>[^/]+)(?:/users/(?P<user>[^/]+))?/recordings(?:/(?P<id>[^/]+))?/?")
RECORDING_ID = re.compile(r"\d{6}-.+")


class KazooSimulator(Simulator):
    """One KAZOO account.

    `auth_token` is accepted for ever; `read_only_token` too, for GET alone; others come from `api_auth` and `user_auth`
    by `credentials` and live for `token_life`. `users` exist besides those that own a recording. `limited`: the token
    bucket (100, +10 a second by the clock, 35 for a login) answers 429 when empty, instead of just being reported.
    `month_defect`: a recording whose id names another month than its listing does is listed but cannot be read.
    """

    def __init__(
        self,
        account: Account,
        clock: Clock,
        *,
        account_id: str,
        auth_token: str = "",
        read_only_token: str = "",
        credentials: Credentials | None = None,
        token_life: timedelta = timedelta(hours=1),
        users: Sequence[str] = (),
        limited: bool = False,
        month_defect: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(account, clock, **options)
        fixed = {auth_token: Token(None), read_only_token: Token(None, {"get": ["#"]})}
        self.account_id = account_id
        self.tokens = Tokens(
            credentials or Credentials(), token_life, {token: what for token, what in fixed.items() if token}
        )
        self._users = frozenset(users)
        self._limited, self._month_defect = limited, month_defect
        self._bucket, self._filled_at = float(BUCKET), clock.monotonic()

    def route(self, ask: Ask) -> Route:
        if ask.path.rstrip("/") in ("/v2/api_auth", "/v2/user_auth"):
            return Route.AUTH
        path = PATH.fullmatch(ask.path)
        if path is None:
            return Route.OTHER
        if path["id"] is None:
            return Route.LIST
        return Route.MEDIA if ask.method == "GET" and wants_media(ask) else Route.ITEM

    def answer(self, ask: Ask) -> Answer:
        login = self.route(ask) is Route.AUTH
        self._charge(LOGIN_COST if login else 1)
        if login:
            return self._login(ask)
        token = ask.headers.get("x-auth-token") or ask.headers.get("authorization", "").removeprefix("Bearer ")
        held = self.tokens.check(token, self.clock.now())
        if held is None:
            raise RefusedError(self._error(401, "invalid_credentials", "invalid credentials"))
        path = PATH.fullmatch(ask.path)
        if path is None:
            raise RefusedError(self._error(404, "bad_identifier", "bad identifier"))
        if path["account"] != self.account_id or not held.allows(ask.method, ask.path):
            raise RefusedError(self._error(403, "forbidden", "forbidden"))
        if path["id"] is None:
            return self._list(ask, path["user"], token)
        return self._one(ask, unquote(path["id"]), token)

    # --- tokens

    def _login(self, ask: Ask) -> Answer:
        if ask.method != "PUT":
            return self._error(405, "invalid_method", "method not allowed")
        issued = self.tokens.issue(ask, self.clock.now())
        if isinstance(issued, tuple):
            return self._error(issued[0], issued[1], issued[1].replace("_", " "))
        return self._envelope({"account_id": self.account_id, "apps": [], "language": "en-us"}, issued, status=201)

    def _charge(self, cost: int) -> None:
        now = self.clock.monotonic()
        self._bucket = min(BUCKET, self._bucket + REFILL * (now - self._filled_at))
        self._filled_at = now
        if self._limited and self._bucket < cost:
            raise RefusedError(self._error(429, "too_many_requests", "too many requests"))
        self._bucket = max(self._bucket - cost, 0)

    # --- listing

    def _list(self, ask: Ask, user: str | None, token: str) -> Answer:
        if ask.method != "GET":
            return self._error(405, "invalid_method", "method not allowed")
        rows = self.account.visible(self.clock.now())
        if user is not None:
            if user not in self._users | {each.owner for each in rows}:
                raise RefusedError(self._error(404, "bad_identifier", "bad identifier", cause=user))
            rows = [each for each in rows if each.owner == user]
        first, last = self._window(ask)
        rows = [each for each in rows if first <= gregorian(each.listed_at) <= last and self._passes(each, ask)]
        ascending = ask.query.get("ascending") == "true" or ask.query.get("descending") == "false"
        rows.sort(key=view_key, reverse=not ascending)
        if ask.query.get("paginate") == "false":
            return self._envelope([self._listed(each) for each in rows], token)
        size = whole_number(ask.query.get("page_size"), 50)
        if not size:
            raise RefusedError(self._error(400, "validation_error", "page_size must be at least 1"))
        start = self._start_key(ask)
        if start is not None:
            rows = [each for each in rows if (view_key(each) >= start if ascending else view_key(each) <= start)]
        more: dict[str, Json] = {"page_size": len(rows[:size])}
        if "start_key" in ask.query:
            more["start_key"] = ask.query["start_key"]
        if len(rows) > size:
            more["next_start_key"] = opaque(view_key(rows[size]))
        return self._envelope([self._listed(each) for each in rows[:size]], token, more)

    def _window(self, ask: Ask) -> tuple[int, int]:
        """Returns the first and the last second to list. Zero, negative and garbage bounds count as absent."""
        last = whole_number(ask.query.get("created_to"), 0) or gregorian(self.clock.now())
        first = whole_number(ask.query.get("created_from"), 0) or last - MAX_RANGE
        if not 0 <= last - first <= MAX_RANGE:
            message = f"created_to {last} is more than {MAX_RANGE} seconds from created_from {first}"
            if last < first:
                message = f"created_to {last} is prior to created_from {first}"
            problem: Json = {"created_from": {"date_range": {"message": message, "cause": first}}}
            raise RefusedError(self._error(400, "invalid request", "invalid request", data=problem))
        return first, last

    def _start_key(self, ask: Ask) -> tuple[int, str] | None:
        if "start_key" not in ask.query:
            return None
        try:
            created, name = json.loads(base64.urlsafe_b64decode(ask.query["start_key"] + "=="))
            return int(created), str(name)
        except (ValueError, TypeError, binascii.Error):
            raise RefusedError(self._error(400, "validation_error", "start_key is not one of ours")) from None

    def _passes(self, recording: SimRecording, ask: Ask) -> bool:
        """Applies crossbar's generic filters to the document's fields."""
        document = self._document(recording)
        for name, value in ask.query.items():
            wanted, _, key = name.partition("_")
            if name.startswith("filter_not_") and str(document.get(name.removeprefix("filter_not_"))) == value:
                return False
            if wanted == "filter" and not key.startswith("not_") and str(document.get(key)) != value:
                return False
            if (name == "has_key" and value not in document) or (name == "key_missing" and value in document):
                return False
        return True

    # --- one recording

    def _one(self, ask: Ask, recording_id: str, token: str) -> Answer:
        recording = self.account.find(recording_id, self.clock.now())
        lost = self._month_defect and recording and recording_id[:6] != f"{recording.listed_at:%Y%m}"
        if recording is None or lost or not RECORDING_ID.fullmatch(recording_id):
            return self._error(404, "bad_identifier", "bad identifier", cause=recording_id)
        if ask.method == "DELETE":
            self.account.delete(recording_id)
            return self._envelope({**self._document(recording), "_read_only": {"deleted": True}}, token)
        if ask.method not in ("GET", "HEAD"):
            return self._error(405, "invalid_method", "method not allowed")
        if wants_media(ask):
            return self._media(ask, recording)
        if ask.headers.get("accept", "*/*").startswith("audio/"):
            return self._error(406, "not_acceptable", "not acceptable")
        return self._envelope(self._document(recording), token, {"revision": revision(recording)})

    def _media(self, ask: Ask, recording: SimRecording) -> Answer:
        if recording.audio is None or not self.audible(recording):
            return self._error(404, "bad_identifier", "bad identifier", data={"details": recording.id})
        answer = audio_answer(recording.audio, ask, full_as_200=True)
        shown = "inline" if ask.query.get("inline") == "true" else "attachment"
        named = {"Content-Disposition": f"{shown}; filename={media_name(recording)}"}
        return Answer(answer.status, {**answer.headers, **named}, answer.body, whole=answer.whole)

    # --- shapes

    def _listed(self, recording: SimRecording) -> dict[str, Json]:
        there: list[Json] = [recording.audio.content_type] if recording.audio and self.audible(recording) else []
        return self._document(recording) | {"_read_only": {"content_types": there}}

    def _document(self, recording: SimRecording) -> dict[str, Json]:
        caller, callee = recording.from_number, recording.to_number
        row: dict[str, Json | None] = {
            "id": recording.id,
            "name": media_name(recording),
            "description": f"recording {media_name(recording)}",
            "content_type": recording.audio.content_type if recording.audio else "audio/mpeg",
            "media_type": recording.said_format,
            "media_source": "recorded",
            "source_type": "kzc_recording",
            "from": f"{caller}@acme.example.com",
            "to": f"{callee}@acme.example.com",
            "request": f"{callee}@acme.example.com",
            "direction": recording.direction,
            "start": gregorian(recording.ended_at) - int(recording.duration.total_seconds()),
            "duration": int(recording.duration.total_seconds()),
            "duration_ms": round(recording.duration.total_seconds() * 1000),
            "caller_id_number": caller,
            "caller_id_name": caller,
            "callee_id_number": callee,
            "callee_id_name": recording.agent_name,
            "call_id": recording.call_id,
            "cdr_id": f"{recording.started_at:%Y%m}-{recording.call_id}",
            "interaction_id": f"{gregorian(recording.started_at)}-{recording.id[-8:]}",
            "owner_id": recording.owner or None,
            "origin": recording.origin or "outbound_callflow",
            "label": recording.label or None,
            "custom_channel_vars": {"Account-ID": self.account_id},
        }
        return recording.shaped({key: value for key, value in row.items() if value is not None})

    def _envelope(self, data: Json, token: str, more: Mapping[str, Json] | None = None, status: int = 200) -> Answer:
        return self._reply({"data": data, "status": "success", "auth_token": token, **(more or {})}, status)

    def _error(self, status: int, name: str, message: str, *, cause: str = "", data: Json = None) -> Answer:
        told = {"message": message, "cause": cause} if cause else {"message": message}
        return self._reply(
            {"data": told if data is None else data, "status": "error", "error": str(status), "message": name}, status
        )

    def _reply(self, body: dict[str, Json], status: int) -> Answer:
        request_id = hashlib.sha256(self.next_id().encode()).hexdigest()[:32]
        tokens: Json = {"consumed": 1, "remaining": int(self._bucket)}
        stamp = f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        common: dict[str, Json] = {"request_id": request_id, "node": "simulator", "version": "4.3", "timestamp": stamp}
        return as_json({"revision": request_id, **body, **common, "tokens": tokens}, status, X_Request_ID=request_id)


def wants_media(ask: Ask) -> bool:
    """Tells whether the request wants media. `?accept=` stands in for the header. Only the two media types themselves
    count: `*/*` gives the document."""
    asked = ask.query.get("accept") or ask.headers.get("accept", "")
    return any(part.partition(";")[0].strip().lower() in MEDIA_TYPES for part in asked.split(","))


def gregorian(at: datetime) -> int:
    """Returns the seconds since the year 0, as Erlang counts them."""
    return int(at.timestamp()) + GREGORIAN


def view_key(recording: SimRecording) -> tuple[int, str]:
    return gregorian(recording.listed_at), recording.file


def opaque(key: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def revision(recording: SimRecording) -> str:
    return f"1-{hashlib.sha256(repr(recording).encode()).hexdigest()[:32]}"


def media_name(recording: SimRecording) -> str:
    return recording.media_name or f"call_recording_{recording.call_id}.{recording.said_format}"
