"""The same model loaded again with one setting changed, and its logits compared with the deployment's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from provision.events import Progress, Reporter
from provision.processes import ChildOutcome
from provision.smoke.deaths import diagnose_death
from provision.smoke.enginelog import read_load_log
from provision.smoke.judge_device import judge_gain
from provision.smoke.judge_model import judge_variant
from provision.smoke.types import Check

_Q8_0, _Q4_0, _F16, _BF16 = 8, 2, 1, 30  # enum ggml_type, ggml 0.25.3
# With no layer offloaded, a GPU build still sends large batches and the KV cache to the GPU unless told otherwise.
CPU_ONLY = {"n_gpu_layers": 0, "offload_kqv": False, "op_offload": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """`change` of the load's arguments; `in_use`: a bad outcome concerns this very deployment."""

    name: str
    change: Mapping[str, Any]
    in_use: bool


def quantized_kv(kwargs: Mapping[str, Any]) -> bool:
    return any(kwargs.get(key) not in (None, 0, _F16, _BF16) for key in ("type_k", "type_v"))


def _plans(kwargs: Mapping[str, Any], base: Mapping[str, Any]) -> list[_Plan]:
    flash = bool(kwargs.get("flash_attn"))
    on_gpu = bool(read_load_log(str(base.get("log", ""))).offloaded)
    cpu = [_Plan(name="CPU only", change=CPU_ONLY, in_use=True)] if on_gpu else []
    if quantized_kv(kwargs):
        # The deployment itself is quantized: the plain cache is what it is compared with, under the limits of its own type.
        name = "KV q4_0" if kwargs.get("type_k") == _Q4_0 else "KV q8_0"
        return [_Plan(name=name, change={"type_k": _F16, "type_v": _F16}, in_use=True), *cpu]
    plans = [_Plan(name="flash attention", change={"flash_attn": not flash}, in_use=flash)]
    if not base.get("recurrent"):
        plans += [
            _Plan(name=name, change={"flash_attn": True, "type_k": kind, "type_v": kind}, in_use=False)
            for name, kind in (("KV q8_0", _Q8_0), ("KV q4_0", _Q4_0))
        ]
    return plans + cpu


def check_variants(
    run: Callable[[Mapping[str, Any]], ChildOutcome],
    request: Mapping[str, Any],
    base: Mapping[str, Any],
    reporter: Reporter,
) -> list[Check]:
    """C6 and C7, and B5 where the deployment is on a GPU. `run` measures in a child; `base` is what the deployment answered."""
    checks = []
    kwargs = dict(request["llama_kwargs"])
    plans = _plans(kwargs, base)
    for index, plan in enumerate(plans):
        label = f"smoke test: {plan.name}"
        reporter(Progress(task="smoke", label=label, done=2 + index, total=2 + len(plans), unit="steps"))
        on_cpu = plan.change is CPU_ONLY
        outcome = run(
            {
                "llama_kwargs": {**kwargs, **plan.change},
                "chat": request["chat"],
                "stages": ["compare", "speed"] if on_cpu else ["compare"],
                "passages": request["passages"],
                "max_logits": request["max_logits"],
                "speed": {**request["speed"], "repetitions": 1},
                "reference_path": request["logits_path"],
            }
        )
        death = diagnose_death(outcome)
        compared = outcome.answer.get("compared")
        checks.append(judge_variant(plan.name, compared, problem=death.summary if death else None, in_use=plan.in_use))
        if on_cpu:
            checks.append(judge_gain(base, (outcome.answer.get("speed") or {}).get("tg")))
    return checks
