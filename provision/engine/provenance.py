"""`provision.json` in the engine's dist-info: what it is, where it came from, how it was built, and what was seen to work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from provision.engine.environment import Environment
from provision.engine.staging import PACKAGE, Stage, record_file
from provision.engine.types import Action, Backend, BuildPlan, Device, Proof, WheelFile
from provision.engine.wheelstore import sha256_of

FILE = "provision.json"
_SDIST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+!-]{0,199}) sha256 ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The engine of an environment as its provenance file tells it."""

    backend: Backend
    engine_version: str
    key: str
    wheel: WheelFile | None
    """None for an engine that was here before and is not ours."""
    proof: Proof
    dependencies: tuple[str, ...]
    libraries: Mapping[str, str]
    """File name to sha256."""
    folder: Path
    source: str = ""
    """What the wheel was made from: `NAME.tar.gz sha256 HEX` for a build, the address of a prebuilt one."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """How it was built: cmake_args, env, compiler, cuda_archs, toolkit (`pypi 12.8`) and reasons, as they were written."""

    @property
    def sdist(self) -> tuple[str, str] | None:
        """(file name, sha256) of the source package it was built from; None when that was not noted."""
        found = _SDIST.fullmatch(self.source)
        return (found.group(1), found.group(2)) if found else None


def write_provenance(
    stage: Stage,
    plan: BuildPlan,
    *,
    key: str,
    action: Action,
    wheel: WheelFile,
    proof: Proof,
    now: str,
    source: str,
    before: Installed | None = None,
) -> None:
    """Put the file into the stage, so that it arrives together with what it describes.

    `before` is the engine of ours that it replaces: packages that came with that one still came with us.
    """
    data = {
        "schema": 1,
        "placed_by": "provision",
        "date": now,
        "backend": plan.backend,
        "engine_version": plan.engine_version,
        "action": action,
        "key": key,
        "source": source,
        "wheel": wheel.to_data(),
        "plan": {
            "cmake_args": list(plan.cmake_args),
            "env": dict(plan.env),
            "compiler": plan.compiler,
            "cuda_archs": list(plan.cuda_archs),
            "toolkit": f"{plan.toolkit.kind} {'.'.join(map(str, plan.toolkit.version))}" if plan.toolkit else None,
            "reasons": [str(reason) for reason in plan.reasons],
        },
        "proof": proof.to_data(),
        "libraries": {path.name: sha256_of(path) for path in sorted(stage.libraries.iterdir()) if path.is_file()},
        "dependencies": sorted({*stage.dependencies, *(before.dependencies if before else ())}),
    }
    (stage.dist_info / FILE).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    record_file(stage.dist_info, FILE)


def read_installed(environment: Environment) -> Installed | None:
    """The engine we placed in `environment`, or None: none, somebody else's, or a file we cannot read."""
    for dist_info in sorted(environment.platlib.glob("llama_cpp_python-*.dist-info")):
        try:
            data = json.loads((dist_info / FILE).read_text(encoding="utf-8"))
            return installed_from_data(data, environment.platlib)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def intact(installed: Installed) -> bool:
    """Whether the native libraries are still the ones that were proven."""
    try:
        return bool(installed.libraries) and all(
            sha256_of(installed.folder / name) == digest for name, digest in installed.libraries.items()
        )
    except OSError:
        return False


def installed_from_data(data: Mapping[str, Any], site: Path) -> Installed:
    """What a provenance file says; KeyError, TypeError or ValueError when it says something else."""
    proof = data["proof"]
    offloaded = proof["offloaded_layers"]
    return Installed(
        backend=cast(Backend, data["backend"]),
        engine_version=data["engine_version"],
        key=data["key"],
        wheel=_wheel(data["wheel"]),
        proof=Proof(
            devices=tuple(Device(**row) for row in proof["devices"]),
            quantized_inference=proof["quantized_inference"],
            gpu_offload=proof["gpu_offload"],
            offloaded_layers=(offloaded[0], offloaded[1]) if offloaded else None,
            same_answer_as_cpu=proof["same_answer_as_cpu"],
            device_archs=tuple(proof["device_archs"]),
            notes=tuple(proof["notes"]),
        ),
        dependencies=tuple(data["dependencies"]),
        libraries=data["libraries"],
        folder=site / PACKAGE / "lib",
        source=str(data.get("source", "")),
        plan=dict(data["plan"]),
    )


def _wheel(data: Mapping[str, Any] | None) -> WheelFile | None:
    if data is None:
        return None
    return WheelFile(path=Path(data["path"]), sha256=data["sha256"], size_bytes=data["size_bytes"])
