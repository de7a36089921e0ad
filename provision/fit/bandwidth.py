"""What a memory gives per token: seconds for the bytes read, and on a GPU seconds for each layer. Pure but for `measure_host`.

A GPU starts many small programs per layer, and the next waits for the last: time that no bandwidth pays for. On a fast card
it is most of a token. How close an engine comes to either figure differs; hence always several paces, and the truth between.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from provision.units import format_bytes

# Share of the specified bandwidth that generation reaches on GPUs, and what a layer costs beside the bytes (the output counts
# as one). Measured on one NVIDIA H200 with llama-cpp-python 0.3.36 for CUDA on 2026-11-26, tg128 in Q4_K_M: shapes of
# Llama-3.1-8B 268.5 tokens/s, Qwen2.5-7B 268.4, Llama-3.2-1B 834.9; the demo model 5490. If 85 % of the bandwidth is reached,
# these are 79, 92, 59 and 36 us a layer. Public figures of single cards (GitHub XiongjieDai/GPU-Benchmarks-on-LLM-Inference,
# 00dd2bde) lie inside too; the highest share is an RTX 4080's, which reads 8B F16 at 40.6 tokens/s: 85 % with the layers
# counted as nothing.
GPU_SHARE = (0.35, 0.90)
GPU_LAYER_S = (35e-6, 95e-6)
# Of what one thread copies; several threads read faster than one copies.
_HOST_SHARE = (0.5, 2.0)
# How far two measurements of one model may be apart: the demo gave 3767 to 5490 tokens/s on that H200, in runs of 32 to 128
# tokens; an 8B 268.5 and, with a small vocabulary, 274.1.
_SPREAD = (0.8, 1.2)
# A card nobody specified: at least this share of a token's time is spent on bytes.
_LEAST_FOR_BYTES = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Bytes per second, and seconds that each layer takes besides."""

    bytes_per_s: float
    layer_s: float = 0.0

    def seconds(self, size: float, layers: float) -> float:
        return size / self.bytes_per_s + layers * self.layer_s

    def times(self, factor: float) -> Pace:
        """This pace, `factor` times as fast."""
        return Pace(bytes_per_s=self.bytes_per_s * factor, layer_s=self.layer_s / factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """One memory: the paces its own may lie between, and what they rest on."""

    paces: tuple[Pace, ...]
    basis: str

    def fastest(self, size: float, layers: float) -> float:
        """Seconds for a token at the best."""
        return min(pace.seconds(size, layers) for pace in self.paces)

    def slowest(self, size: float, layers: float) -> float:
        """Seconds for a token at the worst."""
        return max(pace.seconds(size, layers) for pace in self.paces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Specified:
    """A card's bandwidth as its maker says, and in words with its source."""

    bytes_per_s: float
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A measured generation: weights read per token, layers on the GPU (none: main memory), tokens per second."""

    bytes_per_token: int
    layers: int
    tokens_per_s: float
    when: str


def specified(name: str, memory_bytes: int | None) -> Specified | None:
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
    return Specified(bytes_per_s=best[1] * 1e9, said=f"{name} {best[1]:g} GB/s specified ({source})")


def of_gpu(card: Specified) -> Bandwidth:
    """What a GPU of that bandwidth gives, before anything was measured on it."""
    low, high = GPU_LAYER_S
    basis = (
        f"{card.said}, of which {GPU_SHARE[0]:.0%} to {GPU_SHARE[1]:.0%} is assumed to be reached, and {1e6 * low:.0f} to "
        f"{1e6 * high:.0f} µs more per layer, until a smoke test measures it"
    )
    return Bandwidth(paces=_gpu_paces(card), basis=basis)


def _gpu_paces(card: Specified) -> tuple[Pace, Pace]:
    return (
        Pace(bytes_per_s=card.bytes_per_s * GPU_SHARE[0], layer_s=GPU_LAYER_S[1]),
        Pace(bytes_per_s=card.bytes_per_s * GPU_SHARE[1], layer_s=GPU_LAYER_S[0]),
    )


def of_run(device: str, run: Run, card: Specified | None) -> Bandwidth:
    """What a measured run says of other models on the same memory.

    One time has two unknowns on a GPU, bytes per second and seconds per layer. Every pair that gives that time and lies
    within what is known of GPUs is possible; the two ends of them bound what a model of other proportions takes.
    """
    if run.layers:
        weights = f"{format_bytes(run.bytes_per_token)} per token and {run.layers} layers"
        reached = f"{run.tokens_per_s:.1f} tokens/s with {weights}"
    else:
        reached = f"{run.bytes_per_token * run.tokens_per_s / 1e9:.1f} GB/s"
    paces = tuple(pace.times(factor) for pace in _paces_of(run, card) for factor in _SPREAD)
    return Bandwidth(paces=paces, basis=f"{device} reached {reached} in the smoke test of {run.when}")


def _paces_of(run: Run, card: Specified | None) -> tuple[Pace, ...]:
    took, size, layers = 1 / run.tokens_per_s, run.bytes_per_token, run.layers
    if not layers:
        return (Pace(bytes_per_s=size / took),)
    if card is None:
        least, most = (min(cost, (1 - _LEAST_FOR_BYTES) * took / layers) for cost in GPU_LAYER_S)
    else:
        slow, fast = _gpu_paces(card)
        for limit, outside in ((slow, took >= slow.seconds(size, layers)), (fast, took <= fast.seconds(size, layers))):
            if outside:  # no GPU that we know; the nearest, as much faster or slower as it was
                return (limit.times(limit.seconds(size, layers) / took),)
        least = max(fast.layer_s, (took - size / slow.bytes_per_s) / layers)
        most = min(slow.layer_s, (took - size / fast.bytes_per_s) / layers)
    return tuple(Pace(bytes_per_s=size / (took - layers * cost), layer_s=cost) for cost in (least, most))


def measure_host(*, size: int = 64 * 1024 * 1024, rounds: int = 3) -> Bandwidth:
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
    return Bandwidth(paces=tuple(Pace(bytes_per_s=rate * share) for share in _HOST_SHARE), basis=basis)


@cache
def _table() -> Mapping[str, Any]:
    text = files("provision.data").joinpath("gpu-bandwidth.json").read_text(encoding="utf-8")
    table: Mapping[str, Any] = json.loads(text)
    return table
