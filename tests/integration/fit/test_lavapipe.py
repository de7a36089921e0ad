"""On a 2 GiB Vulkan device in software: the plan against brute force, and formulas against the engine on every split.

Needs an interpreter whose engine was built with Vulkan, named by PROVISION_TEST_VULKAN_PYTHON, and lavapipe's folder, named by
PROVISION_TEST_LAVAPIPE; tests/integration/engine/test_vulkan_build.py builds one and runs the brute force too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.fit.analytic import estimate
from provision.fit.engine import EngineMeter
from provision.fit.types import Estimate, RunSettings
from provision.gguf.shape import read_shape
from provision.settings import read_settings
from provision.units import MIB
from tests.support.fit_on_gpu import check_layers, check_split
from tests.support.ggufs import write_sparse
from tests.support.lavapipe import Lavapipe
from tests.support.shapes import Model, dense

VULKAN_PYTHON = os.environ.get("PROVISION_TEST_VULKAN_PYTHON", "")
LAVAPIPE = os.environ.get("PROVISION_TEST_LAVAPIPE", "")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not (VULKAN_PYTHON and LAVAPIPE), reason="no Vulkan engine is named by PROVISION_TEST_VULKAN_PYTHON"),
]

MODELS = (
    dense("plain", "llama", layers=22, embd=2048, ff=5632, heads=32, kv_heads=4, vocab=32_000),
    dense(
        "window", "gemma3", layers=18, embd=1152, ff=6912, heads=4, kv_heads=1, head_dim=256, vocab=32_000, window=512,
        tied=True, qk_norm=True, post_norms=True, kind="Q8_0", better="Q8_0",
    ),
    dense(
        "experts", "qwen3moe", layers=16, embd=2048, ff=1024, heads=16, kv_heads=16, head_dim=128, vocab=50_304, n_expert=64,
        n_expert_used=8, ff_exp=1024, qk_norm=True,
    ),
)  # fmt: skip


def environ(devices: str = "0") -> dict[str, str]:
    """ggml lists a device as often as it is named: "0,0" are two, each with the memory of one."""
    return {**os.environ, **Lavapipe(root=Path(LAVAPIPE)).run_env, "GGML_VK_VISIBLE_DEVICES": devices}


def test_the_chosen_layers_are_the_most_and_really_run(tmp_path: Path) -> None:
    settings = read_settings({**environ(), "PROVISION_HOME": str(tmp_path / "home")}, home=tmp_path)
    assert check_layers(Path(VULKAN_PYTHON), settings, environ(), tmp_path) > 0


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_formulas_follow_the_engine_on_every_split(model: Model, tmp_path: Path) -> None:
    shape = read_shape(model.header())
    path = write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors)
    meter = EngineMeter(path, python=Path(VULKAN_PYTHON), n_devices=1, env=environ())
    every = [
        RunSettings(n_ctx=n_ctx, n_gpu_layers=layers, offload_kqv=offload)
        for n_ctx in (4096, 8192)
        for layers in range(0, shape.n_layers + 2, 3)
        for offload in (True, False)
    ]
    for settings in every:
        truth = meter.measure(settings, also=every)
        assert isinstance(truth, Estimate), truth
        ours = estimate(shape, settings, n_devices=1)
        for got, want in zip((*ours.devices, ours.host), (*truth.devices, truth.host), strict=True):
            assert got.model_bytes == want.model_bytes, settings
            assert got.context_bytes == want.context_bytes, settings
            assert abs(got.compute_bytes - want.compute_bytes) <= 64 * MIB, (settings, got, want)


def test_a_plan_over_two_devices_loads_as_planned_and_runs(tmp_path: Path) -> None:
    both = environ("0,0")
    settings = read_settings({**both, "PROVISION_HOME": str(tmp_path / "home")}, home=tmp_path)
    split = check_split(Path(VULKAN_PYTHON), settings, both, tmp_path)
    assert len(split) == 2
    assert min(split) > 0


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_formulas_follow_the_engine_on_two_unequal_devices(model: Model, tmp_path: Path) -> None:
    shape = read_shape(model.header())
    path = write_sparse(tmp_path / "m.gguf", model.metadata, model.tensors)
    meter = EngineMeter(path, python=Path(VULKAN_PYTHON), n_devices=2, env=environ("0,0"))
    every = [
        RunSettings(n_ctx=4096, n_gpu_layers=layers, tensor_split=split)
        for layers in (shape.n_layers // 2, shape.n_layers, shape.n_layers + 1)
        for split in ((3.0, 1.0), (1.0, 4.0), (1.0, 1.0))
    ]
    for settings in every:
        truth = meter.measure(settings, also=every)
        assert isinstance(truth, Estimate), truth
        ours = estimate(shape, settings, n_devices=2)
        for got, want in zip((*ours.devices, ours.host), (*truth.devices, truth.host), strict=True):
            assert got.model_bytes == want.model_bytes, settings
            assert got.context_bytes == want.context_bytes, settings
            assert abs(got.compute_bytes - want.compute_bytes) <= 64 * MIB, (settings, got, want)
