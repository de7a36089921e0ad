"""Laws of the allocator behind compute buffers."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from provision.fit.arena import ALIGNMENT, Arena


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30), st.integers(0, 1000))
def test_nothing_overlaps_and_everything_comes_back(sizes: list[int], seed: int) -> None:
    chance, arena = Random(seed), Arena()
    places: dict[int, tuple[int, int]] = {}
    for index, size in enumerate(sizes):
        places[index] = (arena.take(size), -(-size // ALIGNMENT) * ALIGNMENT)
        if chance.random() < 0.4:
            arena.give(*places.pop(chance.choice(sorted(places))))
        spans = sorted((offset, offset + room) for offset, room in places.values() if room)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
    for offset, room in places.values():
        arena.give(offset, room)
    assert arena.take(1 << 40) == 0
