"""The utilisation of a GPU is asked of NVML while something runs: tried with a stand-in for its library.

With a driver that answers, generation goes on for as long as is asked, and no longer; without one nobody waits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provision.processes import run_child
from provision.smoke.demo import demo_model_path

ROOT = Path(__file__).parents[3]
CHILDREN = ROOT / "provision/smoke/children"
SCRIPT = "import time, smoke_gpu\nwith smoke_gpu.Watch() as watch:\n    time.sleep(0.3)\nprint(watch.busiest)"

pytestmark = [pytest.mark.integration]


def watch(environ: dict[str, str]) -> str:
    argv = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(argv, cwd=CHILDREN, env=environ, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libnvidia-ml.so.1")
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests/support/fake_nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", str(source), "-o", str(library)], check=True)
    return tmp_path


@pytest.mark.parametrize(("scenario", "said"), [("two", "63"), ("unified", "None"), ("mismatch", "None"), ("lost", "63")])
def test_the_busiest_gpu_counts(scenario: str, said: str, stand_in: Path) -> None:
    assert watch({**os.environ, "LD_LIBRARY_PATH": str(stand_in), "FAKE_NVML": scenario}) == said


def test_without_nvml_nothing_is_said() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    assert watch(dict(os.environ)) == "None"


def measured(environ: dict[str, str], **more: float) -> dict[str, object]:
    pytest.importorskip("llama_cpp", reason="the engine is not installed here: provision install")
    request = {
        "model": str(demo_model_path()),
        "llama_kwargs": {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1},
        "stages": ["speed"],
        "speed": {"n_prompt": 16, "n_generate": 4, "repetitions": 2, "limit_s": 3},
        **more,
    }
    outcome = run_child(Path(sys.executable), CHILDREN / "measure.py", request, timeout_s=120, env=environ)
    assert outcome.kind == "ok", outcome
    return dict(outcome.answer)


def test_a_watched_generation_is_as_long_as_asked(stand_in: Path) -> None:
    environ = {**os.environ, "LD_LIBRARY_PATH": str(stand_in), "FAKE_NVML": "two"}
    long = measured(environ, watch_s=1.2)
    assert 1.2 <= float(str(long["generated_s"])) < 3
    assert long["gpu_utilisation"] == 63
    assert long["speed"] == {"n_prompt": 16, "n_generate": 4, "pp": long["speed"]["pp"], "tg": long["speed"]["tg"]}  # type: ignore[index]
    short = measured(environ)
    assert 0 < float(str(short["generated_s"])) < 0.6


def test_nobody_waits_where_no_driver_answers() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    alone = measured(dict(os.environ), watch_s=30.0)
    assert float(str(alone["generated_s"])) < 3
    assert alone["gpu_utilisation"] is None
