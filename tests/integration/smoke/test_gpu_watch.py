"""The utilisation of a GPU is asked of NVML while something runs: tried with a stand-in for its library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHILDREN = ROOT / "provision/smoke/children"
SCRIPT = "import time, smoke_gpu\nwith smoke_gpu.Watch() as watch:\n    time.sleep(0.3)\nprint(watch.busiest)"

pytestmark = [pytest.mark.integration]


def watch(environ: dict[str, str]) -> str:
    argv = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(argv, cwd=CHILDREN, env=environ, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(("scenario", "said"), [("two", "63"), ("unified", "None"), ("mismatch", "None"), ("lost", "63")])
def test_the_busiest_gpu_counts(scenario: str, said: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libnvidia-ml.so.1")
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests/support/fake_nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", str(source), "-o", str(library)], check=True)
    assert watch({**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML": scenario}) == said


def test_without_nvml_nothing_is_said() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    assert watch(dict(os.environ)) == "None"
