"""A GPU backend for real without a GPU: built with Vulkan, run on Mesa's software device, offload and answer proven."""

import dataclasses
from pathlib import Path

import pytest

from provision.engine.install import install
from provision.engine.types import InstallWish
from provision.errors import MachineError
from provision.host.probe import probe_host
from provision.host.probe_engine import quantized_model
from provision.settings import Settings
from provision.smoke.demo import demo_model_path
from provision.smoke.service import run_smoke
from tests.support.debian import Unavailable
from tests.support.engine_environment import make_environment, private_settings
from tests.support.fit_on_gpu import check_layers, check_split
from tests.support.lavapipe import prepare
from tests.support.tiny_model import write_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_vulkan_is_built_and_really_computes_on_its_device(tmp_path: Path) -> None:
    try:
        device = prepare(tmp_path / "lavapipe")
    except Unavailable as why:
        pytest.skip(f"no software Vulkan device here: {why}")
    environ = {**device.build_env, **device.run_env, "CMAKE_ARGS": " ".join(device.cmake_args)}
    settings = private_settings(tmp_path / "home", **environ)
    python = make_environment(tmp_path / "env")
    host = probe_host(settings, python=python)
    shown = [gpu for gpu in host.gpus if gpu.vendor == "software"]
    assert [(gpu.source, "llvmpipe" in gpu.name, bool(gpu.memory_total_bytes)) for gpu in shown] == [("vulkan", True, True)]
    model = quantized_model() or write_tiny_model(tmp_path / "tiny.gguf")
    wish = InstallWish(backend="vulkan", python=python)
    result = install(wish, host=host, settings=settings, model=model)
    assert result.action == "built"
    assert [one.name for one in result.proof.devices if one.kind in ("gpu", "igpu")] == ["Vulkan0"]
    assert result.proof.gpu_offload is True
    assert result.proof.offloaded_layers is not None
    assert result.proof.offloaded_layers[0] == result.proof.offloaded_layers[1]
    assert result.proof.same_answer_as_cpu is True
    assert install(wish, host=host, settings=settings, model=model).action == "kept"

    _smoke_on_the_device(python, settings)
    # While there is a device: the fit's number of layers against brute force, and a real run with it.
    assert check_layers(python, settings, {**settings.environ}, tmp_path) > 0
    # ggml lists a device as often as it is named: a plan over two of them, loaded and run.
    both = private_settings(tmp_path / "home", **{**environ, "GGML_VK_VISIBLE_DEVICES": "0,0"})
    assert min(check_split(python, both, {**both.environ}, tmp_path)) > 0

    # The same build where no device answers is no Vulkan engine: nothing is installed and the error says why.
    blind = private_settings(tmp_path / "home", **{**environ, "VK_ICD_FILENAMES": "/nowhere", "VK_DRIVER_FILES": "/nowhere"})
    other = dataclasses.replace(wish, python=make_environment(tmp_path / "env2"))
    with pytest.raises(Exception, match="sees no GPU") as caught:
        install(other, host=host, settings=blind, model=model)
    assert getattr(caught.value, "code", "") == "no-device"


def _smoke_on_the_device(python: Path, settings: Settings) -> None:
    """Device truth of the smoke test on a backend that really takes layers: where they are, memory there, CPU against GPU."""
    kwargs = {"n_ctx": 1024, "n_gpu_layers": -1, "n_threads": 1, "n_threads_batch": 1}
    result = run_smoke(
        demo_model_path(), llama_kwargs=kwargs, profile="full", require_gpu=True, python=python, settings=settings
    )
    checks = {check.id: check for check in result.checks}
    assert result.device is not None
    assert result.device.startswith("Vulkan0 (llvmpipe")
    assert result.device.count("(") == result.device.count(")")
    assert result.offloaded_layers == checks["B2-offloaded"].threshold == 5
    assert [checks[name].status for name in ("B1-device", "B2-offloaded", "C7-cpu-only")] == ["pass"] * 3
    # Exactly equal logits would mean that the CPU's run was computed on the device too.
    assert checks["C7-cpu-only"].value != 0.0
    assert result.verdict != "fail", [(check.id, check.summary) for check in result.failed]
    assert result.known_right == result.known_asked

    # The plan said every layer, the run took two: the plan was not carried out.
    plan = {"n_gpu_layers": 5, "devices": [], "host": {"model_bytes": 1, "context_bytes": 1, "compute_bytes": 1}}
    short = run_smoke(
        demo_model_path(), llama_kwargs={**kwargs, "n_gpu_layers": 2}, plan=plan, python=python, settings=settings
    )
    assert "B2-offloaded" in {check.id for check in short.failed}

    # And asked for no layer at all, a machine with a GPU is no excuse when one is required.
    off = run_smoke(
        demo_model_path(), llama_kwargs={**kwargs, "n_gpu_layers": 0}, require_gpu=True, python=python, settings=settings
    )
    assert {check.id for check in off.failed} == {"B1-device"}


def test_what_is_missing_for_vulkan_is_named(tmp_path: Path) -> None:
    settings = private_settings(
        tmp_path / "home", CMAKE_ARGS="-DVulkan_INCLUDE_DIR=/nowhere -DVulkan_GLSLC_EXECUTABLE=/nowhere"
    )
    host = probe_host(settings)
    with pytest.raises(MachineError) as caught:
        install(InstallWish(backend="vulkan"), host=host, settings=settings)
    assert caught.value.code == "vulkan-missing"
    assert "glslc" in caught.value.message
