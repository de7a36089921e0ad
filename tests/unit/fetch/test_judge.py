from __future__ import annotations

import pytest

from provision.fetch.judge import Kind, backoff_s, judge, wait_of
from provision.fetch.pieces import Span

ASKED = Span(start=100, stop=200)
EXACT = {"content-range": "bytes 100-199/1000", "content-length": "100"}


def kind(status: int, headers: dict[str, str]) -> Kind:
    return judge(status, headers, asked=ASKED, size_bytes=1000).kind


def test_only_the_exact_range_is_accepted() -> None:
    assert kind(206, EXACT) is Kind.EXACT
    assert kind(206, {"content-range": "bytes 100-199/1000"}) is Kind.EXACT


@pytest.mark.parametrize(
    "change",
    [
        {"content-range": "bytes 101-200/1000"},
        {"content-range": "bytes 100-198/1000"},
        {"content-range": "bytes 100-199/1001"},
        {"content-range": "bytes 100-199/*"},
        {"content-range": "bytes */1000"},
        {"content-range": ""},
        {"content-range": "bytes 100-199/1000, bytes 100-199/1000"},
        {"content-length": "99"},
        {"content-length": "100, 100"},
        {"content-length": "-100"},
        {"content-encoding": "gzip"},
        {"content-type": "multipart/byteranges; boundary=x"},
    ],
)
def test_anything_else_is_wrong(change: dict[str, str]) -> None:
    assert kind(206, {**EXACT, **change}) is Kind.WRONG


def test_a_whole_file_is_told_from_a_login_page() -> None:
    assert kind(200, {"content-length": "1000"}) is Kind.WHOLE
    assert kind(200, {}) is Kind.WHOLE
    assert kind(200, {"content-type": "text/html"}) is Kind.WRONG
    assert kind(200, {"content-length": "812", "content-type": "text/html"}) is Kind.WRONG
    assert kind(200, {"content-length": "1000", "content-encoding": "br"}) is Kind.WRONG


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (302, Kind.MOVED),
        (401, Kind.EXPIRED),
        (403, Kind.EXPIRED),
        (410, Kind.EXPIRED),
        (429, Kind.BUSY),
        (503, Kind.BUSY),
        (204, Kind.WRONG),
        (416, Kind.WRONG),
        (100, Kind.WRONG),
    ],
)
def test_status_decides_what_comes_next(status: int, expected: Kind) -> None:
    assert kind(status, EXACT) is expected


def test_the_longer_wait_of_two_counts_and_has_an_end() -> None:
    assert wait_of({}) is None
    assert wait_of({"retry-after": "7"}) == 7
    assert wait_of({"ratelimit": '"resolvers";r=0;t=55', "retry-after": "7"}) == 56
    assert wait_of({"retry-after": "999999"}) == 300
    assert wait_of({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) is None


def test_back_off_doubles_up_to_a_ceiling_and_obeys_the_server() -> None:
    assert [backoff_s(n) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert backoff_s(50) == 15.0
    assert backoff_s(1, asked_s=42.0) == 42.0
