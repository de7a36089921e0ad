"""The limits of every check, in one table, with where each comes from.

`calibrated` means: measured on the demo model, good variants on one side, broken ones on the other (tests/integration/smoke).
`upstream` means: tolerances of llama.cpp's own test tools.
`one H200` means: measured on one NVIDIA H200 with llama-cpp-python 0.3.36 for CUDA on 2026-11-26, with the demo and with
models of 1 and 8 B parameters in shape. Other makers and smaller cards were not tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A good value is at most `warn`; above `fail` it is wrong; between them it deserves a look."""

    warn: float
    fail: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two runs that should agree may differ: NMSE and KL at most, share of equal argmax at least."""

    nmse: Limit
    argmax_pass: float
    argmax_fail: float


MIN_LOGIT_STD = 1e-3  # calibrated: a zero output norm gives exactly equal logits
MAX_ENTROPY_SHARE = 0.9  # of ln(n_vocab); calibrated
NLL_SHARE = Limit(warn=0.5, fail=0.7, source="calibrated, as a share of ln(n_vocab)")
SHUFFLED_GAP = Limit(warn=1.5, fail=0.5, source="calibrated, nats of shuffled minus real text; here more is better")
MAX_HALF_GROWTH = 1.0  # nats; a rope fault shows late in a passage
# A quantized KV cache rounds a batch and a single token differently, and so do a GPU's kernels for quantized weights. One
# H200: 1.6e-4 (Q8_0), 8.9e-4 and with a long prompt 9.8e-4 (Q4_0), 2.6e-6 (F16).
SINGLE = Agreement(
    nmse=Limit(warn=2e-3, fail=1e-2, source="twice what one H200 gives with Q4_0; calibrated faults"),
    argmax_pass=0.98,
    argmax_fail=0.90,
)
SINGLE_QUANTIZED_KV = Agreement(
    nmse=Limit(warn=2e-2, fail=1e-1, source="calibrated with KV q4_0"), argmax_pass=0.9, argmax_fail=0.75
)
VARIANTS: dict[str, Agreement] = {
    # One H200, demo in Q8_0, Q4_0 and F16: flash attention 1.9e-4, 2.0e-4, 3.6e-6; KV q8_0 3.0e-4, 3.1e-4, 4.2e-5;
    # KV q4_0 1.0e-2 with each.
    "flash attention": Agreement(nmse=Limit(warn=1e-3, fail=1e-2, source="upstream 5e-4"), argmax_pass=0.98, argmax_fail=0.90),
    "KV q8_0": Agreement(nmse=Limit(warn=5e-3, fail=5e-2, source="calibrated"), argmax_pass=0.97, argmax_fail=0.90),
    "KV q4_0": Agreement(nmse=Limit(warn=5e-2, fail=2e-1, source="calibrated"), argmax_pass=0.90, argmax_fail=0.75),
    "CPU only": Agreement(
        nmse=Limit(warn=1e-3, fail=1e-2, source="one H200: 1.9e-4 (Q8_0, Q4_0), 3.2e-6 (F16), same best token 100 %"),
        argmax_pass=0.97,
        argmax_fail=0.90,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenLimit:
    """How far a fingerprint may move and pass, and from where on it is wrong: NMSE of logits, nats per token of likelihood,
    share of equal best tokens."""

    nmse: float
    nmse_fail: float
    nll: float
    nll_fail: float
    top1: float
    top1_fail: float

    def to_data(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> GoldenLimit:
        """Raises KeyError, TypeError or ValueError for what is no such limit."""
        return cls(**{field.name: float(data[field.name]) for field in fields(cls)})


# Same file, CPU, engine and arguments give the very same bits (measured), noise in half of one tensor 5e-4.
GOLDEN: dict[str, GoldenLimit] = {
    "same": GoldenLimit(nmse=1e-5, nmse_fail=1e-4, nll=0.01, nll_fail=0.1, top1=0.98, top1_fail=0.90),
    # Another processor, nothing else: an AMD EPYC gives the very bits of an Intel Xeon's fingerprint (AVX-512 both), with flash
    # attention 7e-6. Noise in half of one tensor is 5.5e-4.
    "processor": GoldenLimit(nmse=1e-4, nmse_fail=4e-4, nll=0.02, nll_fail=0.2, top1=0.95, top1_fail=0.85),
    # Calibrated with flash attention and KV q8_0; taken on a CPU and checked on one H200: 1.2e-5, likelihood off by 0.0006.
    "other": GoldenLimit(nmse=1e-3, nmse_fail=5e-3, nll=0.03, nll_fail=0.3, top1=0.95, top1_fail=0.85),
    # Calibrated: KV q4_0 gives 1e-3.
    "quantized_kv": GoldenLimit(nmse=1e-2, nmse_fail=5e-2, nll=0.03, nll_fail=0.3, top1=0.95, top1_fail=0.85),
}
GOLDEN_TIE = 0.5  # logits; where the two best are closer than that, rounding may swap them

MAX_CHARACTER_RUN, MAX_TOKEN_RUN = 20, 8
MIN_DISTINCT_4, MIN_ZLIB_RATIO, MAX_TOP_SHARE = 0.5, 0.20, 0.4
MIN_CJK_SHARE = 0.3
MEMORY_LOW, MEMORY_HIGH, MEMORY_FAIL_LOW = 0.90, 1.10, 0.5
MEMORY_SLACK_BYTES = 256 * 1024 * 1024
CPU_ROOFLINE = Limit(warn=0.4, fail=0.15, source="share of the host's copy bandwidth; here more is better")
GPU_ROOFLINE = Limit(
    warn=1.0,
    fail=0.4,
    source="the longest a token should take (fit/bandwidth.py) over what it took; one H200: 1.4 to 1.8; more is better",
)
# Weights in main memory reach the GPU over PCIe: NVIDIA names 128 GB/s for Gen5 with 16 lanes, both directions together.
MAX_LINK_BYTES_PER_S = 64e9
MIN_GPU_GAIN = 1.5  # times the CPU's tokens/s; one H200 with 1 B in Q4_K_M: 17 times its machine's CPU
MIN_UTILISATION = 30  # percent, NVML's busiest sample while generating; see MIN_WATCHED_S
# Seconds of generation below which NVML, whose samples take up to one, says nothing. One H200, healthy: 2 to 22 % in runs of
# 0.1 to 0.2 s. What it says of longer ones was not tried.
MIN_WATCHED_S = 2.0
MIN_ROOFLINE_BYTES = 200 * 1024 * 1024
MAX_SPEED_CV = 0.10
PLAN_SPEED_SHARE = 0.5


def answers_needed(n_params: int | None, asked: int, *, is_demo: bool) -> int:
    """How many of `asked` known answers a model of that size must get: all from 3 B parameters on (and the demo, which was
    taught them), two thirds from 0.5 B, one third below."""
    if is_demo or (n_params or 0) >= 3_000_000_000:
        return asked
    share = 2 / 3 if (n_params or 0) >= 500_000_000 else 1 / 3
    return max(1, round(asked * share))
