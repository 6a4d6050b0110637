"""What the keys of `alerting` do: who is told, through what, of which facts, how often."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.alerts.alarm import Alarm
from archiver.alerts.facts import Facts, ProviderFacts
from archiver.assembly.alerts import build_heartbeat
from archiver.assembly.facts import limits
from archiver.clock import SystemClock
from archiver.config.load import load
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, SimRecording, samples
from archiver.demo.simulators.server import Simulator
from archiver.status.metrics import Metrics
from tests.effects.workspace import LOOPBACK, Workspace, workspace
from tests.http_servers import answer, authority, says, serve
from tests.smtp_server import mail_server

NOW = datetime.now(UTC).replace(microsecond=0)
SINCE = f"backfill_from: {(NOW - timedelta(days=4)).date()}"
VOBIZ = f"kind: vobiz, {LOOPBACK}, auth_id: MA_DEMO0001, auth_token: file:token, {SINCE}"


HOOK = "{id: a, kind: webhook, url: file:hook, allow_http: true}"


def vobiz(*calls: SimRecording) -> Simulator:
    sim = fleet.fleet(SystemClock(), samples(), count=0)["vobiz"]
    sim.account = Account(calls)
    return sim


def made(folder: Path, token: str = "demo-vobiz-token") -> Workspace:
    found = workspace(folder)
    found.secret("token", token)
    return found


@pytest.mark.effect(
    "alerting.channels[](webhook).kind", "alerting.channels[](webhook).id", "alerting.channels[](webhook).url",
    "alerting.channels[](webhook).allow_http", "alerting.channels[](webhook).ca_bundle",
    "alerting.channels[](smtp).kind", "alerting.channels[](smtp).id", "alerting.channels[](smtp).host",
    "alerting.channels[](smtp).port", "alerting.channels[](smtp).security", "alerting.channels[](smtp).user",
    "alerting.channels[](smtp).password", "alerting.channels[](smtp).sender", "alerting.channels[](smtp).to",
    "alerting.channels[](smtp).ca_bundle", "alerting.channels[](apprise).kind",
    "alerting.channels[](apprise).id", "alerting.channels[](apprise).url",
)  # fmt: skip
def test_every_channel_speaks_to_where_it_is_told_as_it_is_told(tmp_path: Path) -> None:
    ca, it = authority(tmp_path), made(tmp_path)

    async def speak() -> None:
        ok = says(answer(200, b"{}"))
        async with (
            serve(ok) as plain, serve(ok, tls=ca.context()) as secure, serve(ok) as refused, serve(ok) as gate,
            mail_server(ca.context()) as starttls, mail_server(ca.context(), implicit=True) as implicit,
        ):  # fmt: skip
            urls = {"plain": plain.origin, "secure": secure.origin, "refused": refused.origin}
            for name, url in urls.items():
                it.secret(f"{name}.url", f"{url}/of/{name}")
            it.secret("apprise.url", f"json://127.0.0.1:{gate.port}/of/apprise")
            it.secret("pw", "right")
            mail = "kind: smtp, host: 127.0.0.1, sender: archiver@example.net, to: [a@example.net, b@example.net]"
            it.write(
                [f"id: v, base_url: 'http://127.0.0.1:1', {VOBIZ}, retention: none"],
                more=[
                    "alerting:", "  channels:",
                    "    - {id: plain, kind: webhook, url: file:plain.url, allow_http: true}",
                    "    - {id: secure, kind: webhook, url: file:secure.url, ca_bundle: ca.pem}",
                    f"    - {{id: starttls, {mail}, port: {starttls.port}, ca_bundle: ca.pem, user: me, password: file:pw}}",
                    f"    - {{id: implicit, {mail}, port: {implicit.port}, ca_bundle: ca.pem, security: tls}}",
                    "    - {id: gate, kind: apprise, url: file:apprise.url}",
                ],
            )  # fmt: skip
            told = await it.arun("-o", "json", "alerts", "test", code=None)
            outcome = {each["channel"]: each["problem"] for each in json.loads(told.stdout)["data"]}
            assert outcome == dict.fromkeys(("plain", "secure", "starttls", "implicit", "gate")), outcome
            assert [asked.target for asked in plain.asked] == ["/of/plain"]
            assert [asked.target for asked in secure.asked] == ["/of/secure"]
            assert refused.asked == []
            assert [asked.target for asked in gate.asked] == ["/of/apprise"]
            for box in (starttls, implicit):
                (message,) = box.taken
                assert message["From"] == "archiver@example.net"
                assert box.recipients == [["a@example.net", "b@example.net"]]
                assert box.encrypted == [True]
            assert starttls.logins == [("me", "right")]
            assert implicit.logins == []
            text = it.file.read_text()
            it.file.write_text(text.replace("file:plain.url, allow_http: true", "file:refused.url"))
            told = await it.arun("alerts", "test", code=None)
            assert told.returncode != 0
            assert "http" in told.stdout + told.stderr
            assert refused.asked == []

    asyncio.run(speak())


@pytest.mark.effect("alerting.routes[].when", "alerting.routes[].to", "alerting.routes[].repeat")
def test_an_alert_goes_to_the_channels_of_its_route_and_again_when_the_route_says(tmp_path: Path) -> None:
    it = made(tmp_path, token="wrong")

    async def sweep() -> None:
        ok = says(answer(200))
        async with vobiz() as sim, serve(ok) as one, serve(ok) as two, serve(ok) as three:
            for name, server in (("one", one), ("two", two), ("three", three)):
                it.secret(f"{name}.url", server.origin)
            channels = [
                f"{{id: {name}, kind: webhook, url: file:{name}.url, allow_http: true}}"
                for name in ("one", "two", "three")
            ]
            routes = [
                "{when: [provider.auth_failed], to: [one, two], repeat: 90m}", "{when: [coverage.gap], to: [two]}",
                "{when: [spool.filling], to: [three]}",
            ]  # fmt: skip
            alerting = f"alerting: {{channels: [{', '.join(channels)}], routes: [{', '.join(routes)}]}}"
            it.write([f'id: v, base_url: "{sim.base_url}", {VOBIZ}, retention: none'], more=[alerting])
            await it.arun("run", "--once", code=None)
            assert three.asked == []
            assert one.asked
            assert two.asked

    asyncio.run(sweep())
    listed = it.json("alerts", "list")
    assert {(each["alert"], each["channel"]) for each in listed} >= {
        ("provider.auth_failed", "one"), ("provider.auth_failed", "two"),
    }  # fmt: skip
    assert all(each["channel"] == "two" for each in listed if each["alert"] == "coverage.gap")
    for each in listed:
        if each["alert"] == "provider.auth_failed":
            again = datetime.fromisoformat(each["due_at"]) - datetime.fromisoformat(each["told_at"])
            assert again == timedelta(minutes=90)


@pytest.mark.effect(
    "alerting.heartbeat.url", "alerting.heartbeat.send_log_tail", "alerting.heartbeat.allow_http",
    "alerting.heartbeat.ca_bundle",
)  # fmt: skip
def test_a_finished_sweep_pings_with_the_end_of_the_log(tmp_path: Path) -> None:
    ca, it = authority(tmp_path), made(tmp_path)

    async def sweep() -> None:
        ok = says(answer(200))
        async with vobiz() as sim, serve(ok) as plain, serve(ok, tls=ca.context()) as secure:
            it.secret("plain", f"{plain.origin}/ping")
            it.secret("secure", f"{secure.origin}/ping")
            provider = [f'id: v, base_url: "{sim.base_url}", {VOBIZ}, retention: none']
            tail = "alerting: {heartbeat: {url: file:plain, allow_http: true, send_log_tail: 300B}}"
            it.write(provider, more=[tail])
            await it.arun("run", "--once")
            (asked,) = plain.asked
            body = asked.raw.partition(b"\r\n\r\n")[2]
            assert (asked.line.split(" ")[:2], 0 < len(body) <= 300) == (["POST", "/ping"], True)
            it.write(provider, more=["alerting: {heartbeat: {url: file:secure, ca_bundle: ca.pem}}"])
            await it.arun("run", "--once")
            assert [asked.line.split(" ")[:2] for asked in secure.asked] == [["GET", "/ping"]]

    asyncio.run(sweep())


@pytest.mark.effect("alerting.heartbeat.every")
def test_a_daemon_pings_no_more_often_than_is_said_and_a_single_sweep_whenever_it_is_finished(tmp_path: Path) -> None:
    """The daemon's alarm on a clock that the test moves: half an hour, in which the provider is polled each minute."""
    it = made(tmp_path)

    async def pings(every: str, *, once: bool = False) -> int:
        async with serve(says(answer(200))) as ping:
            it.secret("ping", ping.origin)
            heartbeat = f"alerting: {{heartbeat: {{url: file:ping, allow_http: true, every: {every}}}}}"
            it.write([f"id: v, base_url: 'http://127.0.0.1:1', {VOBIZ}, retention: none"], more=[heartbeat])
            config, wall = load(it.file, resolve_secrets=True), Wall()

            async def facts() -> Facts:
                return Facts(now=wall.at, providers=(ProviderFacts("v", poll_succeeded_at=wall.at),))

            alarm = Alarm(
                facts,
                None,
                build_heartbeat(config.alerting, wall, Metrics("test")),
                wall,
                limits(config),
                first=timedelta(0),
            )
            for _ in range(30):
                wall.at += timedelta(minutes=1)
                await (alarm.swept(complete=True) if once else alarm.tick())
            await alarm.aclose()
            return len(ping.asked)

    assert asyncio.run(pings("1m")) == 30
    assert asyncio.run(pings("10m")) == 3
    assert asyncio.run(pings("10m", once=True)) == 30


