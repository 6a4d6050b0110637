"""Decides where a provider's requests may go: schemes, hosts, ports and addresses. Pure.

There are two checks, because each has holes that the other closes. `Policy.check` judges the URL before anything is
sent; `address_problem` judges the address that the socket is about to connect to, so that neither a DNS answer that
changes between the check and the use nor an odd spelling of an address gets past.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from archiver.errors import ConfigurationError, EgressRefusedError

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL = 8000
"""Characters of a link; signed links of the large clouds stay below 3,000."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# fmt: off
_NEVER = _networks(
    "169.254.0.0/16", "fe80::/10",                                        # link-local: cloud metadata lives here
    "fd00:ec2::/32", "100.100.100.200/32",                                # and here (AWS over IPv6, Alibaba)
    "168.63.129.16/32", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128",  # (Azure, Google, Oracle, Scaleway)
    "192.88.99.0/24", "3fff::/20", "5f00::/16",                           # 6to4 relays, documentation, segment routing
    "0.0.0.0/8", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8", "fec0::/10",
    "::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",  # an IPv4 address in disguise
)
_PRIVATE = _networks("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7")
# fmt: on


def address_problem(address: str, *, allow_private: bool) -> str | None:
    """Return the reason why no connection may be made to `address` (as in a socket address); None when one may.

    `allow_private` admits loopback, private (RFC 1918, RFC 4193) and carrier-grade NAT (RFC 6598) addresses, never
    link-local ones.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "it is no IP address"
    inside = [network for network in (*_PRIVATE, *_NEVER) if ip in network]
    if not inside:
        return None if ip.is_global else "it is in a reserved range"
    closest = max(inside, key=lambda network: network.prefixlen)
    if closest in _NEVER:
        return f"it is in {closest}, which is never allowed"
    return None if allow_private else f"it is in {closest} (allow_private_addresses is off)"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 6454): a credential belongs to one origin."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The host as it stands in a URL: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}" + (
            "" if DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart once, so that the URL that is checked is the URL that is sent. `path` and `query` are
    percent-encoded, as given."""

    origin: Origin
    path: str
    query: str

    def __repr__(self) -> str:
        return f"Target({self.origin}/…)"


@dataclass(frozen=True, slots=True)
class HostPattern:
    """An entry of `media_hosts`: `host`, `host:port`, or `*.suffix` for any name below a domain.

    An entry without a port stands for the two usual ports (80 and 443); with `any_port`, for every port, because
    services on private networks seldom use the usual ones.
    """

    host: str
    port: int | None
    below: bool
    any_port: bool = False

    def matches(self, origin: Origin) -> bool:
        host = origin.host.endswith(f".{self.host}") if self.below else origin.host == self.host
        usual = origin.port in DEFAULT_PORTS.values() if self.port is None else origin.port == self.port
        return host and (usual or self.any_port)


@dataclass(frozen=True, slots=True)
class Policy:
    """The hosts and addresses that one provider may reach. Built by `policy`; every method is pure."""

    provider: str
    origin: Origin
    hosts: tuple[HostPattern, ...]
    allow_http: bool
    allow_private_addresses: bool

    def check(self, url: str) -> Target:
        """Return `url` as a target that may be asked. Raises `EgressRefusedError`, which names the host but never path
        or query."""
        target = take_apart(url)
        origin = target.origin
        if origin.scheme == "http" and not self.allow_http:
            raise EgressRefusedError(f"{origin.host}: http is not allowed for {self.provider} (allow_http is off)")
        if not any(pattern.matches(origin) for pattern in self.hosts):
            place = (
                f"{origin.authority}:{origin.port}" if origin.port not in DEFAULT_PORTS.values() else origin.authority
            )
            raise EgressRefusedError(
                f"{origin} is not among the media_hosts of {self.provider} ({place} is not listed)"
            )
        return target

    def follow(self, here: Target, location: str) -> Target:
        """Return the target of a redirect from `here`, under the same rules. Raises `EgressRefusedError`."""
        base = f"{here.origin}{here.path}"
        try:
            joined = urljoin(base, _printable(location))
        except ValueError:
            raise EgressRefusedError(f"{here.origin.host} redirects to something that is no URL") from None
        try:
            return self.check(joined)
        except EgressRefusedError as exc:
            raise EgressRefusedError(f"redirected by {here.origin.host}: {exc.detail}") from None

    def address_problem(self, address: str) -> str | None:
        return address_problem(address, allow_private=self.allow_private_addresses)


