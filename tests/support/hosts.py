"""Machines put together in one line, for tests of pure decisions."""

from __future__ import annotations

from typing import Any

from provision.host.types import Cpu, CudaToolkit, Driver, Gpu, Host, Memory, System, Tool, Version
from provision.units import GIB

GCC12 = Tool(name="g++", path="/usr/bin/g++", version=(12, 2, 0), works=True, detail="gcc")
CMAKE = Tool(name="cmake", path="/usr/bin/cmake", version=(3, 25, 1), works=True)
NINJA = Tool(name="ninja", path="/usr/bin/ninja", version=(1, 11, 1), works=True)


def linux(**changes: Any) -> Host:
    """A Debian 12 machine with a compiler, two cores and 16 GiB; `changes` replace whole fields of Host."""
    fields: dict[str, Any] = {
        "system": System(os="linux", arch="x86_64", distribution="debian 12", libc="glibc", libc_version=(2, 36)),
        "cpu": Cpu(model="a CPU", cores=2, flags=("avx2", "fma"), amx_compiler="not-needed"),
        "memory": Memory(total_bytes=16 * GIB, available_bytes=15 * GIB),
        "tools": (GCC12, CMAKE, NINJA),
    }
    return Host(**(fields | changes))


def nvidia(capability: Version, name: str = "NVIDIA GPU", **changes: Any) -> Gpu:
    """One visible NVIDIA GPU."""
    fields: dict[str, Any] = {
        "index": 0,
        "name": name,
        "vendor": "nvidia",
        "source": "nvml",
        "compute_capability": capability,
        "memory_total_bytes": 24 * GIB,
    }
    return Gpu(**(fields | changes))


def driver(version: Version, cuda: Version | None = None) -> Driver:
    """An NVIDIA driver that answers."""
    return Driver(version=version, cuda_version=cuda, source="nvml")


def toolkit(version: Version, root: str = "/usr/local/cuda", **changes: Any) -> CudaToolkit:
    """A whole CUDA root."""
    fields: dict[str, Any] = {
        "root": root,
        "version": version,
        "found_via": ("PATH",),
        "nvcc": f"{root}/bin/nvcc",
        "nvcc_works": True,
    }
    return CudaToolkit(**(fields | changes))
