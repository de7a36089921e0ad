"""Tokens per second before the first one: bytes read per token over the bandwidth of the memory they lie in.

Generation with one sequence reads every active weight and the filled part of the KV cache once per token, so bandwidth
bounds it. How close an engine comes differs; hence an interval, and the basis it rests on.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from provision.fit.types import Estimate, RunSettings, Speed
from provision.gguf.shape import ModelShape
from provision.units import format_bytes

# Share of the specified bandwidth that generation reaches on GPUs. The README of llama.cpp's quantize tool (0.5.0) measures 29
# t/s with 15 GiB of F16 and 72 t/s with 4.6 GiB of Q4_K_M on one machine: smaller weights use the bandwidth less well.
_GPU_SHARE = (0.35, 0.85)
# Of what one thread copies; several threads read faster than one copies.
_HOST_SHARE = (0.5, 2.0)
_CALIBRATED_SHARE = (0.8, 1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Bytes per second of one memory, and where the number is from."""

    bytes_per_s: float
    basis: str
    share: tuple[float, float]


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


def forecast(
    shape: ModelShape, settings: RunSettings, estimate: Estimate, bandwidths: Sequence[Bandwidth | None]
) -> Speed | str:
    """Tokens per second, or a sentence on what is not known. `bandwidths`: per GPU and, last, main memory."""
    fast = slow = 0.0
    bases: list[str] = []
    caches = [*(usage.context_bytes for usage in estimate.devices), estimate.host.context_bytes]
    for size, kv, bandwidth in zip(token_bytes(shape, estimate), caches, bandwidths, strict=True):
        if not size and not kv:
            continue
        if bandwidth is None:
            return "no forecast of tokens/s: the bandwidth of a memory in use is not known"
        low, high = bandwidth.share
        fast += size / (bandwidth.bytes_per_s * high)
        slow += (size + kv) / (bandwidth.bytes_per_s * low)
        bases.append(bandwidth.basis)
    if not slow or not fast:
        return "no forecast of tokens/s: the model has no weights"
    active = " of active weights" if shape.n_expert else ""
    total = sum(token_bytes(shape, estimate))
    return Speed(
        low=round(1 / slow, 1),
        high=round(1 / fast, 1),
        basis=f"{format_bytes(total)}{active} read per token, KV cache full to empty; {'; '.join(dict.fromkeys(bases))}",
    )


def gpu_bandwidth(name: str, memory_bytes: int | None) -> Bandwidth | None:
    """The specified bandwidth of a GPU by its name; None for a card that is not in the table."""
    words = re.sub(r"[^A-Za-z0-9]+", " ", name).upper()
    best: tuple[int, float, str] | None = None
    for row in _table()["rows"]:
        wanted = row["name"].upper()
        if not re.search(rf"(?:^| ){re.escape(wanted)}(?: |$)", words):
            continue
        if row["memory_gb"] is not None and (memory_bytes is None or abs(memory_bytes / 1e9 - row["memory_gb"]) > 2.5):
            continue
        if best is None or len(wanted) > best[0]:
            best = (len(wanted), row["gb_per_s"], row["source"])
    if best is None:
        return None
    source = _table()["sources"][best[2]]["name"]
    assumed = f"of which {_GPU_SHARE[0]:.0%} to {_GPU_SHARE[1]:.0%} is assumed to be reached, until a smoke test measures it"
    basis = f"{name} {best[1]:g} GB/s specified ({source}), {assumed}"
    return Bandwidth(bytes_per_s=best[1] * 1e9, basis=basis, share=_GPU_SHARE)


def measure_host_bandwidth(*, size: int = 64 * 1024 * 1024, rounds: int = 3) -> Bandwidth:
    """What one thread copies in main memory right now: about a tenth of a second."""
    source = bytearray(size)
    target = bytearray(size)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        target[:] = source
        best = min(best, time.perf_counter() - started)
    rate = size / best
    low, high = _HOST_SHARE
    basis = (
        f"main memory {rate / 1e9:.1f} GB/s copied by one thread, measured now; that all threads read {low:g} to {high:g} "
        "times that is assumed, until a smoke test measures it"
    )
    return Bandwidth(bytes_per_s=rate, basis=basis, share=_HOST_SHARE)


def remember(home: Path, *, device: str, bytes_per_token: int, tokens_per_s: float, when: str) -> None:
    """Keep what a smoke test measured, so that the next forecast for `device` starts from it. Half-written files never show."""
    known = dict(_calibrations(home))
    known[device] = {"bytes_per_s": bytes_per_token * tokens_per_s, "when": when}
    home.mkdir(parents=True, exist_ok=True)
    new = home / f".speed.{time.monotonic_ns()}.tmp"
    new.write_text(json.dumps(known, indent=1), encoding="utf-8")
    new.replace(home / "speed.json")


def calibrated(home: Path, device: str) -> Bandwidth | None:
    """What was measured for `device` on this machine before; None when nothing was."""
    entry = _calibrations(home).get(device)
    if not isinstance(entry, dict) or not isinstance(entry.get("bytes_per_s"), int | float) or entry["bytes_per_s"] <= 0:
        return None
    rate = float(entry["bytes_per_s"])
    basis = f"{device} {rate / 1e9:.1f} GB/s reached in the smoke test of {entry.get('when', 'an unknown day')}"
    return Bandwidth(bytes_per_s=rate, basis=basis, share=_CALIBRATED_SHARE)


def _calibrations(home: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((home / "speed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _table() -> Mapping[str, Any]:
    text = files("provision.data").joinpath("gpu-bandwidth.json").read_text(encoding="utf-8")
    table: Mapping[str, Any] = json.loads(text)
    return table
