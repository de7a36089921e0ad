"""A CUDA toolkit without root: NVIDIA's packages from PyPI laid out as nvcc and CMake expect one.

The wheels of CUDA 13 hold the whole compiler and miss four things: unversioned names of the libraries, `lib64` (nvcc.profile
of 13.0 and 13.1 looks there), the driver's stub, and a root outside any user's environment (flashinfer-ai/flashinfer#5064).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from provision.engine.frontend import Frontend, refuse_full_disk
from provision.engine.locks import alone
from provision.engine.types import ToolkitChoice
from provision.errors import BuildError, MachineError
from provision.events import Progress, ProgressEnded, Reporter, StepEnded, StepStarted
from provision.processes import run

_COMPLETE = "provision.json"
_UNVERSIONED = ("libcudart", "libcublas", "libcublasLt")
# What ggml 0.25.3 calls of the driver for its virtual memory pool; the list is in provision/data/cuda-tables.json too.
_DRIVER_SYMBOLS = (
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuGetErrorString",
    "cuMemAddressFree",
    "cuMemAddressReserve",
    "cuMemCreate",
    "cuMemGetAllocationGranularity",
    "cuMemMap",
    "cuMemRelease",
    "cuMemSetAccess",
    "cuMemUnmap",
)


def ensure_toolkit(
    choice: ToolkitChoice, *, python: str, frontend: Frontend, environ: Mapping[str, str], reporter: Reporter
) -> Path:
    """The assembled root, from before or made now; whole or not there. BuildError (`toolkit-failed`) says what failed."""
    root = Path(choice.root)
    if _is_complete(root, choice):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with alone(
        root.parent, waiting="another installation is putting a CUDA toolkit together; waiting for it", reporter=reporter
    ):
        if not _is_complete(root, choice):
            _put_together(choice, root, python=python, frontend=frontend, environ=environ, reporter=reporter)
    return root


def _put_together(
    choice: ToolkitChoice, root: Path, *, python: str, frontend: Frontend, environ: Mapping[str, str], reporter: Reporter
) -> None:
    started = time.monotonic()
    name = f"CUDA {'.'.join(map(str, choice.version))}"
    reporter(StepStarted(step="toolkit", title=f"putting {name} together from NVIDIA's packages"))
    reporter(Progress(task="toolkit", label=f"downloading {name}", done=0, total=None, unit="bytes"))
    partial = root.with_name(f".{root.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        command = frontend.install_to(python, choice.packages, target=partial / "wheels")
        done = run(command, timeout_s=7200, env=environ)
        refuse_full_disk(done, root.parent)
        if done.returncode != 0:
            words = [line for line in (done.stderr + done.stdout).splitlines() if "ERROR" in line or "error" in line]
            raise BuildError(
                f"{name} could not be downloaded: {(words or ['no reason given'])[-1]}",
                code="toolkit-failed",
                hint=" ".join(command),
            )
        made = lay_out(partial / "wheels", partial / "root")
        make_stub(made / "lib" / "stubs" / "libcuda.so", environ=environ)
        _try_nvcc(made, environ)
        facts = {"version": list(choice.version), "packages": list(choice.packages)}
        (made / _COMPLETE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        shutil.rmtree(root, ignore_errors=True)
        os.replace(made, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        reporter(ProgressEnded(task="toolkit"))
    elapsed = time.monotonic() - started
    reporter(StepEnded(step="toolkit", status="done", summary=f"{name} in {root}", elapsed_s=elapsed))


def lay_out(wheels: Path, root: Path) -> Path:
    """Turn `wheels/nvidia/cuNN` into a CUDA root and mend its layout."""
    found = [path for path in (wheels / "nvidia").glob("cu[0-9]*") if (path / "bin" / "nvcc").is_file()]
    if len(found) != 1:
        raise BuildError(
            "NVIDIA's packages are not laid out as expected: no nvidia/cuNN/bin/nvcc",
            code="toolkit-failed",
            hint="provision doctor",
        )
    os.replace(found[0], root)
    for info in wheels.glob("*.dist-info"):
        os.replace(info, root / info.name)
    for name in _UNVERSIONED:
        plain = root / "lib" / f"{name}.so"
        versioned = sorted((root / "lib").glob(f"{name}.so.[0-9]*"), key=lambda path: len(path.name))
        if not plain.exists() and versioned:
            plain.symlink_to(versioned[0].name)
    if not (root / "lib64").exists():
        (root / "lib64").symlink_to("lib")
    return root


def make_stub(path: Path, *, environ: Mapping[str, str]) -> None:
    """A libcuda.so to link against, which asks for the driver's libcuda.so.1 at run time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in _DRIVER_SYMBOLS), encoding="utf-8")
    compiler = shutil.which("cc", path=environ.get("PATH")) or shutil.which("gcc", path=environ.get("PATH")) or "cc"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(path), str(source)]
    try:
        done = run(command, timeout_s=120, env=environ)
    except OSError as error:
        raise MachineError(
            "no C compiler to make the driver's stub with", code="no-compiler", hint="provision doctor"
        ) from error
    if done.returncode != 0:
        raise BuildError(
            f"the driver's stub could not be linked: {done.stderr[-300:]}", code="toolkit-failed", hint=" ".join(command)
        )
    source.unlink()


def _is_complete(root: Path, choice: ToolkitChoice) -> bool:
    try:
        return bool(json.loads((root / _COMPLETE).read_text(encoding="utf-8"))["packages"] == list(choice.packages))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _try_nvcc(root: Path, environ: Mapping[str, str]) -> None:
    nvcc = root / "bin" / "nvcc"
    done = run([str(nvcc), "--version"], timeout_s=60, env=environ)
    if done.returncode != 0 or "release" not in done.stdout:
        raise BuildError(
            f"the nvcc of NVIDIA's packages does not run: {done.stderr[-300:]}", code="toolkit-failed", hint=f"{nvcc} --version"
        )
