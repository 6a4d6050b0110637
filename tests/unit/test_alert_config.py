"""The `alerting` section: what it means, and what it says about mistakes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from archiver.alerts.rule import Kind, Thresholds
from archiver.config.alerting import Alerting, AppriseChannel, SmtpChannel, WebhookChannel
from archiver.config.load import references
from archiver.config.reference import parts
from archiver.config.section import Context

FULL = """\
channels:
  - {id: ops, kind: webhook, url: file:/etc/archiver/secrets/ops_webhook, allow_http: true, ca_bundle: /etc/archiver/ca.pem}
  - id: mail
    kind: smtp
    host: smtp.example.net
    port: 587
    security: starttls
    user: archiver
    password: cred:smtp_password
    sender: archiver@example.net
    to: [compliance@example.net]
    ca_bundle: /etc/archiver/ca.pem
  - {id: pager, kind: apprise, url: file:/etc/archiver/secrets/pager_url}
heartbeat:
  url: env:ARCHIVER_PING_URL
  every: 5m
  send_log_tail: 10KiB
  allow_http: false
  ca_bundle: /etc/archiver/ca.pem
routes:
  - {when: [deadline.critical, recording.lost, integrity.failed], to: [pager, mail], repeat: 1h}
  - {when: [deadline.warning, coverage.gap, provider.auth_failed, lock.short], to: [ops], repeat: 12h}
  - {when: [report.monthly], to: [mail]}
thresholds: {warning: 72h, critical: 24h, stalled: 1h, checkpoint: 3h, clock: 2s, spool: 80, quota: 85}
"""


def _plain(text: str) -> Any:
    """As `document` reads it: structure from YAML, every scalar as it was written."""
    yaml = YAML(typ="base", pure=True)
    return yaml.load(text)


def read(text: str) -> Alerting:
    return Alerting.model_validate(_plain(text), context=Context())


def problems(text: str) -> list[tuple[tuple[str | int, ...], str, str]]:
    with pytest.raises(ValidationError) as caught:
        read(text)
    found = caught.value.errors(include_url=False, include_input=False)
    return [(each["loc"], each["type"], each["msg"]) for each in found]


def test_the_section_of_the_design_means_what_it_says() -> None:
    config = read(FULL)
    ops, mail, pager = config.channels
    assert isinstance(ops, WebhookChannel)
    assert isinstance(mail, SmtpChannel)
    assert isinstance(pager, AppriseChannel)
    assert mail.to == ("compliance@example.net",)
    assert config.heartbeat is not None
    assert (config.heartbeat.every, config.heartbeat.send_log_tail) == (timedelta(minutes=5), 10 * 1024)
    assert config.routes[0].when == (Kind.DEADLINE_CRITICAL, Kind.RECORDING_LOST, Kind.INTEGRITY_FAILED)
    assert config.routes[0].repeat == timedelta(hours=1)


def test_nothing_stated_is_nobody_told_and_thresholds_as_the_rules_have_them() -> None:
    config = read("{}")
    assert config.channels == ()
    assert config.heartbeat is None
    assert Thresholds(**dict(config.thresholds)) == Thresholds()


def test_every_key_stands_in_the_full_section() -> None:
    text, missing = FULL, []
    for part in parts(Alerting):
        missing += [(part.pattern, key.name) for key in part.keys if not re.search(rf"\b{key.name}:", text)]
        assert all(key.meaning for key in part.keys), part.pattern
    assert missing == []


def test_secrets_stand_by_reference_and_are_found_by_the_checks() -> None:
    found = {place[-1] for place, _ in references(read(FULL))}
    assert found == {"url", "password", "user"}


@pytest.mark.parametrize(
    "line",
    [
        "channels: [{id: ops, kind: webhook, url: https://hooks.example.com/s3cret}]",
        "channels: [{id: p, kind: apprise, url: pover://s3cret@x}]",
        "heartbeat: {url: https://hc-ping.com/s3cret}",
        "channels: [{id: m, kind: smtp, host: h, sender: a@b, to: [c@d], user: u, password: s3cret}]",
    ],
)
def test_a_secret_written_into_the_file_is_refused_and_not_repeated(line: str) -> None:
    found = problems(line)
    assert [code for _, code, _ in found] == ["C110"]
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("text", "place", "code", "words"),
    [
        ("routes: [{when: [deadline.critcal], to: [ops]}]", ("routes", 0, "when", 0), "C103", "not an alert"),
        ("routes: [{when: [recording.lost], to: [opps]}]", ("routes", 0, "to", 0), "C130", "no channel has the id"),
        ("routes: [{when: [], to: [ops]}]", ("routes", 0, "when"), "C102", "is empty"),
        ("thresholds: {spool: 120}", ("thresholds", "spool"), "C104", "from 1 to 100"),
        ("thresholds: {warning: 72 hours}", ("thresholds", "warning"), "C121", "not a duration"),
        ("heartbeat: {url: env:X, every: 0s}", ("heartbeat", "every"), "C121", "too short"),
    ],
)
def test_mistakes_are_named_where_they_stand(text: str, place: tuple[str | int, ...], code: str, words: str) -> None:
    ops = "channels: [{id: ops, kind: webhook, url: env:OPS}]\n"
    found = problems(ops + text)
    assert [(at, kind) for at, kind, _ in found] == [(place, code)]
    assert words in found[0][2]


def test_two_channels_of_one_name_are_refused() -> None:
    found = problems("channels: [{id: a, kind: webhook, url: env:A}, {id: a, kind: webhook, url: env:B}]")
    assert [(at, code) for at, code, _ in found] == [(("channels", 1, "id"), "C130")]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("user: u", "C102"),
        ("password: env:P", "C102"),
        ("user: u, password: env:P, security: none", "C130"),
        ("port: 0", "C104"),
    ],
)
def test_mail_settings_that_do_not_go_together_are_refused(extra: str, code: str) -> None:
    found = problems(f"channels: [{{id: m, kind: smtp, host: h, sender: a@b, to: [c@d], {extra}}}]")
    assert [each[1] for each in found] == [code]


@pytest.mark.parametrize("address", ["nobody", "a@b, c@d", "a@b\\r\\nBcc: x@y", "<a@b>", "a b@c"])
def test_what_is_no_mail_address_is_refused(address: str) -> None:
    found = problems(f'channels: [{{id: m, kind: smtp, host: h, sender: "{address}", to: [c@d]}}]')
    assert [each[1] for each in found] == ["C104"]
