"""Proof without a GPU: the files themselves say which GPUs they serve, where they look, and what they would miss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from provision.engine.elf import Library, read_library
from provision.engine.types import BuildPlan, Proof
from provision.errors import BuildError
from provision.processes import run

# The driver brings it, on the machine that has one.
DRIVER_LIBRARY = "libcuda.so.1"


def prove_by_elf(plan: BuildPlan, libraries: Path, *, runpath: str | None, environ: Mapping[str, str]) -> Proof:
    """Device code for exactly the architectures of the plan, the RUNPATH set, nothing missing but the driver's library."""
    files = sorted(path for path in libraries.iterdir() if path.is_file() and ".so" in path.name)
    cuda = next((path for path in files if path.name == "libggml-cuda.so"), None)
    if cuda is None:
        raise BuildError(
            "the wheel holds no libggml-cuda.so: this is a CPU build", code="no-cuda-library", hint="provision doctor"
        )
    found = judge_library(read_library(cuda.read_bytes()), plan, runpath=runpath)
    missing = sorted({name for path in files for name in missing_libraries(path, environ)} - {DRIVER_LIBRARY})
    if missing:
        raise BuildError(
            f"libraries the engine needs are not found: {', '.join(missing)}", code="library-missing", hint="provision doctor"
        )
    return Proof(
        device_archs=found.gpu_code,
        notes=("proven by the binary alone: no GPU answered here",),
    )


def judge_library(library: Library, plan: BuildPlan, *, runpath: str | None) -> Library:
    """Raise BuildError unless `library` is what `plan` promised."""
    if set(library.gpu_code) != set(plan.cuda_archs):
        raise BuildError(
            f"libggml-cuda.so holds machine code for {', '.join(library.gpu_code) or 'no GPU'},"
            f" not for {', '.join(plan.cuda_archs)}",
            code="wrong-archs",
            hint="provision install --cuda --no-cache",
        )
    if DRIVER_LIBRARY not in library.needed and "GGML_CUDA_NO_VMM=ON" not in " ".join(plan.cmake_args):
        raise BuildError("libggml-cuda.so is not linked to the driver", code="wrong-links", hint="provision install --no-cache")
    if runpath is not None and ":".join(library.runpath) != runpath:
        raise BuildError(
            f"libggml-cuda.so looks in {':'.join(library.runpath) or 'no folder'}, not in {runpath}",
            code="wrong-runpath",
            hint="provision install --cuda --no-cache",
        )
    return library


def missing_libraries(path: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Libraries the loader would not find for `path`, by ldd."""
    try:
        done = run(["ldd", str(path)], timeout_s=60, env=environ)
    except OSError:
        return ()
    return tuple(line.split()[0] for line in done.stdout.splitlines() if line.rstrip().endswith("not found"))
