"""Describes a person who acts: the account that the system confirms, and apart from it the claims that nobody checked.
Pure: no I/O, no clock.

Whoever runs a command chooses `--actor` and the environment. The system chooses the user id and, with auditing on, the
login id, which `sudo` and `su` do not change. Both are kept, apart from each other and from the event.
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
    """A person: `account` has the user id `uid`, `login` is the account that logged in, if known, and `claimed` holds
    what environment and options say."""

    uid: int
    account: str | None = None
    login_uid: int | None = None
    login: str | None = None
    claimed: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def known_as(self) -> str:
        """One line for people, which marks a claim as such."""
        return described(self.group())

    @property
    def user(self) -> str:
        """The name that was claimed by option, else the account's name."""
        return self.claimed.get("actor") or self.account or f"uid {self.uid}"

    def group(self, reason: str | None = None) -> dict[str, Json]:
        """Returns the group that is kept beside the event, which commits to it; the group is salted, and can be erased
        by itself."""
        found: dict[str, Json] = {
            "account": self.account, "uid": self.uid, "login": self.login, "login_uid": self.login_uid,
            "claimed": dict(self.claimed),
        }  # fmt: skip
        return found | ({"reason": reason} if reason else {})


def described(group: Mapping[str, Json]) -> str:
    """Returns a description of the person in a private group, also in a group of an earlier version, which held nothing
    but a claim."""
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
    """Returns every name that a group gives the person, claims included, in lower case."""
    claims = group.get("claimed")
    said = [group.get(name) for name in ("account", "uid", "login", "login_uid", "user")]
    said += list(claims.values()) if isinstance(claims, dict) else []
    return frozenset(str(each).casefold() for each in said if each is not None)
