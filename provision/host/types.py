"""Facts about one machine as frozen data. Unknown is None, with a sentence in `notes`; it is never 0 and never a guess.

Sizes are bytes. Paths are strings, because a Host may describe somebody else's machine. Host names, user names and serials have
no field here; GPU UUIDs are kept apart in `Gpu.uuid` and leave the machine only on request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Operating system, C library and what surrounds us."""

    os: Literal["linux", "darwin", "windows", "other"]
    arch: str
    """As `platform.machine()` says it: x86_64, aarch64, arm64, AMD64."""
    distribution: str | None = None
    """`ID VERSION_ID` of os-release: `debian 12`."""
    distribution_like: tuple[str, ...] = ()
    """`ID_LIKE` of os-release: the distributions this one is made from, nearest first."""
    kernel: str | None = None
    libc: Literal["glibc", "musl", "other"] | None = None
    libc_version: Version | None = None
    container: str | None = None
    """`docker`, `podman`, `lxc`, ... or None outside of one."""
    wsl: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor, and which of its features the installed compiler can be trusted with."""

    model: str | None = None
    cores: int | None = None
    """Cores this process may use (affinity and cgroup quota counted), which may be fewer than the machine has."""
    flags: tuple[str, ...] = ()
    amx_compiler: Literal["trusted", "miscompiles", "untested", "not-needed"] = "untested"
    """Whether a compiled AMX program ran right. `not-needed`: this CPU has no AMX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory. `limit_bytes` is the tightest cgroup limit; `available_bytes` already respects it."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    swap_total_bytes: int | None = None
    limit_bytes: int | None = None
    limit_source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One folder we write to, and the space of its file system."""

    purpose: Literal["provision-home", "model-cache", "temporary", "environment"]
    path: str
    free_bytes: int | None = None
    total_bytes: int | None = None
    writable: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonEnvironment:
    """The Python a package would be installed into."""

    executable: str
    version: Version
    implementation: str = "CPython"
    abi: str | None = None
    is_venv: bool = False
    externally_managed: bool = False
    """PEP 668: the distribution forbids pip here."""
    managed_by: str | None = None
    """`pipx`, `uv-tool`, `conda` when a tool owns this environment."""
    pip_version: Version | None = None
    has_headers: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program found on this machine: compiler, cmake, ninja, git, uv, glslc, patchelf, ccache ..."""

    name: str
    path: str
    version: Version | None = None
    works: bool | None = None
    found_via: str = "PATH"
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The NVIDIA kernel driver and the newest CUDA its user-mode part serves."""

    version: Version | None = None
    cuda_version: Version | None = None
    source: str = ""
    problem: str | None = None
    """Why it does not answer although it is there: `version mismatch`, `not loaded`, `no device nodes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU (or one MIG slice that a process would see)."""

    index: int
    name: str
    vendor: Literal["nvidia", "amd", "intel", "apple", "software", "other"]
    source: str
    """Where it was read: `nvml`, `nvidia-smi`, `proc`, `sysfs`, `vulkan`, `system_profiler`."""
    compute_capability: Version | None = None
    """(8, 9). The CUDA architecture `89` is the same number without the dot: `cuda_arch`."""
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    unified_memory: bool = False
    """The GPU uses main memory (GB10, Jetson, Apple, integrated); its budget is part of the host's."""
    integrated: bool = False
    uuid: str | None = None
    pci_bus: str | None = None
    visible: bool = True
    """False when CUDA_VISIBLE_DEVICES hides it."""
    mig_mode: bool | None = None
    mig_parent: int | None = None
    ecc: bool | None = None
    persistence: bool | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    throttle_reasons: tuple[str, ...] = ()
    processes: int | None = None
    """How many processes use it; their names stay on the machine."""
    notes: tuple[str, ...] = ()

    @property
    def cuda_arch(self) -> str | None:
        """`89` for compute capability 8.9."""
        if self.vendor != "nvidia" or self.compute_capability is None:
            return None
        return "".join(str(part) for part in self.compute_capability[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaToolkit:
    """One CUDA root folder, whole or not."""

    root: str
    version: Version | None
    found_via: tuple[str, ...]
    """Every way that led here: `PATH`, `CUDA_HOME`, `/usr/local/cuda*`, `conda`, `nvidia wheels in site-packages`."""
    nvcc: str | None = None
    nvcc_works: bool | None = None
    missing: tuple[str, ...] = ()
    """Of: nvcc, cublas, cudart, headers, nvvm, driver-stub."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDevice:
    """A ggml device as the installed engine enumerates it."""

    name: str
    description: str
    kind: Literal["cpu", "gpu", "igpu", "accel", "other"]
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """llama-cpp-python in the target environment, as a child process saw it."""

    version: str | None
    """None when the package is not installed."""
    loads: bool | None = None
    """The native library could be loaded."""
    backends: tuple[str, ...] = ()
    """Lower-case backend names the build holds: cpu, cuda, vulkan, metal, rocm, rpc."""
    devices: tuple[EngineDevice, ...] = ()
    quantized_inference: bool | None = None
    """A quantized model answered in a child process. None: not tried."""
    problem: str | None = None
    placed_by_us: bool = False
    cpu_features: tuple[str, ...] = ()
    """What its CPU part was compiled for, by ggml's names (`avx2`, `avx512`); empty when it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """All that is known of one machine. `schema` changes when a reader of an older file would misread it."""

    schema: Literal[1] = 1
    system: System
    cpu: Cpu = field(default_factory=Cpu)
    memory: Memory = field(default_factory=Memory)
    disks: tuple[Disk, ...] = ()
    python: PythonEnvironment | None = None
    tools: tuple[Tool, ...] = ()
    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    toolkits: tuple[CudaToolkit, ...] = ()
    engine: Engine | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """The few variables that decide something: CUDA_HOME, CUDA_VISIBLE_DEVICES, CMAKE_ARGS, CC, CXX, LD_LIBRARY_PATH."""
    notes: tuple[str, ...] = ()
    """One sentence per probe that failed or could not know."""

    def tool(self, name: str) -> Tool | None:
        """The first tool of that name, in search order."""
        return next((tool for tool in self.tools if tool.name == name), None)
