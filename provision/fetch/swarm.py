"""Who reads which bytes of one file right now: leases, work stealing, and the moment everything is here. Thread-safe."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from provision.fetch.pieces import Ledger, Part, Span
from provision.fetch.wire import Connection
from provision.units import KIB

REQUEST_S = 4.0
"""How much time one request should be worth while there is plenty to do."""
ROUND_TRIPS = 10
"""Near the end a request should still last so many times as long as its answer takes to begin."""
MAX_RUN_PIECES = 64
FIRST_RUN_PIECES = 16
"""The first request of a connection, whose speed nobody knows."""
FRONT_S = 20.0
"""A connection that needs longer than this for the lowest missing bytes is relieved of them: the hash waits for them."""
MIN_STEAL_BYTES = 512 * KIB
_SHARES = 8
"""Into how many requests a piece falls where readers share it."""
GRACE_S = 1.0
"""A request younger than this says nothing about its speed yet."""


@dataclass(slots=True, eq=False)
class Lease:
    """Bytes lent to one connection: it has reserved up to `pos` and may go on to `stop`, which a thief may lower."""

    start: int
    stop: int
    origin: str
    began_s: float
    pos: int = 0
    landed_s: float = 0.0
    """When bytes last arrived, or the request was sent."""
    connection: Connection | None = None

    def __post_init__(self) -> None:
        self.pos = self.start
        self.landed_s = self.began_s

    @property
    def left(self) -> int:
        return self.stop - self.pos

    def rate(self, now: float) -> float:
        return (self.pos - self.start) / max(0.05, now - self.began_s)

    def left_s(self, now: float) -> float:
        """Expected time to the end; silence counts as slowness."""
        return self.left / max(1.0, self.rate(now))


def choose_victim(leases: Iterable[Lease], *, now: float, thief_rate: float) -> tuple[Lease, int] | None:
    """Whom an idle connection relieves, and from which byte on. None when stealing would not bring the end nearer.

    From a reader that is far slower than the thief, or too near its end to share, everything is taken; otherwise the rest is
    split in proportion to the two speeds.
    """
    grown = [lease for lease in leases if now - lease.began_s >= GRACE_S]
    worst = max(grown, key=lambda lease: lease.left_s(now), default=None)
    if worst is None or worst.left <= 0:
        return None
    rate = worst.rate(now)
    thief = max(thief_rate, rate, 1.0)
    if now - worst.landed_s > 2.0 or rate < thief / 4:
        # A duplicate request costs a round trip; leave alone what would be done before it could help.
        return (worst, worst.pos) if worst.left_s(now) > 1.0 else None
    if worst.left < 2 * MIN_STEAL_BYTES or worst.left_s(now) < 1.0:
        return None
    kept = int(worst.left * rate / (rate + thief))
    return worst, worst.pos + max(MIN_STEAL_BYTES, kept)


def run_pieces(missing: int, *, connections: int, rate: float, latency_s: float) -> int:
    """For how many pieces the next request should ask while `missing` are not here. `rate` in pieces per second, 0.0: unknown.

    Two thirds of a fair share, so that runs become shorter, all connections finish together and the hash stays close; but not
    so short that waiting for answers (`latency_s` each) costs more than an uneven end.
    """
    worth = math.ceil(rate * REQUEST_S) if rate else FIRST_RUN_PIECES
    share, fair = 2 * missing // (3 * connections), -(-missing // connections)
    least = math.ceil(rate * ROUND_TRIPS * latency_s)
    return max(1, min(MAX_RUN_PIECES, worth, max(share, min(least, fair))))


@dataclass(slots=True)
class Swarm:
    """The shared state of one transfer. `on_piece(index, origins)` is called under the lock for each piece now whole."""

    ledger: Ledger
    clock: Callable[[], float]
    on_piece: Callable[[int, frozenset[str]], None]
    state: threading.Condition = field(default_factory=threading.Condition)
    in_order: bool = False
    """Readers share a piece rather than have one each: few pieces are begun at a time, and whole ones are what a stop keeps."""
    stopped: bool = False
    fatal: BaseException | None = None
    leases: list[Lease] = field(default_factory=list)
    received_bytes: int = 0
    touched: dict[int, set[str]] = field(default_factory=dict)
    """Of each piece that is begun and not whole: who delivered what is here of it."""

    @property
    def over(self) -> bool:
        return self.stopped or self.fatal is not None or self.ledger.complete

    def front(self) -> int:
        with self.state:
            return self.ledger.front()

    def written_bytes(self) -> int:
        with self.state:
            return self.ledger.written_bytes()

    def parts(self) -> dict[int, Part]:
        """What is on disk of each piece that is not whole."""
        with self.state:
            filled = self.ledger.filled()
            return {index: Part(spans=spans, sources=frozenset(self.touched[index])) for index, spans in filled.items()}

    def lend(self, origin: str, *, rate: float, connections: int, latency_s: float = 0.0) -> Lease | None:
        """The next bytes for a connection of `rate` bytes/s; stolen ones when nothing is free. None: nothing to do now."""
        now = self.clock()
        with self.state:
            if self.over:
                return None
            span = self._relieve_front(now, rate)
            if span is None:
                piece = self.ledger.piece_bytes
                missing = -(-(self.ledger.size_bytes - self.ledger.written_bytes()) // piece)
                pieces = run_pieces(missing, connections=connections, rate=rate / piece, latency_s=latency_s)
                span = self.ledger.take(piece // _SHARES if self.in_order else piece * pieces)
            if span is None:
                span = self._steal(choose_victim(self.leases, now=now, thief_rate=rate))
            if span is None:
                return None
            lease = Lease(start=span.start, stop=span.stop, origin=origin, began_s=now)
            self.leases.append(lease)
            return lease

    def lend_stream(self, origin: str) -> Lease:
        """A lease of nothing, for a stream that sweeps the whole file; `claim` widens it chunk by chunk."""
        with self.state:
            lease = Lease(start=0, stop=0, origin=origin, began_s=self.clock())
            self.leases.append(lease)
            return lease

    def claim(self, span: Span) -> list[Span]:
        with self.state:
            return self.ledger.claim(span)

    def reserve(self, lease: Lease, count: int) -> int:
        """How many of `count` bytes read at `lease.pos` may be written; they cannot be stolen any more."""
        with self.state:
            allowed = max(0, min(count, lease.left))
            lease.pos += allowed
            lease.landed_s = self.clock()
            return allowed

    def landed(self, span: Span, origin: str) -> None:
        """Bytes are on disk."""
        with self.state:
            self.received_bytes += len(span)
            first, last = span.start // self.ledger.piece_bytes, (span.stop - 1) // self.ledger.piece_bytes
            for index in range(first, last + 1):
                self.touched.setdefault(index, set()).add(origin)
            for index in self.ledger.wrote(span):
                self.on_piece(index, frozenset(self.touched.pop(index)))
            if self.ledger.complete:
                self.state.notify_all()

    def release(self, lease: Lease) -> None:
        """The reader is done or has failed; what it did not reserve becomes free."""
        with self.state:
            if lease in self.leases:
                self.leases.remove(lease)
            if lease.left > 0:
                self.ledger.give_back(Span(start=lease.pos, stop=lease.stop))
            self.state.notify_all()

    def stop(self, fatal: BaseException | None = None) -> None:
        """End the transfer: every waiting read fails now."""
        with self.state:
            self.stopped = True
            if self.fatal is None:
                self.fatal = fatal
            for lease in self.leases:
                if lease.connection is not None:
                    lease.connection.abort()
            self.state.notify_all()

    def wait(self, timeout_s: float) -> None:
        with self.state:
            if not self.over:
                self.state.wait(timeout_s)

    def cut_silent(self, *, stall_s: float) -> list[str]:
        """Abort readers that have been silent for `stall_s`; returns their origins. The stall watchdog."""
        now = self.clock()
        with self.state:
            silent = [lease for lease in self.leases if lease.connection is not None and now - lease.landed_s > stall_s]
            for lease in silent:
                assert lease.connection is not None
                lease.landed_s = now
                lease.connection.abort()
            return [lease.origin for lease in silent]

    def _relieve_front(self, now: float, rate: float) -> Span | None:
        """The lowest missing bytes, when whoever reads them is far slower than this connection."""
        lowest = min(self.leases, key=lambda lease: lease.pos, default=None)
        if lowest is None or lowest.pos > self.ledger.front() + self.ledger.piece_bytes or lowest.left_s(now) < FRONT_S:
            return None
        chosen = choose_victim([lowest], now=now, thief_rate=rate)
        return self._steal(chosen) if chosen is not None and chosen[1] == lowest.pos else None

    def _steal(self, chosen: tuple[Lease, int] | None) -> Span | None:
        if chosen is None:
            return None
        victim, start = chosen
        span = Span(start=start, stop=victim.stop)
        victim.stop = start
        if victim.left == 0 and victim.connection is not None:
            victim.connection.abort()
        return span
