from __future__ import annotations

import pytest

from provision.fetch.pieces import Ledger, Part, Span, http_range, merge, piece_size_for
from provision.fetch.swarm import FIRST_RUN_PIECES, MAX_RUN_PIECES, Lease, Swarm, choose_victim, run_pieces
from provision.units import GIB, MIB


def test_http_ranges_are_inclusive() -> None:
    assert http_range(Span(start=0, stop=10)) == "bytes=0-9"
    with pytest.raises(ValueError, match="empty"):
        http_range(Span(start=5, stop=5))


def test_pieces_are_larger_for_larger_files() -> None:
    assert piece_size_for(100 * MIB) == 4 * MIB
    assert piece_size_for(GIB) == 8 * MIB


def test_merge_joins_neighbours() -> None:
    spans = [Span(start=5, stop=7), Span(start=0, stop=2), Span(start=2, stop=3), Span(start=9, stop=9)]
    assert merge(spans) == [Span(start=0, stop=3), Span(start=5, stop=7)]


def test_a_run_ends_on_a_piece_boundary() -> None:
    ledger = Ledger(size_bytes=100, piece_bytes=10, have={0})
    assert ledger.take(25) == Span(start=10, stop=30)
    assert ledger.take(5) == Span(start=30, stop=35)
    assert ledger.take(1000) == Span(start=35, stop=100)
    assert ledger.take(1) is None


def test_the_front_is_what_can_be_hashed() -> None:
    ledger = Ledger(size_bytes=25, piece_bytes=10)
    ledger.take(25)
    assert ledger.wrote(Span(start=10, stop=25)) == [1, 2]
    assert ledger.front() == 0
    assert ledger.wrote(Span(start=0, stop=10)) == [0]
    assert ledger.front() == 25
    assert ledger.complete


def test_what_an_earlier_run_began_is_not_lent_again() -> None:
    ledger = Ledger(size_bytes=25, piece_bytes=10, have={2}, begun=[Span(start=3, stop=6), Span(start=8, stop=10)])
    assert (ledger.free_bytes, ledger.written_bytes()) == (15, 10)
    assert ledger.filled() == {0: (Span(start=3, stop=6), Span(start=8, stop=10))}
    lent = [ledger.take(100), ledger.take(100), ledger.take(100)]
    assert lent == [Span(start=0, stop=3), Span(start=6, stop=8), Span(start=10, stop=20)]
    assert [ledger.wrote(span) for span in lent if span] == [[], [0], [1]]
    assert ledger.complete
    assert ledger.filled() == {}


def test_a_piece_of_two_runs_is_of_both_their_sources() -> None:
    whole: dict[int, frozenset[str]] = {}
    ledger = Ledger(size_bytes=10, piece_bytes=10, begun=[Span(start=0, stop=4)])
    swarm = Swarm(ledger=ledger, clock=lambda: 0.0, on_piece=whole.__setitem__, touched={0: {"a"}})
    swarm.landed(Span(start=4, stop=7), "b")
    assert swarm.parts() == {0: Part(spans=(Span(start=0, stop=7),), sources=frozenset({"a", "b"}))}
    swarm.landed(Span(start=7, stop=10), "b")
    assert (whole, swarm.parts()) == ({0: frozenset({"a", "b"})}, {})


def test_a_stream_claims_only_what_nobody_has() -> None:
    ledger = Ledger(size_bytes=100, piece_bytes=10, have={1})
    ledger.take(5)
    assert ledger.claim(Span(start=0, stop=40)) == [Span(start=5, stop=10), Span(start=20, stop=40)]
    assert ledger.free_bytes == 60


def lease(start: int, stop: int, *, read: int = 0, began_s: float = 0.0, landed_s: float = 10.0) -> Lease:
    one = Lease(start=start, stop=stop, origin="a", began_s=began_s)
    one.pos, one.landed_s = start + read, landed_s
    return one


def test_nobody_is_robbed_of_a_fresh_request() -> None:
    assert choose_victim([lease(0, 8 * MIB, began_s=9.5)], now=10.0, thief_rate=1e6) is None


def test_a_silent_connection_loses_everything() -> None:
    victim = lease(0, 8 * MIB, read=MIB, landed_s=5.0)
    assert choose_victim([victim], now=10.0, thief_rate=5e6) == (victim, MIB)


def test_equals_share_the_rest() -> None:
    victim = lease(0, 64 * MIB, read=32 * MIB)
    chosen = choose_victim([victim], now=10.0, thief_rate=3.2 * MIB)
    assert chosen is not None
    assert chosen[1] == pytest.approx(48 * MIB, rel=0.01)


def test_the_end_of_a_quick_reader_is_left_alone() -> None:
    assert choose_victim([lease(0, 64 * MIB, read=62 * MIB)], now=10.0, thief_rate=7e6) is None


def test_a_connection_of_unknown_speed_starts_with_a_modest_run() -> None:
    assert run_pieces(1000, connections=8, rate=0.0, latency_s=0.0) == FIRST_RUN_PIECES
    assert run_pieces(40, connections=8, rate=0.0, latency_s=0.0) == 3


def test_runs_last_seconds_and_shrink_towards_the_end() -> None:
    runs = [run_pieces(missing, connections=8, rate=5.0, latency_s=0.0) for missing in (5000, 200, 64, 16, 1)]
    assert runs == [20, 16, 5, 1, 1]
    assert run_pieces(100_000, connections=8, rate=1000.0, latency_s=0.0) == MAX_RUN_PIECES


def test_late_answers_make_the_last_runs_longer_but_not_unfair() -> None:
    assert run_pieces(64, connections=8, rate=5.0, latency_s=0.12) == 6
    assert run_pieces(64, connections=8, rate=5.0, latency_s=2.0) == 8


def test_the_lowest_bytes_are_taken_from_a_straggler_while_much_is_left() -> None:
    """The hash follows the front: one slow reader there must not leave all hashing for the end."""
    now = 0.0
    swarm = Swarm(
        ledger=Ledger(size_bytes=1000 * MIB, piece_bytes=MIB), clock=lambda: now, on_piece=lambda index, origins: None
    )
    slow = swarm.lend("a", rate=0.0, connections=2)
    assert slow is not None
    assert (slow.start, slow.stop) == (0, 16 * MIB)
    swarm.reserve(slow, MIB)
    swarm.landed(Span(start=0, stop=MIB), "a")
    now = 5.0
    swarm.reserve(slow, 1)
    swarm.landed(Span(start=MIB, stop=MIB + 1), "a")
    quick = swarm.lend("b", rate=20.0 * MIB, connections=2)
    assert quick is not None
    assert (quick.start, quick.stop) == (MIB + 1, 16 * MIB)
    further = swarm.lend("b", rate=20.0 * MIB, connections=2)
    assert further is not None
    assert further.start == 16 * MIB
