"""The fault table of links and downloads (reliability §3.2), row by row: adapter, client, worker, spool, journal together.

Each group of tests has its row's name; what one part alone must do is proved beside that part.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import socket
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.demo.simulators import (
    Cut,
    Endless,
    ExpiredLink,
    Framing,
    Gzip,
    Headers,
    RangeIgnored,
    Redirect,
    Route,
    ServerError,
    UnaskedPart,
    WrongLength,
)
from archiver.demo.simulators.answer import Answer, Ask
from archiver.demo.simulators.faults import Effect
from archiver.demo.simulators.scenario import SimRecording
from archiver.names import Names
from archiver.recording import Flag
from archiver.schedule.deadline import ProviderRetention
from tests.contract.provider_cases import ACCOUNT, KEY, SECRET, sounds
from tests.faults.rig import PLAIN, QUICK, Rig, call, peak_memory, rig
from tests.fetch_bodies import HTML, JSON, MP3, XML, wav
from tests.http_servers import Authority, Script, answer, authority, says, serve
from tests.integration.test_http_download import (
    drip_body,
    drip_chunks,
    drip_headers,
    endless_continue,
    silence,
    stall_in_body,
)
from tests.integration.test_http_egress import admit_only_127_0_0_1, resolve, speaks, tls_1_0

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
VOICE = sounds("voicemail-128k-mono-44100")[0]


def at(name: str, more: Callable[[Ask], bool] = lambda _: True) -> Callable[[Ask], bool]:
    """Requests for the audio of one recording."""
    return lambda ask: ask.path.rpartition("/")[2].removeprefix("rec_").rpartition(".")[0] == name and more(ask)


def several(case: str, number: int, **changes: Any) -> list[SimRecording]:
    return [call(case, f"r{n:03}", ago=2 * HOUR + timedelta(seconds=n), **changes) for n in range(number)]


def ask_for_all(it: Rig) -> dict[str, dict[str, Any]]:
    """The rows by the provider's ids."""
    return {row["provider_recording_id"]: row for row in it.rows()}


@dataclass(frozen=True)
class Says(Effect):
    """200 and this body, whatever is there."""

    body: bytes
    content_type: str = "audio/mpeg"
    encoding: str = ""

    def refuse(self) -> Answer:
        told = {"Content-Type": self.content_type, "ETag": '"said"'}
        return Answer(200, told | ({"Content-Encoding": self.encoding} if self.encoding else {}), self.body)


# --- a signed URL that has expired --------------------------------------------------------------------------------


async def test_signed_url_expired_gives_a_new_one_and_costs_no_attempt(
    tmp_path: Path, sqlite_url: str, log: io.StringIO
) -> None:
    """100 links of 24 h, 25 h later: each is read afresh from the API, none is stored in clear or logged."""
    async with rig(
        "justcall", tmp_path, sqlite_url, recordings=several("justcall", 100), simulator={"apart": True}
    ) as it:
        assert await it.poll()
        await it.pass_time(timedelta(hours=25))
        await it.work()
        assert it.digests() == it.truth()
        assert [row["attempts"] for row in it.rows()] == [1] * 100
        assert len(it.simulator.seen(Route.ITEM)) == 100
        await _no_link_left_behind(it, log)


@pytest.mark.parametrize("mid_body", [False, True])
async def test_signed_url_expired_as_the_403_says_at_once_or_mid_body(
    mid_body: bool, tmp_path: Path, sqlite_url: str, log: io.StringIO
) -> None:
    """A link that should still live is refused, at the start or when the rest is asked for: same item, new link."""
    held = several("justcall", 20)
    async with rig("justcall", tmp_path, sqlite_url, recordings=held, simulator={"apart": True}) as it:
        assert await it.poll()
        for number, each in enumerate(held):
            if mid_body:
                it.simulator.fail(Route.MEDIA, Cut(at=1 + number * 1600), when=at(each.id))
                it.simulator.fail(Route.MEDIA, ExpiredLink(), when=at(each.id, lambda ask: "range" in ask.headers))
            else:
                it.simulator.fail(Route.MEDIA, ExpiredLink(), when=at(each.id))
        await it.work()
        assert it.digests() == it.truth()
        assert [row["attempts"] for row in it.rows()] == [1] * 20
        assert it.spool_is_empty()
        await _no_link_left_behind(it, log)


async def _no_link_left_behind(it: Rig, log: io.StringIO) -> None:
    tokens = {seen.query["token"] for seen in it.simulator.seen(Route.MEDIA)}
    assert tokens
    said, put = log.getvalue(), it.written()
    assert "recording.archived" in said
    assert not any(token in said or token.encode() in put for token in tokens)


# --- URLs that may not be asked -----------------------------------------------------------------------------------

