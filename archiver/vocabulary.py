"""One vocabulary for calls of any provider, for all that select recordings: retention rules, holds, searches. Pure.

Providers name one thing in many ways (`agent_id`, `owner_id`; `Incoming`, `inbound`; `+1 415…`, `1415…`), and the
journal keeps their words. Here a recording's metadata becomes attributes with one name each and one spelling per
meaning, and a condition is compared in that spelling. An attribute may have several values: a call has tags, an agent
has an id and a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from archiver.recording import Json

Condition: TypeAlias = str | bool | timedelta | datetime
"""The value that a condition demands."""

INBOUND, OUTBOUND, INTERNAL = "inbound", "outbound", "internal"
DIRECTIONS: Mapping[str, str] = {
    **dict.fromkeys(("inbound", "incoming", "in", "terminating"), INBOUND),
    **dict.fromkeys(("outbound", "outgoing", "out", "originating"), OUTBOUND),
    **dict.fromkeys(("internal", "onnet", "intercom"), INTERNAL),
}
"""The words of providers and people for the three directions."""

_STATUSES = {"answered": "completed", "no answer": "unanswered"}
_NUMBER = re.compile(r"\+?\(?[0-9][0-9 ().\-/]{2,30}", re.ASCII)
_ON_NET = re.compile(r"(?:inbound from|outbound to) onnet\b", re.IGNORECASE)


def word(text: str) -> str:
    """Return the text without differences that mean nothing: letter case, ways to encode a letter, extra spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def direction(text: str) -> str:
    """Return `inbound`, `outbound` or `internal`, however it is written; any other word unchanged but for `word`."""
    said = word(text)
    return DIRECTIONS.get(re.sub(r"[ _-]", "", said), said)


def number(text: str) -> str:
    """Return a telephone number's digits, with neither plus nor international 00; of a SIP address, the part before the
    @."""
    user = re.sub(r"^(?:sips?|tel):", "", word(text)).partition("@")[0].partition(";")[0]
    if not _NUMBER.fullmatch(user):
        return user
    digits = re.sub(r"\D", "", user)
    return digits.removeprefix("00") if digits.startswith("00") and len(digits) > 6 else digits


def _status(text: str) -> str:
    return _STATUSES.get(word(text), word(text))


@dataclass(frozen=True, slots=True)
class Attribute:
    """A name that conditions use: the keys of the journal's metadata that hold it, and its one spelling per meaning."""

    keys: tuple[str, ...]
    spell: Callable[[str], str] = word


_FROM = ("from_number", "caller_id_number", "sip_from")
_TO = ("to_number", "callee_id_number", "sip_to")

VOCABULARY: Mapping[str, Attribute] = {
    "provider": Attribute(("provider",)),
    "account": Attribute(("account",)),
    "variant": Attribute(("variant",)),
    "direction": Attribute(("direction",), direction),
    "tag": Attribute(("tags",)),
    "agent": Attribute(("agent_id", "agent_name", "agent_email", "owner_id")),
    "number": Attribute((*_FROM, *_TO, "contact_number"), number),
    "from_number": Attribute(_FROM, number),
    "to_number": Attribute(_TO, number),
    "label": Attribute(("label", "line_name", "campaign", "conference_name", "mpc_name")),
    "disposition": Attribute(("disposition",)),
    "status": Attribute(("status",), _status),
    "origin": Attribute(("origin",)),
    "type": Attribute(("recording_type", "source_type")),
    "call": Attribute(("call_id", "call_uuid", "call_sid", "cdr_id", "interaction_id", "conference_uuid", "mpc_uuid")),
    "format": Attribute(("format",)),
    "voicemail": Attribute(("voicemail",)),
}
"""Every attribute that has values. `BOUNDS` lists the other conditions."""

BOUNDS = ("longer_than", "shorter_than", "since", "until")
"""Conditions on the recording's length, and on the instant from which its retention counts: `since` ≤ instant <
`until`."""

_COMMON = ("provider", "account", "number", "from_number", "to_number", "call", *BOUNDS)

