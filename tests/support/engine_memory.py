"""Asks the engine for its memory figures of metadata alone, and compares them with the formulas."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provision.fit.analytic import estimate
from provision.fit.engine import CHILD
from provision.fit.types import RunSettings
from provision.gguf.reader import read_header
from provision.gguf.shape import ModelShape, read_shape
from provision.gguf.source import BytesSource
from provision.processes import ChildOutcome, run_child
from provision.units import MIB
from tests.support.ggufs import Tensor, header_bytes

METADATA_CHILD = Path(__file__).parent / "children" / "metadata_memory.py"
BITS_PER_WEIGHT = 4.85
"""Of a Q4_K_M file: weights from metadata are F32 in the engine, so their size is taken from their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One comparison; bytes."""

    model: str
    settings: RunSettings
    weights: int
    context: int
    compute: int
    our_context: int
    our_compute: int

    @property
    def off(self) -> int:
        return self.our_context + self.our_compute - self.context - self.compute

    @property
    def tolerance(self) -> int:
        """1 % of everything, at least 64 MiB."""
        return max(64 * MIB, (self.weights + self.context + self.compute) // 100)


def context_request(settings: RunSettings) -> dict[str, Any]:
    """The fields of llama_context_params behind settings."""
    fields = asdict(settings)
    return {key: fields[key] for key in fields if key not in ("n_gpu_layers", "tensor_split")}


def shape_of(metadata: Mapping[str, Any], weights: Sequence[Sequence[Any]] = ()) -> ModelShape:
    """The shape of a model with these keys and these weights: name and dimensions, padded with ones."""
    tensors = {}
    for name, dimensions in weights:
        while len(dimensions) > 1 and dimensions[-1] == 1:
            dimensions = dimensions[:-1]
        tensors[name] = Tensor(name=name, dimensions=tuple(dimensions))
    data, size = header_bytes(metadata, tuple(tensors.values()))
    return read_shape(read_header(BytesSource(data, size_bytes=size)))


def ask_metadata(
    python: Path, metadata: Mapping[str, Any], settings: Sequence[RunSettings], *, real: bool = False
) -> ChildOutcome:
    """The engine's answer for a model it builds from metadata; `real` allocates everything."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metadata.gguf"
        path.write_bytes(header_bytes(metadata)[0])
        run = {
            "path": str(path),
            "real": real,
            "use_mmap": False,
            "use_extra_bufts": False,
            "contexts": [context_request(one) for one in settings],
        }
        env = {**os.environ, "PROVISION_MEMORY_CHILD": str(CHILD)}
        return run_child(python, METADATA_CHILD, {"runs": [run]}, timeout_s=120, env=env)


def compare(python: Path, name: str, metadata: Mapping[str, Any], settings: Sequence[RunSettings]) -> list[Cell] | str:
    """One cell per setting, or what the engine said instead of figures."""
    outcome = ask_metadata(python, metadata, settings)
    run = (outcome.answer.get("runs") or [{}])[0]
    if outcome.kind != "ok" or "error" in run:
        return f"{outcome.kind}: {(run.get('error') or outcome.stderr_tail)[-300:]}"
    shape = shape_of(metadata, outcome.answer.get("tensors", ()))
    cells = []
    for one, answer in zip(settings, run["contexts"], strict=True):
        if "error" in answer:
            return str(answer["error"])[-300:]
        ours = estimate(shape, one, n_devices=0).host
        buffers = answer["buffers"]
        cells.append(
            Cell(
                model=name,
                settings=one,
                weights=round(sum(b["model"] for b in buffers) / 4 * BITS_PER_WEIGHT / 8),
                context=sum(b["context"] for b in buffers),
                compute=sum(b["compute"] for b in buffers),
                our_context=ours.context_bytes,
                our_compute=ours.compute_bytes,
            )
        )
    return cells
