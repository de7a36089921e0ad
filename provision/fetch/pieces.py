"""A file as half-open byte ranges: pieces that partition it, and the ledger of which bytes are here, lent or free. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, field

from provision.units import MIB

SMALL_PIECE_BYTES = 4 * MIB
LARGE_PIECE_BYTES = 8 * MIB
_LARGE_FILE_BYTES = 512 * MIB


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """The bytes from `start` up to but not including `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def http_range(span: Span) -> str:
    """The inclusive form HTTP wants: `bytes=0-8388607`. The only place where half-open ends."""
    if span.stop <= span.start:
        raise ValueError(f"an empty range cannot be asked for: {span}")
    return f"bytes={span.start}-{span.stop - 1}"


def piece_size_for(size_bytes: int) -> int:
    """4 MiB, or 8 MiB for files from 512 MiB on: small enough to lose little, large enough for few journal records."""
    return LARGE_PIECE_BYTES if size_bytes >= _LARGE_FILE_BYTES else SMALL_PIECE_BYTES


def piece_count(size_bytes: int, piece_bytes: int) -> int:
    return -(-size_bytes // piece_bytes)


def piece_span(index: int, *, size_bytes: int, piece_bytes: int) -> Span:
    """Where piece `index` lies; the last piece may be shorter. Pieces 0..count-1 partition the file."""
    start = index * piece_bytes
    return Span(start=start, stop=min(start + piece_bytes, size_bytes))


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same bytes as sorted, disjoint, non-adjacent spans."""
    merged: list[Span] = []
    for span in sorted(spans):
        if not len(span):
            continue
        if merged and span.start <= merged[-1].stop:
            merged[-1] = Span(start=merged[-1].start, stop=max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is here of a piece that is not whole: sorted, disjoint spans of the file, and the origins they came from."""

    spans: tuple[Span, ...]
    sources: frozenset[str]

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans)


@dataclass(slots=True)
class Ledger:
    """Which bytes of one file are free, and what of each piece has arrived. Not thread-safe: its owner locks.

    Every byte is free, lent to exactly one reader, or written. A reader that stops early gives the rest back.
    """

    size_bytes: int
    piece_bytes: int
    have: set[int] = field(default_factory=set)
    """Indices of whole pieces already on disk."""
    begun: InitVar[Iterable[Span]] = ()
    """What is already on disk of pieces that are not whole."""
    _free: list[Span] = field(default_factory=list)
    _filled: dict[int, list[Span]] = field(default_factory=dict)
    """Of each piece that is begun: what is on disk, sorted and disjoint."""
    _front: int = 0

    def __post_init__(self, begun: Iterable[Span]) -> None:
        self._free = merge(self.span(i) for i in range(self.count) if i not in self.have)
        for span in begun:
            for claimed in self.claim(span):
                self.wrote(claimed)

    @property
    def count(self) -> int:
        return piece_count(self.size_bytes, self.piece_bytes)

    @property
    def complete(self) -> bool:
        return len(self.have) == self.count

    @property
    def free_bytes(self) -> int:
        return sum(len(span) for span in self._free)

    def span(self, index: int) -> Span:
        return piece_span(index, size_bytes=self.size_bytes, piece_bytes=self.piece_bytes)

    def front(self) -> int:
        """Every byte before this offset is on disk."""
        while self._front in self.have:
            self._front += 1
        return min(self._front * self.piece_bytes, self.size_bytes)

    def take(self, most_bytes: int) -> Span | None:
        """Lend the lowest free bytes, at most `most_bytes`, ending on a piece boundary where that leaves anything."""
        if not self._free:
            return None
        first = self._free[0]
        stop = min(first.stop, first.start + most_bytes)
        if stop < first.stop:
            aligned = stop - stop % self.piece_bytes
            stop = aligned if aligned > first.start else stop
        self._replace_first(Span(start=stop, stop=first.stop))
        return Span(start=first.start, stop=stop)

    def claim(self, span: Span) -> list[Span]:
        """Lend those bytes of `span` that are free: for a stream that cannot be asked for a range."""
        claimed: list[Span] = []
        kept: list[Span] = []
        for free in self._free:
            start, stop = max(free.start, span.start), min(free.stop, span.stop)
            if start >= stop:
                kept.append(free)
                continue
            claimed.append(Span(start=start, stop=stop))
            kept += [Span(start=free.start, stop=start), Span(start=stop, stop=free.stop)]
        self._free = merge(kept)
        return claimed

    def give_back(self, span: Span) -> None:
        """Bytes lent and not written become free again."""
        self._free = merge([*self._free, span])

    def wrote(self, span: Span) -> list[int]:
        """Bytes that are now on disk; returns the pieces this completes."""
        completed: list[int] = []
        index = span.start // self.piece_bytes
        start = span.start
        while start < span.stop:
            stop = min(self.span(index).stop, span.stop)
            filled = merge([*self._filled.get(index, ()), Span(start=start, stop=stop)])
            if filled == [self.span(index)]:
                self._filled.pop(index, None)
                self.have.add(index)
                completed.append(index)
            else:
                self._filled[index] = filled
            start, index = stop, index + 1
        return completed

    def written_bytes(self) -> int:
        whole = sum(len(self.span(i)) for i in self._ragged()) + (len(self.have) - len(self._ragged())) * self.piece_bytes
        return whole + sum(len(span) for spans in self._filled.values() for span in spans)

    def filled(self) -> dict[int, tuple[Span, ...]]:
        """What is on disk of each piece that is begun and not whole."""
        return {index: tuple(spans) for index, spans in self._filled.items()}

    def drop(self, indices: Iterable[int]) -> None:
        """Forget pieces that turned out wrong; they must be fetched again."""
        for index in indices:
            self.have.discard(index)
            self._filled.pop(index, None)
            self._free.append(self.span(index))
            self._front = min(self._front, index)
        self._free = merge(self._free)

    def _ragged(self) -> tuple[int, ...]:
        last = self.count - 1
        return (last,) if last in self.have else ()

    def _replace_first(self, rest: Span) -> None:
        if len(rest):
            self._free[0] = rest
        else:
            del self._free[0]


def spans_of(indices: Iterable[int], *, size_bytes: int, piece_bytes: int) -> Iterator[Span]:
    """The merged spans of some pieces, lowest first."""
    yield from merge(piece_span(i, size_bytes=size_bytes, piece_bytes=piece_bytes) for i in indices)