STATED: Mapping[str, frozenset[str]] = {
    "justcall": frozenset(
        {*_COMMON, "variant", "direction", "tag", "agent", "label", "disposition", "status", "voicemail"}
    ),
    "kazoo": frozenset({*_COMMON, "direction", "agent", "label", "origin", "type", "format"}),
    "vobiz": frozenset({*_COMMON, "label", "type", "format"}),
    "plivo": frozenset({*_COMMON, "variant", "label", "type", "format"}),
}
"""The attributes that the rows of each kind of provider are documented to state. No known row meets any other
condition."""


def spelled(name: str, wanted: Condition) -> Condition:
    """Return a condition's value in the spelling in which it is compared."""
    if isinstance(wanted, bool):
        return str(wanted).lower()
    return VOCABULARY[name].spell(wanted) if isinstance(wanted, str) else wanted


def values(name: str, metadata: Mapping[str, Json]) -> frozenset[str]:
    """Return a recording's values of an attribute, each in its one spelling; empty when the metadata states none.

    A call within KAZOO's own network is `internal` beside being inbound or outbound, as its `origin` tells.
    """
    attribute = VOCABULARY[name]
    found = {attribute.spell(text) for key in attribute.keys for text in _texts(metadata.get(key))}
    if name == "tag":
        found |= {part for text in found for part in map(word, text.split(","))}
    if name == "voicemail" and "status" in metadata:
        found = {"true"} if "voicemail" in values("status", metadata) else found
    if name == "direction" and any(_ON_NET.match(text) for text in _texts(metadata.get("origin"))):
        found |= {INTERNAL}
    return frozenset(found - {""})


def meets(name: str, wanted: Condition, metadata: Mapping[str, Json], instant: datetime) -> bool:
    """Tell whether a recording meets one condition. `instant` is that from which retention counts: the call's end.

    An unstated value meets no condition: a recording of unknown length is neither longer nor shorter than anything.
    """
    match name:
        case "longer_than" | "shorter_than":
            length = metadata.get("duration_ms")
            if not isinstance(length, int) or not isinstance(wanted, timedelta):
                return False
            lasted = timedelta(milliseconds=length)
            return lasted > wanted if name == "longer_than" else lasted < wanted
        case "since":
            return isinstance(wanted, datetime) and instant >= wanted
        case "until":
            return isinstance(wanted, datetime) and instant < wanted
        case _:
            return spelled(name, wanted) in values(name, metadata)


_PARTS = {"number": ("from_number", "to_number")}
"""Attributes that other attributes are part of: a caller's number is also a `number` of the call."""


def implies(narrow: Mapping[str, Condition], wide: Mapping[str, Condition]) -> bool:
    """Tell whether every recording that meets all conditions of `narrow` meets all of `wide`."""
    return all(_implied(name, wanted, narrow) for name, wanted in wide.items())


def _implied(name: str, wanted: Condition, narrow: Mapping[str, Condition]) -> bool:
    if name in BOUNDS:
        has = narrow.get(name)
        if not isinstance(has, type(wanted)):
            return False
        at_least = name in {"longer_than", "since"}
        return has >= wanted if at_least else has <= wanted  # type: ignore[operator]
    stated = [narrow[each] for each in (name, *_PARTS.get(name, ())) if each in narrow]
    return any(spelled(name, each) == spelled(name, wanted) for each in stated)


def contradiction(match: Mapping[str, Condition]) -> tuple[str, str] | None:
    """Return two conditions that no recording meets together."""
    for low, high in (("longer_than", "shorter_than"), ("since", "until")):
        lower, upper = match.get(low), match.get(high)
        if isinstance(lower, timedelta) and isinstance(upper, timedelta) and lower >= upper:
            return low, high
        if isinstance(lower, datetime) and isinstance(upper, datetime) and lower >= upper:
            return low, high
    return None


def _texts(value: Json) -> Iterator[str]:
    """Yield the words in a value, also those inside a list or a mapping."""
    if isinstance(value, str | int):
        yield str(value)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
