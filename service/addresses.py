"""Which URLs, hosts and addresses pictures may come from.

Read strictly: what another parser, a resolver or a proxy could read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urljoin

HTTPS_PORT = 443
MAX_URL_CHARACTERS = 4096
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AUTHORITY = r"(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
_URL = re.compile(rf"https://{_AUTHORITY}(?P<target>(?:[/?][^#]*)?)(?:#.*)?", re.ASCII | re.IGNORECASE)
_RULE = re.compile(rf"(?P<subdomains>\*\.)?{_AUTHORITY}", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"[!-\[\]-~]*")  # no spaces, no control characters, nothing outside ASCII, no backslash

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# After the special-purpose registries of IANA. Not `is_global`: what it says changes with the version of Python.
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services, seen from its machines
        "169.254.0.0/16",  # link-local, where clouds keep their metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address inside
        "3fff::/20",  # documentation
    )
)
_IPV6_UNICAST = IPv6Network("2000::/3")  # everything else is local, multicast, reserved, or has an IPv4 address inside
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Url:
    """An https URL. `host` is a name in lower case or an address in its canonical form, without brackets."""

    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises ValueError for what is not plainly an https URL."""
        if len(text) > MAX_URL_CHARACTERS or not _PLAIN.fullmatch(text):
            raise ValueError(text)
        match = _URL.fullmatch(text)
        if match is None:
            raise ValueError(text)
        host, port = _host_and_port(match)
        target = match["target"]
        return cls(host, port, target if target.startswith("/") else f"/{target}")

    def join(self, location: str) -> Url:
        """Where a redirect from here leads to. Raises ValueError as `parse` does."""
        if not _PLAIN.fullmatch(location):  # urljoin would drop some of these characters without a word
            raise ValueError(location)
        return Url.parse(urljoin(f"https://{self.authority}{self.target}", location))

    @property
    def authority(self) -> str:
        """Host and port, as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostRule:
    """An entry of the list of hosts: example.com, example.com:8443, or *.example.com for what is below it."""

    host: str
    port: int
    subdomains: bool

    @classmethod
    def parse(cls, text: str) -> HostRule:
        """Raises ValueError with a sentence for the operator."""
        try:
            match = _RULE.fullmatch(text)
            if match is None:
                raise ValueError
            host, port = _host_and_port(match)
            if match["subdomains"] and literal(host):
                raise ValueError
        except ValueError:
            raise ValueError(f"{text!r} is not a host such as example.com, *.example.com or example.com:8443") from None
        return cls(host, port, bool(match["subdomains"]))

    def allows(self, url: Url) -> bool:
        """Whether this entry means the URL's host and port."""
        if url.port != self.port:
            return False
        return url.host.endswith(f".{self.host}") if self.subdomains else url.host == self.host


def parse_network(text: str) -> Network:
    """Raises ValueError with a sentence for the operator."""
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8 or fd00::/8") from None


def literal(host: str) -> Address | None:
    """The address that the host of a `Url` is, if it is not a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_allowed(address: Address, networks: Iterable[Network]) -> bool:
    """Whether this address, `unmapped`, is public or in one of these networks."""
    address = unmapped(address)
    return _is_public(address) or any(address in network for network in networks)


def unmapped(address: Address) -> Address:
    """The IPv4 address inside ::ffff:192.0.2.1, which is what the system would connect to; others as they are."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_public(address: Address) -> bool:
    if address in _NAT64:  # in a network without IPv4, the way to every host that has nothing else
        return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if isinstance(address, IPv6Address) and address not in _IPV6_UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _host_and_port(match: re.Match[str]) -> tuple[str, int]:
    host, port = match["host"].lower(), int(match["port"] or HTTPS_PORT)
    if host.startswith("["):
        host = str(IPv6Address(host[1:-1]))
    elif _NUMBER.fullmatch(host.rpartition(".")[2]):
        # Resolvers read 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 as addresses too. Four decimal numbers, nothing else.
        host = str(IPv4Address(host))
    elif not _NAME.fullmatch(host):
        raise ValueError(host)
    if port > 65535:
        raise ValueError(port)
    return host, port
