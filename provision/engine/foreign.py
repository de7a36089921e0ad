"""An engine somebody else installed: kept where it is what the plan would bring and proves right, else replaced.

Nothing of it is changed, its own metadata included: that it was proven, and for which plan, is noted in our own folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.engine.environment import Environment
from provision.engine.proof import prove
from provision.engine.provenance import installed_from_data, intact
from provision.engine.staging import DISTRIBUTION, PACKAGE
from provision.engine.transaction import write_json
from provision.engine.types import Backend, BuildPlan, InstallWish, Proof
from provision.engine.wheelstore import sha256_of
from provision.errors import BuildError

FILE = "adopted.json"
_BACKENDS: Mapping[str, Backend] = {"cuda": "cuda", "vulkan": "vulkan", "metal": "metal", "hip": "rocm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A llama-cpp-python that is not ours."""

    version: str
    installer: str
    """What its INSTALLER file says: `pip`, `uv`, `conda`; else `somebody else`."""
    backends: frozenset[Backend]
    """GPU backends it holds a library for; empty for a CPU build."""
    folder: Path

    @property
    def name(self) -> str:
        return f"the llama-cpp-python {self.version} that {self.installer} installed"


def find_foreign(environment: Environment) -> Foreign | None:
    """The engine of `environment` when provision did not place it."""
    for dist_info in sorted(environment.platlib.glob("llama_cpp_python-*.dist-info")):
        folder = environment.platlib / PACKAGE / "lib"
        installer = _installer(dist_info)
        if installer == "provision" or not folder.is_dir():
            continue
        return Foreign(
            version=environment.installed.get(DISTRIBUTION, "?"),
            installer=installer,
            backends=gpu_backends(path.name for path in folder.iterdir()),
            folder=folder,
        )
    return None


def gpu_backends(libraries: Iterable[str]) -> frozenset[Backend]:
    """GPU backends by the names of their libraries: `libggml-cuda.so.0` is cuda."""
    names = {name.removeprefix("lib").removeprefix("ggml-").split(".")[0] for name in libraries if "ggml-" in name}
    return frozenset(_BACKENDS[name] for name in names & set(_BACKENDS))


def why_not_kept(foreign: Foreign, wish: InstallWish, plan: BuildPlan, *, cmake_args: str) -> str | None:
    """Why this engine cannot be what was asked for, before anything is tried; None when it may be. Pure."""
    if not wish.keep_foreign or not wish.use_cache or wish.source != "any":
        return "another one was asked for"
    if cmake_args or wish.cuda_archs:
        return "with what flags it was built is not known"
    if foreign.version != plan.engine_version:
        return f"{plan.engine_version} is wanted"
    if plan.backend == "cpu" and foreign.backends:
        return f"it is built for {', '.join(sorted(foreign.backends))}, not for the CPU alone"
    if plan.backend != "cpu" and plan.backend not in foreign.backends:
        return f"it is not built for {plan.backend}"
    return None


def prove_foreign(plan: BuildPlan, environment: Environment, *, model: Path | None, environ: Mapping[str, str]) -> Proof:
    """The same proof as for an engine of ours, where it lies. BuildError says what is wrong with it."""
    proof = prove(environment.python, plan.backend, model=model, environ=environ)
    if proof.quantized_inference is not True:
        raise BuildError(
            "no quantized model was at hand to try it with", code="not-proven", hint="provision install --no-cache"
        )
    return proof


def note_adopted(foreign: Foreign, plan: BuildPlan, environment: Environment, *, key: str, proof: Proof, now: str) -> None:
    """Remember that it was proven for the plan with `key`, and by which libraries it is known again."""
    data = {
        "schema": 1,
        "placed_by": foreign.installer,
        "date": now,
        "backend": plan.backend,
        "engine_version": foreign.version,
        "action": "kept",
        "key": key,
        "source": foreign.name,
        "wheel": None,
        "plan": {},
        "proof": proof.to_data(),
        "libraries": {path.name: sha256_of(path) for path in sorted(foreign.folder.iterdir()) if path.is_file()},
        "dependencies": [],
    }
    write_json(environment.state_dir / FILE, data)


def still_adopted(foreign: Foreign, environment: Environment, key: str) -> Proof | None:
    """Its proof from before, when it was given for this very plan and the libraries are still the same."""
    try:
        data = json.loads((environment.state_dir / FILE).read_text(encoding="utf-8"))
        before = installed_from_data(data, environment.platlib)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = before.key == key and before.engine_version == foreign.version and intact(before)
    return before.proof if same else None


def _installer(dist_info: Path) -> str:
    try:
        return (dist_info / "INSTALLER").read_text(encoding="utf-8").split()[0][:40]
    except (OSError, ValueError, IndexError):
        return "somebody else"
