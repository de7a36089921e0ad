"""A fit of a local model, kept while everything it rests on stays as it was: bytes, wish, engine, boot, and memory to spare.

Asking the machine and the engine takes seconds. The same chat as yesterday need not wait for the same answer.
Kept is only what more memory would not change; what was squeezed is worked out anew every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provision import __version__
from provision.errors import ProvisionError
from provision.fit.budgets import read_budgets
from provision.fit.plan import BASE_CONTEXT
from provision.fit.targets import find_local
from provision.fit.types import FitResult, FitWish
from provision.host.probe_memory import probe_memory
from provision.host.reader import Reader
from provision.host.types import Cpu, Host, System
from provision.settings import Settings

_DEVICE_VARIABLES = ("CUDA_", "GGML_", "HIP_", "ROCR_", "VK_", "LLAMA_")
_FOR_A_GPU = re.compile(r"ggml-(?!base|cpu|blas)[^/]*$")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def recall(model: Path, wish: FitWish, *, python: Path, settings: Settings) -> Mapping[str, Any] | None:
    """`chosen` of the fit made before, when nothing it rests on has changed and the memory it needs is free now; else None."""
    rests_on = _rests_on(model, wish, python, settings)
    known = _read(_file(model, wish, settings))
    if rests_on is None or known is None or known.get("rests_on") != rests_on:
        return None
    memory = probe_memory(Reader(environ=settings.environ))
    here = Host(system=System(os="other", arch=""), cpu=Cpu(), memory=memory)
    try:
        chosen: Mapping[str, Any] = known["chosen"]
        needed = sum(chosen["host"][key] for key in ("model_bytes", "context_bytes", "compute_bytes"))
        return chosen if needed <= read_budgets(here, wish).host.budget_bytes else None
    except (KeyError, TypeError, ProvisionError):
        return None


def remember(model: Path, wish: FitWish, result: FitResult, *, python: Path, settings: Settings) -> None:
    """Keep `result` if it may be recalled: nothing on a GPU, whose free memory changes, and no context cut short by memory."""
    chosen = result.chosen
    if chosen is None or chosen.estimate.devices:
        return
    wanted = wish.n_ctx or min(BASE_CONTEXT, result.n_ctx_train or BASE_CONTEXT)
    if chosen.settings.n_ctx != wanted * wish.parallel or wish.ram is not None or wish.vram is not None:
        return
    rests_on = _rests_on(model, wish, python, settings)
    if rests_on is None:
        return
    path = _file(model, wish, settings)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    # Without it (disk full, read-only home) the next start is only slower.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"rests_on": rests_on, "chosen": chosen.to_data()}), encoding="utf-8")
        os.replace(part, path)


def _file(model: Path, wish: FitWish, settings: Settings) -> Path:
    text = json.dumps([str(model.absolute()), asdict(wish)])
    return settings.provision_home / "fits" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def _rests_on(model: Path, wish: FitWish, python: Path, settings: Settings) -> dict[str, Any] | None:
    """What must be the same; None when that takes asking, as for another environment's engine or one that can use a GPU."""
    engine = engine_files() if python == Path(sys.executable) else None
    if engine is None:
        return None
    try:
        local = find_local(str(model))
        files = [_identity(path) for path in local.paths] if local is not None else None
    except (OSError, ProvisionError):
        return None
    if files is None:
        return None
    # Through JSON and back, so that it compares equal to what was read.
    found: dict[str, Any] = json.loads(
        json.dumps(
            {
                "provision": __version__,
                "wish": asdict(wish),
                "files": files,
                "engine": engine,
                "boot": _read_boot(),
                "environment": {k: v for k, v in sorted(settings.environ.items()) if k.startswith(_DEVICE_VARIABLES)},
            }
        )
    )
    return found


def engine_files() -> list[list[Any]] | None:
    """The libraries of this environment's engine, found without importing it; None without one, and when it can use a GPU."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    try:
        libraries = [_identity(path) for path in sorted(folder.iterdir())]
    except OSError:
        return None
    # A GPU may come without a reboot, with its driver or into a container; then this engine would use it.
    return None if any(_FOR_A_GPU.search(path) for path, *_ in libraries) else libraries


def _identity(path: Path) -> list[Any]:
    facts = path.stat()
    return [str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino]


def _read_boot() -> str | None:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None