STRANGERS = (
    "evil.example", "169.254.169.254", "[::1]", "localhost", "10.0.0.1", "metadata.google.internal", "2130706433", "0x7f.1",
    "127.1", "[::ffff:127.0.0.1]", "[fd00:ec2::254]", "100.100.100.200",
)  # fmt: skip
SHAPES = (
    "https://{}/a", "http://{}/a", "https://{}:22/a", "https://{}:6379/a", "https://user:pw@{}/a", "https://OWN@{}/a",
    "//{}/a", "gopher://{}:6379/_x",
)  # fmt: skip
OWN = (
    "file:///etc/passwd", "file://OWN/etc/passwd", "gopher://OWN/_x", "ftp://OWN/a", "dict://OWN/a", "ldap://OWN/a",
    "http://OWN/a", "https://user:pw@OWN/a", "https://user@OWN/a", "https://HOST:22/a", "https://HOST:6379/a", "https://HOST/a",
    "https://HOST:0/a", "https://HOST:99999/a", "https://OWN\\@evil.example/a", "https://OWN.evil.example/a", "jar:https://OWN/a!/",
    "https:///a", "https://OWN\n.evil.example/a", "https://[OWN/a", "data:audio/mpeg;base64,AAAA", "/relative", "javascript:1",
    "https://127.0.0.1:CANARY/a",
)  # fmt: skip


async def test_url_host_not_on_the_allowlist_scheme_userinfo_or_port_is_never_asked(
    tmp_path: Path, sqlite_url: str
) -> None:
    """120 links that a listing may hold, http among them: refused or no link at all, kept, nothing sent anywhere."""
    ca = authority(tmp_path)
    async with serve(says(answer(200, VOICE.data)), tls=ca.context()) as canary:
        links = [shape.format(host) for host in STRANGERS for shape in SHAPES] + list(OWN)
        assert len(links) == 120
        folder = tmp_path / "archive"
        folder.mkdir()
        tls = {"simulator": {"tls": ca.context()}, "settings": {"allow_http": False}}
        guarded = {"allow_http": False, "ca_bundle": ca.bundle}
        async with rig("plivo", folder, sqlite_url, recordings=[], client=guarded, **tls) as it:  # type: ignore[arg-type]
            own = it.simulator.media_url.partition("://")[2]
            host = own.partition(":")[0]
            for number, link in enumerate(links):
                written = link.replace("OWN", own).replace("HOST", host).replace("CANARY", str(canary.port))
                it.account.add(call("plivo", f"r{number:03}", extra={"recording_url": written}))
            it.account.add(call("plivo", "good"))
            assert await it.poll()
            await it.work()
            rows = ask_for_all(it)
            good = rows.pop("good")
            assert good["state"] == "archived"
            assert len(rows) == 120
            wrong = {links[int(name[1:])]: row["state"] for name, row in rows.items() if row["state"] != "waiting"}
            assert wrong == {}
            refused = [row for row in rows.values() if Flag.EGRESS_REFUSED in row["flags"]]
            assert len(refused) >= 80
            assert not any("pw@" in str(row["last_error"]) or "/a" in str(row["last_error"]) for row in refused)
            assert len(it.simulator.seen(Route.MEDIA)) == 1
    assert canary.connections == 0


# --- redirects to where nobody may go -----------------------------------------------------------------------------

INSIDE = (
    "169.254.169.254", "127.0.0.2", "10.1.2.3", "192.168.0.1", "172.20.0.1", "100.64.1.1", "[::1]", "[fd12::1]", "[fe80::1]",
    "[fd00:ec2::254]", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[::]", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.1",
)  # fmt: skip


def leads(it: Rig, to: str, *, hops: int, status: int = 302, when: Callable[[Ask], bool] = lambda _: True) -> None:
    """The media's address redirects to itself `hops` − 1 times, then to `to`."""

    def nth(hop: int) -> Callable[[Ask], bool]:
        return lambda ask: ask.query.get("hop", "1") == str(hop) and when(ask)

    for hop in range(1, hops):
        it.simulator.fail(Route.MEDIA, Redirect(f"?accept=audio/mpeg&hop={hop + 1}", status), times=None, when=nth(hop))
    it.simulator.fail(Route.MEDIA, Redirect(to, status), times=None, when=nth(hops))


