"""The engine of an environment as doctor's child sees it: the real one, none, and broken ones."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provision.host.probe_engine import probe_engine
from provision.host.types import Engine
from tests.support.engine_environment import make_environment
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without an engine."""
    return make_environment(tmp_path_factory.mktemp("bare") / "venv", borrow=False)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_tiny_model(tmp_path / "tiny-Q8_0.gguf")
    monkeypatch.setattr("provision.host.probe_engine.quantized_model", lambda: path)
    return path


def probe(python: Path, cache: Path | None = None) -> Engine:
    return probe_engine(python, os.environ, timeout_s=60, cpu_model="this", cache=cache)


def test_the_engine_of_this_environment_runs_a_quantized_model_and_is_remembered(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="no engine in the environment of the tests")
    cache = tmp_path / "own" / "engine"
    engine = probe(Path(sys.executable), cache)
    assert engine.version is not None
    assert (engine.loads, engine.problem, engine.quantized_inference) == (True, None, True)
    assert "cpu" in engine.backends
    if platform.machine() == "x86_64":
        assert "sse3" in engine.cpu_features
    assert any(device.kind == "cpu" and device.memory_total_bytes for device in engine.devices)
    assert cache.exists()
    model.unlink()
    assert probe(Path(sys.executable), cache).quantized_inference is True
    # Without what is remembered, a model that cannot be loaded is no proof.
    assert probe(Path(sys.executable), tmp_path / "other").quantized_inference is not True


def test_no_engine_is_no_problem(bare: Path) -> None:
    engine = probe(bare)
    assert (engine.version, engine.loads, engine.problem) == (None, None, None)


def test_a_python_that_is_none(tmp_path: Path) -> None:
    assert probe(tmp_path / "nothing").problem == "the target Python cannot be started"


OTHERS = "".join(
    f"void ggml_backend_{name}(void) {{}}\n"
    for name in ("dev_get", "dev_name", "dev_description", "dev_type", "dev_memory", "reg_count", "reg_get", "reg_name")
)
BROKEN = {
    "no libraries": ("", "cannot open shared object file"),
    "dies while loading": ("__attribute__((constructor)) void f(void) { __builtin_trap(); }", "while loading its libraries"),
    "dies while looking": (
        "#include <stdlib.h>\nunsigned long ggml_backend_dev_count(void) { abort(); }\n" + OTHERS,
        "dies of SIGABRT while looking for devices",
    ),
    "hangs while looking": (
        "#include <unistd.h>\nunsigned long ggml_backend_dev_count(void) { sleep(60); return 0; }\n" + OTHERS,
        "does not answer in 2 s while looking for devices",
    ),
    "lacks a function": ("int nothing;", "ggml_backend_dev_count"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_engine_is_named_by_how_it_breaks(case: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a broken library with")
    source, words = BROKEN[case]
    python = make_environment(tmp_path / "venv", borrow=False)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    libraries = site / "llama_cpp" / "lib"
    libraries.mkdir(parents=True)
    (site / "llama_cpp" / "__init__.py").write_text("")
    (site / "llama_cpp_python-9.9.9.dist-info").mkdir()
    (site / "llama_cpp_python-9.9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 9.9.9\n"
    )
    if source:
        (tmp_path / "broken.c").write_text(source + "\n")
        for name in ("libggml.so", "libllama.so"):
            subprocess.run(
                [compiler, "-shared", "-fPIC", "-w", str(tmp_path / "broken.c"), "-o", str(libraries / name)], check=True
            )
    engine = probe_engine(python, os.environ, timeout_s=2 if "hangs" in case else 60, cpu_model=None, cache=None)
    assert engine.version == "9.9.9"
    assert engine.problem is not None
    assert words in engine.problem
