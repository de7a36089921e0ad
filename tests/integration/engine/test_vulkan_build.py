"""A GPU backend for real without a GPU: built with Vulkan, run on Mesa's software device, offload and answer proven."""

import dataclasses
from pathlib import Path

import pytest

from provision.engine.install import install
from provision.engine.types import InstallWish
from provision.errors import MachineError
from provision.host.probe import probe_host
from provision.host.probe_engine import quantized_model
from tests.support.engine_environment import make_environment, private_settings
from tests.support.lavapipe import Unavailable, prepare
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

    # The same build where no device answers is no Vulkan engine: nothing is installed and the error says why.
    blind = private_settings(tmp_path / "home", **{**environ, "VK_ICD_FILENAMES": "/nowhere", "VK_DRIVER_FILES": "/nowhere"})
    other = dataclasses.replace(wish, python=make_environment(tmp_path / "env2"))
    with pytest.raises(Exception, match="sees no GPU") as caught:
        install(other, host=host, settings=blind, model=model)
    assert getattr(caught.value, "code", "") == "no-device"


def test_what_is_missing_for_vulkan_is_named(tmp_path: Path) -> None:
    settings = private_settings(
        tmp_path / "home", CMAKE_ARGS="-DVulkan_INCLUDE_DIR=/nowhere -DVulkan_GLSLC_EXECUTABLE=/nowhere"
    )
    host = probe_host(settings)
    with pytest.raises(MachineError) as caught:
        install(InstallWish(backend="vulkan"), host=host, settings=settings)
    assert caught.value.code == "vulkan-missing"
    assert "glslc" in caught.value.message
