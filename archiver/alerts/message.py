"""Composes a channel's message: one for all entries that are due there, readable by people and by programs. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from archiver.alerts.route import Entry, Status
from archiver.alerts.rule import Severity
from archiver.instants import to_second_or_none
from archiver.recording import Json
from archiver.redaction import redact

SCHEMA = "archiver.alert/v1"
_TITLE = 150
_SENTENCE = 600
"""The most characters of one sentence: some quote other parties, whose words may be long."""
_ORDER = list(Severity)
_MARK = {Status.FIRING: "", Status.RESOLVED: "over: ", Status.NOTE: ""}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Its `id` is the same whenever the same news is sent, so that a receiver recognises a repetition."""

    id: str
    title: str
    text: str
    body: dict[str, Json]
    severity: Severity
    resolved: bool


def compose(instance: str, entries: Sequence[Entry], now: datetime) -> Message:
    """Makes one message of `entries`, which is not empty, the most urgent first.

    Every text is redacted, and short enough for a person to read. A channel whose program understands markup passes the
    texts through `inert`.
    """
    ordered = sorted(
        entries, key=lambda each: (each.status is not Status.FIRING, _ORDER.index(each.alert.kind.severity), each.key)
    )
    first = ordered[0]
    title = f"{_MARK[first.status]}{_shown(first.alert.sentence)}"
    if len(ordered) > 1:
        title = f"{len(ordered)} alerts, first: {title}"
    title = f"[{instance}] {title}"
    ids = [_id(instance, each) for each in ordered]
    text = "\n\n".join(_paragraph(each) for each in ordered)
    whole = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:32]
    return Message(
        id=whole,
        title=title if len(title) <= _TITLE else title[: _TITLE - 1] + "…",
        text=text,
        body={
            "schema": SCHEMA,
            "id": whole,
            "instance": instance,
            "sent_at": to_second_or_none(now),
            "text": f"{title}\n\n{text}",
            "alerts": [_json(each, name) for each, name in zip(ordered, ids, strict=True)],
        },
        severity=first.alert.kind.severity,
        resolved=first.status is Status.RESOLVED,
    )


def inert(text: str) -> str:
    """Makes `text` harmless for a program that understands markup: nobody is mentioned, nothing is a link, code or a
    picture.

    For a person it reads the same.
    """
    text = _ACTIVE.sub(rf"\g<0>{_JOINER}", text).replace("`", "'")
    return text.replace("://", f":{_JOINER}//")


_JOINER = "\u2060"  # has no width, and separates characters that are special only together
_ACTIVE = re.compile(r"@(?=\w)|\](?=[(\[])|!(?=\[)|<(?=[@!#/a-zA-Z])")


def _shown(sentence: str) -> str:
    shown = redact(sentence)
    return shown if len(shown) <= _SENTENCE else shown[: _SENTENCE - 1] + "…"


def _id(instance: str, entry: Entry) -> str:
    """The id of this piece of news: made of its subject, its beginning, and the time when it was last sent."""
    news = (instance, *entry.key, entry.status, to_second_or_none(entry.since), to_second_or_none(entry.told_at))
    return hashlib.sha256("\0".join(map(str, news)).encode()).hexdigest()[:32]


def _paragraph(entry: Entry) -> str:
    kind = entry.alert.kind
    when = f"since {entry.since:%Y-%m-%d %H:%M} UTC"
    if entry.status is Status.NOTE:
        return _shown(entry.alert.sentence)
    if entry.cleared_at is not None:
        when = f"from {entry.since:%Y-%m-%d %H:%M} to {entry.cleared_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"{_MARK[entry.status]}{_shown(entry.alert.sentence)}\n{kind.value} ({kind.severity}), {when}\n{kind.runbook}"
    )


def _json(entry: Entry, name: str) -> Json:
    alert = entry.alert
    return {
        "id": name,
        "name": alert.kind.value,
        "subject": alert.subject,
        "severity": alert.kind.severity.value,
        "status": entry.status.value,
        "sentence": _shown(alert.sentence),
        "since": to_second_or_none(entry.since),
        "over_since": None if entry.status is Status.NOTE else to_second_or_none(entry.cleared_at),
        "runbook": alert.kind.runbook,
    }
