"""Channels against real servers: taken, refused, and taken with the answer lost."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.alerts.channel.apprise import Apprise
from archiver.alerts.channel.smtp import Smtp, SmtpOptions
from archiver.alerts.channel.webhook import Webhook
from archiver.alerts.message import compose
from archiver.alerts.post import Post
from archiver.alerts.route import Entry
from archiver.alerts.rule import Alert, Kind
from archiver.clock import SystemClock
from archiver.errors import ConfigurationError, ThrottledError, TransientError, UnavailableError
from archiver.recording import Secret
from tests.http_servers import Authority, Script, Server, answer, authority, says, serve
from tests.smtp_server import Mailbox, mail_server

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOST = Entry(Alert(Kind.RECORDING_LOST, "acme", "acme: 1 gone_at_provider", 1), "ops", NOW, NOW)
OVER = Entry(Alert(Kind.POLL_STALLED, "acme", "acme: stalled"), "ops", NOW, NOW, cleared_at=NOW, told_at=NOW)
NEWS = Entry(Alert(Kind.REPORT_MONTHLY, "2026-10", "the report is ready"), "ops", NOW, NOW, cleared_at=NOW)
MESSAGE = compose("acme-prod", [LOST], NOW)


def webhook(server: Server, path: str = "/hook/s3cret-path?token=s3cret", **settings: Any) -> Webhook:
    settings = {"allow_http": True, "longest": timedelta(seconds=1), **settings}
    return Webhook("ops", Post("ops", Secret(server.origin + path), SystemClock(), **settings))


# --- webhook --------------------------------------------------------------------------------------------------------


async def test_webhook_posts_json_that_people_and_programs_can_read() -> None:
    async with serve(says(answer(204))) as server:
        channel = webhook(server)
        assert await channel.send(MESSAGE) == ""
        await channel.aclose()
    (asked,) = server.asked
    assert asked.line.startswith("POST /hook/s3cret-path?token=s3cret HTTP")
    assert asked.headers["content-type"] == "application/json; charset=utf-8"
    assert asked.headers["idempotency-key"] == MESSAGE.id
    body = json.loads(asked.raw.partition(b"\r\n\r\n")[2])
    assert body["schema"] == "archiver.alert/v1"
    assert body["text"].startswith("[acme-prod] acme: 1 gone_at_provider")
    assert body["alerts"][0] | {"id": "x"} == {
        "id": "x",
        "name": "recording.lost",
        "subject": "acme",
        "severity": "page",
        "status": "firing",
        "sentence": "acme: 1 gone_at_provider",
        "since": "2026-11-21T12:00:00Z",
        "over_since": None,
        "runbook": "docs/runbook/recording.lost.md",
    }


FOREIGN = (
    "PutObject: <!channel> <https://evil.example|pay> @here [click](https://evil.example) ![](x) `rm` & " + "x" * 5000
)
"""What a storage may call its error."""
QUOTED = Entry(Alert(Kind.STORAGE_NOT_TRUSTED, "primary", f"primary: {FOREIGN}"), "ops", NOW, NOW)
MARKUP = ("<!", "<https", "https://evil", "@here", "](", "![", "`")


async def test_what_others_say_reaches_a_chat_as_letters_and_not_as_markup() -> None:
    async with serve(says(answer(204))) as server:
        channel = webhook(server)
        await channel.send(compose("acme-prod", [QUOTED], NOW))
        await channel.aclose()
    body = json.loads(server.asked[0].raw.partition(b"\r\n\r\n")[2])
    assert [each for each in MARKUP if each in body["text"]] == []
    assert "&lt;" in body["text"]
    assert "&amp;" in body["text"]
    assert len(body["text"]) < 1500
    assert body["alerts"][0]["sentence"].startswith("primary: PutObject: <!channel>"), "programs get it as it is"
    assert len(body["alerts"][0]["sentence"]) <= 600


REFUSALS: list[tuple[str, Script, type[TransientError], str]] = [
    ("server error", says(answer(500, b"stack trace with token=s3cret")), UnavailableError, "answered 500"),
    ("not found", says(answer(404)), UnavailableError, "answered 404"),
    ("redirect", says(answer(302, b"", "Location: http://169.254.169.254/")), UnavailableError, "answered 302"),
    ("throttled", says(answer(429, b"", "Retry-After: 120")), ThrottledError, "answered 429"),
    ("closed without an answer", says(b"", close=True), UnavailableError, "closed"),
    ("reset", says(b"", reset=True), UnavailableError, "127.0.0.1"),
    ("not HTTP", says(b"hello\r\n\r\n", close=True), UnavailableError, "127.0.0.1"),
]


@pytest.mark.parametrize(
    ("script", "error", "words"), [each[1:] for each in REFUSALS], ids=[each[0] for each in REFUSALS]
)
async def test_webhook_refused_or_answer_lost_is_an_error_that_tells_no_secret(
    script: Script, error: type[TransientError], words: str
) -> None:
    async with serve(script) as server:
        channel = webhook(server)
        with pytest.raises(error, match=words) as caught:
            await channel.send(MESSAGE)
        await channel.aclose()
    assert "s3cret" not in str(caught.value)
    assert server.asked, "it was sent"
    assert all(asked.target.startswith("/hook/") for asked in server.asked)


async def test_webhook_that_says_when_to_come_back_is_understood() -> None:
    async with serve(says(answer(503, b"", "Retry-After: 90"))) as server:
        channel = webhook(server)
        with pytest.raises(ThrottledError) as caught:
            await channel.send(MESSAGE)
        await channel.aclose()
    assert caught.value.retry_after == timedelta(seconds=90)


async def test_webhook_that_never_answers_is_given_up_in_time() -> None:
    async def hang(_asked: object, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serve(hang) as server:
        channel = webhook(server)
        async with asyncio.timeout(5):
            with pytest.raises(UnavailableError, match="too long"):
                await channel.send(MESSAGE)
        await channel.aclose()


async def test_webhook_that_nobody_serves_is_unavailable() -> None:
    async with serve(says(answer(200))) as server:
        pass
    channel = webhook(server)
    with pytest.raises(UnavailableError):
        await channel.send(MESSAGE)
    await channel.aclose()


async def test_webhook_trusts_only_what_it_is_told_to(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    async with serve(says(answer(200)), ours.context()) as server:
        stranger = webhook(server)
        with pytest.raises(UnavailableError, match="TLS"):
            await stranger.send(MESSAGE)
        friend = webhook(server, ca_bundle=ours.bundle)
        await friend.send(MESSAGE)
        await stranger.aclose()
        await friend.aclose()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.com/x", "allow_http is off"),
        ("ftp://hooks.example.com/x", "neither https nor http"),
        ("https://user:s3cret@hooks.example.com/", "user information"),
        ("s3cret", "neither https nor http"),
    ],
)
def test_a_url_that_may_not_be_used_is_a_configuration_error_that_does_not_repeat_it(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Post("ops", Secret(url), SystemClock())
    assert "s3cret" not in str(caught.value)


async def test_the_cloud_metadata_address_is_never_asked() -> None:
    post = Post("ops", Secret("http://169.254.169.254/latest"), SystemClock(), allow_http=True)
    with pytest.raises(UnavailableError, match="never allowed"):
        await post.send("POST", b"{}")
    await post.aclose()


# --- mail -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def smtp(box: Mailbox, ours: Authority, **settings: Any) -> Smtp:
    options: dict[str, Any] = {
        "id": "mail",
        "host": "127.0.0.1",
        "port": box.port,
        "sender": "archiver@example.net",
        "to": ("compliance@example.net", "ops@example.net"),
        "ca_bundle": ours.bundle,
    }
    return Smtp(SmtpOptions(**{**options, **settings}), SystemClock(), step=timedelta(seconds=1))


async def test_mail_goes_over_starttls_to_every_recipient(ours: Authority) -> None:
    async with mail_server(ours.context()) as box:
        assert await smtp(box, ours, user="archiver", password=Secret("right")).send(MESSAGE) == ""
    (mail,) = box.taken
    assert box.encrypted == [True]
    assert box.logins == [("archiver", "right")]
    assert box.recipients == [["compliance@example.net", "ops@example.net"]]
    assert mail["Subject"] == "[acme-prod] acme: 1 gone_at_provider"
    assert mail["Message-ID"] == f"<{MESSAGE.id}@example.net>"
    assert (mail["Auto-Submitted"], mail["Importance"]) == ("auto-generated", "high")
    assert "docs/runbook/recording.lost.md" in mail.get_content()


async def test_mail_goes_over_tls_from_the_start(ours: Authority) -> None:
    async with mail_server(ours.context(), implicit=True) as box:
        await smtp(box, ours, security="tls").send(compose("acme-prod", [OVER], NOW))
    assert box.encrypted == [True]
    assert box.taken[0]["Subject"] == "[acme-prod] over: acme: stalled"
    assert box.taken[0]["Importance"] is None


async def test_mail_in_clear_only_when_that_is_configured(ours: Authority) -> None:
    async with mail_server() as box:
        await smtp(box, ours, security="none").send(MESSAGE)
        with pytest.raises(UnavailableError, match="does not offer"):
            await smtp(box, ours).send(MESSAGE)
    assert box.encrypted == [False]


async def test_a_stripped_starttls_is_refused_and_the_password_is_never_sent(ours: Authority) -> None:
    async with mail_server(ours.context()) as box:
        box.offers_starttls = False
        with pytest.raises(UnavailableError, match="does not offer"):
            await smtp(box, ours, user="archiver", password=Secret("right")).send(MESSAGE)
    assert box.logins == []
    with pytest.raises(ConfigurationError, match="only over TLS"):
        smtp(box, ours, security="none", user="archiver", password=Secret("right"))


async def test_a_certificate_that_nobody_vouches_for_is_refused(ours: Authority) -> None:
    async with mail_server(ours.context(self_signed=True)) as box:
        with pytest.raises(UnavailableError, match="TLS"):
            await smtp(box, ours).send(MESSAGE)
    assert box.taken == []


async def test_mail_refused_is_an_error_without_the_servers_words(ours: Authority) -> None:
    async with mail_server(ours.context()) as box:
        box.refuse_data = b"554 no, ops@example.net is a spammer"
        with pytest.raises(UnavailableError, match="answered 554") as caught:
            await smtp(box, ours).send(MESSAGE)
        with pytest.raises(UnavailableError, match="answered 535") as login:
            await smtp(box, ours, user="archiver", password=Secret("wrong")).send(MESSAGE)
    assert "example.net" not in str(caught.value)
    assert "s3cret" not in str(login.value)


async def test_mail_taken_but_the_answer_lost_is_an_error_and_sent_again_under_the_same_id(ours: Authority) -> None:
    async with mail_server(ours.context()) as box:
        box.drop_after_data = 1
        channel = smtp(box, ours)
        with pytest.raises(UnavailableError, match="closed the connection"):
            await channel.send(MESSAGE)
        await channel.send(MESSAGE)
    assert len({mail["Message-ID"] for mail in box.taken}) == 1
    assert len(box.taken) == 2


async def test_one_recipient_refused_does_not_keep_it_from_the_others_and_is_said(ours: Authority) -> None:
    async with mail_server(ours.context()) as box:
        box.refuse_recipients = frozenset({"ops@example.net"})
        assert await smtp(box, ours).send(MESSAGE) == "1 of 2 recipients were refused"
        box.refuse_recipients = frozenset({"ops@example.net", "compliance@example.net"})
        with pytest.raises(UnavailableError, match="refused every recipient"):
            await smtp(box, ours).send(MESSAGE)
    assert box.recipients == [["compliance@example.net"]]


async def test_a_silent_mail_server_is_given_up_in_time(ours: Authority) -> None:
    async with mail_server() as box:
        box.silent = True
        async with asyncio.timeout(10):
            with pytest.raises(UnavailableError):
                await smtp(box, ours).send(MESSAGE)


async def test_a_missing_ca_bundle_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ca_bundle"):
        Smtp(SmtpOptions("mail", "h", "a@b", ("c@d",), ca_bundle=tmp_path / "none.pem"), SystemClock())


# --- apprise --------------------------------------------------------------------------------------------------------


def test_apprise_that_is_not_installed_is_a_configuration_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigurationError, match=r"compliance-archiver\[notify\]"):
        Apprise("pager", Secret("json://127.0.0.1/s3cret"))


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("apprise") is not None


@pytest.mark.skipif(not _installed(), reason="the extra `notify` is not installed")
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
class TestApprise:
    """Through its own JSON plugin, to a real server."""

    async def test_what_is_told_arrives_with_its_kind(self) -> None:
        async with serve(says(answer(200), close=True)) as server:
            channel = Apprise("pager", Secret(f"json://127.0.0.1:{server.port}/hook"))
            for entry in (LOST, OVER, NEWS):
                assert await channel.send(compose("acme-prod", [entry], NOW)) == ""
        told = [json.loads(asked.raw.partition(b"\r\n\r\n")[2]) for asked in server.asked]
        assert [each["type"] for each in told] == ["failure", "success", "info"]
        assert told[0]["title"] == "[acme-prod] acme: 1 gone_at_provider"

    async def test_what_others_say_is_no_markup_behind_apprise_either(self) -> None:
        async with serve(says(answer(200), close=True)) as server:
            channel = Apprise("pager", Secret(f"json://127.0.0.1:{server.port}/hook"))
            await channel.send(compose("acme-prod", [QUOTED], NOW))
        told = json.loads(server.asked[0].raw.partition(b"\r\n\r\n")[2])
        assert [each for each in MARKUP if each in told["title"] + told["message"]] == []

    @pytest.mark.parametrize("script", [says(answer(500)), says(b"", close=True)], ids=["refused", "answer lost"])
    async def test_refused_and_answer_lost_are_errors(self, script: Script) -> None:
        async with serve(script) as server:
            channel = Apprise("pager", Secret(f"json://127.0.0.1:{server.port}/s3cret"))
            with pytest.raises(UnavailableError) as caught:
                await channel.send(MESSAGE)
        assert "s3cret" not in str(caught.value)

    def test_a_url_that_apprise_does_not_know_is_a_configuration_error(self) -> None:
        with pytest.raises(ConfigurationError, match="none that apprise knows") as caught:
            Apprise("pager", Secret("nosuchthing://s3cret"))
        assert "s3cret" not in str(caught.value)
