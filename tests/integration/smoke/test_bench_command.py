"""`provision bench` by subprocess, on the shipped demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provision.smoke.demo import demo_model_path

llama_cpp = pytest.importorskip("llama_cpp", reason="the engine is not installed here: provision install")
pytestmark = [pytest.mark.integration]


def bench(home: Path, *words: str) -> tuple[int, dict[str, Any]]:
    env = {**os.environ, "HOME": str(home), "PROVISION_HOME": str(home / "provision"), "HF_HOME": str(home / "hf")}
    argv = [sys.executable, "-m", "provision", "bench", *words, "--json"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, json.loads(done.stdout)


def test_rows_and_files(tmp_path: Path) -> None:
    small = ("-r", "2", "--prompt-tokens", "64", "--generate-tokens", "16")
    outputs = [tmp_path / name for name in ("b.json", "b.md", "b.svg")]
    flags = [word for path in outputs for word in ("-o", str(path))]
    code, envelope = bench(tmp_path, str(demo_model_path()), "--threads", "1", *small, *flags)
    assert (code, envelope["status"]) == (0, "ok")
    rows = envelope["data"]["rows"]
    assert [(row["device"], row["test"], row["n_threads"]) for row in rows] == [("CPU", "pp64", 1), ("CPU", "tg16", 1)]
    assert all(row["tokens_per_s"] > 0 and row["ms_per_token"] > 0 for row in rows)
    assert all(path.stat().st_size > 100 for path in outputs)
    # A model that fits the processor's cache teaches nothing about memory.
    assert not (tmp_path / "provision" / "speed.json").exists()


def test_a_gpu_that_is_not_there_is_said_with_its_own_exit_code(tmp_path: Path) -> None:
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this engine has a GPU backend")
    code, envelope = bench(tmp_path, str(demo_model_path()), "--compare", "cpu,gpu", "-r", "1")
    assert code == envelope["exit_code"] == 3
    assert envelope["errors"][0]["code"] == "no-gpu"


@pytest.mark.parametrize("words", [["--compare", "tpu"], ["--threads", "0"], ["--threads", "x"], ["-o", "x.pdf"]])
def test_bad_options_are_usage_errors(words: list[str], tmp_path: Path) -> None:
    code, envelope = bench(tmp_path, str(demo_model_path()), *words)
    assert code == envelope["exit_code"] == 2
