"""Large model files whose weights are random but sound numbers: they load, compute and are measured like real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from provision.gguf.tensor_types import BY_NAME
from tests.support.ggufs import Tensor, header_bytes

_TILE_BLOCKS = 8192


def _half(value: float, count: int) -> np.ndarray:
    return np.full((count, 1), value, np.float16).view(np.uint8)


def _tile(kind: str, random: np.random.Generator) -> bytes:
    """`_TILE_BLOCKS` blocks of a type, as ggml-common.h of ggml 0.25.3 lays them out; weights of about 0.02 around zero."""

    def noise(width: int) -> np.ndarray:
        return random.integers(0, 256, (_TILE_BLOCKS, width), dtype=np.uint8)

    if kind == "Q4_K":
        parts = [_half(1e-4, _TILE_BLOCKS), _half(7.5e-4, _TILE_BLOCKS), noise(12), noise(128)]
    elif kind == "Q6_K":
        parts = [noise(128), noise(64), noise(16), _half(1.5e-5, _TILE_BLOCKS)]
    elif kind == "Q8_0":
        parts = [_half(2.7e-4, _TILE_BLOCKS), noise(32)]
    else:
        values = random.standard_normal(_TILE_BLOCKS) * 0.02 if kind == "F16" else np.ones(_TILE_BLOCKS)
        return values.astype(np.float16 if kind == "F16" else np.float32).tobytes()
    return np.concatenate(parts, axis=1).tobytes()


def write_random(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Tensor], *, seed: int = 0) -> Path:
    """A model of these tensors (F32, F16, Q8_0, Q4_K, Q6_K). F32 ones, which are norms in such models, are all 1."""
    random = np.random.default_rng(seed)
    tiles = {kind: _tile(kind, random) for kind in sorted({tensor.kind for tensor in tensors})}
    header, size = header_bytes(metadata, tensors)
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors:
            tile, left = tiles[tensor.kind], tensor.size_bytes
            assert len(tile) == _TILE_BLOCKS * BY_NAME[tensor.kind].block_bytes
            while left:
                left -= file.write(tile[:left])
            file.write(b"\0" * (-tensor.size_bytes % 32))
        assert file.tell() == size
    return path
