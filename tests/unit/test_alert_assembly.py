"""From a configuration to channels and the dead man's switch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from archiver.assembly.alerts import build_dispatch, build_heartbeat
from archiver.clock import SystemChance, SystemClock
from archiver.config.alerting import Alerting
from archiver.config.section import Context
from archiver.database import Writer, create_engine
from archiver.errors import ConfigurationError
from archiver.status.metrics import Metrics

# --- from the configuration -------------------------------------------------------------------------------------------


@pytest.fixture
def writer(sqlite_template: Path, tmp_path: Path) -> Iterator[Writer]:
    shutil.copy(sqlite_template, tmp_path / "archiver.db")
    engine = create_engine("sqlite:///archiver.db", tmp_path)
    made = Writer(engine)
    yield made
    made.close()
    engine.dispose()


def configured(text: str) -> Alerting:
    return Alerting.model_validate(YAML(typ="base", pure=True).load(text), context=Context())


async def test_every_kind_of_channel_is_built_with_its_secrets(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example.com/s3cret")
    monkeypatch.setenv("MAIL_PASSWORD", "s3cret")
    alerting = configured("""
channels:
  - {id: ops, kind: webhook, url: env:HOOK}
  - {id: mail, kind: smtp, host: h, sender: a@b, to: [c@d], user: u, password: env:MAIL_PASSWORD}
routes: [{when: [recording.lost], to: [ops]}]
heartbeat: {url: env:HOOK, every: 1m}
""")
    clock, metrics = SystemClock(), Metrics("1")
    dispatch = build_dispatch(alerting, "acme", writer, clock, SystemChance(), metrics)
    heartbeat = build_heartbeat(alerting, clock, metrics)
    assert dispatch is not None
    assert heartbeat is not None
    await dispatch.aclose()
    await heartbeat.aclose()


def test_nothing_configured_is_nothing_built(writer: Writer) -> None:
    clock, metrics = SystemClock(), Metrics("1")
    for alerting in (None, configured("{}")):
        assert build_dispatch(alerting, "acme", writer, clock, SystemChance(), metrics) is None
        assert build_heartbeat(alerting, clock, metrics) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "HOOK is not set"),
        ("http://hooks.example.com/s3cret", "allow_http is off"),
        ("s3cret", "neither https nor"),
    ],
)
def test_a_channel_that_cannot_work_stops_the_start_and_tells_no_secret(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, value: str | None, words: str
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK", value)
    alerting = configured("channels: [{id: ops, kind: webhook, url: env:HOOK}]")
    with pytest.raises(ConfigurationError, match=words) as caught:
        build_dispatch(alerting, "acme", writer, SystemClock(), SystemChance(), Metrics("1"))
    assert "s3cret" not in str(caught.value)
