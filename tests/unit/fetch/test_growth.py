"""How the number of connections grows, on a clock of our own."""

from __future__ import annotations

from collections.abc import Callable

from provision.fetch.growth import FIRST, MOST, STEP, Growth

PLENTY = 10**12


def run(
    speed: Callable[[int], float], *, seconds: float = 20.0, size: int = PLENTY, hindered_s: float | None = None
) -> list[int]:
    """The answers of a transfer whose speed depends on its connections, every tenth of a second."""
    growth, received, answers = Growth(), 0.0, [FIRST]
    for tick in range(int(seconds * 10)):
        now = tick / 10
        received = min(size, received + speed(answers[-1]) / 10)
        hindered = hindered_s is not None and now >= hindered_s
        answers.append(growth.wanted(now, received_bytes=int(received), missing_bytes=int(size - received), hindered=hindered))
    return answers


def test_each_connection_limited_grows_to_the_most() -> None:
    answers = run(lambda count: count * 20e6)
    assert sorted(set(answers)) == [FIRST, FIRST + STEP, MOST]
    assert answers.index(MOST) <= 45, "within five seconds"


def test_a_full_line_is_tried_once() -> None:
    assert set(run(lambda count: 50e6)) == {FIRST, FIRST + STEP}


def test_half_of_the_share_is_the_least() -> None:
    assert MOST not in run(lambda count: 20e6 * (8 + 0.4 * (count - 8)))
    assert MOST in run(lambda count: 20e6 * (8 + 0.7 * (count - 8)))


def test_a_file_that_ends_soon_gets_no_more() -> None:
    assert set(run(lambda count: count * 20e6, size=900_000_000)) == {FIRST}


def test_a_hindered_source_gets_no_more_ever() -> None:
    assert set(run(lambda count: count * 20e6, hindered_s=1.0)) == {FIRST}
    assert set(run(lambda count: count * 20e6, hindered_s=3.0)) == {FIRST, FIRST + STEP}


def test_a_standstill_is_no_measure() -> None:
    growth = Growth()
    for tenth in range(40):
        growth.wanted(tenth / 10, received_bytes=1, missing_bytes=PLENTY, hindered=False)
    assert (growth.connections, growth.over) == (FIRST, False)


def test_nothing_is_judged_before_anything_arrived() -> None:
    assert set(run(lambda count: 0.0)) == {FIRST}
