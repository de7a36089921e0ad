"""A CUDA engine wheel in seconds: the engine of this environment and a tiny libggml-cuda.so, linked against the real runtime.

The library asks for libcudart, libcublas and the driver as the real one does, finds the first two by RUNPATH in NVIDIA's
wheels, and carries a fat binary with machine code for one architecture (of no use to a GPU: its code is empty).
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from provision.engine.runpath import wanted_runpath
from provision.engine.types import BuildPlan, ToolkitChoice
from provision.engine.wheelcache import cache_key
from provision.engine.wheelstore import store_wheel
from tests.support.engine_wheel import repack_engine

ARCH = "90"
RUNTIME = ("nvidia-cuda-runtime==13.0.*", "nvidia-cublas==13.0.*")
_DRIVER = "void *cuInit(void) { return 0; }\n"
_SOURCE = """
extern int cudaGetDeviceCount(int *);
extern void *cuInit(void);
extern int cublasCreate_v2(void **);
__attribute__((section(".nv_fatbin"), used)) static const unsigned char fatbin[] = {{{fatbin}}};
int ggml_backend_cuda_probe(void) {{ int n; void *h; cuInit(); cublasCreate_v2(&h); return cudaGetDeviceCount(&n); }}
"""


def runtime_wheels(folder: Path) -> Path:
    """NVIDIA's runtime packages from the index (about 420 MB); skips the test where they cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *RUNTIME]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NVIDIA's runtime wheels cannot be downloaded here: {done.stderr.strip()[-200:]}")
    return folder


def cuda_plan() -> BuildPlan:
    """What such a wheel is built by."""
    toolkit = ToolkitChoice(kind="pypi", version=(13, 0), root="/toolkit", runtime_packages=RUNTIME)
    return BuildPlan(
        backend="cuda",
        engine_version="0.3.36",
        python="python",
        source="build",
        cuda_archs=(ARCH,),
        toolkit=toolkit,
        platform_key="linux-x86_64-glibc2.36",
        gpu_check=False,
    )


def store_cuda_wheel(provision_home: Path, *, runtime: Path, work: Path) -> Path:
    """Put the wheel into the wheel cache, as `provision install --cuda --cuda-arch 90 --no-gpu-check` would."""
    plan = cuda_plan()
    library = _library(plan, runtime=runtime, work=work)
    wheel = repack_engine(work / "wheel", extra={"llama_cpp/lib/libggml-cuda.so": library.read_bytes()})
    return store_wheel(wheel, provision_home / "wheels", cache_key(plan), plan=plan).path


def _library(plan: BuildPlan, *, runtime: Path, work: Path) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc here")
    work.mkdir(parents=True, exist_ok=True)
    for wheel in runtime.glob("nvidia_*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(("libcudart.so.13", "libcublas.so.13")):
                    (work / name.rsplit("/", 1)[-1]).write_bytes(archive.read(name))
    (work / "driver.c").write_text(_DRIVER, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so", "driver.c"], cwd=work, check=True)
    (work / "cuda.c").write_text(_SOURCE.format(fatbin=",".join(map(str, _fatbin(int(ARCH))))), encoding="utf-8")
    runpath = wanted_runpath(plan)
    assert runpath is not None
    link = [compiler, "-shared", "-fPIC", "-o", "libggml-cuda.so", "cuda.c", "-L.", "-l:libcudart.so.13", "-l:libcublas.so.13"]
    # Like ggml's own: the soname, and what is not linked directly is somebody else's matter.
    link += ["-lcuda", "-Wl,-soname,libggml-cuda.so", f"-Wl,-rpath,{runpath}", "-Wl,--allow-shlib-undefined"]
    subprocess.run(link, cwd=work, check=True)
    return work / "libggml-cuda.so"


def _fatbin(arch: int) -> bytes:
    """One container with one entry of machine code, laid out as provision.engine.elf reads it."""
    entry = struct.pack("<HHIQ", 2, 0x101, 64, 0) + b"\0" * 12 + struct.pack("<I", arch) + b"\0" * 32
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entry)) + entry
