"""What the keys of `alerting.thresholds` do: the same archive, in which one threshold after the other is set below the facts."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, SimRecording, samples
from tests.effects.workspace import LOOPBACK, Workspace, swept, workspace

NOW = datetime.now(UTC).replace(microsecond=0)
ABOVE = {"stalled": "3h", "checkpoint": "3h", "clock": "30s", "spool": "70", "quota": "70"}
TWO_HOURS_AGO = (NOW - timedelta(hours=2)).isoformat(sep=" ").removesuffix("+00:00")
FACTS = (
    # Polled two hours ago; 60 per cent of JustCall's storage. (The log was published a moment ago: it takes no other time.)
    f"UPDATE provider_state SET poll_succeeded_at = '{TWO_HOURS_AGO}'",
    "UPDATE recording SET plaintext_bytes = 3000000",
    # Another host, whose clock is ten seconds ahead and whose spool is 60 per cent full.
    f"INSERT INTO host_state VALUES ('theirs', 'their-host', '{TWO_HOURS_AGO}', 60, NULL, 10000)",
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An archive after one sweep, with facts that are wrong by some thresholds and not by others."""
    made = workspace(tmp_path_factory.mktemp("thresholds"))
    made.secret("key", "demo-key")
    made.secret("word", "demo-secret")
    sim = fleet.fleet(SystemClock(), samples(), count=0)["justcall"]
    (sound, *_) = [each for each in samples() if each.format == "mp3"]
    sim.account = Account([SimRecording("call_1", NOW - timedelta(hours=3), sound.duration, sound)])
    since = (NOW - timedelta(days=3)).date()
    settings = f"kind: justcall, {LOOPBACK}, api_key: file:key, api_secret: file:word, plan: team, quota: 5MB"
    swept(made, {"jc": sim}, {"jc": f"{settings}, backfill_from: {since}"})
    with closing(sqlite3.connect(made.folder / "state" / "archiver.db")) as conn:
        for statement in FACTS:
            assert conn.execute(statement).rowcount >= 1, statement
        conn.commit()
    time.sleep(1.5)  # no threshold is below a second, and nobody can move the log's own times back
    return made


def concerns(it: Workspace, thresholds: dict[str, str]) -> set[tuple[str, str]]:
    """What `archiver alerts list` says to hold by these thresholds."""
    keys = ", ".join(f"{name}: {value}" for name, value in thresholds.items())
    kept = [line for line in it.file.read_text().splitlines() if not line.startswith("alerting:")]
    it.file.write_text("\n".join([*kept, f"alerting: {{thresholds: {{{keys}}}}}"]) + "\n")
    return {(each["alert"], each["subject"]) for each in it.json("alerts", "list")}


@pytest.fixture(scope="module")
def calm(lived: Workspace) -> set[tuple[str, str]]:
    """What holds while every threshold lies above the facts."""
    return concerns(lived, ABOVE)


@pytest.mark.effect(
    "alerting.thresholds.stalled", "alerting.thresholds.checkpoint", "alerting.thresholds.clock",
    "alerting.thresholds.spool", "alerting.thresholds.quota",
)  # fmt: skip
@pytest.mark.parametrize(
    ("threshold", "below", "alert"),
    [
        ("stalled", "1h", ("poll.stalled", "jc")),
        ("checkpoint", "1s", ("checkpoint.overdue", "")),
        ("clock", "5s", ("clock.skew", "their-host")),
        ("spool", "60", ("spool.filling", "their-host")),
        ("quota", "60", ("quota.filling", "jc")),
    ],
)
def test_a_fact_becomes_an_alert_when_its_threshold_says(
    lived: Workspace, calm: set[tuple[str, str]], threshold: str, below: str, alert: tuple[str, str]
) -> None:
    assert concerns(lived, {**ABOVE, threshold: below}) - calm == {alert}
