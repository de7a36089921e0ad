"""When a source that delivers nothing is given up, on a clock of our own."""

from __future__ import annotations

from itertools import repeat

import pytest

from provision.fetch.patience import Patience


def given_up_s(waits: list[float] | float | None, *, total_s: float = 60.0, takes_s: float = 0.0) -> float:
    """When it ends, if each try fails after `takes_s` and is told to wait so long."""
    patience, now = Patience(total_s), 0.0
    for wait_s in waits if isinstance(waits, list) else repeat(waits, 10_000):
        began_s, now = now, now + takes_s
        again_s = patience.failed(now, wait_s=wait_s, since_s=began_s)
        if again_s is None:
            return now
        assert again_s > now
        now = again_s
    raise AssertionError("never given up")


@pytest.mark.parametrize("wait_s", [0.0, 1.0, 10.0, 55.0, 300.0])
def test_whoever_asks_for_time_again_and_again_gets_it_once_on_top(wait_s: float) -> None:
    assert 60.0 - wait_s <= given_up_s(wait_s) <= 60.0 + wait_s


@pytest.mark.parametrize("waits", [[300.0], [56.0], [1.0, 200.0], [30.0, 30.0, 30.0]])
def test_a_window_of_a_rate_limit_is_survived(waits: list[float]) -> None:
    with pytest.raises(AssertionError, match="never given up"):
        given_up_s(waits)


def test_a_byte_makes_it_begin_anew() -> None:
    patience = Patience(60.0)
    for minute in range(20):
        assert patience.failed(60.0 * minute, wait_s=59.0) is not None
        patience.delivered()
        assert patience.waited_s(60.0 * minute) == 0.0


def test_plain_failures_end_with_patience_but_not_before_a_few_tries() -> None:
    assert 60.0 <= given_up_s(None) <= 75.0
    assert given_up_s(None, total_s=0.0) == 0.0
    assert 0.5 < given_up_s(None, total_s=0.6) < 2.5


def test_tries_that_take_long_count_with_all_their_time() -> None:
    assert given_up_s(None, takes_s=120.0) == 120.0
    assert given_up_s(None, takes_s=59.0) < 180.0
