"""Where requests really go (reliability §3.2, §4): redirects, addresses, credentials, certificates. Loopback doubles only."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import ConfigurationError, EgressRefusedError, TransientError, UnavailableError
from archiver.names import Names
from archiver.providers import egress
from archiver.providers.http import HttpClient
from tests.http_servers import (
    Asked,
    Authority,
    Script,
    Server,
    answer,
    authority,
    client,
    says,
    serve,
)

SECRETS = {"X-Auth-Token": "CANARY-1", "X-Auth-ID": "CANARY-2", "Authorization": "Basic CANARY-3"}


async def download(http: HttpClient, url: str, **options: Any) -> bytes:
    async with http.media(url, **options) as media:
        return b"".join([piece async for piece in media.chunks()])


def redirects(to: str, status: int = 302) -> Script:
    return says(answer(status, b"", f"Location: {to}", "Set-Cookie: s=CANARY"))


# --- redirects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_an_allowed_host_is_followed_without_its_cookie(status: int) -> None:
    async with (
        serve(says(answer(200, b"audio"))) as store,
        serve(redirects(f"{store.origin}/x?sig=1", status)) as api,
        client(api, f"127.0.0.1:{store.port}") as http,
    ):
        assert await download(http, f"{api.origin}/rec") == b"audio"
    assert store.asked[0].target == "/x?sig=1"
    assert "cookie" not in store.asked[0].headers


async def test_three_redirects_are_followed_and_the_fourth_is_not() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        left = int(asked.target.removeprefix("/"))
        writer.write(answer(302, b"", f"Location: /{left - 1}") if left else answer(200, b"audio"))

    async with serve(script) as server, client(server) as http:
        assert await download(http, f"{server.origin}/3") == b"audio"
        with pytest.raises(UnavailableError):
            await download(http, f"{server.origin}/4")
    assert len(server.asked) == 8


async def test_redirect_without_a_location_is_no_recording() -> None:
    async with serve(says(answer(302))) as server, client(server) as http:
        with pytest.raises(UnavailableError):
            await download(http, f"{server.origin}/rec")


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/?CANARY",
        "http://evil.example/?CANARY",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_CANARY",
        "http://user:CANARY@127.0.0.1/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:6379/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "//evil.example/x",
        "http://[",
    ],
)
async def test_redirect_off_the_allow_list_is_refused_before_anything_is_sent(location: str) -> None:
    async with serve(redirects(location)) as server, client(server) as http:
        with pytest.raises(EgressRefusedError) as refused:
            await download(http, f"{server.origin}/rec?sig=CANARY")
    assert "CANARY" not in str(refused.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_call_to_the_api_follows_no_redirect(status: int) -> None:
    async with (
        serve(says(answer(200, b"{}"))) as other,
        serve(redirects(f"{other.origin}/?CANARY", status)) as api,
        client(api, f"127.0.0.1:{other.port}") as http,
    ):
        with pytest.raises(TransientError) as refused:
            await http.request("GET", "/v1", endpoint="list", headers=SECRETS)
    assert other.connections == 0
    assert "CANARY" not in str(refused.value)
    assert str(status) in str(refused.value)


# --- credentials --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("name", [*SECRETS, "Cookie", "Proxy-Authorization"])
@pytest.mark.parametrize("passed_as", ["credentials", "headers"])
async def test_host_that_a_redirect_leads_to_sees_no_credential(hops: int, name: str, passed_as: str) -> None:
    async with serve(says(answer(200, b"audio"))) as canary:
        there = f"{canary.origin}/x"

        async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
            left = int(asked.target.removeprefix("/"))
            writer.write(answer(302, b"", f"Location: {there if left == 1 else f'/{left - 1}'}"))

        async with serve(script) as api, client(api, f"127.0.0.1:{canary.port}") as http:
            given = {passed_as: {name: "CANARY"}, "credential_origins": [api.origin]}
            assert await download(http, f"{api.origin}/{hops}", **given) == b"audio"
            assert all(b"CANARY" in asked.raw for asked in api.asked)
            assert len(api.asked) == hops
    assert canary.asked
    assert not any(b"CANARY" in asked.raw for asked in canary.asked)


async def test_credential_goes_to_its_origin_only_even_without_a_redirect() -> None:
    async with (
        serve(says(answer(200, b"audio"))) as store,
        serve(says(answer(200))) as api,
        client(api, f"127.0.0.1:{store.port}") as http,
    ):
        url = f"{store.origin}/x"
        await download(http, url, credentials=SECRETS, credential_origins=[api.origin])
        await download(http, url, credentials=SECRETS)
        await download(http, url, credentials=SECRETS, credential_origins=[f"https://127.0.0.1:{store.port}"])
        assert not any(b"CANARY" in asked.raw for asked in store.asked)
        await download(http, url, credentials=SECRETS, credential_origins=[store.origin.upper() + "/"])
        assert all(secret.encode() in store.asked[-1].raw for secret in SECRETS.values())


async def test_environment_gives_neither_proxy_nor_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login CANARY password CANARY\n")
    async with (
        serve(says(answer(200, b"proxy"))) as proxy,
        serve(says(answer(200, b"audio"))) as api,
        client(api) as http,
    ):
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.origin)
        assert await download(http, f"{api.origin}/rec") == b"audio"
        assert "authorization" not in api.asked[0].headers
        assert proxy.connections == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t"])
async def test_line_break_at_the_end_of_a_credential_is_dropped(end: str) -> None:
    async with serve(says(answer(200, b"{}"))) as server, client(server) as http:
        await http.request("GET", "/v1", endpoint="list", headers={"X-Auth-Token": f"secret{end}"})
        assert server.asked[0].headers["x-auth-token"] == "secret"


@pytest.mark.parametrize("value", ["CAN\nARY", "CAN\r\nX-Evil: ARY", "CAN\0ARY", "CANÄRY", "CAN\x7fARY"])
async def test_credential_that_no_header_may_hold_is_a_fault_of_configuration(value: str) -> None:
    async with serve(says(answer(200, b"{}"))) as server, client(server) as http:
        with pytest.raises(ConfigurationError) as refused:
            await http.request("GET", "/v1", endpoint="list", headers={"X-Auth-Token": value})
        assert "acme" in str(refused.value)
        assert "X-Auth-Token" in str(refused.value)
        assert "CAN" not in str(refused.value)
        assert server.connections == 0


# --- addresses ----------------------------------------------------------------------------------------------------


async def test_private_address_is_refused_at_connect_although_its_host_is_allowed() -> None:
    async with (
        serve(says(answer(200, b"audio"))) as server,
        client(server, "localhost", allow_private_addresses=False) as http,
    ):
        for url in (f"{server.origin}/rec", f"http://localhost:{server.port}/rec".replace(f":{server.port}", "")):
            with pytest.raises(EgressRefusedError) as refused:
                await download(http, url)
            assert "allow_private_addresses" in str(refused.value)
        with pytest.raises(EgressRefusedError):
            await http.request("GET", "/v1", endpoint="list")
    assert server.connections == 0


NEVER_HOSTS = [
    "169.254.169.254",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[::]",
]


@pytest.mark.parametrize("host", NEVER_HOSTS)
async def test_metadata_and_disguised_addresses_are_refused_even_if_listed_and_private_ones_allowed(host: str) -> None:
    async with serve(redirects(f"http://{host}/latest/meta-data/")) as server, client(server, host) as http:
        with pytest.raises(EgressRefusedError):
            await download(http, f"http://{host}/")
        with pytest.raises(EgressRefusedError):
            await download(http, f"{server.origin}/rec")


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "10.1.2.3", "192.168.0.1", "172.20.0.1", "100.64.1.1", "[::1]", "[fd12::1]", *NEVER_HOSTS]
)
async def test_redirect_into_the_private_network_is_refused_at_connect(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit_only_127_0_0_1(monkeypatch)
    async with (
        serve(redirects(f"http://{host}/")) as server,
        client(server, host, allow_private_addresses=False) as http,
    ):
        with pytest.raises(EgressRefusedError):
            await download(http, f"{server.origin}/rec")
        assert len(server.asked) == 1


def admit_only_127_0_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1, where the test's servers are, stands for the internet; every other address is judged as it is."""
    real = egress.address_problem

    def judge(address: str, *, allow_private: bool) -> str | None:
        return None if address == "127.0.0.1" else real(address, allow_private=allow_private)

    monkeypatch.setattr(egress, "address_problem", judge)


