"""What the engine room speaks of: the wish, the plan with its reasons, the proof, and the result of an installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from provision.host.types import Version

Backend = Literal["cpu", "cuda", "vulkan", "metal", "rocm"]
Action = Literal["kept", "reused", "prebuilt", "built"]

ENGINE_VERSION = "0.3.36"
"""The llama-cpp-python the facts in this room were measured with; `--engine-version` asks for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallWish:
    """What was asked for on the command line."""

    backend: Backend | Literal["auto"] = "auto"
    toolkit: str = "auto"
    """`auto`, `system`, `pypi`, or the path of a CUDA root."""
    cuda_archs: tuple[str, ...] = ()
    """CUDA architectures, `89`; empty means those of the GPUs present."""
    engine_version: str = ENGINE_VERSION
    python: Path | None = None
    """The Python to install into; None is the running one."""
    source: Literal["any", "build", "prebuilt"] = "any"
    use_cache: bool = True
    keep_foreign: bool = True
    """Whether an engine somebody else installed may stay when it is the one planned and proves right."""
    gpu_check: bool = True
    """False on a machine that builds for another: the proof is then read from the ELF files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One decision of a plan: what was decided on, what for, and from which fact."""

    topic: str
    choice: str
    because: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.choice} ({self.because})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolkitChoice:
    """The CUDA toolkit a build uses. `root` is where it lies or, for `pypi`, where it will be assembled."""

    kind: Literal["system", "pypi"]
    version: Version
    root: str
    packages: tuple[str, ...] = ()
    """PyPI requirements it is assembled from; empty for a system toolkit."""
    runtime_packages: tuple[str, ...] = ()
    """PyPI requirements the target environment needs to run what it built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrebuiltChoice:
    """A wheel of the maintainer's index that serves this machine."""

    tag: str
    """The index folder: `cpu`, `cu124`, `metal`."""
    filename: str
    url: str
    sha256: str | None
    runtime_packages: tuple[str, ...] = ()
    runtime_major: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Everything the executor needs; it adds nothing of its own."""

    backend: Backend
    engine_version: str
    python: str
    """Executable of the target environment."""
    source: Literal["build", "prebuilt"]
    cmake_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of the build; PATH holds only what goes in front."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path to content: written before the build, because flags name them."""
    jobs: int = 1
    build_requires: tuple[str, ...] = ()
    """PyPI requirements of the private build environment."""
    cuda_archs: tuple[str, ...] = ()
    toolkit: ToolkitChoice | None = None
    prebuilt: PrebuiltChoice | None = None
    compiler: str = ""
    """Host compiler as the cache key knows it: `g++ 12.2.0`."""
    platform_key: str = ""
    """Operating system, machine and C library: part of the cache key."""
    cpu_key: str = ""
    """Digest of the CPU features the build is native to; empty when it is not native."""
    gpu_check: bool = True
    estimated_s: float | None = None
    disk_bytes: int = 0
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def runtime_packages(self) -> tuple[str, ...]:
        """PyPI requirements of the target environment besides the engine's own dependencies."""
        if self.prebuilt is not None:
            return self.prebuilt.runtime_packages
        return self.toolkit.runtime_packages if self.toolkit is not None else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One ggml device as the installed engine enumerates it."""

    name: str
    description: str
    kind: str
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None

    def to_data(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "kind": self.kind,
            "memory_total_bytes": self.memory_total_bytes,
            "memory_free_bytes": self.memory_free_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was seen to work, in child processes or in the ELF files."""

    devices: tuple[Device, ...] = ()
    quantized_inference: bool | None = None
    gpu_offload: bool | None = None
    """None: no GPU backend, or a build for another machine."""
    offloaded_layers: tuple[int, int] | None = None
    same_answer_as_cpu: bool | None = None
    device_archs: tuple[str, ...] = ()
    """CUDA architectures found in the binary; only read for builds for another machine."""
    notes: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        return {
            "devices": [device.to_data() for device in self.devices],
            "quantized_inference": self.quantized_inference,
            "gpu_offload": self.gpu_offload,
            "offloaded_layers": list(self.offloaded_layers) if self.offloaded_layers else None,
            "same_answer_as_cpu": self.same_answer_as_cpu,
            "device_archs": list(self.device_archs),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """A wheel on disk."""

    path: Path
    sha256: str
    size_bytes: int

    def to_data(self) -> dict[str, Any]:
        return {"path": str(self.path), "sha256": self.sha256, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallResult:
    """What an installation ended with; `to_data` is the `data` of the command-line contract."""

    plan: BuildPlan
    action: Action
    wheel: WheelFile | None
    proof: Proof
    elapsed_s: float
    shell_lines: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        return {
            "backend": self.plan.backend,
            "engine_version": self.plan.engine_version,
            "action": self.action,
            "plan": plan_to_data(self.plan, self.shell_lines),
            "wheel": self.wheel.to_data() if self.wheel else None,
            "proof": self.proof.to_data(),
            "elapsed_s": self.elapsed_s,
        }


def plan_to_data(plan: BuildPlan, shell_lines: tuple[str, ...]) -> dict[str, Any]:
    """The `plan` of the contract; `argv` holds the shell lines a person could run by hand."""
    return {
        "cmake_args": list(plan.cmake_args),
        "env": dict(plan.env),
        "argv": list(shell_lines),
        "reasons": [str(reason) for reason in plan.reasons],
        "warnings": list(plan.warnings),
        "source": plan.source,
        "jobs": plan.jobs,
        "cuda_archs": list(plan.cuda_archs),
        "estimated_s": plan.estimated_s,
        "disk_bytes": plan.disk_bytes,
    }
