"""The formulas against the engine, on published shapes and on every architecture that loads from metadata."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from provision.fit.types import RunSettings
from tests.support.architectures import ARCHITECTURES, HELD_OUT, ONE_SEQUENCE, PUBLISHED, ROUGH, generic
from tests.support.engine_memory import ask_metadata, compare, shape_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed here"),
]
PYTHON = Path(sys.executable)
REAL = (
    "llama", "qwen3moe", "gemma3", "deepseek2", "mamba", "lfm2", "gpt-oss", "falcon-h1", "qwen3next", "phi3", "granitehybrid",
    "rwkv7", "deepseek32", "cohere2",
)  # fmt: skip
# These run without flash attention whatever is asked, and so without a quantized V cache.
UNQUANTIZED = frozenset({"grok"})
USUAL = (
    RunSettings(n_ctx=4096),
    RunSettings(n_ctx=32_768),
    RunSettings(n_ctx=131_072),
    RunSettings(n_ctx=8192, flash_attn=False, swa_full=True),
    RunSettings(n_ctx=8192, type_k="q8_0", type_v="q8_0"),
    RunSettings(n_ctx=16_384, n_batch=2048, n_ubatch=2048),
    RunSettings(n_ctx=8192, n_seq_max=4),
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes(name: str) -> None:
    _within(name, PUBLISHED[name])


def _within(name: str, metadata: dict[str, Any]) -> None:
    cells = compare(PYTHON, name, metadata, USUAL)
    assert not isinstance(cells, str), cells
    for cell in cells:
        assert cell.our_context == cell.context, cell
        assert abs(cell.off) <= cell.tolerance, cell


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD_OUT)
def test_shapes_no_formula_was_made_for(name: str) -> None:
    _within(name, HELD_OUT[name])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture(arch: str) -> None:
    settings = [one for one in USUAL if one.n_ubatch <= 512 and not (arch in UNQUANTIZED and one.type_v != "f16")]
    settings = [one for one in settings if one.n_seq_max == 1 or arch not in ONE_SEQUENCE]
    cells = compare(PYTHON, arch, generic(arch), settings)
    assert not isinstance(cells, str), cells
    for cell in cells:
        assert cell.our_context == cell.context, cell
        assert abs(cell.off) <= cell.tolerance, cell


@pytest.mark.parametrize("arch", ROUGH)
def test_what_is_rough_says_so(arch: str) -> None:
    outcome = ask_metadata(PYTHON, generic(arch), [RunSettings(n_ctx=4096)])
    assert outcome.kind == "ok", outcome.stderr_tail[-500:]
    assert any(arch in note for note in shape_of(generic(arch)).assumptions)


@pytest.mark.slow
@pytest.mark.parametrize("arch", REAL)
def test_nothing_is_allocated_differently_for_real(arch: str) -> None:
    small = generic(arch) | {f"{arch}.vocab_size": 2048}
    settings = [RunSettings(n_ctx=2048, n_batch=128, n_ubatch=128), RunSettings(n_ctx=2048, flash_attn=False, swa_full=True)]
    probed, real = (ask_metadata(PYTHON, small, settings, real=flag) for flag in (False, True))
    assert probed.kind == real.kind == "ok", real.stderr_tail[-500:]
    assert probed.answer["runs"] == real.answer["runs"]
