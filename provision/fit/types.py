"""What is asked of a fit and what it answers. Sizes are bytes, contexts are tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from provision.gguf.tensor_types import BY_NAME
from provision.models.quality import Quality

Policy = Literal["quality", "balanced", "speed"]
Estimator = Literal["auto", "engine", "analytic"]
Verdict = Literal["fits", "partly", "too-big"]
KvType = Literal["f16", "q8_0", "q4_0"]

DEFAULT_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class FitWish:
    """What the user asks for. None leaves the choice to us."""

    quant: str | None = None
    n_ctx: int | None = None
    vram: tuple[int, ...] | None = None
    """Free bytes of each GPU instead of this machine's; empty for no GPU."""
    ram: int | None = None
    """Main memory in bytes instead of this machine's."""
    kv_type: KvType | None = None
    parallel: int = 1
    policy: Policy = "balanced"
    estimator: Estimator = "auto"
    n_gpu_layers: int | None = None
    """A fixed number of layers, as llama.cpp counts them; None: as many as fit."""
    mmproj: str | None = None
    """A multimodal projector to count too: its file, or `auto` for the one beside the model."""
    mmproj_bytes: int = 0
    """What that projector takes, once it is known."""
    revision: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings an estimate is made for; the names are `Llama()`'s."""

    n_ctx: int
    n_gpu_layers: int = 0
    n_batch: int = DEFAULT_BATCH
    n_ubatch: int = DEFAULT_BATCH
    flash_attn: bool = True
    type_k: str = "f16"
    type_v: str = "f16"
    swa_full: bool = False
    offload_kqv: bool = True
    op_offload: bool = True
    """Whether a GPU lends a hand with large batches of layers that stay in main memory."""
    tensor_split: tuple[float, ...] = ()
    n_seq_max: int = 1

    def llama_kwargs(self) -> dict[str, Any]:
        """Exactly what `llama_cpp.Llama()` wants to hear, `model_path` aside."""
        arguments: dict[str, Any] = {
            "n_ctx": self.n_ctx,
            "n_batch": self.n_batch,
            "n_ubatch": self.n_ubatch,
            "n_gpu_layers": self.n_gpu_layers,
            "flash_attn": self.flash_attn,
            "swa_full": self.swa_full,
            "offload_kqv": self.offload_kqv,
            "type_k": BY_NAME[self.type_k.upper()].id,
            "type_v": BY_NAME[self.type_v.upper()].id,
        }
        if not self.op_offload:
            arguments["op_offload"] = False
        if self.tensor_split:
            arguments["tensor_split"] = list(self.tensor_split)
        return arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Bytes on one device, in llama.cpp's three kinds. In main memory the model is mapped from the file."""

    model_bytes: int = 0
    context_bytes: int = 0
    compute_bytes: int = 0
    repacked_bytes: int = 0
    """Part of the model that is a second, anonymous copy (AMX, CPU_REPACK); main memory only, inside `model_bytes`."""

    @property
    def total_bytes(self) -> int:
        return self.model_bytes + self.context_bytes + self.compute_bytes

    @property
    def anonymous_bytes(self) -> int:
        """What can't be dropped and read again from the file."""
        return self.context_bytes + self.compute_bytes + self.repacked_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Memory of one model under one set of settings."""

    devices: tuple[Usage, ...]
    host: Usage
    estimator: Literal["engine", "analytic"]
    notes: tuple[str, ...] = ()
    """What the estimate assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be used of one memory: `free_bytes` now, less a margin for what no estimate can see."""

    name: str
    free_bytes: int
    margin_bytes: int
    reason: str
    total_bytes: int | None = None
    unified: bool = False
    """The memory is part of main memory."""

    @property
    def budget_bytes(self) -> int:
        return max(self.free_bytes - self.margin_bytes, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """All memories of a machine."""

    devices: tuple[Budget, ...]
    host: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One quant of the repository, or the file itself."""

    quant: str | None
    files: tuple[str, ...]
    size_bytes: int
    bits_per_weight: float | None
    quality: Quality | None
    verdict: Verdict
    reason: str

    def to_data(self) -> dict[str, Any]:
        quality = None
        if self.quality is not None:
            quality = {"mean_kld": self.quality.mean_kld, "source": self.quality.source}
        return {
            "quant": self.quant,
            "files": list(self.files),
            "size_bytes": self.size_bytes,
            "bits_per_weight": self.bits_per_weight,
            "quality": quality,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Forecast of generated tokens per second, and what it rests on."""

    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The plan: settings, and what they take of every memory."""

    quant: str | None
    settings: RunSettings
    estimate: Estimate
    budgets: Budgets
    tokens_per_s: Speed | None = None
    reasons: tuple[str, ...] = ()
    measured: str | None = None
    """What this very load took when a smoke test measured it; no reason of the plan, which is the same without."""

    @property
    def llama_kwargs(self) -> dict[str, Any]:
        return self.settings.llama_kwargs()

    def to_data(self) -> dict[str, Any]:
        speed = self.tokens_per_s
        devices = zip(self.budgets.devices, self.estimate.devices, strict=True)
        return {
            "quant": self.quant,
            "n_ctx": self.settings.n_ctx,
            "n_gpu_layers": self.settings.n_gpu_layers,
            "tensor_split": list(self.settings.tensor_split),
            "devices": [_memory_data(budget, usage) for budget, usage in devices],
            "host": _memory_data(self.budgets.host, self.estimate.host),
            "estimator": self.estimate.estimator,
            "llama_kwargs": self.llama_kwargs,
            "tokens_per_s": {"low": speed.low, "high": speed.high, "basis": speed.basis} if speed else None,
            "reasons": list(self.reasons),
            **({"measured": self.measured} if self.measured else {}),
        }


def _memory_data(budget: Budget, usage: Usage) -> dict[str, Any]:
    return {
        "name": budget.name,
        "model_bytes": usage.model_bytes,
        "context_bytes": usage.context_bytes,
        "compute_bytes": usage.compute_bytes,
        "budget_bytes": budget.budget_bytes,
        "spare_bytes": budget.budget_bytes - usage.total_bytes,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """The answer. `chosen` is None when nothing fits."""

    target: str
    architecture: str
    n_layers: int
    n_ctx_train: int
    candidates: tuple[Candidate, ...]
    chosen: Chosen | None
    refusal: str = ""
    """One sentence on why nothing fits; empty when something does."""
    way_out: str = ""
    """The command that would help then."""
    notes: tuple[str, ...] = field(default=())

    def to_data(self) -> Mapping[str, Any]:
        """`data` of the command-line contract."""
        return {
            "target": self.target,
            "architecture": self.architecture,
            "n_layers": self.n_layers,
            "n_ctx_train": self.n_ctx_train,
            "candidates": [candidate.to_data() for candidate in self.candidates],
            "chosen": self.chosen.to_data() if self.chosen else None,
        }
