from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.addresses import HostRule, Url, is_allowed, parse_network, unmapped
from service.settings import Settings, SettingsError

PUBLIC = """
1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.1 198.17.255.255 198.20.0.0 223.255.255.255
2001:4860:4860::8888 2606:4700::6810:84e5 2a00:1450:4001:80b::200e ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
NOT_PUBLIC = {
    "this network": "0.0.0.0 0.1.2.3 ::",
    "private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd00:ec2::254 fec0::1",
    "carrier-grade NAT": "100.64.0.1 100.100.100.200 100.127.255.255",
    "loopback": "127.0.0.1 127.255.255.254 ::1",
    "clouds": "168.63.129.16 169.254.169.254 192.0.0.192",
    "link-local": "169.254.0.1 fe80::1 fe80::1%eth0",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
    "benchmarks": "198.18.0.1 198.19.255.255 2001:2::1",
    "multicast": "224.0.0.1 239.255.255.255 ff02::1",
    "reserved": "192.0.0.1 240.0.0.1 255.255.255.255 100::1 2001:10::1 4000::1 5f00::1",
    "mapped": "::ffff:0.0.0.0 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:169.254.169.254",
    "compatible and translated": "::127.0.0.1 ::8.8.8.8 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8",
    "NAT64": "64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8",
    "6to4": "192.88.99.1 2002:7f00:1:: 2002:808:808::1",
    "Teredo": "2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2",
}


@pytest.mark.parametrize("text", PUBLIC.split())
def test_public_addresses_are_allowed(text: str):
    assert is_allowed(ip_address(text), ())


@pytest.mark.parametrize("kind", NOT_PUBLIC)
def test_other_addresses_are_not(kind: str):
    for text in NOT_PUBLIC[kind].split():
        assert not is_allowed(ip_address(text), ()), text


@settings(deadline=None)
@given(st.one_of(st.ip_addresses(), st.ip_addresses(network="2000::/3"), st.ip_addresses(network="2000::/12")))
def test_whatever_python_calls_not_global_is_not_allowed(address: IPv4Address | IPv6Address):
    inner = unmapped(address)
    if is_allowed(address, ()):
        assert inner.is_global
        assert not inner.is_multicast
        assert not inner.is_reserved or inner in parse_network("64:ff9b::/96")


@pytest.mark.parametrize(
    ("text", "networks", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], True),
        ("192.168.0.1", ["10.0.0.0/8"], False),
        ("64:ff9b::10.1.2.3", ["10.0.0.0/8"], False),  # through a gateway, into some other network
        ("64:ff9b::10.1.2.3", ["64:ff9b::/96"], True),
        ("fd00::1", ["10.0.0.0/8", "fd00::/8"], True),
        ("fd00::1", ["10.0.0.0/8"], False),
        ("127.0.0.1", ["::1/128"], False),
        ("::1", ["127.0.0.0/8"], False),
    ],
)
def test_networks_of_the_operator(text: str, networks: list[str], expected: bool):
    assert is_allowed(ip_address(text), [parse_network(network) for network in networks]) is expected


def test_a_mapped_address_is_connected_to_as_what_it_is():
    assert unmapped(ip_address("::ffff:127.0.0.1")) == ip_address("127.0.0.1")
    assert unmapped(ip_address("::1")) == ip_address("::1")


def read(parse: Callable[[str], Url], text: str) -> Url | None:
    try:
        return parse(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("HTTPS://Example.COM/Cat.jpg", "example.com", 443, "/Cat.jpg"),
        ("https://example.com:443/a", "example.com", 443, "/a"),
        ("https://example.com:8443/a?b=c%20d&e=f", "example.com", 8443, "/a?b=c%20d&e=f"),
        ("https://example.com?b=c", "example.com", 443, "/?b=c"),
        ("https://example.com/a#b", "example.com", 443, "/a"),
        ("https://example.com#@other.com/", "example.com", 443, "/"),
        ("https://example.com?@other.com/", "example.com", 443, "/?@other.com/"),
        ("https://example.com/@other.com", "example.com", 443, "/@other.com"),
        ("https://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de", 443, "/"),
        ("https://r3---sn-4g5e.example.com/", "r3---sn-4g5e.example.com", 443, "/"),
        ("https://127.0.0.1/", "127.0.0.1", 443, "/"),
        ("https://[::1]:8443/a", "::1", 8443, "/a"),
        ("https://[0:0:0:0:0:0:0:1]/a", "::1", 443, "/a"),
        ("https://[::FFFF:127.0.0.1]/a", "::ffff:7f00:1", 443, "/a"),
    ],
)
def test_urls(text: str, host: str, port: int, target: str):
    assert Url.parse(text) == Url(host, port, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/a",
        "//example.com/a",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://",
        "https:///",
        "https://:443/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@other.com/",
        "https://example.com:443@other.com/",
        "https://example.com\\@other.com/",
        "https:\\\\example.com/",
        "https://example.com/a\\b",
        "https://example.com:/",
        "https://example.com:0/",
        "https://example.com:0443/",
        "https://example.com:65536/",
        "https://example.com:+443/",
        "https://example.com:443:443/",
        "https://example.com:４４３/",
        "https://example.com./",
        "https://.example.com/",
        "https://example..com/",
        "https://-example.com/",
        "https://example-.com/",
        "https://exa_mple.com/",
        "https://exa%6dple.com/",
        "https://example.com%00.other.com/",
        "https://example.com%2fother.com/",
        "https://*.example.com/",
        f"https://{'a' * 64}.com/",
        f"https://{'.'.join(['a' * 60] * 5)}/",
        f"https://example.com/{'a' * 4096}",
        "https://ex\u0430mple.com/",  # a Cyrillic а
        "https://ｅxample.com/",
        "https://example。com/",
        "https://example.com／a",
        "https://ⓔxample.com/",
        "https://münchen.de/",
        "https://ſexample.com/",
        "https://\u212aexample.com/",  # a Kelvin sign
        "https://١٢٧.0.0.1/",
        "https://example.com/bild ü.jpg",
        " https://example.com/",
        "https://example.com/ ",
        "https://example.com/a b",
        "https://example.com/\r\nx: y",
        "https://example.com/a\tb",
        "https://exam\tple.com/",
        "https://exam\nple.com/",
        "https://example.com\n",
        "https://example.com/\x00",
        "https://example.com/\x7f",
        "https://2130706433/",
        "https://017700000001/",
        "https://0x7f000001/",
        "https://0X7F000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0x7f.1/",
        "https://0x7f.0.0.0x1/",
        "https://0177.0.0.1/",
        "https://127.0.0.01/",
        "https://127.0.0.1./",
        "https://127.0.0.256/",
        "https://127.0.0.0.1/",
        "https://1.2.3.4.5/",
        "https://example.127/",
        "https://example.0x/",
        "https://::1/",
        "https://[::1/",
        "https://::1]/",
        "https://[]/",
        "https://[127.0.0.1]/",
        "https://[::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1]example.com/",
        "https://[1::2::3]/",
        "https://[::ffff:127.1]/",
        "https://[v1.a]/",
        "https://[example.com]/",
    ],
)
def test_what_is_odd_is_no_url(text: str):
    assert read(Url.parse, text) is None


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://other.com/b", Url("other.com", 443, "/b")),
        ("//other.com/b", Url("other.com", 443, "/b")),
        ("/b", Url("example.com", 8443, "/b")),
        ("b?c", Url("example.com", 8443, "/d/b?c")),
        ("../b", Url("example.com", 8443, "/b")),
        ("?c", Url("example.com", 8443, "/d/a?c")),
        ("http://example.com:8443/b", None),
        ("//user@example.com:8443/b", None),
        ("\\\\other.com/b", None),
        ("/\t/other.com/b", None),
        ("https://[other.com/b", None),
        ("javascript:alert(1)", None),
        ("data:image/png;base64,AAAA", None),
    ],
)
def test_redirects(location: str, expected: Url | None):
    start = Url.parse("https://example.com:8443/d/a")
    assert read(start.join, location) == expected


@pytest.mark.parametrize(
    ("rule", "url", "expected"),
    [
        ("example.com", "https://example.com/", True),
        ("EXAMPLE.com", "https://example.COM/", True),
        ("example.com:443", "https://example.com/", True),
        ("example.com", "https://example.com:8443/", False),
        ("example.com", "https://www.example.com/", False),
        ("example.com", "https://example.com.other.com/", False),
        ("example.com", "https://notexample.com/", False),
        ("example.com:8443", "https://example.com:8443/", True),
        ("example.com:8443", "https://example.com/", False),
        ("*.example.com", "https://www.example.com/", True),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://notexample.com/", False),
        ("*.example.com:8443", "https://www.example.com:8443/", True),
        ("*.example.com:8443", "https://www.example.com/", False),
        ("10.0.0.1", "https://10.0.0.1/", True),
        ("[::1]:8443", "https://[0::1]:8443/", True),
        ("127.0.0.1", "https://[::ffff:127.0.0.1]/", False),
    ],
)
def test_rules(rule: str, url: str, expected: bool):
    assert HostRule.parse(rule).allows(Url.parse(url)) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url_hosts", "https://example.com"),
        ("url_hosts", "example.com/pictures"),
        ("url_hosts", "example.com, *"),
        ("url_hosts", "*."),
        ("url_hosts", "www.*.com"),
        ("url_hosts", "*example.com"),
        ("url_hosts", "*.10.0.0.1"),
        ("url_hosts", "127.1"),
        ("url_hosts", "example.com:99999"),
        ("url_hosts", "münchen.de"),
        ("url_hosts", "::1"),
        ("url_networks", "10.0.0.1/8"),
        ("url_networks", "10.0.0.0/8, fd00::/129"),
        ("url_networks", "intranet"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: str):
    wrong = value.rpartition(", ")[2]
    with pytest.raises(SettingsError) as refused:
        Settings.read({name: value})
    assert f"SIGHTWORD_{name.upper()}" in str(refused.value)
    assert repr(wrong) in str(refused.value)