def resolve(monkeypatch: pytest.MonkeyPatch, table: Callable[[str], list[str]]) -> None:
    """Answer the clients' name look-ups from `table`."""

    async def addresses(_names: object, host: str, port: int, *_: object) -> list[Any]:
        found: list[Any] = []
        for address in table(host):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            rest = (0, 0) if family == socket.AF_INET6 else ()
            found.append((family, socket.IPPROTO_TCP, (address, port, *rest)))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    monkeypatch.setattr(Names, "addresses", addresses)


async def test_name_that_turns_private_after_the_check_is_refused_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the first answer is public, the next one is not; each connection is judged by its own address."""
    admit_only_127_0_0_1(monkeypatch)
    answers = iter([["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["10.1.2.3", "10.1.2.4", "fd12::1"]])
    resolve(monkeypatch, lambda _host: next(answers))
    async with serve(says(answer(200, b"audio"))) as server:
        url = f"http://media.example.com:{server.port}/rec"

        async def once() -> bytes:
            async with client(server, f"media.example.com:{server.port}", allow_private_addresses=False) as http:
                return await download(http, url)

        assert await once() == b"audio"
        for _ in range(4):
            with pytest.raises(EgressRefusedError):
                await once()
    assert server.connections == 1


async def test_public_address_is_used_although_a_private_one_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    admit_only_127_0_0_1(monkeypatch)
    resolve(monkeypatch, lambda _host: ["fd12::1", "10.1.2.3", "127.0.0.1"])
    async with (
        serve(says(answer(200, b"audio"))) as server,
        client(server, f"media.example.com:{server.port}", allow_private_addresses=False) as http,
    ):
        assert await download(http, f"http://media.example.com:{server.port}/rec") == b"audio"


async def test_unknown_name_can_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, lambda _host: [])
    codes: list[int | str] = []
    async with serve(says(answer(200))) as server:
        observe = lambda _endpoint, code, _seconds: codes.append(code)  # noqa: E731
        async with client(server, "media.example.com", observe=observe) as http:
            with pytest.raises(UnavailableError, match=r"media\.example\.com: its name could not be resolved"):
                await download(http, "http://media.example.com/rec?sig=CANARY")
    assert codes == ["dns"]


async def test_closed_port_can_be_retried() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with client(Server(port)) as http:
        with pytest.raises(UnavailableError, match="connection refused"):
            await http.request("GET", "/v1", endpoint="list")


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def over_tls(context: ssl.SSLContext, ca: Authority | None) -> tuple[bytes | Exception, int, list[int | str]]:
    codes: list[int | str] = []
    async with serve(says(answer(200, b"audio")), tls=context) as server:
        observe = lambda _endpoint, code, _seconds: codes.append(code)  # noqa: E731
        async with client(server, allow_http=False, ca_bundle=ca and ca.bundle, observe=observe) as http:
            try:
                return await download(http, f"{server.origin}/rec?sig=CANARY"), len(server.asked), codes
            except TransientError as exc:
                return exc, len(server.asked), codes


async def test_certificate_of_a_trusted_authority_for_this_host_is_accepted(ca: Authority) -> None:
    assert (await over_tls(ca.context(), ca))[0] == b"audio"


def tls_1_0(ca: Authority) -> ssl.SSLContext:
    context = ca.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize(
    ("make", "trusts"),
    [
        (lambda ca: ca.context(days=-1), True),
        (lambda ca: ca.context(names=("evil.example",)), True),
        (lambda ca: ca.context(names=("127.0.0.2",)), True),
        (lambda ca: ca.context(self_signed=True), True),
        (lambda ca: ca.context(), False),
        (tls_1_0, True),
    ],
    ids=["expired", "wrong-host", "wrong-address", "self-signed", "unknown-authority", "tls-1.0"],
)
async def test_bad_certificate_or_protocol_fails_closed(
    make: Callable[[Authority], ssl.SSLContext], trusts: bool, ca: Authority
) -> None:
    result, asked, codes = await over_tls(make(ca), ca if trusts else None)
    assert isinstance(result, UnavailableError)
    assert "CANARY" not in str(result)
    assert asked == 0
    if make is not tls_1_0:  # there the server hangs up without a word
        assert "TLS" in str(result)
        assert codes == ["tls"]


@asynccontextmanager
async def speaks(first_words: bytes) -> AsyncIterator[int]:
    """A listener that answers any connection with `first_words` and then waits for its end; gives its port."""
    ended: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(writer)
        writer.write(first_words)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
        for writer in ended:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def test_server_that_stalls_in_the_handshake_is_given_up() -> None:
    async with speaks(b"") as port, client(Server(port, "https"), allow_http=False) as http:
        started = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match="too long"):
            await http.request("GET", "/v1", endpoint="list")
        assert asyncio.get_running_loop().time() - started < 4


async def test_server_that_speaks_plain_http_on_the_tls_port_fails_closed() -> None:
    plain = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    async with speaks(plain) as port, client(Server(port, "https"), allow_http=False) as http:
        with pytest.raises(UnavailableError, match="TLS"):
            await http.request("GET", "/v1", endpoint="list")


async def test_redirect_from_https_to_http_is_refused(ca: Authority) -> None:
    async with (
        serve(says(answer(200, b"audio"))) as plain,
        serve(redirects(f"{plain.origin}/x"), tls=ca.context()) as secure,
        client(secure, f"127.0.0.1:{plain.port}", allow_http=False, ca_bundle=ca.bundle) as http,
    ):
        with pytest.raises(EgressRefusedError, match="allow_http"):
            await download(http, f"{secure.origin}/rec")
    assert plain.connections == 0


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
async def test_ca_bundle_that_cannot_be_used_stops_the_start(content: bytes | None, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(ConfigurationError, match="acme: ca_bundle"):
        async with client(Server(1, "https"), ca_bundle=bundle):
            pass
