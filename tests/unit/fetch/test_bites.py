"""How much one read asks for: what sits in a buffer of ours is in no journal, and looks like silence to the watchdog."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from provision.fetch import transfer
from provision.fetch.transfer import TransferOptions
from provision.units import KIB, MIB


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def reader(clock: list[float], seconds: float) -> Any:
    def readinto(view: memoryview) -> int:
        clock[0] += seconds
        return len(view)

    return readinto


def worker() -> Any:
    return transfer._Worker(SimpleNamespace(options=TransferOptions(connections=8)), 0)  # type: ignore[arg-type]


def test_bytes_that_wait_in_the_kernel_say_nothing_of_the_line(clock: list[float]) -> None:
    one = worker()
    one._timed(reader(clock, 0.0), one._chunk_bytes())
    assert one._chunk_bytes() == 32 * KIB


def test_a_fast_line_is_read_in_large_bites_soon(clock: list[float]) -> None:
    one = worker()
    for _ in range(6):
        one._timed(reader(clock, 0.01), one._chunk_bytes())
    assert one._chunk_bytes() == MIB


def test_a_line_that_grew_slow_is_read_in_small_ones_again(clock: list[float]) -> None:
    one = worker()
    for seconds in (0.01, 0.01, 0.01, 0.5, 0.5, 0.5, 0.5):
        one._timed(reader(clock, seconds), one._chunk_bytes())
    assert one._chunk_bytes() == 16 * KIB
