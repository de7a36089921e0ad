from __future__ import annotations

import pytest

from provision.errors import TransferError
from provision.fetch.redirects import next_target
from provision.fetch.wire import Target, origin_of

HUB = Target(url="https://hub.example/a/b", headers={"Authorization": "Bearer t"})


def test_the_token_stays_with_its_origin() -> None:
    assert next_target(HUB, "/c").headers == HUB.headers
    assert next_target(HUB, "https://hub.example/c").headers == HUB.headers
    for elsewhere in ("https://cdn.example/c", "https://hub.example:8443/c", "//cdn.example/x"):
        assert next_target(HUB, elsewhere).headers == {}


@pytest.mark.parametrize("location", ["", "http://hub.example/plain", "file:///etc/passwd", "ftp://hub.example/x"])
def test_a_redirect_must_lead_somewhere_safe(location: str) -> None:
    with pytest.raises(TransferError, match="redirect"):
        next_target(HUB, location)


def test_an_origin_shows_no_path_no_query_no_user() -> None:
    assert origin_of("https://me:secret@host:8443/path?sig=1") == "https://host:8443"
    assert origin_of("http://[::1]:80/x") == "http://[::1]:80"
