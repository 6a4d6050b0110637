"""A person who acts: the account that the system vouches for, and beside it what was merely said. Pure: no I/O, no clock.

Whoever runs a command chooses `--actor` and the environment. The system chooses the user id, and with auditing on, the id under
which somebody logged in, which `sudo` and `su` do not change. Both are kept, apart from each other and from the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from archiver.recording import Json

GROUP = "person"
"""The private group of an event that says who acted."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Person:
    """`account` has the user id `uid`, `login` is who logged in, if known. `claimed`: what environment and options say."""

    uid: int
    account: str | None = None
    login_uid: int | None = None
    login: str | None = None
    claimed: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def known_as(self) -> str:
        """One line for people; a claim is marked as one."""
        return described(self.group())

    @property
    def user(self) -> str:
        """The name that was claimed by option, else the account's."""
        return self.claimed.get("actor") or self.account or f"uid {self.uid}"

    def group(self, reason: str | None = None) -> dict[str, Json]:
        """What is kept beside the event, which commits to it: salted, and to be erased by itself."""
        found: dict[str, Json] = {
            "account": self.account, "uid": self.uid, "login": self.login, "login_uid": self.login_uid,
            "claimed": dict(self.claimed),
        }  # fmt: skip
        return found | ({"reason": reason} if reason else {})


def described(group: Mapping[str, Json]) -> str:
    """Who a private group of an event says it was: also one of an earlier version, which had nothing but a claim."""
    if "uid" not in group:
        return f"{group['user']} (claimed)" if group.get("user") else "somebody"
    claims = group.get("claimed")
    claimed = dict(claims) if isinstance(claims, dict) else {}
    account = str(group.get("account") or f"uid {group['uid']}")
    if group.get("login_uid") is not None and group["login_uid"] != group["uid"]:
        account += f", logged in as {group.get('login') or 'uid ' + str(group['login_uid'])}"
    elif claimed.get("sudo_user"):
        account += f", which claims sudo from {claimed['sudo_user']}"
    actor = claimed.get("actor")
    return account if actor in (None, group.get("account")) else f"{actor} (claimed by account {account})"


def names(group: Mapping[str, Json]) -> frozenset[str]:
    """Everything that a group calls the person by, claims included, in lower case."""
    claims = group.get("claimed")
    said = [group.get(name) for name in ("account", "uid", "login", "login_uid", "user")]
    said += list(claims.values()) if isinstance(claims, dict) else []
    return frozenset(str(each).casefold() for each in said if each is not None)
