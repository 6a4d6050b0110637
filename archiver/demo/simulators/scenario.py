"""Models a simulated provider: recordings, an account that can change between a client's requests, a clock to move."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from archiver import errors
from archiver.clock import Clock
from archiver.demo import LACKING
from archiver.demo.simulators.answer import Json

Kind = Literal["justcall", "kazoo", "vobiz", "plivo"]


@dataclass(frozen=True, slots=True)
class Audio:
    """Encoded audio as it will be sent, byte for byte. `digest` is its SHA-256."""

    data: bytes = field(repr=False)
    format: str
    duration: timedelta
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.data).hexdigest())

    @classmethod
    def read(cls, path: Path) -> Audio:
        """Reads a file's bytes, its format by suffix, and its duration as the file itself states it."""
        try:
            from tinytag import TinyTag
        except ImportError as missing:
            raise errors.ConfigurationError(LACKING) from missing
        tag = TinyTag.get(path)
        return cls(path.read_bytes(), path.suffix.lstrip(".").lower(), timedelta(seconds=tag.duration or 0))

    @property
    def content_type(self) -> str:
        return {"mp3": "audio/mpeg", "wav": "audio/x-wav", "mp4": "video/mp4"}.get(self.format, "audio/mpeg")


@dataclass(frozen=True, slots=True)
class SimRecording:
    """One recording (or, without `audio`, one call that has none) as the provider knows it.

    `owner` is a KAZOO user or a Plivo subaccount. `file` names the audio in links; an account sets it, so that two
    recordings with one id still have two links. `appears_at` is when the listing first shows it (default: 4 s after the
    call) and the time by which listings filter and sort, where the provider does not use the call's start.
    `available_at` is when its audio can first be had. `extra` overrides fields of the listed row, and `without` leaves
    some out: odd types and missing keys. `call_extra` is the part of the call, in front, that was not recorded.
    """

    id: str
    started_at: datetime
    duration: timedelta
    audio: Audio | None
    direction: str = "inbound"
    from_number: str = "+14155559876"
    to_number: str = "+14155551234"
    agent_id: int = 42
    agent_name: str = "Jordan Lee"
    status: str = "completed"
    voicemail: bool = False
    notes: str = ""
    disposition: str = ""
    tags: tuple[str, ...] = ()
    call_id: str = ""
    kind: str = "call"
    conference_name: str | None = None
    conference_uuid: str = ""
    mpc_name: str = ""
    mpc_uuid: str = ""
    label: str = ""
    origin: str = ""
    media_name: str = ""
    owner: str = ""
    format: str = ""
    original: Audio | None = None
    child: Audio | None = None
    sales_dialer: bool = False
    call_extra: timedelta = timedelta(0)
    appears_at: datetime | None = None
    available_at: datetime | None = None
    deleted: bool = False
    file: str = ""
    extra: Mapping[str, Json] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    @property
    def ended_at(self) -> datetime:
        return self.started_at + self.call_extra + self.duration

    @property
    def listed_at(self) -> datetime:
        return self.appears_at or self.ended_at + timedelta(seconds=4)

    @property
    def said_format(self) -> str:
        """The format that metadata states, which need not be the truth."""
        return self.format or (self.audio.format if self.audio else "mp3")

    def shaped(self, row: dict[str, Json]) -> dict[str, Json]:
        """Returns `row` with the fields of `extra`, and without those of `without`."""
        return {key: value for key, value in (row | dict(self.extra)).items() if key not in self.without}


class Changes(TypedDict, total=False):
    """The fields of a recording that are commonly changed while a simulator runs."""

    audio: Audio | None
    duration: timedelta
    status: str
    notes: str
    tags: tuple[str, ...]
    disposition: str
    deleted: bool
    available_at: datetime | None
    appears_at: datetime | None
    original: Audio | None
    child: Audio | None
    format: str
    owner: str
    extra: Mapping[str, Json]
    without: frozenset[str]


