"""How large a compute buffer gets: ggml's own allocator run over a list of operations.

A compute buffer holds every intermediate tensor of one graph. ggml-alloc places them one after the other, gives a tensor's room
back after its last use and lets some operations write over their own operand; what counts is the highest address ever used,
holes included. This follows ggml/src/ggml-alloc.c of ggml 0.25.3 to the letter; what can be wrong is only the list of
operations.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

ALIGNMENT = 32
"""Bytes a tensor is padded to in a CPU buffer; GPUs pad to 64 to 256, which adds nothing to speak of."""


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Arena:
    """`ggml_dyn_tallocr` with one endless chunk: best fit among the holes, else the end."""

    def __init__(self) -> None:
        self._offsets = [0]
        self._sizes = [1 << 62]
        self.highest = 0

    def take(self, size: int) -> int:
        """Offset of `size` bytes."""
        size = _padded(size)
        best, smallest = len(self._sizes) - 1, None
        for index, room in enumerate(self._sizes[:-1]):
            if room >= size and (smallest is None or room <= smallest):
                best, smallest = index, room
        offset = self._offsets[best]
        self._offsets[best] += size
        self._sizes[best] -= size
        if not self._sizes[best]:
            del self._offsets[best], self._sizes[best]
        self.highest = max(self.highest, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        """Take `size` bytes at `offset` back, joined with the holes beside them."""
        size = _padded(size)
        if not size:
            return
        at = bisect_left(self._offsets, offset)
        self._offsets.insert(at, offset)
        self._sizes.insert(at, size)
        if at + 1 < len(self._offsets) and offset + size == self._offsets[at + 1]:
            self._sizes[at] += self._sizes[at + 1]
            del self._offsets[at + 1], self._sizes[at + 1]
        if at and self._offsets[at - 1] + self._sizes[at - 1] == offset:
            self._sizes[at - 1] += self._sizes[at]
            del self._offsets[at], self._sizes[at]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    result: int | None
    operands: tuple[int, ...]
    in_place: tuple[int, ...]


@dataclass(slots=True)
class Tape:
    """The operations of one graph in their order. Tensors are numbers; sizes are bytes."""

    sizes: list[int] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: set[int] = field(default_factory=set)
    steps: list[_Step] = field(default_factory=list)

    def input(self, size: int) -> int:
        """A tensor that is filled from outside: it has its place before anything is computed."""
        self.sizes.append(size)
        self.inputs.append(len(self.sizes) - 1)
        return self.inputs[-1]

    def op(self, size: int, *operands: int, over: Sequence[int] = ()) -> int:
        """A new tensor computed from `operands` and `over`; it may take the place of one of `over` that nobody needs any more.

        An operand seen through a view (reshaped, permuted, cut) never gives its place away: it belongs to `operands`.
        """
        self.sizes.append(size)
        self.steps.append(_Step(result=len(self.sizes) - 1, operands=(*over, *operands), in_place=tuple(over)))
        return len(self.sizes) - 1

    def use(self, *operands: int) -> None:
        """Something that writes elsewhere, such as into the cache, reads `operands`."""
        self.steps.append(_Step(result=None, operands=operands, in_place=()))

    def keep(self, tensor: int) -> None:
        """`tensor` is a result of the graph: it stays."""
        self.outputs.add(tensor)

    def highest(self) -> int:
        """Bytes of the buffer."""
        arena = Arena()
        uses = [0] * len(self.sizes)
        for step in self.steps:
            for operand in step.operands:
                uses[operand] += 1
        places: dict[int, int] = {tensor: arena.take(self.sizes[tensor]) for tensor in self.inputs}
        for step in self.steps:
            if step.result is not None:
                places[step.result] = self._place(arena, step, uses, places)
            for operand in step.operands:
                uses[operand] -= 1
                if not uses[operand] and operand in places and operand not in self.outputs:
                    arena.give(places.pop(operand), self.sizes[operand])
        return arena.highest

    def _place(self, arena: Arena, step: _Step, uses: Sequence[int], places: dict[int, int]) -> int:
        assert step.result is not None
        for operand in step.in_place:
            same = self.sizes[operand] == self.sizes[step.result]
            if same and uses[operand] == 1 and operand in places and operand not in self.outputs:
                return places.pop(operand)
        return arena.take(self.sizes[step.result])
