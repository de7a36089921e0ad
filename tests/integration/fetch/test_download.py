"""One file over real connections, with every way a server can go wrong: right bytes or the right error, nothing lost."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from provision.errors import IntegrityError, TransferError
from provision.events import Event, Note, Progress
from provision.fetch import growth
from provision.units import MIB
from tests.integration.fetch.conftest import Getter, noise
from tests.support.ranges import serve_ranges

pytestmark = pytest.mark.integration

CONTENT = noise(20 * MIB + 12345)


def blob_names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "hub/models--org--repo/blobs").iterdir())


def test_plain_download_lands_verified_with_nothing_left_over(get: Getter, tmp_path: Path) -> None:
    with serve_ranges(CONTENT) as server:
        done = get(CONTENT, server, connections=8)
        assert done.local_path.read_bytes() == CONTENT
        assert os.readlink(done.local_path) == f"../../blobs/{done.sha256}"
        assert done.action == "downloaded"
        assert done.transferred_bytes == len(CONTENT) == server.sent_bytes
        assert done.sources == {server.url: len(CONTENT)}
        assert blob_names(tmp_path) == [done.sha256]
        assert all(headers["Accept-Encoding"] == "identity" for headers in server.headers)


def test_second_time_asks_nobody(get: Getter) -> None:
    with serve_ranges(CONTENT) as server:
        get(CONTENT, server)
        before = len(server.requests)
        assert get(CONTENT, server).action == "kept"
        assert len(server.requests) == before


@pytest.mark.parametrize(
    "fault",
    ["status:503", "shifted", "cut:100000", "cut:0", "stall:70000"],
)
def test_a_fault_now_and_then_costs_nothing_but_time(get: Getter, fault: str) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: fault if number % 4 == 1 else None
        done = get(CONTENT, server)
        assert done.local_path.read_bytes() == CONTENT
        assert done.transferred_bytes == len(CONTENT)


@pytest.mark.parametrize("fault", ["status:503", "html", "cut:0"])
def test_a_source_that_is_always_wrong_is_given_up_with_exit_7(get: Getter, fault: str, tmp_path: Path) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: fault
        with pytest.raises(TransferError) as caught:
            get(CONTENT, server, patience_s=0.5)
        assert caught.value.code == "transfer-gave-up"
        assert server.url in caught.value.message
    assert all(name.endswith(".incomplete") for name in blob_names(tmp_path))


def test_when_range_is_ignored_one_stream_does_it(get: Getter) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: "whole"
        assert get(CONTENT, server).local_path.read_bytes() == CONTENT
        assert len(server.requests) == 1


@pytest.mark.slow
def test_an_interrupted_download_resumes_where_it_stopped(get: Getter) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: "status:503" if start else None
        with pytest.raises(TransferError):
            get(CONTENT, server, connections=1, patience_s=0.2)
        before = server.sent_bytes
        assert before >= 8 * MIB
        server.fault = lambda number, start, stop: None
        done = get(CONTENT, server, connections=1)
        assert done.action == "resumed"
        assert done.transferred_bytes <= len(CONTENT) - 8 * MIB
        assert done.local_path.read_bytes() == CONTENT


def test_slow_connections_are_relieved_of_their_work(get: Getter) -> None:
    content = noise(32 * MIB)
    with serve_ranges(content) as server:
        server.fault = lambda number, start, stop: "slow:200000" if number == 3 else None
        done = get(content, server, connections=4, stall_s=60.0)
        assert done.local_path.read_bytes() == content
        # Alone, the slow one would have needed 20 s for its piece of 4 MiB.
        assert server.sent_bytes < len(content) + 5 * MIB


@pytest.mark.parametrize(
    ("connections", "limit", "fault", "most"),
    [
        (None, None, None, growth.FIRST + growth.STEP),
        (None, None, "status:503", growth.FIRST),
        (None, 20_000_000, None, growth.FIRST),
        (8, None, None, 8),
    ],
    ids=["left out", "busy", "rate limit", "given"],
)
def test_connections_are_added_only_when_nobody_said_how_many_and_nothing_speaks_against_it(
    get: Getter,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    connections: int | None,
    limit: int | None,
    fault: str | None,
    most: int,
) -> None:
    monkeypatch.setattr(growth, "SETTLE_S", 0.2)
    monkeypatch.setattr(growth, "MEASURE_S", 0.3)
    monkeypatch.setattr(growth, "WORTH_S", 0.5)
    monkeypatch.setattr(growth, "MOST", growth.FIRST + growth.STEP)
    content = noise(48 * MIB)
    with serve_ranges(content, bytes_per_s=2_500_000) as server:
        server.fault = lambda number, start, stop: fault if number == 3 else None
        done = get(content, server, connections=connections, limit=limit)
        assert done.local_path.read_bytes() == content
    told = [int(event.note.split()[0]) for event in events if isinstance(event, Progress) and " connection" in event.note]
    assert max(told) == most


def test_a_flipped_bit_is_found_and_replaced_from_the_same_server(get: Getter, events: list[Event]) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: "flip" if number == 1 else None
        done = get(CONTENT, server)
        assert done.action == "repaired"
        assert done.local_path.read_bytes() == CONTENT


def test_with_one_source_the_search_for_a_bad_piece_ends_where_it_is_found(get: Getter, events: list[Event]) -> None:
    content = noise(40 * MIB)
    with serve_ranges(content, bytes_per_s=20_000_000) as server:
        server.fault = lambda number, start, stop: "flip" if number == 0 else None
        done = get(content, server, connections=2)
        assert done.action == "repaired"
        assert done.local_path.read_bytes() == content
        assert server.sent_bytes < 1.7 * len(content)
        assert any("1 wrong piece" in event.message for event in events if isinstance(event, Note))


def test_what_an_earlier_run_left_damaged_is_asked_for_first(get: Getter, tmp_path: Path) -> None:
    content = noise(24 * MIB)
    with serve_ranges(content) as server:
        server.fault = lambda number, start, stop: "status:503" if start else None
        with pytest.raises(TransferError):
            get(content, server, connections=1, patience_s=0.2)
        (partial,) = (tmp_path / "hub").rglob("*.provision.incomplete")
        with partial.open("r+b") as file:
            file.write(bytes([content[0] ^ 1]))
        here = server.sent_bytes
        server.fault = lambda number, start, stop: None
        done = get(content, server)
        assert done.action == "repaired"
        assert done.local_path.read_bytes() == content
        # The rest once, and of what was here before at most all of it again.
        assert server.sent_bytes <= len(content) + here + 2 * MIB


def test_nothing_is_fetched_more_than_twice(get: Getter) -> None:
    with serve_ranges(CONTENT) as one, serve_ranges(CONTENT) as two:
        with pytest.raises(IntegrityError):
            get(CONTENT, one, two, sha256="0" * 64)
        assert one.sent_bytes + two.sent_bytes <= 2 * len(CONTENT) + 8 * MIB


def test_a_lying_mirror_is_named_and_its_pieces_replaced(get: Getter, events: list[Event]) -> None:
    with serve_ranges(CONTENT) as honest, serve_ranges(CONTENT) as liar:
        liar.fault = lambda number, start, stop: "flip"
        done = get(CONTENT, honest, liar)
        assert done.action == "repaired"
        assert done.local_path.read_bytes() == CONTENT
        warnings = [event.message for event in events if isinstance(event, Note) and event.level == "warning"]
        assert any(liar.url in warning for warning in warnings)
        assert not any(honest.url in warning for warning in warnings)


def test_bytes_that_never_match_their_promise_get_no_name(get: Getter, tmp_path: Path) -> None:
    with serve_ranges(CONTENT) as server:
        with pytest.raises(IntegrityError) as caught:
            get(CONTENT, server, sha256="0" * 64)
        assert caught.value.code == "hash-mismatch"
    assert blob_names(tmp_path) == []


def test_a_dead_mirror_leaves_the_work_to_the_other(get: Getter) -> None:
    with serve_ranges(CONTENT) as alive, serve_ranges(CONTENT) as dead:
        dead.fault = lambda number, start, stop: "status:500"
        done = get(CONTENT, alive, dead)
        assert done.sources == {alive.url: len(CONTENT)}


@pytest.mark.slow
def test_two_mirrors_share_the_work(get: Getter) -> None:
    content = noise(48 * MIB)
    with serve_ranges(content, bytes_per_s=8_000_000) as one, serve_ranges(content, bytes_per_s=8_000_000) as two:
        done = get(content, one, two, connections=4)
        assert sum(done.sources.values()) == len(content)
        assert min(done.sources.values()) > len(content) // 4


def test_a_damaged_file_at_rest_is_replaced(get: Getter) -> None:
    with serve_ranges(CONTENT) as server:
        done = get(CONTENT, server)
        blob = done.local_path.resolve()
        blob.write_bytes(b"x" + CONTENT[1:])
        again = get(CONTENT, server)
        assert again.action == "repaired"
        assert again.local_path.read_bytes() == CONTENT


def test_the_rate_limit_holds(get: Getter) -> None:
    import time

    content = noise(3 * MIB)
    with serve_ranges(content) as server:
        began = time.monotonic()
        get(content, server, limit=2 * MIB)
        assert time.monotonic() - began >= 1.2


def test_an_empty_file_needs_no_server(get: Getter) -> None:
    with serve_ranges(b"") as server:
        assert get(b"", server).local_path.read_bytes() == b""
        assert server.requests == []


def test_threads_are_gone_afterwards(get: Getter) -> None:
    with serve_ranges(CONTENT) as server:
        get(CONTENT, server)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch-")]


def test_a_server_that_always_asks_for_time_is_given_up_and_named_meanwhile(get: Getter, events: list[Event]) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: "retry:1"
        began = time.monotonic()
        with pytest.raises(TransferError, match=r"HTTP 429; nothing came for .* asks for more time") as caught:
            get(CONTENT, server, patience_s=2.0)
        assert caught.value.code == "transfer-gave-up"
        assert time.monotonic() - began < 6
        assert len(server.requests) <= 5
        notes = [event.note for event in events if isinstance(event, Progress)]
        assert f"waiting 1 s of at most 3 s for {server.url.removeprefix('http://')}: HTTP 429" in notes


def test_a_wait_longer_than_patience_is_survived_once(get: Getter) -> None:
    with serve_ranges(CONTENT) as server:
        server.fault = lambda number, start, stop: "retry:3" if number == 0 else None
        assert get(CONTENT, server, patience_s=0.5).local_path.read_bytes() == CONTENT