class Account:
    """The recordings that the provider really holds. Not thread-safe: change an account in the simulator's event loop,
    or before it starts.

    `retention`: audio is gone when its call is older than this time. A deleted recording is kept, flagged, for the
    tests.
    """

    def __init__(self, recordings: Iterable[SimRecording] = (), *, retention: timedelta | None = None) -> None:
        self.retention = retention
        self._by_id: dict[str, list[SimRecording]] = {}
        self._by_file: dict[str, SimRecording] = {}
        self.add(*recordings)

    @property
    def recordings(self) -> list[SimRecording]:
        return [recording for same_id in self._by_id.values() for recording in same_id]

    def add(self, *recordings: SimRecording) -> list[SimRecording]:
        """Adds recordings, and returns them as they are now named; an id that is there already is used again."""
        added = []
        for each in recordings:
            same_id = self._by_id.setdefault(each.id, [])
            file = f"{each.id}-{len(same_id) + 1}" if same_id else each.id
            named = replace(each, file=file)
            same_id.append(named)
            self._by_file[file] = named
            added.append(named)
        return added

    def remove(self, recording_id: str) -> None:
        """Forgets every recording of this id, as if it had never been."""
        for each in self._by_id.pop(recording_id):
            del self._by_file[each.file]

    def replace(self, recording_id: str, **changes: Unpack[Changes]) -> None:
        """Changes every recording of this id."""
        self._by_id[recording_id] = [replace(each, **changes) for each in self._by_id[recording_id]]
        self._by_file |= {each.file: each for each in self._by_id[recording_id]}

    def delete(self, recording_id: str) -> None:
        self.replace(recording_id, deleted=True)

    def visible(self, now: datetime, *, outlive: bool = False) -> list[SimRecording]:
        """Returns the recordings that listings may show now, oldest first. `outlive`: the row stays when its audio has
        been retired."""
        shown = (each for each in self.recordings if each.listed_at <= now and not each.deleted)
        kept = (each for each in shown if outlive or not self._retired(each, now))
        return sorted(kept, key=lambda each: (each.listed_at, each.file))

    def find(self, recording_id: str, now: datetime, *, outlive: bool = False) -> SimRecording | None:
        """Returns the newest visible recording of that id."""
        shown = [each for each in self._by_id.get(recording_id, []) if each.listed_at <= now and not each.deleted]
        return next((each for each in reversed(shown) if outlive or not self._retired(each, now)), None)

    def by_file(self, file: str) -> SimRecording | None:
        return self._by_file.get(file)

    def audible(self, recording: SimRecording, now: datetime) -> bool:
        """Tells whether the recording's audio can be had now."""
        late = recording.available_at is not None and now < recording.available_at
        return recording.audio is not None and not (late or recording.deleted or self._retired(recording, now))

    def _retired(self, recording: SimRecording, now: datetime) -> bool:
        return self.retention is not None and now - recording.started_at >= self.retention


class MovableClock:
    """A clock that stands still at `at`, or runs on with `running`, and can be moved."""

    def __init__(self, at: datetime, running: Clock | None = None) -> None:
        self._at = at
        self._running = running
        self._start = running.monotonic() if running else 0.0
        self._moved = timedelta(0)

    def now(self) -> datetime:
        return self._at + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        elapsed = self._running.monotonic() - self._start if self._running else 0.0
        return elapsed + self._moved.total_seconds()

    def move(self, by: timedelta) -> None:
        self._moved += by


SAMPLES = Path(__file__).parent.parent / "audio"


def samples(folder: Path = SAMPLES) -> list[Audio]:
    """Returns the mp3 and wav files of a folder, by name; without a folder, the encoded speech that comes with the
    demo."""
    return [Audio.read(path) for path in sorted(folder.iterdir()) if path.suffix in (".mp3", ".wav")]


NAMES = ("Jordan Lee", "Priya Nair", "Tomás Ruiz", "Aoife Byrne", "Chen Wei")
NOTES = (
    "Customer asked about upgrading to Business plan.",
    "Confirmed the delivery address.",
    "",
    "Wants a call back.",
)
TAGS = (("upgrade", "pricing"), ("support",), (), ("complaint", "priority"))
OUTCOMES = ("Interested", "Not interested", "Follow up", "")


def month_of_calls(
    provider: Kind,
    *,
    seed: int,
    count: int,
    audio: Sequence[Audio],
    until: datetime,
    days: int = 30,
    unrecorded: float = 0.0,
) -> list[SimRecording]:
    """Returns `count` calls, spread over the `days` before `until`, oldest first; the same arguments give the same
    calls.

    Ids have the provider's form. `unrecorded` is the share of calls without a recording.
    """
    dice = random.Random(f"{provider} {seed}")  # noqa: S311 - a scenario, not a secret
    spread = sorted(dice.random() for _ in range(count))
    first = until.astimezone(UTC) - timedelta(days=days)
    calls = []
    for index, share in enumerate(spread):
        sound = audio[index % len(audio)]
        started = (first + timedelta(days=days, minutes=-10) * share).replace(microsecond=0)
        line, caller = f"+1415555{1000 + dice.randrange(8):04}", f"+1628555{dice.randrange(10_000):04}"
        inbound = dice.random() < 0.6
        agent = dice.randrange(len(NAMES))
        silent = dice.random() < unrecorded
        voicemail = inbound and dice.random() < 0.1
        calls.append(
            SimRecording(
                id=recording_id(provider, dice, started),
                started_at=started,
                duration=sound.duration,
                audio=None if silent else sound,
                direction="inbound" if inbound else "outbound",
                from_number=caller if inbound else line,
                to_number=line if inbound else caller,
                agent_id=40 + agent,
                agent_name=NAMES[agent],
                status="voicemail" if voicemail else "completed",
                voicemail=voicemail,
                notes=dice.choice(NOTES),
                disposition=dice.choice(OUTCOMES),
                tags=dice.choice(TAGS),
                call_id=str(uuid.UUID(int=dice.getrandbits(128), version=4)),
                kind={"plivo": "normal", "vobiz": dice.choice(("call", "trunk"))}.get(provider, "call"),
                call_extra=timedelta(seconds=dice.randrange(6)),
            )
        )
    return calls


def recording_id(provider: Kind, dice: random.Random, started_at: datetime) -> str:
    """Returns an id of the form that `provider` gives."""
    match provider:
        case "justcall":
            return f"call_{dice.getrandbits(32):08x}"
        case "kazoo":
            return f"{started_at:%Y%m}-{dice.getrandbits(128):032x}"
        case _:
            return str(uuid.UUID(int=dice.getrandbits(128), version=4))
