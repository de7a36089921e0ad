"""Every way the measuring child can die has a name and a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from provision.processes import ChildOutcome
from provision.smoke.deaths import diagnose_death

LOAD, LAST = "llama_model_load: error loading model:", "llama_model_load_from_file_impl: failed to load model\n"


def outcome(
    kind: Literal["ok", "error", "signal", "timeout", "protocol", "missing"],
    *,
    signal: str | None = None,
    answer: Mapping[str, Any] | None = None,
    stderr: str = "",
) -> ChildOutcome:
    return ChildOutcome(kind=kind, answer=answer or {}, signal_name=signal, returncode=None, stderr_tail=stderr, elapsed_s=1.0)


@pytest.mark.parametrize(
    ("signal", "answer", "name"),
    [
        ("SIGSEGV", {"stage": "speed", "cpu_flags": ["amx_tile"]}, "amx-miscompiled"),
        ("SIGSEGV", {"stage": "speed", "cpu_flags": ["avx2"]}, "segfault"),
        ("SIGSEGV", {"stage": "load", "cpu_flags": ["amx_tile"]}, "segfault"),
        ("SIGILL", {}, "illegal-instruction"),
        ("SIGKILL", {"stage": "load"}, "killed"),
        ("SIGBUS", {"stage": "numerics"}, "bus-error"),
        ("SIGABRT", {"stage": "load"}, "abort"),
        ("SIGFPE", {"stage": "load"}, "signal"),
    ],
)
def test_signals_are_named(signal: str, answer: Mapping[str, Any], name: str) -> None:
    death = diagnose_death(outcome("signal", signal=signal, answer=answer))
    assert death is not None
    assert death.name == name
    assert "provision " in death.remedy


def test_an_assertion_says_which() -> None:
    stderr = "loading\n/src/ggml.c:12: GGML_ASSERT(a == b) failed\n"
    death = diagnose_death(outcome("signal", signal="SIGABRT", answer={"stage": "load"}, stderr=stderr))
    assert death is not None
    assert "GGML_ASSERT(a == b)" in death.summary


@pytest.mark.parametrize(
    ("stderr", "name"),
    [
        (f"{LOAD} unknown model architecture: 'nope'\n{LAST}", "unknown-architecture"),
        (f"{LOAD} tensor 'output.weight' data is not within the file bounds, model is corrupted\n", "file-truncated"),
        ("gguf_init_from_file_ptr: invalid magic characters: 'XXXX', expected 'GGUF'\n", "not-gguf"),
        ("alloc_buffer: allocating 4000.00 MiB on device 0: cudaMalloc failed: out of memory\n", "out-of-memory"),
        (f"{LOAD} missing tensor 'blk.0.attn_q.weight'\n", "file-incomplete"),
        (f"{LOAD} something new\n{LAST}", "load-failed"),
    ],
)  # fmt: skip
def test_a_refused_load_gives_the_engine_s_own_reason(stderr: str, name: str) -> None:
    death = diagnose_death(
        outcome("error", answer={"stage": "load", "error": "ValueError: Failed to load model"}, stderr=stderr)
    )
    assert death is not None
    assert death.name == name
    assert death.summary.endswith(stderr.splitlines()[0].strip())


def test_engine_missing_python_missing_and_timeout() -> None:
    missing = diagnose_death(
        outcome("error", answer={"stage": "import", "error": "ModuleNotFoundError: No module named 'llama_cpp'"})
    )
    assert missing is not None
    assert (missing.name, missing.remedy) == ("engine-missing", "provision install")
    assert (diagnose_death(outcome("missing")) or missing).name == "python-missing"
    assert (diagnose_death(outcome("timeout")) or missing).name == "timeout"
    assert diagnose_death(outcome("ok", answer={"stage": "done"})) is None
    # Leaving without a word in the middle is a death too, whatever the exit code says.
    assert (diagnose_death(outcome("ok", answer={"stage": "speed"})) or missing).name == "child-error"
