"""Which device holds which layer, as llama.cpp decides it (`load_tensors` in src/llama-model.cpp, 0.5.0)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass

from provision.gguf.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Device index per layer, None for main memory; the output layer is last in llama.cpp's count."""

    layers: tuple[int | None, ...]
    output: int | None

    @property
    def offloaded(self) -> int:
        """Layers on GPUs, the output layer counted."""
        return sum(device is not None for device in (*self.layers, self.output))


def place(shape: ModelShape, *, n_gpu_layers: int, shares: tuple[float, ...]) -> Placement:
    """Where each layer goes. `shares`: one weight per GPU (tensor_split, or free memory); empty without GPUs."""
    total = shape.n_layers + 1
    if not shares or n_gpu_layers == 0:
        return Placement(layers=(None,) * shape.n_layers, output=None)
    wanted = total if n_gpu_layers < 0 else min(n_gpu_layers, total)
    first = max(total - wanted, 0)
    points = _split_points(shares)

    def device(index: int) -> int | None:
        if index < first or index - first >= wanted:
            return None
        return min(bisect_right(points, _float32((index - first) / wanted)), len(shares) - 1)

    return Placement(layers=tuple(device(index) for index in range(shape.n_layers)), output=device(shape.n_layers))


def split_for(counts: tuple[int, ...]) -> tuple[float, ...]:
    """A tensor_split that gives each GPU exactly `counts` layers: half a layer more than enough at every border."""
    return tuple(float(count) for count in counts)


def _split_points(shares: tuple[float, ...]) -> list[float]:
    total = sum(shares) or 1.0
    points, running = [], 0.0
    for share in shares:
        running += share
        points.append(_float32(running / total))
    return points


def _float32(value: float) -> float:
    """The engine computes in float32, and a border can fall on either side of a layer."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded
