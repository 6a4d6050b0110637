"""Makes all four providers (JustCall in both dialects) with a month of calls each, ready to be started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from archiver.clock import Clock
from archiver.demo.simulators.justcall import JustCallSimulator
from archiver.demo.simulators.justcall_v21 import JustCallV21Simulator
from archiver.demo.simulators.kazoo import KazooSimulator
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.demo.simulators.scenario import Account, Audio, Kind, month_of_calls
from archiver.demo.simulators.server import ServerOptions, Simulator
from archiver.demo.simulators.vobiz import VobizSimulator

CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "justcall": {"api_key": "demo-key", "api_secret": "demo-secret"},
    "justcall_v21": {"api_key": "demo-key-21", "api_secret": "demo-secret-21"},
    "kazoo": {"account_id": "0123456789abcdef0123456789abcdef", "auth_token": "demo-kazoo-token"},
    "vobiz": {"auth_id": "MA_DEMO0001", "auth_token": "demo-vobiz-token"},
    "plivo": {"auth_id": "MADEMODEMODEMODEMO00", "auth_token": "demo-plivo-token"},
}


def fleet(
    clock: Clock, audio: Sequence[Audio], *, seed: int = 1, count: int = 25, **options: Unpack[ServerOptions]
) -> dict[str, Simulator]:
    """Returns one simulator of each kind, by name, accepting `CREDENTIALS`; `count` calls each in the 30 days before
    now."""

    def account(kind: Kind, *formats: str, unrecorded: float = 0.0) -> Account:
        sounds = [each for each in audio if each.format in formats] or list(audio)
        now = clock.now()
        calls = month_of_calls(kind, seed=seed, count=count, audio=sounds, until=now, unrecorded=unrecorded)
        return Account(calls)

    calls, vendor_calls = (account("justcall", "mp3", unrecorded=0.1) for _ in range(2))
    justcall, justcall_v21, kazoo, vobiz, plivo = CREDENTIALS.values()
    return {
        "justcall": JustCallSimulator(
            calls, clock, api_key=justcall["api_key"], api_secret=justcall["api_secret"], **options
        ),
        "justcall_v21": JustCallV21Simulator(
            vendor_calls, clock, api_key=justcall_v21["api_key"], api_secret=justcall_v21["api_secret"], **options
        ),
        "kazoo": KazooSimulator(
            account("kazoo", "mp3"), clock, account_id=kazoo["account_id"], auth_token=kazoo["auth_token"], **options
        ),
        "vobiz": VobizSimulator(
            account("vobiz", "mp3", "wav"), clock, auth_id=vobiz["auth_id"], auth_token=vobiz["auth_token"], **options
        ),
        "plivo": PlivoSimulator(
            account("plivo", "mp3", "wav"), clock, auth_id=plivo["auth_id"], auth_token=plivo["auth_token"], **options
        ),
    }
