"""Turns: never more inside than there are permits, and a permit comes back however the work ends."""

from __future__ import annotations

import threading

import pytest

from provision.fetch.turns import Turns, turns_for, usable_cpus


def test_one_cpu_is_left_to_the_hash() -> None:
    assert [turns_for(cpus) for cpus in (1, 2, 3, 4, 5, 64)] == [1, 1, 2, 3, 4, 4]
    assert usable_cpus() >= 1


def test_never_more_inside_than_permits() -> None:
    turns, inside, most, guard = Turns(2), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with turns:
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == 0
    assert most <= 2


def test_a_turn_ends_with_an_error_too() -> None:
    turns = Turns(1)
    with pytest.raises(OSError, match="full"), turns:
        raise OSError("full")
    entered = threading.Event()

    def enter() -> None:
        with turns:
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(5)
