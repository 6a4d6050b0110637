"""Issues, checks and ends KAZOO tokens, with their restrictions.

It follows crossbar's own documents: `PUT /v2/api_auth`, `PUT /v2/user_auth`, token restrictions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from archiver.demo.simulators.answer import Ask, Json

Restrictions = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that earn a token: `api_key`, or `user` with `password` of the account called `account_name`."""

    api_key: str = "kazoo-api-key"
    user: str = "archiver"
    password: str = field(default="correct-horse", repr=False)
    account_name: str = "acme"
    account_realm: str = "acme.example.com"

    def digest(self, method: str) -> str:
        """Returns the `credentials` of user_auth: hex over the lower-cased name, a colon, the password."""
        text = f"{self.user.lower()}:{self.password}".encode()
        made = hashlib.md5 if method == "md5" else hashlib.sha1
        return made(text, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Token:
    expires_at: datetime | None
    restrictions: Restrictions | None = None

    def allows(self, method: str, path: str) -> bool:
        """Tells whether a restricted token may do this. The patterns are those of AMQP topics, split at slashes."""
        if self.restrictions is None:
            return True
        words = path.removeprefix("/v2/").strip("/").split("/")
        patterns = [*self.restrictions.get(method.lower(), ()), *self.restrictions.get("_", ())]
        return any(_matches(pattern.split("/"), words) for pattern in patterns)


class Tokens:
    """The tokens in force."""

    def __init__(self, credentials: Credentials, life: timedelta, fixed: Mapping[str, Token]) -> None:
        self._credentials = credentials
        self._life = life
        self._tokens = dict(fixed)

    def check(self, token: str, now: datetime) -> Token | None:
        """Returns the token, unless it is unknown or past its time."""
        held = self._tokens.get(token)
        return held if held and (held.expires_at is None or now < held.expires_at) else None

    def issue(self, ask: Ask, now: datetime) -> str | tuple[int, str]:
        """Returns a new token for the credentials in `ask`, or the status and message of the refusal."""
        try:
            document = json.loads(ask.body)
            data, restrictions = document["data"], document["data"].get("restrictions") or document.get("restrictions")
        except (ValueError, TypeError, KeyError, AttributeError):
            return 400, "invalid_request"
        refused = self._api_auth(data) if ask.path.rstrip("/").endswith("api_auth") else self._user_auth(data)
        if refused:
            return refused
        token = hashlib.sha256(f"token {len(self._tokens)}".encode()).hexdigest()
        self._tokens[token] = Token(now + self._life, restrictions)
        return token

    def revoke(self) -> None:
        """Ends every token now."""
        self._tokens.clear()

    def _api_auth(self, data: Mapping[str, Json]) -> tuple[int, str] | None:
        # an unknown key is answered as not found, not as refused
        return None if data.get("api_key") == self._credentials.api_key else (404, "bad_identifier")

    def _user_auth(self, data: Mapping[str, Json]) -> tuple[int, str] | None:
        known, method = self._credentials, data.get("method", "md5")
        if data.get("account_name", known.account_name) != known.account_name:
            return 404, "bad_identifier"
        if data.get("account_realm", known.account_realm) != known.account_realm:
            return 404, "bad_identifier"
        if not {"account_name", "account_realm", "phone_number"} & data.keys() or method not in ("md5", "sha"):
            return 400, "validation_error"
        return None if data.get("credentials") == known.digest(str(method)) else (401, "invalid_credentials")


def _matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _matches(pattern[1:], words[1:])
