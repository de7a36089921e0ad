"""What a smoke test asks, and what it answers, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "warn", "fail", "skip"]
Verdict = Literal["pass", "warn", "fail"]
ProfileName = Literal["quick", "full", "deep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One judged figure. `id` is stable; `value` and `threshold` are what was measured and what was asked for."""

    id: str
    status: Status
    summary: str
    value: float | int | str | bool | None = None
    threshold: float | int | str | None = None
    remedy: str | None = None

    def to_data(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "value": self.value,
            "threshold": self.threshold,
            "summary": self.summary,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """How turns become a prompt where it is not the template inside the GGUF: Jinja text or a named format of
    llama-cpp-python, and further variables for it."""

    template: str | None = None
    chat_format: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def to_request(self) -> dict[str, Any]:
        """What differs from the file's own; the arguments of `choose` in engine/children/chat_template.py."""
        given = {"template": self.template, "chat_format": self.chat_format, "template_kwargs": dict(self.template_kwargs)}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question whose right answer contains one of `expect` (compared without case). `before` are earlier turns."""

    id: str
    ask: str
    expect: tuple[str, ...]
    before: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the plan promised: bytes of model, context and compute over all devices, and layers on GPUs."""

    total_bytes: int | None = None
    gpu_bytes: int | None = None
    n_gpu_layers: int | None = None
    n_layers: int | None = None
    """Layers of the model as `n_gpu_layers` counts them: the output layer included."""
    tokens_per_s_low: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """The verdict and everything it rests on."""

    model: str
    quant: str | None
    verdict: Verdict
    checks: tuple[Check, ...]
    device: str | None
    """Devices that hold the model, `CPU` or `CUDA0 (NVIDIA ...)`; None when it never loaded."""
    offloaded_layers: int | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    predicted_bytes: int | None
    measured_bytes: int | None
    answer: str | None
    known_right: int
    known_asked: int
    profile: ProfileName
    fingerprint: Mapping[str, Any] | None = None
    """As `provision.smoke.golden.fingerprint` gives it; None when the numerics were not measured."""

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def warned(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "warn")

    @property
    def line(self) -> str:
        """`PASS  demo · Q8_0 · CPU · 3/3 known answers · 210 tok/s`; a failure names its first reason."""
        parts = [self.model, self.quant, self.device]
        if self.known_asked:
            parts.append(f"{self.known_right}/{self.known_asked} known answers")
        if self.generation_tokens_per_s is not None:
            speed = self.generation_tokens_per_s
            parts.append(f"{speed:.0f} tok/s" if speed >= 10 else f"{speed:.1f} tok/s")
        worst = self.failed or self.warned
        if worst and not (self.known_asked and worst[0].id.startswith("E2-")):
            parts.append(worst[0].summary)
        return f"{self.verdict.upper()}  " + " · ".join(part for part in parts if part)

    def to_data(self) -> dict[str, Any]:
        """`data` of `chat --smoke` in the command-line contract."""
        return {
            "verdict": self.verdict,
            "checks": [check.to_data() for check in self.checks],
            "device": self.device,
            "offloaded_layers": self.offloaded_layers,
            "prompt_tokens_per_s": self.prompt_tokens_per_s,
            "generation_tokens_per_s": self.generation_tokens_per_s,
            "predicted_bytes": self.predicted_bytes,
            "measured_bytes": self.measured_bytes,
            "answer": self.answer,
            "model": self.model,
            "quant": self.quant,
            "profile": self.profile,
            "fingerprint": dict(self.fingerprint) if self.fingerprint is not None else None,
            "known_answers": {"right": self.known_right, "asked": self.known_asked},
            "line": self.line,
        }
