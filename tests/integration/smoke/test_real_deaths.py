"""An engine that really dies, by every signal that matters: each becomes a named check, and we live."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from provision.settings import read_settings
from provision.smoke import service
from provision.smoke.demo import demo_model_path
from provision.smoke.types import SmokeResult

pytestmark = [pytest.mark.integration]

# An engine of a few lines that imports like llama_cpp and does what it is told when a model is loaded.
_ENGINE = """
import os, signal, sys, time
from types import SimpleNamespace
__version__ = "0.0"
class Llama:
    def __init__(self, model_path, *, n_ctx=512, verbose=True, **kwargs):
        {deed}
"""
_LIB = """
def llama_log_callback(function):
    return function
def llama_log_set(callback, data):
    callback(4, b"llama_model_load: error loading model: unknown model architecture: 'nope'\\n", None)
"""


def smoke_with(deed: str, tmp_path: Path) -> SmokeResult:
    package = tmp_path / "llama_cpp"
    package.mkdir()
    (package / "__init__.py").write_text(_ENGINE.format(deed=deed))
    (package / "llama_cpp.py").write_text(_LIB)
    (package / "llama_chat_format.py").write_text("Jinja2ChatFormatter = None")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    settings = read_settings(environ, home=Path.home())
    return service.run_smoke(demo_model_path(), llama_kwargs={}, python=Path(sys.executable), settings=settings)


@pytest.mark.parametrize(
    ("deed", "check_id"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "A3-segfault"),
        ("os.kill(os.getpid(), signal.SIGILL)", "A3-illegal-instruction"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "A3-killed"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "A3-bus-error"),
        ("os.abort()", "A3-abort"),
        ("raise ValueError('Failed to load model from file')", "A3-unknown-architecture"),
        ("sys.exit(0)", "A3-unknown-architecture"),
    ],
)
def test_a_death_is_a_named_check(deed: str, check_id: str, tmp_path: Path) -> None:
    result = smoke_with(deed, tmp_path)
    assert result.verdict == "fail"
    death = next(check for check in result.failed if check.id.startswith("A3-"))
    assert death.id == check_id, death.summary
    assert death.remedy
    assert death.remedy.count("provision ") >= 1
    assert (result.device, result.generation_tokens_per_s, result.answer) == (None, None, None)
    assert result.line.startswith("FAIL  demo · Q8_0 · ")


def test_an_engine_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    quick = dataclasses.replace(service.PROFILES["quick"], base_timeout_s=1.0)
    monkeypatch.setattr(service, "PROFILES", {"quick": quick})
    result = smoke_with("time.sleep(600)", tmp_path)
    assert "A3-timeout" in {check.id for check in result.failed}


def test_no_engine_and_no_python(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    settings = read_settings(environ, home=Path.home())
    result = service.run_smoke(demo_model_path(), llama_kwargs={}, python=Path(sys.executable), settings=settings)
    missing = next(check for check in result.failed if check.id == "A3-engine-missing")
    assert "libcudart.so.12" in missing.summary
    nowhere = service.run_smoke(demo_model_path(), llama_kwargs={}, python=tmp_path / "python", settings=settings)
    assert "A3-python-missing" in {check.id for check in nowhere.failed}
