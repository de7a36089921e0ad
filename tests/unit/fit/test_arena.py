"""ggml's allocator, as a compute buffer sees it."""

from __future__ import annotations

from provision.fit.arena import Arena, Tape

KIB = 1024


def test_the_smallest_hole_that_fits_is_taken_before_the_end() -> None:
    arena = Arena()
    places = [arena.take(size * KIB) for size in (4, 1, 2, 1)]
    arena.give(places[0], 4 * KIB)
    arena.give(places[2], 2 * KIB)
    assert arena.take(2 * KIB) == places[2]
    assert arena.take(3 * KIB) == places[0]
    assert arena.take(2 * KIB) == 8 * KIB
    assert arena.highest == 10 * KIB


def test_neighbouring_holes_join() -> None:
    arena = Arena()
    first, second, _ = (arena.take(KIB) for _ in range(3))
    arena.give(first, KIB)
    arena.give(second, KIB)
    assert arena.take(2 * KIB) == 0


def test_an_operation_may_write_over_what_nobody_reads_again() -> None:
    tape = Tape()
    x = tape.op(KIB, tape.input(KIB))
    y = tape.op(KIB, over=(x,))
    tape.use(y)
    assert tape.highest() == 2 * KIB


def test_what_is_read_later_or_seen_through_a_view_keeps_its_place() -> None:
    tape = Tape()
    x = tape.op(KIB, tape.input(KIB))
    y = tape.op(KIB, over=(x,))
    tape.op(KIB, x, y)
    # The input's place is free by then: the second tensor takes it, the third needs a new one.
    assert tape.highest() == 3 * KIB
    viewed = Tape()
    x = viewed.op(KIB, viewed.input(KIB))
    viewed.op(KIB, x)
    assert viewed.highest() == 2 * KIB


def test_results_stay() -> None:
    tape = Tape()
    x = tape.op(KIB)
    tape.keep(x)
    y = tape.op(KIB, over=(x,))
    tape.op(KIB, y)
    assert tape.highest() == 3 * KIB