async def test_redirect_to_private_address_is_refused_at_connect_on_every_hop(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 addresses × 3 hops, every host on the allow-list: only the connected address tells. Parked, not dropped."""
    admit_only_127_0_0_1(monkeypatch)
    held = several("vobiz", 60)
    async with rig(
        "vobiz", tmp_path, sqlite_url, recordings=held, hosts=INSIDE, client={"allow_private_addresses": False}
    ) as it:
        for number, each in enumerate(held):
            target = f"http://{INSIDE[number % 20]}/latest/meta-data/?sig=CANARY"
            leads(it, target, hops=1 + number // 20, when=at(each.id))
        assert await it.poll()
        await it.work()
        rows = it.rows()
        assert {row["state"] for row in rows} == {"waiting"}
        assert all(Flag.EGRESS_REFUSED in row["flags"] for row in rows)
        assert not any("CANARY" in str(row["last_error"]) for row in rows)
        it.simulator.heal()
        await it.settle(each=timedelta(hours=6, minutes=1))
        assert it.digests() == it.truth()


@pytest.mark.parametrize("flipped", [["10.1.2.3"], ["169.254.169.254"], ["::1"], ["fd12::1", "10.1.2.3"]])
async def test_redirect_to_private_address_by_a_name_whose_answer_flips_is_refused(
    flipped: list[str], tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the name is allowed, its new address is not."""
    admit_only_127_0_0_1(monkeypatch)
    resolve(monkeypatch, lambda host: flipped if host == "media.example.com" else ["127.0.0.1"])
    apart = {"apart": True, "media_host": "media.example.com"}
    closed = {"allow_private_addresses": False}
    async with rig("vobiz", tmp_path, sqlite_url, calls=2, simulator=apart, client=closed) as it:
        assert await it.poll()
        await it.work()
        assert {row["state"] for row in it.rows()} == {"waiting"}
        assert all(Flag.EGRESS_REFUSED in row["flags"] for row in it.rows())
        assert it.simulator.seen(Route.MEDIA) == []


async def test_redirect_to_private_address_or_plain_http_from_https_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    """A redirect may not take the recording, or what opens it, out of TLS."""
    ca = authority(tmp_path)
    folder = tmp_path / "archive"
    folder.mkdir()
    async with serve(says(answer(200, VOICE.data))) as plain, rig(
        "vobiz", folder, sqlite_url, calls=1, simulator={"tls": ca.context()}, settings={"allow_http": False},
        hosts=[f"127.0.0.1:{plain.port}"], client={"allow_http": False, "ca_bundle": ca.bundle},
    ) as it:  # fmt: skip
        it.simulator.fail(Route.MEDIA, Redirect(f"{plain.origin}/x"), times=None)
        assert await it.poll()
        await it.work()
        (row,) = it.rows()
        assert (row["state"], Flag.EGRESS_REFUSED in row["flags"]) == ("waiting", True)
    assert plain.connections == 0


async def test_redirect_to_private_address_or_in_circles_ends_after_three_hops(tmp_path: Path, sqlite_url: str) -> None:
    """Four requests, no more; the recording waits and is archived once the circle is broken."""
    async with rig("kazoo", tmp_path, sqlite_url, recordings=[call("kazoo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, Redirect("?accept=audio/mpeg&again=1"), times=None)
        assert await it.poll()
        await it.work()
        assert len(it.simulator.seen(Route.MEDIA)) == 4
        assert "more than 3 redirects" in it.rows()[0]["last_error"]
        it.simulator.heal()
        await it.settle()
        assert it.digests() == it.truth()


# --- redirects that would carry credentials away ------------------------------------------------------------------

CREDENTIALS = {
    "justcall": (KEY, SECRET),
    "kazoo": (SECRET,),
    "vobiz": (SECRET, "MA_XXXXXXXX"),
    "plivo": (SECRET, b64encode(f"{ACCOUNT}:{SECRET}".encode()).decode()),
}


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("case", CREDENTIALS)
async def test_redirect_cross_origin_carries_no_credential_along(
    case: str, hops: int, status: int, tmp_path: Path, sqlite_url: str
) -> None:
    """X-Auth-Token, Basic, key:secret: the recording comes from the host that it led to, which learns nothing."""
    async with serve(says(answer(200, VOICE.data, "Content-Type: audio/mpeg"))) as canary:
        hosts = [f"127.0.0.1:{canary.port}"]
        async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "one")], hosts=hosts) as it:
            bare = ServerError(401, b"", "text/plain")
            it.simulator.fail(Route.MEDIA, bare, times=None, when=lambda ask: not _authorised(ask))
            leads(it, f"{canary.origin}/x?sig=1", hops=hops, status=status)
            assert await it.poll()
            await it.work()
            assert it.digests() == [VOICE.digest]
            shown = [seen for seen in it.simulator.seen(Route.MEDIA) if _authorised(seen)]
            assert len(shown) == hops
    assert len(canary.asked) == 1
    assert not any(secret.encode() in canary.asked[0].raw for secret in CREDENTIALS[case])


def _authorised(ask: Any) -> bool:
    return bool({"authorization", "x-auth-token"} & ask.headers.keys())


# --- truncated bodies ---------------------------------------------------------------------------------------------


def cuts(number: int) -> list[int]:
    """So many places to cut the voice, the first byte and the last but one among them."""
    return [1 + n * (len(VOICE.data) - 2) // (number - 1) for n in range(number)]


@pytest.mark.parametrize(
    ("framing", "reset", "etag", "number"),
    [
        (Framing.LENGTH, False, True, 64),
        (Framing.LENGTH, True, False, 16),
        (Framing.CHUNKED, False, True, 64),
        (Framing.CHUNKED, True, False, 16),
    ],
)
async def test_truncated_body_of_known_end_is_fetched_again_to_the_last_byte(
    framing: Framing, reset: bool, etag: bool, number: int, tmp_path: Path, sqlite_url: str
) -> None:
    """Cut at 64 places: noticed wherever it is, resumed where that is safe, otherwise begun anew; nothing partial is kept."""
    held = several("plivo", number)
    async with rig("plivo", tmp_path, sqlite_url, recordings=held) as it:
        for each, cut in zip(held, cuts(number), strict=True):
            effect: Effect = Cut(cut, framing, reset)
            it.simulator.fail(
                Route.MEDIA, effect if etag else Both(effect, Headers(drop=frozenset({"ETag"}))), when=at(each.id)
            )
        assert await it.poll()
        await it.work()
        resumed = framing is Framing.LENGTH and etag
        assert (it.digests() == it.truth()) == resumed
        assert {row["state"] for row in it.rows()} == ({"archived"} if resumed else {"waiting"})
        await it.settle()
        assert it.digests() == it.truth()
        assert all(row["flags"] == set() for row in it.rows())
        assert len(it.stored()) == number
        assert it.spool_is_empty()


@dataclass(frozen=True)
class Both(Effect):
    """Two alterations, one after the other."""

    first: Effect
    second: Effect

    def alter(self, answer: Answer) -> Answer:
        return self.second.alter(self.first.alter(answer))


async def test_truncated_body_that_ends_with_the_connection_is_doubted_and_never_all_there_is(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Read to close, cut at 64 places: what came is kept and flagged, and the whole is archived beside it."""
    held = several("plivo", 64)
    async with rig("plivo", tmp_path, sqlite_url, recordings=held) as it:
        for each, cut in zip(held, cuts(64), strict=True):
            it.simulator.fail(Route.MEDIA, Cut(cut, Framing.CLOSE), when=at(each.id))
        assert await it.poll()
        await it.settle()
        by_name: dict[str, list[dict[str, Any]]] = {each.id: [] for each in held}
        for row in it.rows():
            assert row["state"] == "archived", (row["last_error"], row["flags"])
            by_name[row["provider_recording_id"]].append(row)
        for name, rows in by_name.items():
            assert VOICE.digest in [row["plaintext_sha256"] for row in rows], name
            parts = [row for row in rows if row["plaintext_sha256"] != VOICE.digest]
            assert all(row["flags"] & {Flag.LENGTH_UNVERIFIED, Flag.TRUNCATED, Flag.NOT_AUDIO} for row in parts), name


async def test_truncated_body_that_ends_with_a_reset_is_fetched_again(tmp_path: Path, sqlite_url: str) -> None:
    """RST instead of FIN: no end at all."""
    held = several("plivo", 8)
    async with rig("plivo", tmp_path, sqlite_url, recordings=held) as it:
        for each, cut in zip(held, cuts(8), strict=True):
            it.simulator.fail(Route.MEDIA, Cut(cut, Framing.CLOSE, reset=True), when=at(each.id))
        assert await it.poll()
        await it.settle()
        assert VOICE.digest in it.digests()
        whole = {row["provider_recording_id"] for row in it.rows() if row["plaintext_sha256"] == VOICE.digest}
        assert whole == {each.id for each in held}


async def test_truncated_body_unverified_because_the_second_look_failed_is_looked_at_again(
    tmp_path: Path, sqlite_url: str
) -> None:
    """The doubt is not forgotten because the provider was down at the wrong moment: asked again until the deadline."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, Cut(20_000, Framing.CLOSE))
        it.simulator.fail(Route.MEDIA, ServerError(503), times=2)
        assert await it.poll()
        await it.work()
        for _ in range(4):
            await it.pass_time(timedelta(hours=6))
            assert await it.poll()
            await it.work()
        assert VOICE.digest in it.digests()


# --- lengths and ranges that lie ----------------------------------------------------------------------------------


def lying_lengths() -> Mapping[str, tuple[Effect, ...]]:
    """20 ways to be wrong about where a body begins or ends; several effects strike one request after the other."""
    weak, gone = Headers(set={"ETag": 'W/"v"'}), Headers(drop=frozenset({"ETag"}))
    other = Headers(set={"ETag": '"another"'})
    cut = Cut(9_000)
    return {
        **{f"longer by {by}": (WrongLength(-by),) for by in (1, 2, 100, 30_000)},
        **{f"shorter by {by}": (WrongLength(by),) for by in (1, 2, 100, 30_000)},
        **{f"206 from {start}": (UnaskedPart(start),) for start in (0, 1, 417, 33_000)},
        "range ignored": (cut, RangeIgnored()),
        "range ignored twice": (cut, RangeIgnored(), RangeIgnored()),
        "another part": (cut, UnaskedPart(100)),
        "another part twice": (cut, UnaskedPart(8_999), UnaskedPart(9_001)),
        "another version": (cut, other),
        "weak tag": (Both(cut, weak),),
        "no tag": (Both(cut, gone),),
        "416": (cut, ServerError(416, b"", "text/plain")),
    }


async def test_longer_or_wrong_content_length_and_odd_ranges_never_mix_or_cut_a_recording(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Longer, shorter, 206 unasked, range ignored: an error and the whole again from byte 0, never a mixture."""
    cases = lying_lengths()
    assert len(cases) == 20
    names = {f"r{n:03}": name for n, name in enumerate(cases)}
    async with rig("plivo", tmp_path, sqlite_url, recordings=several("plivo", 20)) as it:
        for each, effects in zip(names, cases.values(), strict=True):
            for effect in effects:
                it.simulator.fail(Route.MEDIA, effect, when=at(each))
        assert await it.poll()
        await it.settle()
        wrong = {
            names[row["provider_recording_id"]]: (row["state"], row["flags"], row["plaintext_bytes"], row["last_error"])
            for row in it.rows()
            if row["plaintext_sha256"] != VOICE.digest
        }
        assert wrong == {}
        assert len(it.rows()) == 20
        assert it.spool_is_empty()


# --- 10 GB --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [Endless(), Endless(declared=10 << 30), Endless(declared=(32 << 20) + 1)])
async def test_10_gb_body_declared_or_endless_is_stopped_parked_and_costs_no_memory(
    effect: Effect, tmp_path: Path, sqlite_url: str
) -> None:
    """A cap per provider: stopped, spool freed, item parked with its alarm, others unaffected, tried again later."""
    limits = replace(PLAIN, max_size=32 << 20)
    held = [call("plivo", "huge", ago=3 * HOUR), *several("plivo", 3)]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, limits=limits, concurrency=1) as it:
        it.simulator.fail(Route.MEDIA, effect, times=None, when=at("huge"))
        assert await it.poll()
        before = peak_memory()
        await it.work()
        assert peak_memory() - before < 128 << 20
        huge = ask_for_all(it)["huge"]
        assert (huge["state"], Flag.TOO_LARGE in huge["flags"]) == ("waiting", True)
        assert huge["next_attempt_at"] is not None
        assert it.told.count["TooLargeError"] == 1
        assert len(it.digests()) == 3
        assert it.spool_is_empty()
        it.simulator.heal()
        await it.pass_time(timedelta(hours=6, minutes=1))
        await it.settle()
        assert it.digests() == it.truth()


# --- slow-loris ---------------------------------------------------------------------------------------------------

SLOW: Mapping[str, Script] = {
    "1 byte at a time": drip_body,
    "chunks of 1 byte": drip_chunks,
    "stall in the body": stall_in_body,
    "header drip": drip_headers,
    "endless 100": endless_continue,
    "silence": silence,
}


async def test_slow_loris_in_every_form_frees_its_slot_and_delays_nobody(tmp_path: Path, sqlite_url: str) -> None:
    """12 downloads that never come on, the most urgent of all, two slots: every other recording is archived meanwhile."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serve(script)) for script in SLOW.values()]
        stalled = await stack.enter_async_context(speaks(b""))
        origins = [server.origin for server in servers] + [f"https://127.0.0.1:{stalled}"]
        links = [f"{origins[n % len(origins)]}/r{n}.mp3" for n in range(12)]
        bad = [call("plivo", f"slow{n}", ago=20 * HOUR, extra={"recording_url": link}) for n, link in enumerate(links)]
        hosts = [origin.partition("://")[2] for origin in origins]
        held = [*bad, *several("plivo", 6)]
        async with rig("plivo", tmp_path, sqlite_url, recordings=held, hosts=hosts, limits=QUICK) as it:
            assert await it.poll()
            started = asyncio.get_running_loop().time()
            await it.work()
            took = asyncio.get_running_loop().time() - started
            assert took < 12 * 2 / 4 + 6  # each slot is given up after 2 s
            rows = ask_for_all(it)
            assert {row["state"] for name, row in rows.items() if name.startswith("slow")} == {"waiting"}
            assert it.digests() == [VOICE.digest] * 6
            assert it.worker.busy == 0
            assert it.spool_is_empty()


# --- encodings ----------------------------------------------------------------------------------------------------

BOMB = gzip.compress(bytes(64 << 20), 9, mtime=0)
ENCODED: Mapping[str, tuple[Effect, bytes]] = {
    "gzip": (Gzip(), gzip.compress(VOICE.data, mtime=0)),
    "gzip bomb": (Says(BOMB, encoding="gzip"), BOMB),
    "gzip bomb in gzip": (Says(gzip.compress(BOMB, mtime=0), encoding="gzip, gzip"), gzip.compress(BOMB, mtime=0)),
    "deflate": (Says(zlib.compress(VOICE.data), encoding="deflate"), zlib.compress(VOICE.data)),
    "br": (Says(b"\x8b\x80" + VOICE.data[:5000], encoding="br"), b"\x8b\x80" + VOICE.data[:5000]),
    "a lie": (Says(VOICE.data, encoding="gzip"), VOICE.data),
}


async def test_gzip_br_bomb_or_encoded_audio_is_kept_as_received(tmp_path: Path, sqlite_url: str) -> None:
    """`Content-Encoding` on audio, a bomb or not: the bytes of the wire, flagged, never unpacked anywhere."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=several("plivo", len(ENCODED))) as it:
        for number, (effect, _) in enumerate(ENCODED.values()):
            it.simulator.fail(Route.MEDIA, effect, times=None, when=at(f"r{number:03}"))
        assert await it.poll()
        before = peak_memory()
        await it.settle()
        assert peak_memory() - before < 48 << 20
        for number, (name, (_, body)) in enumerate(ENCODED.items()):
            row = it.row(f"r{number:03}")
            assert (row["state"], row["plaintext_bytes"]) == ("archived", len(body)), name
            assert row["plaintext_sha256"] == hashlib.sha256(body).hexdigest(), name
            assert Flag.CONTENT_ENCODED in row["flags"], name
        assert sum(path.stat().st_size for path in it.stored()) < sum(len(body) for _, body in ENCODED.values()) + 8_000


# --- what is no recording -----------------------------------------------------------------------------------------

PAGES = {"html": HTML, "xml": XML, "json": JSON, "words": b"404 page not found\n", "nothing": b""}
DOUBTS: Mapping[str, tuple[bytes, Flag]] = {
    "id3 only": (b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000), Flag.NOT_AUDIO),
    "wav without data": (wav(b""), Flag.NOT_AUDIO),
    "au without data": (b".snd" + b"\0\0\0\x18" + bytes(16), Flag.NOT_AUDIO),
    "encrypted": (hashlib.shake_256(b"noise").digest(30_000), Flag.NOT_AUDIO),
    "picture": (b"\x89PNG\r\n\x1a\n" + hashlib.shake_256(b"png").digest(5_000), Flag.NOT_AUDIO),
    "half an mp3": (MP3[:80_000], Flag.TRUNCATED),
    "silence": (wav(bytes(16_000)), Flag.DURATION_MISMATCH),
}
TYPES = ("audio/mpeg", "audio/x-wav", "application/octet-stream")


async def test_html_xml_json_as_mp3_and_other_rubbish_is_never_called_a_recording_nor_thrown_away(
    tmp_path: Path, sqlite_url: str
) -> None:
    """12 kinds × 3 types: obvious text is retried, then quarantined with its bytes; doubtful audio is archived and flagged."""
    kinds = {**PAGES, **{name: body for name, (body, _) in DOUBTS.items()}}
    table = {f"r{n:03}": (kind, told) for n, (kind, told) in enumerate((k, t) for k in kinds for t in TYPES)}
    assert len(table) == 36
    keeps = ProviderRetention("test", timedelta(days=5))
    held = several("plivo", 36, duration=timedelta(seconds=10))
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, retention=keeps) as it:
        for name, (kind, told) in table.items():
            it.simulator.fail(Route.MEDIA, Says(kinds[kind], told), times=None, when=at(name))
        assert await it.poll()
        await it.work()
        for name, row in ask_for_all(it).items():
            kind = table[name][0]
            if kind in PAGES:
                assert (row["state"], row["plaintext_sha256"]) == ("waiting", None), table[name]
                assert "instead of audio" in row["last_error"] or "empty" in row["last_error"], table[name]
            else:
                assert row["state"] == "archived", table[name]
                assert row["plaintext_sha256"] == hashlib.sha256(kinds[kind]).hexdigest(), table[name]
                assert DOUBTS[kind][1] in row["flags"], table[name]
        assert [path for path in it.stored() if "quarantine" in path.parts] == []
        for _ in range(5):
            await it.pass_time(DAY)
            await it.work()
        for name, row in ask_for_all(it).items():
            kind = table[name][0]
            if kind in PAGES:
                assert row["state"] == "waiting", table[name]
                kept = {Flag.QUARANTINED, Flag.NOT_AUDIO} <= row["flags"]
                assert kept == (kind != "nothing"), table[name]
                assert bool(it.events(row, "anomaly.audio_invalid")) == kept, table[name]
        assert len({path for path in it.stored() if "quarantine" in path.parts}) >= 12
        it.simulator.heal()
        await it.settle(each=DAY)
        assert len([row for row in it.rows() if row["plaintext_sha256"] == VOICE.digest]) == 15


async def test_html_xml_json_as_mp3_that_stays_the_same_is_quarantined_once(tmp_path: Path, sqlite_url: str) -> None:
    """Locked objects cannot be removed: the same page again, however often it is asked for, makes no second one."""
    keeps = ProviderRetention("test", timedelta(days=4))
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")], retention=keeps) as it:
        it.simulator.fail(Route.MEDIA, Says(HTML), times=None)
        assert await it.poll()
        for _ in range(10):
            await it.work()
            await it.pass_time(timedelta(hours=12))
        (row,) = it.rows()
        assert Flag.QUARANTINED in row["flags"]
        assert len([path for path in it.stored() if "quarantine" in path.parts]) == 1
        assert len(it.events(row, "anomaly.audio_invalid")) == 1


# --- duration -----------------------------------------------------------------------------------------------------


@dataclass
class InTurn(Effect):
    """Another body each time, the last one for ever."""

    bodies: list[bytes]

    def refuse(self) -> Answer:
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        return Answer(200, {"Content-Type": "audio/mpeg"}, body)


@pytest.mark.parametrize("case", ["kazoo", "vobiz", "plivo"])
async def test_duration_off_by_more_than_rounding_and_drift_is_flagged_and_downloaded_once_more(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """The same again: archived once, flagged; what is off by less is left alone."""
    off = VOICE.duration + timedelta(seconds=30)
    near = VOICE.duration + timedelta(seconds=1)
    held = [call(case, "off", duration=off), call(case, "near", ago=3 * HOUR, duration=near)]
    async with rig(case, tmp_path, sqlite_url, recordings=held) as it:
        assert await it.poll()
        await it.settle()
        flags = {row["provider_recording_id"].rpartition("-")[2]: row["flags"] for row in it.rows()}
        assert flags == {"off": {Flag.DURATION_MISMATCH}, "near": set()}
        assert it.digests() == it.truth()
        asked = [seen for seen in it.simulator.seen(Route.MEDIA) if seen.status in (200, 206)]
        assert len(asked) == 3


async def test_call_with_ringing_is_longer_than_its_recording_and_no_duration_off(
    tmp_path: Path, sqlite_url: str
) -> None:
    """JustCall's call log states the call's length, ringing and all: the single call, which states the recording's, is asked."""
    ten_seconds = sounds("kazoo-vbr-mono-8000")[0]
    held = [
        call("justcall", "ringing", audio=ten_seconds, duration=ten_seconds.duration, call_extra=timedelta(seconds=50)),
        call("justcall", "beyond", ago=3 * HOUR, audio=ten_seconds, duration=timedelta(seconds=5)),
        call("justcall", "fraction", ago=4 * HOUR, audio=ten_seconds, duration=HOUR),
    ]
    async with rig("justcall", tmp_path, sqlite_url, recordings=held) as it:
        assert await it.poll()
        await it.settle()
        doubted = {row["provider_recording_id"] for row in it.rows() if row["flags"] == {Flag.DURATION_MISMATCH}}
        assert doubted == {"beyond", "fraction"}
        assert len([seen for seen in it.simulator.seen(Route.MEDIA) if seen.status in (200, 206)]) == 3 + 2
        assert it.digests() == it.truth()


async def test_duration_off_and_another_answer_the_second_time_keeps_both(tmp_path: Path, sqlite_url: str) -> None:
    """Which of the two is the recording is not ours to choose."""
    first, second = (sounds(name)[0].data for name in ("plivo-48k-stereo-22050", "kazoo-vbr-mono-8000"))
    off = call("plivo", "off", duration=timedelta(minutes=5))
    async with rig("plivo", tmp_path, sqlite_url, recordings=[off]) as it:
        it.simulator.fail(Route.MEDIA, InTurn([first, second]), times=None)
        assert await it.poll()
        await it.settle()
        assert it.digests() == sorted(hashlib.sha256(body).hexdigest() for body in (first, second))
        assert all(Flag.ID_CONFLICT in row["flags"] for row in it.rows())


# --- different bytes each time ------------------------------------------------------------------------------------


async def test_provider_serves_different_bytes_denoised_and_original_are_both_archived(
    tmp_path: Path, sqlite_url: str
) -> None:
    """`type=original` is fetched too where configured: a variant of its own, with its own bytes."""
    raw = sounds("kazoo-vbr-mono-8000")[0]
    held = [
        call("plivo", name, ago=n * HOUR, original=raw, duration=raw.duration, audio=AUDIO)
        for n, name in enumerate("abc", 2)
    ]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, settings={"original": True}) as it:
        assert await it.poll()
        await it.settle()
        found = sorted((row["variant"], row["plaintext_sha256"]) for row in it.rows())
        assert found == [("", AUDIO.digest)] * 3 + [("original", raw.digest)] * 3
        assert {row["state"] for row in it.rows()} == {"archived"}


AUDIO = sounds("plivo-48k-stereo-22050")[0]


async def test_provider_serves_different_bytes_each_time_and_every_one_that_came_is_kept(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Doubtful and never twice the same: revisions, with an event that names both digests, and an end."""
    bodies = [wav(hashlib.shake_256(str(n).encode()).digest(16_000)) for n in range(12)]
    held = [call("plivo", "one", duration=timedelta(minutes=5))]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held) as it:
        it.simulator.fail(Route.MEDIA, InTurn(list(bodies)), times=None)
        assert await it.poll()
        await it.settle()
        rows = it.rows()
        assert len(rows) >= 2
        assert {row["state"] for row in rows} == {"archived"}
        sent = {hashlib.sha256(body).hexdigest() for body in bodies}
        assert set(it.digests()) <= sent
        assert len(set(it.digests())) == len(rows) < 14
        differs = [event for row in rows for event in it.events(row, "anomaly.content_differs")]
        assert differs
        assert all(event.data["expected_pt_sha256"] != event.data["seen_pt_sha256"] for event in differs)


# --- names, addresses and certificates ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def doors(ca: Authority, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Where a link may lead to, by what is wrong there."""
    (tmp_path / "other").mkdir()
    stranger = authority(tmp_path / "other")
    contexts = {
        "expired": ca.context(days=-1),
        "wrong host": ca.context(names=("evil.example",)),
        "wrong address": ca.context(names=("127.0.0.2",)),
        "self-signed": ca.context(self_signed=True),
        "unknown authority": stranger.context(),
        "tls 1.0": tls_1_0(ca),
        "sound": ca.context(),
    }
    said = says(answer(200, VOICE.data, "Content-Type: audio/mpeg"))
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(serve(said, tls=each)) for name, each in contexts.items()}
        plain = await stack.enter_async_context(serve(said))
        mute = await stack.enter_async_context(speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        yield {name: server.origin for name, server in servers.items()} | {
            "plain http on the tls port": f"https://127.0.0.1:{mute}",
            "nxdomain": f"http://nx.example.com:{plain.port}",
            "servfail": f"http://servfail.example.com:{plain.port}",
            "slow dns": f"http://slow.example.com:{plain.port}",
            "ipv6 blackhole": f"http://blackhole.example.com:{plain.port}",
            "ipv6 blackhole beside ipv4": f"http://both.example.com:{plain.port}",
        }


TLS = ("expired", "wrong host", "wrong address", "self-signed", "unknown authority", "plain http on the tls port")
DNS = ("nxdomain", "servfail")
SOUND = ("sound", "ipv6 blackhole beside ipv4")


async def test_dns_tls_and_ipv6_faults_fail_closed_and_are_retried(
    doors: dict[str, str], ca: Authority, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NXDOMAIN, SERVFAIL, slow, blackhole; expired, wrong host, self-signed, TLS 1.0: no bytes taken, no attempt spent."""
    resolve(monkeypatch, _names)
    _slow_names(monkeypatch)
    links = {name: f"{origin}/a.mp3?sig=CANARY" for name, origin in doors.items()}
    held = [call("plivo", name, extra={"recording_url": link}) for name, link in links.items()]
    hosts = [origin.partition("://")[2] for origin in doors.values()]
    trusts = {"ca_bundle": ca.bundle}
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, hosts=hosts, limits=QUICK, client=trusts) as it:
        assert await it.poll()
        await it.work()
        rows = ask_for_all(it)
        for name, row in rows.items():
            if name in SOUND:
                assert (row["state"], row["plaintext_sha256"]) == ("archived", VOICE.digest), (name, row["last_error"])
                continue
            assert (row["state"], row["attempts"], row["plaintext_sha256"]) == ("waiting", 0, None), name
            assert row["next_attempt_at"] is not None
            assert "CANARY" not in row["last_error"]
            if name in TLS:
                assert "TLS" in row["last_error"], name
            if name in DNS:
                assert "could not be resolved" in row["last_error"], name
        assert it.codes.count("tls") == len(TLS)
        assert it.codes.count("dns") == len(DNS)
        assert it.spool_is_empty()


def _names(host: str) -> list[str]:
    if host == "servfail.example.com":
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    table = {
        "blackhole.example.com": ["fd12::1"],
        "both.example.com": ["fd12::1", "127.0.0.1"],
        "slow.example.com": ["127.0.0.1"],
    }
    return table.get(host, [] if host.startswith("nx.") else [host])


def _slow_names(monkeypatch: pytest.MonkeyPatch) -> None:
    quick: Any = Names.addresses

    async def addresses(names: Names, host: str, *more: Any) -> Any:
        if host == "slow.example.com":
            await asyncio.sleep(5)  # slow on purpose
        return await quick(names, host, *more)

    monkeypatch.setattr(Names, "addresses", addresses)
