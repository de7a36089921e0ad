"""Tokens per second before the first one: what the memories that are read per token take, and what was measured before.

Generation with one sequence reads every active weight and the filled part of the KV cache once per token; layers on a GPU
cost time besides (`bandwidth`). How close an engine comes differs; hence an interval, and the basis it rests on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provision.fit.bandwidth import Bandwidth, Run, Specified, of_run
from provision.fit.types import Estimate, RunSettings, Speed
from provision.gguf.shape import ModelShape
from provision.units import format_bytes

_MAX_RUNS = 8  # per memory, one for each model
_ABSURD = 1e15  # no bytes, layers or tokens/s that were ever measured


def token_bytes(shape: ModelShape, estimate: Estimate) -> list[int]:
    """Bytes read per token from each GPU and, last, from main memory, the KV cache left out."""
    idle = 0.0
    if shape.n_expert and shape.n_expert_used:
        idle = shape.expert_bytes * (1 - shape.n_expert_used / shape.n_expert) / max(shape.weight_bytes, 1)
    sizes = [usage.model_bytes for usage in estimate.devices]
    # The embedding is looked up, not read; a tied one is the output too, where the output layer is.
    embedding = shape.input_bytes
    output_on_gpu = any(usage.model_bytes for usage in estimate.devices)
    if not (shape.tied_bytes and not output_on_gpu):
        sizes.append(max(estimate.host.model_bytes - embedding, 0))
    else:
        sizes.append(estimate.host.model_bytes)
    return [round(size * (1 - idle)) for size in sizes]


def gpu_layers(shape: ModelShape, settings: RunSettings) -> int:
    """Layers on GPUs, the output layer counted as one, as llama.cpp counts them."""
    every = shape.n_layers + 1
    return every if settings.n_gpu_layers < 0 else min(settings.n_gpu_layers, every)


def forecast(
    shape: ModelShape, settings: RunSettings, estimate: Estimate, bandwidths: Sequence[Bandwidth | None]
) -> Speed | str:
    """Tokens per second, or a sentence on what is not known. `bandwidths`: per GPU and, last, main memory."""
    fast = slow = 0.0
    bases: list[str] = []
    sizes = token_bytes(shape, estimate)
    caches = [*(usage.context_bytes for usage in estimate.devices), estimate.host.context_bytes]
    on_gpus = sum(sizes[:-1])
    # Layers of one model are nearly alike: each GPU has as large a part of them as of the bytes. Those of the CPU cost nothing.
    shares = [*(size / on_gpus if on_gpus else 0.0 for size in sizes[:-1]), 0.0]
    for size, kv, share, bandwidth in zip(sizes, caches, shares, bandwidths, strict=True):
        if not size and not kv:
            continue
        if bandwidth is None:
            return "no forecast of tokens/s: the bandwidth of a memory in use is not known"
        layers = share * gpu_layers(shape, settings)
        fast += bandwidth.fastest(size, layers)
        slow += bandwidth.slowest(size + kv, layers)
        bases.append(bandwidth.basis)
    if not slow or not fast:
        return "no forecast of tokens/s: the model has no weights"
    active = " of active weights" if shape.n_expert else ""
    return Speed(
        low=round(1 / slow, 1),
        high=round(1 / fast, 1),
        basis=f"{format_bytes(sum(sizes))}{active} read per token, KV cache full to empty; {'; '.join(dict.fromkeys(bases))}",
    )


def remember(home: Path, device: str, run: Run) -> None:
    """Keep what a smoke test measured, so that the next forecast for `device` starts from it. Half-written files never show."""
    known = _stored(home)
    others = [one for one in _runs(known, device) if (one.bytes_per_token, one.layers) != (run.bytes_per_token, run.layers)]
    kept = {name: [asdict(one) for one in _runs(known, name)] for name in known if name != device}
    kept[device] = [asdict(one) for one in [*others, run][-_MAX_RUNS:]]
    home.mkdir(parents=True, exist_ok=True)
    new = home / f".speed.{time.monotonic_ns()}.tmp"
    new.write_text(json.dumps({name: runs for name, runs in kept.items() if runs}, indent=1), encoding="utf-8")
    new.replace(home / "speed.json")


def calibrated(home: Path, device: str, *, bytes_per_token: int, card: Specified | None = None) -> Bandwidth | None:
    """What was measured for `device` on this machine before, with the model nearest in size; None when nothing was.

    `card`: what is specified for a GPU, where that is known.
    """
    runs = _runs(_stored(home), device)
    if not runs:
        return None
    size = math.log(max(bytes_per_token, 1))
    return of_run(device, min(reversed(runs), key=lambda run: abs(math.log(run.bytes_per_token) - size)), card)


def _stored(home: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((home / "speed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _runs(known: Mapping[str, Any], device: str) -> list[Run]:
    """The runs stored for a device, oldest first; what is no run, such as the one rate of earlier versions, is left out."""
    entries = known.get(device)
    return [run for run in map(_run, entries) if run is not None] if isinstance(entries, list) else []


def _run(entry: Any) -> Run | None:
    if not isinstance(entry, dict):
        return None
    size, layers, rate, when = (entry.get(key) for key in ("bytes_per_token", "layers", "tokens_per_s", "when"))
    if not isinstance(size, int) or not isinstance(layers, int):
        return None
    if not isinstance(rate, int | float) or not isinstance(when, str):
        return None
    if not (0 < size < _ABSURD and 0 <= layers < _ABSURD and 1 / _ABSURD < rate < _ABSURD):
        return None
    return Run(bytes_per_token=size, layers=layers, tokens_per_s=float(rate), when=when)
