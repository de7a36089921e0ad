"""llama-cpp-python of the target environment, seen by a child process (children/engine.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from provision.host.types import Engine, EngineDevice
from provision.processes import ChildOutcome, run_child

CHILD = Path(__file__).parent / "children" / "engine.py"
_KINDS: dict[str, Literal["cpu", "gpu", "igpu", "accel"]] = {"cpu": "cpu", "gpu": "gpu", "igpu": "igpu", "accel": "accel"}
_STAGES = {
    "load": "while loading its libraries",
    "devices": "while looking for devices",
    "inference": "while running a quantized model",
}


def probe_engine(
    python: Path, environ: Mapping[str, str], *, timeout_s: float, cpu_model: str | None, cache: Path | None
) -> Engine:
    """The engine of `python`: version, libraries load, devices, and whether a quantized model runs.

    Running the demo model takes half a second, so a good answer is remembered in `cache` for these very libraries on this CPU.
    """
    first = run_child(python, CHILD, {}, timeout_s=timeout_s, env=environ)
    engine = read_engine(first)
    model = quantized_model()
    if model is None or not engine.loads or engine.problem is not None:
        return engine
    key = _identity(first.answer, cpu_model)
    if key is not None and _remembered(cache) == key:
        return read_engine(first, ran=True)
    second = run_child(python, CHILD, {"model": str(model)}, timeout_s=timeout_s, env=environ)
    engine = read_engine(second)
    if engine.quantized_inference and key is not None:
        _remember(cache, key)
    return engine


def probe_devices(python: Path, environ: Mapping[str, str], *, timeout_s: float) -> Engine:
    """The engine of `python` with its devices and their free memory; whether a model runs is not tried."""
    return read_engine(run_child(python, CHILD, {}, timeout_s=timeout_s, env=environ))


def quantized_model() -> Path | None:
    """The shipped demo model in a quantized form, None in a tree without one."""
    folder = Path(str(files("provision") / "data" / "demo"))
    return (
        next((path for path in sorted(folder.glob("*.gguf")) if "q8_0" in path.name.lower()), None) if folder.is_dir() else None
    )


def read_engine(outcome: ChildOutcome, *, ran: bool | None = None) -> Engine:
    """What the child's end means. Takes any answer, however malformed."""
    answer = outcome.answer
    version = answer.get("version") if isinstance(answer.get("version"), str) else None
    stage = answer.get("stage") if isinstance(answer.get("stage"), str) else ""
    where = _STAGES.get(stage or "", "")
    problem = None
    if outcome.kind == "signal":
        problem = f"dies of {outcome.signal_name} {where}".strip()
    elif outcome.kind == "timeout":
        problem = f"does not answer in {outcome.elapsed_s:.0f} s {where}".strip()
    elif outcome.kind == "missing":
        problem = "the target Python cannot be started"
    elif isinstance(answer.get("problem"), str):
        problem = answer["problem"][:400]
    elif outcome.kind != "ok":
        said = answer.get("error") or (outcome.stderr_tail.strip().splitlines() or ["no answer"])[-1]
        problem = f"{str(said)[:300]} {where}".strip()
    infers = answer.get("quantized_inference")
    backends = answer.get("backends")
    return Engine(
        version=version,
        loads=None if version is None else answer.get("loads") is True,
        backends=_backends(backends if isinstance(backends, list) else []),
        devices=_devices(answer.get("devices")),
        quantized_inference=False if stage == "inference" and problem else infers if isinstance(infers, bool) else ran,
        problem=problem,
        placed_by_us=answer.get("placed_by_us") is True,
        cpu_features=_words(answer.get("cpu_features")),
    )


def _words(names: Any) -> tuple[str, ...]:
    return tuple(name[:40] for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _backends(names: list[Any]) -> tuple[str, ...]:
    # ggml's registry calls Metal `mtl` in newer versions and HIP builds `rocm`; the rest are what people say.
    words = {"mtl": "metal", "hip": "rocm"}
    return tuple(dict.fromkeys(words.get(name, name)[:40] for name in names if isinstance(name, str)))


def _devices(rows: Any) -> tuple[EngineDevice, ...]:
    found = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping) and isinstance(row.get("name"), str):
            found.append(
                EngineDevice(
                    name=row["name"][:200],
                    description=str(row.get("description", ""))[:200],
                    kind=_KINDS.get(str(row.get("kind")), "other"),
                    memory_total_bytes=_size(row.get("total")),
                    memory_free_bytes=_size(row.get("free")),
                )
            )
    return tuple(found)


def _size(value: Any) -> int | None:
    """ggml says 0 for a device that reports no memory."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _identity(answer: Mapping[str, Any], cpu_model: str | None) -> str | None:
    libraries = answer.get("libraries")
    if not isinstance(libraries, list) or not libraries:
        return None
    text = json.dumps([libraries, cpu_model])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _remembered(cache: Path | None) -> str | None:
    try:
        return cache.read_text(encoding="utf-8").strip() if cache is not None else None
    except (OSError, ValueError):
        return None


def _remember(cache: Path | None, key: str) -> None:
    if cache is None:
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(key + "\n", encoding="utf-8")
    except OSError:
        return
