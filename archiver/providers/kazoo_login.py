"""Gives KAZOO tokens: a configured one, or one from a login by API key or user, kept for 50 minutes and renewed when
refused.

Reference: 2600hz crossbar docs api_authentication, user_authentication, token_auth.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from archiver.clock import Clock
from archiver.errors import CredentialsRefusedError, ListingError, UnavailableError
from archiver.providers import walk
from archiver.providers.http_answer import has_content
from archiver.providers.rows import parse
from archiver.recording import Json, Secret

if TYPE_CHECKING:
    from archiver.providers.http import HttpClient

_TOKEN_LIFE = 50 * 60.0
"""The seconds for which a token is used; crossbar's default is an hour from issue, although its documents speak of
sliding."""
_LOGIN_PAUSE = 60.0
"""The seconds between logins after a renewed token was refused too: each login costs 35 of the 100 tokens in crossbar's
bucket."""
_LOGIN_COST = 35


@dataclass(frozen=True, slots=True)
class Token:
    """A token that the operator made and renews."""

    auth_token: Secret


@dataclass(frozen=True, slots=True)
class ApiKey:
    api_key: Secret


@dataclass(frozen=True, slots=True)
class User:
    """A user's credentials, with the name, realm or phone number of the account, whichever the operator knows."""

    username: Secret
    password: Secret
    account_name: str | None = None
    account_realm: str | None = None
    phone_number: str | None = None
    method: Literal["md5", "sha"] = "md5"


Login: TypeAlias = Token | ApiKey | User


class Session:
    """The token that requests carry. Safe for concurrent use: one login at a time, and at most two within a minute."""

    def __init__(self, login: Login, client: HttpClient, clock: Clock, *, read_only: bool = False) -> None:
        self._login = login
        self._client = client
        self._clock = clock
        self._read_only = read_only
        self._token = login.auth_token if isinstance(login, Token) else None
        self._logged_in: float | None = None
        self._soon = False  # the newest login followed a token that was refused within a minute of its own
        self._lock = asyncio.Lock()

    async def token(self) -> Secret:
        """Return a token believed good. Raises `CredentialsRefusedError`, `UnavailableError`, `ThrottledError`."""
        async with self._lock:
            if self._token is None or (self._age() or 0.0) > _TOKEN_LIFE:
                self._token, self._soon = await self._log_in(), False
            return self._token

    async def renewed(self, refused: Secret) -> Secret:
        """Return a token other than `refused`. Raises `CredentialsRefusedError` when no other can be had."""
        async with self._lock:
            if self._token is not None and self._token != refused:
                return self._token  # another task renewed the token during the wait
            if isinstance(self._login, Token):
                raise CredentialsRefusedError("the configured auth_token is refused")
            age = self._age()
            soon = age is not None and age < _LOGIN_PAUSE
            if (
                soon and self._soon
            ):  # once may be the node's restart, or an administrator's log-out: only twice is a refusal
                raise CredentialsRefusedError(
                    "a token was refused within a minute of the login, and so was the next one"
                )
            self._token = None  # if the login below fails, the next request logs in again
            self._token, self._soon = await self._log_in(), soon
            return self._token

    def _age(self) -> float | None:
        return None if self._logged_in is None else self._clock.monotonic() - self._logged_in

    async def _log_in(self) -> Secret:
        path, data = _credentials(self._login)
        if self._read_only:
            data["restrictions"] = {"get": ["#"]}
        answer = await self._client.request("PUT", path, endpoint="login", json_body={"data": data}, cost=_LOGIN_COST)
        self._logged_in = self._clock.monotonic()
        if answer.status in {400, 401, 403, 404}:  # crossbar answers 404 to an unknown key
            raise CredentialsRefusedError(f"login: HTTP {answer.status}")
        try:
            document = parse(answer.body)
        except ListingError as exc:
            raise UnavailableError(f"login: {exc.detail}") from exc
        token = document.get("auth_token") if isinstance(document, dict) else None
        if not has_content(answer.status) or not isinstance(token, str) or not token:
            raise UnavailableError(f"login: {walk.told(answer)}, no token")
        return Secret(token)


def _credentials(login: Login) -> tuple[str, dict[str, Json]]:
    """Return the path and the `data` of a login. The user name is lower-cased before hashing, as crossbar does."""
    if isinstance(login, ApiKey):
        return "/v2/api_auth", {"api_key": login.api_key.reveal()}
    assert isinstance(login, User)
    pair = f"{login.username.reveal().lower()}:{login.password.reveal()}".encode()
    hashed = hashlib.sha1(pair).hexdigest() if login.method == "sha" else hashlib.md5(pair).hexdigest()  # noqa: S324
    names = {
        "account_name": login.account_name,
        "account_realm": login.account_realm,
        "phone_number": login.phone_number,
    }
    return "/v2/user_auth", {
        "credentials": hashed,
        "method": login.method,
        **{name: value for name, value in names.items() if value},
    }
