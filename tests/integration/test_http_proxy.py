"""Requests through an outbound proxy: it is told where to, never what; the egress policy judges the target as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.errors import ConfigurationError, EgressRefusedError, UnavailableError
from archiver.providers.http import Proxy
from archiver.recording import Secret
from tests.forwarding_proxy import forwarding_proxy
from tests.http_servers import answer, authority, client, says, serve
from tests.integration.test_http_egress import SECRETS, download, redirects, resolve


async def test_https_goes_through_the_proxy_by_connect_and_the_proxy_sees_neither_credentials_nor_content(
    tmp_path: Path,
) -> None:
    ca = authority(tmp_path)
    async with (
        forwarding_proxy("archiver:CANARY-P") as proxy,
        serve(says(answer(200, b"CANARY-A")), tls=ca.context()) as api,
        client(api, ca_bundle=ca.bundle, proxy=Proxy(proxy.url, "archiver", Secret("CANARY-P\n"))) as http,
    ):
        listed = await http.request("GET", "/v1", endpoint="list", headers=SECRETS)
        assert listed.body == b"CANARY-A"
        assert await download(http, f"{api.origin}/rec?sig=CANARY-Q") == b"CANARY-A"
        assert proxy.lines == [f"CONNECT 127.0.0.1:{api.port} HTTP/1.1"] * 2
        assert b"CANARY" not in proxy.shown
        assert all("proxy-authorization" not in asked.headers for asked in api.asked)
        assert all(value.encode() in api.asked[0].raw for value in SECRETS.values())


async def test_certificate_of_the_target_is_checked_through_the_proxy(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with (
        forwarding_proxy() as proxy,
        serve(says(answer(200)), tls=ca.context(self_signed=True)) as api,
        client(api, ca_bundle=ca.bundle, proxy=Proxy(proxy.url)) as http,
    ):
        with pytest.raises(UnavailableError, match="TLS"):
            await http.request("GET", "/v1", endpoint="list", headers=SECRETS)
        assert api.asked == []


async def test_http_goes_through_the_proxy_by_whole_urls() -> None:
    async with (
        forwarding_proxy() as proxy,
        serve(says(answer(200, b"audio"))) as api,
        client(api, proxy=Proxy(proxy.url)) as http,
    ):
        assert await download(http, f"{api.origin}/rec?a=b") == b"audio"
        assert proxy.lines == [f"GET {api.origin}/rec?a=b HTTP/1.1"]


@pytest.mark.parametrize("tls", [True, False])
async def test_proxy_that_refuses_our_credentials_is_said_to_do_so(tmp_path: Path, tls: bool) -> None:
    ca = authority(tmp_path)
    async with (
        forwarding_proxy("archiver:right") as proxy,
        serve(says(answer(200)), tls=ca.context() if tls else None) as api,
        client(api, ca_bundle=ca.bundle, proxy=Proxy(proxy.url, "archiver", Secret("wrong"))) as http,
    ):
        with pytest.raises(UnavailableError, match=r"407|proxy refuses our credentials"):
            await http.request("GET", "/v1", endpoint="list")
        with pytest.raises(UnavailableError, match=r"407|proxy refuses our credentials"):
            await download(http, f"{api.origin}/rec")
        assert api.connections == 0


async def test_proxy_that_cannot_be_reached_or_does_not_connect_is_unavailable(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with forwarding_proxy(refuses=502) as refusing, serve(says(answer(200)), tls=ca.context()) as api:
        async with client(api, ca_bundle=ca.bundle, proxy=Proxy(refusing.url)) as http:
            with pytest.raises(UnavailableError, match="the proxy answered 502"):
                await http.request("GET", "/v1", endpoint="list")
        async with client(api, ca_bundle=ca.bundle, proxy=Proxy("http://127.0.0.1:1")) as http:
            with pytest.raises(UnavailableError, match="proxy cannot be reached"):
                await http.request("GET", "/v1", endpoint="list")
    assert api.connections == 0


async def test_target_that_may_not_be_reached_is_refused_before_the_proxy_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with forwarding_proxy() as proxy, serve(redirects("https://10.1.2.3/rec")) as api:
        through = Proxy(proxy.url)
        async with client(api, allow_private_addresses=False, proxy=through) as http:
            with pytest.raises(EgressRefusedError, match="allow_private_addresses"):
                await http.request("GET", "/v1", endpoint="list")
        async with client(api, "169.254.169.254", proxy=through) as http:
            for url in ("http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/", "https://elsewhere.example/"):
                with pytest.raises(EgressRefusedError):
                    await download(http, url)
        assert proxy.lines == []
        async with client(api, proxy=through) as http:
            with pytest.raises(EgressRefusedError, match="redirected"):
                await download(http, f"{api.origin}/rec")
        assert len(proxy.lines) == 1
        resolve(monkeypatch, lambda _: ["10.9.9.9"])
        async with client(api, "media.example", allow_private_addresses=False, proxy=through) as http:
            with pytest.raises(EgressRefusedError, match=r"10\.0\.0\.0/8"):
                await download(http, "https://media.example/rec")
        assert len(proxy.lines) == 1


async def test_name_that_only_the_proxy_can_resolve_is_asked_for_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with forwarding_proxy(refuses=503) as proxy, serve(says(answer(200))) as api:
        async with client(api, "media.example", allow_private_addresses=False, proxy=Proxy(proxy.url)) as http:
            resolve(monkeypatch, lambda host: ["127.0.0.1"] if host == "127.0.0.1" else [])
            with pytest.raises(UnavailableError, match="503"):
                await download(http, "https://media.example/rec")
        assert proxy.lines == ["CONNECT media.example:443 HTTP/1.1"]


@pytest.mark.parametrize(("user", "password"), [("a:b", "c"), ("a", "b\nc"), ("a\r", "b\0")])
def test_proxy_credentials_that_no_header_may_hold_are_a_fault_of_configuration(user: str, password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"characters that no header may$"):
        Proxy("http://127.0.0.1:1", user, Secret(password)).options()


@pytest.mark.parametrize("tls", [True, False])
async def test_odd_answer_through_a_proxy_is_read_leniently_through_the_same_proxy(tmp_path: Path, tls: bool) -> None:
    ca = authority(tmp_path)
    odd = b"HTTP/1.1 200 OK\r\nX Y: 1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\naudio"
    async with (
        forwarding_proxy() as proxy,
        serve(says(odd, close=True), tls=ca.context() if tls else None) as api,
        client(api, ca_bundle=ca.bundle, proxy=Proxy(proxy.url)) as http,
    ):
        assert await download(http, f"{api.origin}/rec") == b"audio"
        assert len(proxy.lines) == len(api.asked) == 2
