"""The engine's own figures: as the probe reads them, as a real load has them, and as the formulas say."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from provision.fit.analytic import estimate
from provision.fit.engine import CHILD, EngineMeter, HeaderOnDisk, Silence
from provision.fit.types import Estimate, RunSettings
from provision.gguf.header import joined
from provision.gguf.reader import read_header
from provision.gguf.shape import read_shape
from provision.gguf.source import BytesSource
from provision.gguf.tensor_types import TENSOR_TYPES
from provision.processes import run_child
from provision.units import MIB
from tests.support.ggufs import header_bytes, write_sparse
from tests.support.shapes import MODELS, Model, dense

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed here"),
]
PYTHON = Path(sys.executable)


def asked(path: Path, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    outcome = run_child(PYTHON, CHILD, {"runs": [{"path": str(path), **run} for run in runs]}, timeout_s=120, env=os.environ)
    assert outcome.kind == "ok", outcome.stderr_tail[-2000:]
    return list(outcome.answer["runs"])


def meter(path: Path) -> EngineMeter:
    return EngineMeter(path, python=PYTHON, n_devices=0, env=os.environ)


def measured(path: Path, settings: RunSettings) -> Estimate:
    found = meter(path).measure(settings)
    assert isinstance(found, Estimate), found
    return found


def test_every_row_of_the_type_table_is_the_engines() -> None:
    script = (
        "import ctypes, json; from llama_cpp.llama_cpp import _lib as lib\n"
        "lib.ggml_blck_size.restype = ctypes.c_int64; lib.ggml_type_size.restype = ctypes.c_size_t\n"
        f"print(json.dumps([[i, lib.ggml_blck_size(i), lib.ggml_type_size(i)] for i in {sorted(TENSOR_TYPES)}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    rows = {row[0]: (row[1], row[2]) for row in json.loads(done.stdout.splitlines()[-1])}
    assert rows == {kind.id: (kind.block_elements, kind.block_bytes) for kind in TENSOR_TYPES.values()}


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_formulas_agree_with_the_engine(make: Any, tmp_path: Path) -> None:
    model: Model = make()
    shape = read_shape(model.header())
    wishes = [
        RunSettings(n_ctx=4096),
        RunSettings(n_ctx=8192, type_k="q8_0", type_v="q8_0"),
        RunSettings(n_ctx=32_768, n_batch=2048, n_ubatch=1024),
        RunSettings(n_ctx=8192, flash_attn=False, swa_full=True),
        RunSettings(n_ctx=16_384, n_seq_max=2),
    ]
    probe = meter(write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors))
    for settings in wishes:
        truth = probe.measure(settings, also=wishes)
        assert isinstance(truth, Estimate), truth
        ours = estimate(shape, settings, n_devices=0)
        assert ours.host.model_bytes == truth.host.model_bytes
        assert ours.host.context_bytes == truth.host.context_bytes
        off = abs(ours.host.compute_bytes - truth.host.compute_bytes)
        assert off <= max(64 * MIB, truth.host.total_bytes // 100), (settings, off / MIB)


def test_the_probe_equals_a_real_load(tmp_path: Path) -> None:
    model = dense("tiny", "llama", layers=3, embd=512, ff=1024, heads=8, kv_heads=2, vocab=4096)
    path = write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors)
    contexts = [
        {"n_ctx": 2048, "n_batch": 512, "n_ubatch": 512, "flash_attn": True, "swa_full": False},
        {"n_ctx": 4096, "n_batch": 256, "n_ubatch": 256, "flash_attn": False, "swa_full": True},
        {"n_ctx": 4096, "n_batch": 512, "n_ubatch": 512, "flash_attn": True, "type_k": "q8_0", "type_v": "q8_0"},
    ]
    probed, real = asked(
        path,
        [
            {"use_extra_bufts": False, "contexts": contexts},
            {"use_extra_bufts": False, "contexts": contexts, "real": True, "use_mmap": False},
        ],
    )
    assert probed["contexts"] == real["contexts"]


def test_a_header_with_a_hole_is_as_good_as_the_file(tmp_path: Path) -> None:
    model = dense("small", "qwen3", layers=4, embd=1024, ff=3072, heads=16, kv_heads=8, vocab=8192, qk_norm=True)
    path = write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors)
    settings = RunSettings(n_ctx=4096)
    with HeaderOnDisk([model.header()], folder=tmp_path) as sparse:
        assert measured(sparse, settings) == measured(path, settings)
        assert sparse.stat().st_blocks * 512 < 2 * MIB
    assert not sparse.exists()


def test_a_split_is_probed_from_the_headers_of_its_parts(tmp_path: Path) -> None:
    model = dense("split", "llama", layers=4, embd=1024, ff=3072, heads=16, kv_heads=8, vocab=8192)
    size = -(-len(model.tensors) // 3)
    headers = []
    for index in range(3):
        pairs = {"split.no": ("u16", index), "split.count": ("u16", 3), "split.tensors.count": ("i32", len(model.tensors))}
        metadata = (model.metadata if index == 0 else {}) | pairs
        data, file_bytes = header_bytes(metadata, model.tensors[index * size : (index + 1) * size])
        headers.append(read_header(BytesSource(data, size_bytes=file_bytes)))
    assert read_shape(joined(headers)).weight_bytes == read_shape(model.header()).weight_bytes
    settings = RunSettings(n_ctx=4096)
    whole = measured(write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors), settings)
    with HeaderOnDisk(headers, folder=tmp_path) as first:
        assert measured(first, settings) == whole


def test_a_model_the_engine_refuses_is_a_typed_silence(tmp_path: Path) -> None:
    model = dense("odd", "nosucharch", layers=1, embd=256, ff=512, heads=4, kv_heads=4, vocab=256)
    found = meter(write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors)).measure(RunSettings(n_ctx=512))
    assert isinstance(found, Silence)
    assert "nosucharch" in found.reason


def test_an_engine_that_aborts_is_a_typed_silence(tmp_path: Path) -> None:
    model = dense("broken", "llama", layers=1, embd=256, ff=512, heads=4, kv_heads=4, vocab=256)
    broken = model.metadata | {"llama.block_count": 600}  # over LLAMA_MAX_LAYERS: GGML_ASSERT
    found = meter(write_sparse(tmp_path / "m.gguf", broken, model.tensors)).measure(RunSettings(n_ctx=512))
    assert isinstance(found, Silence)
    assert "SIGABRT" in found.reason


def test_the_command_says_where_its_figures_are_from(tmp_path: Path) -> None:
    model = dense("cli", "llama", layers=2, embd=512, ff=1024, heads=8, kv_heads=8, vocab=4096)
    path = write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors)
    base = [sys.executable, "-m", "provision", "fit", str(path), "--json", "--vram", "none", "--ram", "8GiB"]
    by_engine = subprocess.run(base, capture_output=True, text=True, check=True)
    data = json.loads(by_engine.stdout)["data"]
    assert data["chosen"]["estimator"] == "engine"
    by_formula = subprocess.run([*base, "--estimator", "analytic"], capture_output=True, text=True, check=True)
    assert json.loads(by_formula.stdout)["data"]["chosen"]["estimator"] == "analytic"
    tight = subprocess.run([*base[:-1], "220MiB"], capture_output=True, text=True)
    assert tight.returncode == 9
    envelope = json.loads(tight.stdout)
    assert envelope["errors"][0]["code"] == "does-not-fit"
    assert envelope["data"]["chosen"] is None
