"""Simulates the four documented provider APIs, over real HTTP, with faults on demand.

    account = Account(month_of_calls("plivo", seed=1, count=40, audio=[Audio.read(Path("a.mp3"))], until=clock.now()))
    async with PlivoSimulator(account, clock, auth_id="MA…", auth_token="…") as sim:
        ...                                                # sim.base_url is what `base_url` of a config wants
        rule = sim.fail(Route.MEDIA, Cut(at=1000), times=2)  # the next two downloads end after 1000 bytes
        sim.fail(Route.LIST, TooManyRequests(retry_after=3), when=lambda ask: ask.query.get("offset") == "20")
        sim.fail(Route.LIST, Meanwhile(lambda: account.add(another)))  # a row slips in between two pages
        account.replace(some_id, available_at=clock.now() + timedelta(minutes=20))  # late audio
        account.add(replace(recording, audio=other))                                # one id, two audios
        clock.move(timedelta(hours=25))                                             # links expire
        assert [seen.status for seen in sim.requests if seen.route is Route.MEDIA] == [200, 200, 200]
        sim.heal()                                         # no faults from here on

Every simulator takes an `Account` (the provider's recordings, which may change while the simulator runs), an
`archiver.clock.Clock`, and the credentials it accepts. `apart=True` serves media from other origins (ports) than the
API; `media_host` names their host. `truth()` and `requests` are for tests that judge a client.

`python -m archiver.demo.simulators` runs all four, with a control port (see `control`).

The documents are the specification; where they contradict themselves or each other, a constructor option chooses and
the simulator's docstring says so. Nothing here knows the archiver's adapters.
"""

from archiver.demo.simulators.answer import Answer, Ask, Framing, Route
from archiver.demo.simulators.faults import (
    AnswerLost,
    Body,
    Cut,
    Delay,
    Drip,
    Endless,
    ErrorBody,
    ExpiredLink,
    Frame,
    Gzip,
    Headers,
    LoginPage,
    Meanwhile,
    RangeIgnored,
    Redirect,
    Reset,
    ServerError,
    TooManyRequests,
    UnaskedPart,
    WrongLength,
)
from archiver.demo.simulators.justcall import JustCallSimulator
from archiver.demo.simulators.justcall_v21 import JustCallV21Simulator
from archiver.demo.simulators.kazoo import KazooSimulator
from archiver.demo.simulators.kazoo_auth import Credentials
from archiver.demo.simulators.listing_faults import EmptyList, JsonChange, RepeatedPage, Rows
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.demo.simulators.scenario import Account, Audio, MovableClock, SimRecording, month_of_calls
from archiver.demo.simulators.server import Rule, Seen, Simulator
from archiver.demo.simulators.vobiz import VobizSimulator

__all__ = [
    "Account",
    "Answer",
    "AnswerLost",
    "Ask",
    "Audio",
    "Body",
    "Credentials",
    "Cut",
    "Delay",
    "Drip",
    "EmptyList",
    "Endless",
    "ErrorBody",
    "ExpiredLink",
    "Frame",
    "Framing",
    "Gzip",
    "Headers",
    "JsonChange",
    "JustCallSimulator",
    "JustCallV21Simulator",
    "KazooSimulator",
    "LoginPage",
    "Meanwhile",
    "MovableClock",
    "PlivoSimulator",
    "RangeIgnored",
    "Redirect",
    "RepeatedPage",
    "Reset",
    "Route",
    "Rows",
    "Rule",
    "Seen",
    "ServerError",
    "SimRecording",
    "Simulator",
    "TooManyRequests",
    "UnaskedPart",
    "VobizSimulator",
    "WrongLength",
    "month_of_calls",
]
