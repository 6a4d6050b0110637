"""Where a provider's requests may go: the URL table, the address table, redirects on paper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import ConfigurationError, EgressRefusedError
from archiver.providers.egress import Policy, address_problem, api_path, origins, policy, take_apart


def rules(
    origin: str = "https://api.example.com", *media_hosts: str, allow_http: bool = False, allow_private: bool = False
) -> Policy:
    return policy("acme", origin, media_hosts, allow_http=allow_http, allow_private_addresses=allow_private)


STANDARD = rules(
    "https://api.example.com", "media.example.com", "*.cdn.example.com", "files.example.com:8443", "[::1]:9000"
)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1/x",
        "https://API.Example.COM/v1/x",
        "https://api.example.com./v1/x",
        "https://api.example.com:443/v1/x",
        "https://media.example.com/a.mp3?X-Amz-Signature=ab%2Fcd&Expires=1",
        "https://eu.cdn.example.com/a",
        "https://a.b.cdn.example.com/a",
        "https://files.example.com:8443/a",
        "  https://media.example.com/a.mp3\n",
        "https://media.example.com/a b/ü.mp3",
        "https://[::1]:9000/a",
        "https://[0:0:0:0:0:0:0:1]:9000/a",
    ],
)
def test_link_within_the_allow_list_may_be_asked(url: str) -> None:
    assert STANDARD.check(url).origin.scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        # scheme
        "http://api.example.com/v1/x",
        "http://media.example.com/a",
        "file:///etc/passwd",
        "file://media.example.com/etc/passwd",
        "gopher://media.example.com/_",
        "ftp://media.example.com/a",
        "data:audio/mpeg;base64,AAAA",
        "javascript:alert(1)",
        "media.example.com/a",
        "//media.example.com/a",
        "/relative",
        "",
        " ",
        # user information
        "https://user:pw@media.example.com/a",
        "https://user@media.example.com/a",
        "https://@media.example.com/a",
        "https://media.example.com@evil.example/a",
        "https://media.example.com%40evil.example/a",
        # port
        "https://media.example.com:22/a",
        "https://media.example.com:6379/a",
        "https://api.example.com:8443/a",
        "https://files.example.com/a",
        "https://files.example.com:8444/a",
        "https://media.example.com:0/a",
        "https://media.example.com:65536/a",
        "https://media.example.com:x/a",
        "https://media.example.com:-1/a",
        # host
        "https://evil.example/a",
        "https://example.com/a",
        "https://cdn.example.com/a",
        "https://evilcdn.example.com/a",
        "https://media.example.com.evil.example/a",
        "https://xmedia.example.com/a",
        "https://media.example.com\\@evil.example/a",
        "https://evil.example\\.cdn.example.com/a",
        "https://evil.example#.cdn.example.com/a",
        "https://evil.example?.cdn.example.com/a",
        "https://evil.example%2f.cdn.example.com/a",
        "https://evil.example%00.cdn.example.com/a",
        "https://media\u3002example.com/a",
        "https://ｍedia.example.com/a",
        "https:///a",
        "https://./a",
        "https://..cdn.example.com/a",
        "https://-.cdn.example.com:443:80/a",
        "https://[fe80::1%25eth0]/a",
        "https://[::1]/a",
        "https://[::ffff:127.0.0.1]:9000/a",
        "https://[::1/a",
        "https://127.0.0.1/a",
        "https://2130706433/a",
        "https://0x7f.1/a",
        "https://0x7f000001/a",
        "https://127.1/a",
        "https://0/a",
        "https://017700000001/a",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/a",
        # characters
        "https://media.example.com/a\r\nHost: evil.example",
        "https://med\tia.example.com/a",
        "https://media.example.com/\x00",
        "https://media.example.com/\ud800",
        "https://media.example.com/" + "a" * 9000,
    ],
)
def test_link_outside_the_allow_list_is_refused(url: str) -> None:
    with pytest.raises(EgressRefusedError):
        STANDARD.check(url)


def test_media_host_without_a_port_means_every_port_where_private_addresses_are_allowed() -> None:
    link = "https://media.example.com:9000/a.mp3"
    rules("https://api.example.com", "media.example.com", allow_private=True).check(link)
    for policy_ in (
        rules("https://api.example.com", "media.example.com"),
        rules("https://api.example.com", "media.example.com:9001", allow_private=True),
        rules("https://media.example.com", allow_private=True),
        rules("https://api.example.com", "*.example.com", allow_private=True),
    ):
        with pytest.raises(EgressRefusedError, match=r"media\.example\.com:9000 is not listed"):
            policy_.check(link)


def test_http_is_an_explicit_choice_of_the_operator() -> None:
    permitted = rules("http://kazoo.example.com:8000", allow_http=True)
    assert str(permitted.check("http://kazoo.example.com:8000/v2").origin) == "http://kazoo.example.com:8000"
    assert permitted.check("https://kazoo.example.com/v2").origin.port == 443


def test_refusal_names_the_host_and_never_the_path_or_query() -> None:
    with pytest.raises(EgressRefusedError) as refused:
        STANDARD.check("https://evil.example/secret-path?X-Amz-Signature=CANARY")
    assert "evil.example" in str(refused.value)
    assert "CANARY" not in str(refused.value)
    assert "secret-path" not in str(refused.value)


def test_signed_query_is_sent_exactly_as_it_was_signed() -> None:
    signed = "X-Amz-Credential=AK%2F20260101%2Fus-east-1&sig=a%2Bb/c+d=&x=%7e~!*'()"
    target = STANDARD.check(f"https://media.example.com/a%2Fb/../c%7E.mp3?{signed}#part")
    assert (target.path, target.query) == ("/a%2Fb/../c%7E.mp3", signed)


def test_target_does_not_show_its_signature() -> None:
    assert "CANARY" not in repr(STANDARD.check("https://media.example.com/CANARY?sig=CANARY"))


@pytest.mark.parametrize(
    ("location", "lands"),
    [
        ("/other?sig=1", "https://media.example.com"),
        ("?sig=2", "https://media.example.com"),
        ("//eu.cdn.example.com/x", "https://eu.cdn.example.com"),
        ("https://files.example.com:8443/x", "https://files.example.com:8443"),
    ],
)
def test_redirect_within_the_allow_list_is_followed(location: str, lands: str) -> None:
    here = STANDARD.check("https://media.example.com/a/b?sig=0")
    assert str(STANDARD.follow(here, location).origin) == lands


@pytest.mark.parametrize(
    "location",
    [
        "http://media.example.com/a",  # a downgrade
        "https://evil.example/a",
        "//evil.example/a",
        "\\\\evil.example\\a",
        "https://user:pw@media.example.com/a",
        "https://media.example.com:22/a",
        "file:///etc/passwd",
        "https://[::1",
        "https://169.254.169.254/",
        "javascript:alert(1)",
        "\x00",
    ],
)
def test_redirect_out_of_the_allow_list_is_refused(location: str) -> None:
    here = STANDARD.check("https://media.example.com/a/b?sig=CANARY")
    with pytest.raises(EgressRefusedError) as refused:
        STANDARD.follow(here, location)
    assert "CANARY" not in str(refused.value)


PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "10.0.0.8",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd12:3456::1",
]
NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
    "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "192.88.99.1", "3fff::1", "3fff:fff::1", "5f00::1",
    "0.0.0.0", "0.1.2.3", "::",
    "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "ff02::1", "fec0::1", "192.0.0.192",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254", "::7f00:1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1",
    "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.7", "2001:db8::1", "100::1", "not-an-address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_address_is_refused_unless_allowed(address: str) -> None:
    assert "allow_private_addresses" in (address_problem(address, allow_private=False) or "")
    assert address_problem(address, allow_private=True) is None


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("address", NEVER)
def test_link_local_disguised_and_reserved_addresses_are_refused_always(address: str, allow_private: bool) -> None:
    assert address_problem(address, allow_private=allow_private)


@pytest.mark.parametrize("address", ["8.8.8.8", "52.216.1.1", "2606:4700::1111", "2a00:1450:4001::1"])
def test_public_address_is_allowed(address: str) -> None:
    assert address_problem(address, allow_private=False) is None


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_gets_through_inside_an_ipv6_one(ip: object) -> None:
    for disguise in (f"::ffff:{ip}", f"64:ff9b::{ip}", f"64:ff9b:1::{ip}"):
        assert address_problem(disguise, allow_private=True)


@given(
    st.text(max_size=60),
    st.sampled_from(["https://", "https://media.example.com", "//", "", "https://x@", "https://["]),
)
def test_any_text_is_refused_or_lands_on_an_allowed_host(text: str, start: str) -> None:
    try:
        target = STANDARD.check(start + text)
    except EgressRefusedError:
        return
    assert any(pattern.matches(target.origin) for pattern in STANDARD.hosts)
    assert (target.path + target.query).isascii()
    assert (target.path + target.query).isprintable()
    assert " " not in target.path + target.query


@pytest.mark.parametrize(
    ("origin", "media_hosts", "says"),
    [
        ("http://api.example.com", [], "allow_http"),
        ("https://api.example.com/v1", [], "base_url"),
        ("https://api.example.com?x=1", [], "base_url"),
        ("https://user:pw@api.example.com", [], "user information"),
        ("ftp://api.example.com", [], "base_url"),
        ("api.example.com", [], "base_url"),
        ("https://api.example.com", ["*"], "'*'"),
        ("https://api.example.com", ["*.com"], "top-level"),
        ("https://api.example.com", ["https://media.example.com"], "media_hosts"),
        ("https://api.example.com", ["media.example.com/x"], "media_hosts"),
        ("https://api.example.com", ["media.example.com:"], "media_hosts"),
        ("https://api.example.com", ["media.example.com:port"], "media_hosts"),
        ("https://api.example.com", ["me dia"], "media_hosts"),
        ("https://api.example.com", [""], "media_hosts"),
        ("https://api.example.com", ["a.*.com"], "media_hosts"),
        ("https://api.example.com", ["user@media.example.com"], "media_hosts"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(origin: str, media_hosts: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        rules(origin, *media_hosts)
    assert says in str(refused.value)
    assert "acme" in str(refused.value)


@pytest.mark.parametrize(
    "path", ["/v1/x/../y", "/v1/.", "/v1/%2e%2e/x", "/v1/%2E./x", "v1", "/v1?x=1", "/v1#x", "/v1 x", "/v1/\n", "/ü", ""]
)
def test_path_that_a_server_may_read_differently_is_refused(path: str) -> None:
    with pytest.raises(EgressRefusedError):
        api_path(path)


@pytest.mark.parametrize(
    "path", ["/", "//evil.example/x", "/v1/Account/MA1/Recording/a%2Fb..c/", "/v2/accounts/…".replace("…", "a@b:c")]
)
def test_ordinary_path_stays_on_the_origin(path: str) -> None:
    assert api_path(path) == path  # joined to the origin by parts, so even a leading // names no host


def test_origins_are_compared_by_scheme_host_and_port() -> None:
    same = origins(["https://API.example.com", "https://api.example.com:443/"])
    assert same == {take_apart("https://api.example.com/x").origin}
    assert take_apart("http://api.example.com/x").origin not in same
    assert take_apart("https://api.example.com:8443/x").origin not in same
