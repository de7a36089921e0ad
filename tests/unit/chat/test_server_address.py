"""Which addresses `serve --test` asks at all."""

from __future__ import annotations

import pytest

from provision.chat.server_checks import check_server
from provision.errors import UsageError

pytest.importorskip("openai")


@pytest.mark.parametrize("url", ["http://somebody:sesame@127.0.0.1:1/v1", "https://sesame@host", "file:///sesame@x", "sesame"])
def test_no_address_with_a_password_and_no_other_scheme(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_server(url, key=None)
    assert refused.value.code == "bad-url"
    if "://" in url and url.startswith("http"):
        assert "sesame" not in str(refused.value)
