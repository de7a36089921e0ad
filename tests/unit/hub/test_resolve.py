import pytest

from provision.errors import TransferError
from provision.hub.http import Answer
from provision.hub.listing import _next_cursor
from provision.hub.resolve import expiry_of
from provision.hub.types import Resolved


@pytest.mark.parametrize(
    ("query", "when"),
    [
        ("X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600&X-Amz-Signature=s", 1767323045 + 3600),
        ("Expires=1767326645&Signature=s&Key-Pair-Id=k", 1767326645),
        ("se=2026-01-02T04%3A04%3A05Z&sig=s", 1767326645),
        ("", None),
        ("X-Amz-Expires=3600", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=3600", None),
        ("Expires=soon", None),
        ("Expires=" + "9" * 400, None),
    ],
)
def test_when_a_signed_address_dies(query: str, when: float | None) -> None:
    assert expiry_of(f"https://cdn.example/blob?{query}") == when


@pytest.mark.parametrize(
    ("link", "cursor"),
    [
        ('<https://h/api/models/a/b/tree/m?recursive=true&cursor=Zm9v%3D>; rel="next"', "Zm9v="),
        ("</tree?cursor=2>; rel=next", "2"),
        ('<https://h/a?cursor=1>; rel="prev", <https://h/a?cursor=3>; rel="next"', "3"),
        ('<https://h/a?cursor=1>; rel="prev"', None),
        ("<https://h/a>; rel=next", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_cursor_of_the_next_page(link: str, cursor: str | None) -> None:
    assert _next_cursor({"link": link}) == cursor


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"\xff\xfe{", b"nul"])
def test_what_is_no_json_is_no_hub(body: bytes) -> None:
    with pytest.raises(TransferError) as caught:
        Answer(url="https://hub.example/api?secret=1", status=200, headers={}, body=body).json()
    assert caught.value.code == "not-a-hub"
    assert "secret" not in caught.value.message


def test_reprs_show_no_secret() -> None:
    signed = "https://user:pw@cdn.example:8443/blob?X-Amz-Signature=secret"
    resolved = Resolved(url=signed, size_bytes=1, sha256=None, headers={"Authorization": "Bearer hf_secret"})
    answer = Answer(url=signed, status=200, headers={"set-cookie": "secret"}, body=b"secret")
    for text in (repr(resolved), repr(answer), str(resolved)):
        assert "secret" not in text
        assert "pw" not in text
    assert resolved.origin == "https://cdn.example:8443"
