"""What loads on this machine really took, written by smoke tests, read by the next plan.

`measured.json` in provision's home holds, per model and settings, the bytes its buffers took, and per GPU what went besides
them: the driver's context and kernels, which no estimate can see.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from provision.fit.types import Budget, Budgets, Estimate, RunSettings
from provision.units import format_bytes

_FILE = "measured.json"
_MAX_LOADS = 200
_F16 = 1  # enum ggml_type, ggml 0.25.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load. `n_gpu_layers` counts the output layer too; bytes are those of the buffers in the engine's log."""

    model: str
    """File name (of the first shard)."""
    weights_bytes: int
    n_ctx: int
    n_gpu_layers: int
    measured_bytes: int
    predicted_bytes: int | None
    peak_rss_bytes: int | None
    tokens_per_s: float | None
    engine_version: str
    when: str
    """ISO date."""


def key_of(model: str, kwargs: Mapping[str, Any], *, n_gpu_layers: int) -> str:
    """What must be equal for two loads to take the same memory: `kwargs` are `Llama()`'s, absent ones at its defaults."""
    said = {"n_ctx": 512, "n_ubatch": 512, "type_k": _F16, "type_v": _F16, "flash_attn": False, "swa_full": True}
    said |= {name: kwargs[name] for name in said if kwargs.get(name) is not None}
    return " ".join([model, f"gpu={n_gpu_layers}", *(f"{name}={int(value)}" for name, value in said.items())])


def remember(home: Path, key: str, load: Load, *, gpu_overheads: Mapping[str, int]) -> None:
    """Keep a measurement under `key_of` its settings; `gpu_overheads` are bytes per device as the engine lists it
    (`CUDA0 NVIDIA L4`).

    A home that cannot be written is no fault of the measurement: then nothing is kept. Half-written files never show.
    """
    known = _read(home)
    loads = {**_part(known, "loads")}
    loads.pop(key, None)
    loads[key] = asdict(load)
    overheads = {
        **_part(known, "gpu_overheads"),
        **{name: {"bytes": n, "when": load.when} for name, n in gpu_overheads.items()},
    }
    kept = dict(list(loads.items())[-_MAX_LOADS:])
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=home, prefix=f".{_FILE}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"loads": kept, "gpu_overheads": overheads}, file, indent=1)
            Path(name).replace(home / _FILE)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def recall(home: Path, key: str) -> Load | None:
    """The last load with these very settings; None when there was none, or what is stored makes no sense."""
    found = _part(_read(home), "loads").get(key)
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("measured_bytes"), int)
        or not isinstance(found.get("when"), str)
    ):
        return None
    try:
        return Load(**found)
    except TypeError:  # written by another version
        return None


def said_of(home: Path, model: str, settings: RunSettings, *, n_layers: int, estimate: Estimate) -> str | None:
    """A sentence on what this very load took when it was measured, beside the forecast; None when it never was."""
    every = n_layers + 1
    offloaded = every if settings.n_gpu_layers < 0 else min(settings.n_gpu_layers, every)
    load = recall(home, key_of(model, settings.llama_kwargs(), n_gpu_layers=offloaded))
    if load is None:
        return None
    forecast = sum(usage.total_bytes for usage in (*estimate.devices, estimate.host))
    return (
        f"measured on {load.when} with these settings: {format_bytes(load.measured_bytes)}; forecast {format_bytes(forecast)}"
    )


def with_overheads(budgets: Budgets, home: Path) -> Budgets:
    """The budgets with margins that hold what a GPU was seen to take besides the buffers, where that is more than assumed."""
    known = _part(_read(home), "gpu_overheads")
    return replace(budgets, devices=tuple(_with_overhead(budget, known.get(budget.name)) for budget in budgets.devices))


def _with_overhead(budget: Budget, known: Any) -> Budget:
    if not isinstance(known, dict) or not isinstance(known.get("bytes"), int):
        return budget
    margin = known["bytes"] + budget.free_bytes // 50
    if margin <= budget.margin_bytes:
        return budget
    reason = f"{budget.reason}; {format_bytes(known['bytes'])} besides the model were measured on {known.get('when')}"
    return replace(budget, margin_bytes=margin, reason=reason)


def _read(home: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((home / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(known: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = known.get(name)
    return found if isinstance(found, dict) else {}
