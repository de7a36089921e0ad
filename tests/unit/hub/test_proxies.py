from __future__ import annotations

import pytest

from provision.errors import UsageError
from provision.hub.proxies import Proxy, parse_proxy, proxy_for


def test_each_scheme_has_its_variable_and_all_proxy_is_the_rest() -> None:
    environ = {"HTTPS_PROXY": "http://p:3128", "ALL_PROXY": "socks5://s"}
    assert proxy_for("https://hub", environ) == Proxy(scheme="http", host="p", port=3128)
    assert proxy_for("http://hub", environ) == Proxy(scheme="socks5", host="s", port=1080)
    assert proxy_for("https://hub", {}) is None
    assert proxy_for("https://hub", {"https_proxy": " "}) is None


def test_lower_case_wins() -> None:
    assert proxy_for("https://h", {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2"}) == parse_proxy("http://b:2")


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("hub.example", "example", True),
        ("hub.example", ".example", True),
        ("hub.example", "*.example", True),
        ("notexample", "example", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("10.1.2.3", "127.0.0.0/8", False),
        ("[::1]", "::1", True),
        ("hub.example", "hub.example:443", True),
        ("hub.example", "hub.example:80", False),
        ("hub.example", "*", True),
        ("hub.example", " , ", False),
        ("HUB.example", "hub.EXAMPLE", True),
    ],
)
def test_no_proxy(host: str, no_proxy: str, direct: bool) -> None:
    environ = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": no_proxy}
    assert (proxy_for(f"https://{host}/x", environ) is None) is direct


def test_passwords_are_decoded_and_never_shown() -> None:
    proxy = parse_proxy("http://me:p%40ss@p:1")
    assert proxy.password == "p@ss"
    assert "p@ss" not in repr(proxy)


@pytest.mark.parametrize("text", ["ftp://p:1", "http://", "http://p:port", "quic://me:secret@p:1"])
def test_unusable_proxies_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_proxy(text)
    assert "secret" not in caught.value.message
