from __future__ import annotations

import pytest

from provision.errors import TransferError, UsageError
from provision.fetch.choose import command_of
from provision.fetch.types import FetchWish
from provision.hub.addresses import endpoint_of, redirected, shown
from provision.hub.origins import origin_of
from provision.models.refs import parse_ref

HUB = "https://hub.example/a/b"


@pytest.mark.parametrize(
    "location",
    [
        "",
        "file:///etc/passwd",
        "ftp://hub.example/x",
        "http://[::1/x",
        "http://[::g]/x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:0/x",
        "http://127.0.0.1:port/x",
        "http:///x",
        "http://..../x",
        f"http://{'a' * 64}.example/x",
        f"http://{'.'.join(['a' * 60] * 5)}/x",
        "http://ho st/x",
        "http://h\xe9st/x",
        "/a\tb",
        "/a\x00b",
        "/a\x7fb",
    ],
)
def test_what_a_server_cannot_mean_is_its_own_fault(location: str) -> None:
    with pytest.raises(TransferError) as caught:
        redirected(HUB, location)
    assert caught.value.code == "bad-redirect"
    assert caught.value.message.startswith("https://hub.example redirects")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/c", "https://hub.example/c"),
        ("c?x=1#part", "https://hub.example/a/c?x=1"),
        ("//cdn.example/x%20y?sig=%2F", "https://cdn.example/x%20y?sig=%2F"),
        ("/中.gguf".encode().decode("latin-1"), "https://hub.example/%E4%B8%AD.gguf"),
        ("/old \xe9.gguf", "https://hub.example/old%20%E9.gguf"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://xn--fiq.example./x", "https://xn--fiq.example./x"),
    ],
)
def test_where_a_redirect_leads(location: str, url: str) -> None:
    assert redirected(HUB, location) == url


def test_a_password_stays_with_its_origin() -> None:
    named = "https://me:secret@hub.example/a"
    assert redirected(named, "/c") == "https://me:secret@hub.example/c"
    assert redirected(named, "https://hub.example:443/c") == "https://me:secret@hub.example:443/c"
    assert redirected(named, "https://cdn.example/c") == "https://cdn.example/c"
    assert redirected(named, "https://you:own@cdn.example/c") == "https://cdn.example/c"
    assert redirected(HUB, "https://you:own@hub.example/c") == "https://hub.example/c"


@pytest.mark.parametrize(
    "text", ["", "hub.example", "http://..", f"http://{'a' * 64}", "http://h:99999", "http://[::1", "http://a\nb"]
)
def test_an_endpoint_that_cannot_be_asked_is_a_wrong_option(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        endpoint_of(text)
    assert caught.value.code == "bad-endpoint"


def test_an_endpoint_as_it_is_asked() -> None:
    assert endpoint_of(" https://hub.example/hf/ ") == "https://hub.example/hf"
    assert endpoint_of("http://[::1]:80/中") == "http://[::1]:80/%E4%B8%AD"
    assert endpoint_of("https://中文.example") == "https://中文.example"


def test_an_origin_of_nonsense_is_said_to_be_none() -> None:
    assert origin_of("http://[::1/x") == origin_of("http://h:99999/x") == "(no address)"


def test_a_command_to_copy_holds_no_password() -> None:
    assert shown("https://me:p@ss@hub.example/hf") == "https://NAME:PASSWORD@hub.example/hf"
    assert shown("https://hub.example/a@b") == "https://hub.example/a@b"
    command = command_of(parse_ref("o/r:Q8_0"), FetchWish(endpoints=("https://me:secret@hub.example",)))
    assert "secret" not in command.of("Q8_0")