def policy(
    provider: str, base_url: str, media_hosts: Sequence[str], *, allow_http: bool, allow_private_addresses: bool
) -> Policy:
    """Build the rules for one provider. Raises `ConfigurationError`, which names the provider and the entry at
    fault."""
    try:
        target = take_apart(base_url)
    except EgressRefusedError as exc:
        raise ConfigurationError(f"{provider}: base_url: {exc.detail}") from None
    if target.path != "/" or target.query:
        raise ConfigurationError(f"{provider}: base_url must end after the host; the documented path is added to it")
    if target.origin.scheme == "http" and not allow_http:
        raise ConfigurationError(f"{provider}: base_url is http and allow_http is off")
    own = (
        HostPattern(target.origin.host, None, below=False),
        HostPattern(target.origin.host, target.origin.port, below=False),
    )
    listed = [_pattern(provider, entry) for entry in media_hosts]
    named = (
        replace(each, any_port=allow_private_addresses and each.port is None and not each.below) for each in listed
    )
    hosts = (*own, *named)
    return Policy(provider, target.origin, hosts, allow_http, allow_private_addresses)


def origins(texts: Iterable[str]) -> frozenset[Origin]:
    """Return the origins of `texts` ("https://host", "http://host:port"). Raises `EgressRefusedError` for a text that
    is no origin."""
    return frozenset(take_apart(text).origin for text in texts)


def api_path(path: str) -> str:
    """Return `path`, if no server can read it as another path than meant. Raises `EgressRefusedError`.

    An id from a listing becomes part of a path; `..` in the id would turn the deletion of one recording into that of
    all.
    """
    segments = re.sub("%2e", ".", path, flags=re.IGNORECASE).split("/")
    if not _API_PATH.fullmatch(path) or "." in segments or ".." in segments:
        raise EgressRefusedError("the path of an API call holds a character or a segment that it may not")
    return path


_API_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_NUMBER_LIKE = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"


def take_apart(url: str) -> Target:
    """Split `url` into its parts. Path and query stay unchanged except for characters that no URL may hold (RFC 3986),
    which are percent-encoded. Raises `EgressRefusedError`."""
    text = _printable(url.strip())
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise EgressRefusedError("the link is no URL") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise EgressRefusedError("the link is neither https nor http")
    if "@" in parts.netloc:
        raise EgressRefusedError("the link holds user information")
    origin = Origin(parts.scheme, _host(parts.hostname or ""), DEFAULT_PORTS[parts.scheme] if port is None else port)
    return Target(origin, parts.path or "/", parts.query)


def _printable(text: str) -> str:
    if len(text) > MAX_URL:
        raise EgressRefusedError(f"the link is longer than {MAX_URL} characters")
    if _UNPRINTABLE.search(text):
        raise EgressRefusedError("the link holds control characters or backslashes")
    return quote(text, safe=_SAFE)


def _host(text: str) -> str:
    """Return a host name in lower case without the root's dot, or an IP address in canonical form."""
    host = text.lower().removesuffix(".")
    try:
        return ipaddress.ip_address(host).compressed if "%" not in host else _no_host()
    except ValueError:
        pass
    # some parsers (WHATWG URL) read a name that ends in a number as an IPv4 address: only its canonical form is taken
    return host if _HOST_NAME.fullmatch(host) and not _NUMBER_LIKE.fullmatch(host) else _no_host()


def _no_host() -> str:
    raise EgressRefusedError("the link's host is neither a host name nor an IP address")


def _pattern(provider: str, entry: str) -> HostPattern:
    below = entry.startswith("*.")
    try:
        parts = urlsplit(f"//{_printable(entry.removeprefix('*.'))}")
        host, port = _host(parts.hostname or ""), parts.port
    except (ValueError, EgressRefusedError):
        raise ConfigurationError(f"{provider}: media_hosts: {entry!r} is no host, host:port or *.suffix") from None
    if parts.netloc.endswith(":") or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(f"{provider}: media_hosts: {entry!r} holds more than a host and a port")
    if below and "." not in host:
        raise ConfigurationError(f"{provider}: media_hosts: {entry!r} would admit a whole top-level domain")
    return HostPattern(host, port, below)