class Wall(SystemClock):
    """A wall clock that the test moves."""

    at = NOW

    def now(self) -> datetime:
        return self.at


@pytest.mark.effect("alerting.thresholds.warning", "alerting.thresholds.critical")
def test_a_deadline_becomes_an_alert_when_the_thresholds_say(tmp_path: Path) -> None:
    """Three recordings without audio yet, which are deleted in some 60, 20 and 5 hours."""
    it = made(tmp_path)

    async def sweep() -> None:
        (sound, *_) = samples()
        lives = {"h60": 60, "h20": 20, "h5": 5}
        started = NOW - timedelta(hours=2)
        sims = {
            name: vobiz(SimRecording(name, started, sound.duration, sound, available_at=NOW + timedelta(days=9)))
            for name in lives
        }
        async with sims["h60"], sims["h20"], sims["h5"], serve(says(answer(200))) as hook:
            it.secret("hook", hook.origin)
            it.write(
                [
                    f'id: {name}, base_url: "{sims[name].base_url}", {VOBIZ}, safety_margin: 1h, '
                    f"retention: {{keep: {hours + 2}h}}"
                    for name, hours in lives.items()
                ],
                more=[f"alerting: {{channels: [{HOOK}], thresholds: {{warning: 40h, critical: 10h}}}}"],
            )
            await it.arun("run", "--once", code=None)

    asyncio.run(sweep())
    told = {
        (each["alert"], each["subject"]) for each in it.json("alerts", "list") if each["alert"].startswith("deadline")
    }
    assert ("deadline.warning", "h20") in told
    assert ("deadline.critical", "h5") in told
    assert not told & {("deadline.critical", "h20"), ("deadline.warning", "h60"), ("deadline.critical", "h60")}
