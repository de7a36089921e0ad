import dataclasses
from pathlib import Path
from typing import Any

import pytest

from provision.engine.foreign import Foreign, gpu_backends, why_not_kept
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.types import BuildPlan, InstallWish
from tests.support.hosts import driver, linux, nvidia, toolkit

FOREIGN = Foreign(version="0.3.36", installer="pip", backends=frozenset(), folder=Path("/venv/llama_cpp/lib"))
FACTS = PlanFacts(provision_home="/p", python="py", environ={})


def plan(**wish: Any) -> BuildPlan:
    host = linux(gpus=(nvidia((8, 9)),), driver=driver((580, 95), (13, 0)), toolkits=(toolkit((13, 0)),))
    return build_plan(host, InstallWish(**wish), FACTS)


def test_the_same_version_for_the_same_backend_may_stay() -> None:
    assert why_not_kept(FOREIGN, InstallWish(), plan(backend="cpu"), cmake_args="") is None
    cuda = dataclasses.replace(FOREIGN, backends=frozenset({"cuda"}))
    assert why_not_kept(cuda, InstallWish(), plan(backend="cuda"), cmake_args="") is None


@pytest.mark.parametrize(
    ("foreign", "wish", "backend", "cmake_args", "says"),
    [
        ({"version": "0.3.20"}, {}, "cpu", "", "0.3.36 is wanted"),
        ({}, {}, "cuda", "", "it is not built for cuda"),
        ({"backends": frozenset({"vulkan"})}, {}, "cuda", "", "it is not built for cuda"),
        ({"backends": frozenset({"cuda"})}, {}, "cpu", "", "it is built for cuda"),
        ({}, {}, "cpu", "-DGGML_LTO=ON", "flags"),
        ({"backends": frozenset({"cuda"})}, {"cuda_archs": ("89",)}, "cuda", "", "flags"),
        ({}, {"source": "build"}, "cpu", "", "another one"),
        ({}, {"use_cache": False}, "cpu", "", "another one"),
        ({}, {"keep_foreign": False}, "cpu", "", "another one"),
    ],
)
def test_what_it_cannot_be_is_said(
    foreign: dict[str, Any], wish: dict[str, Any], backend: Any, cmake_args: str, says: str
) -> None:
    there = dataclasses.replace(FOREIGN, **foreign)
    assert says in (why_not_kept(there, InstallWish(**wish), plan(backend=backend), cmake_args=cmake_args) or "")


def test_backends_are_told_by_their_libraries() -> None:
    plain = ["libggml.so", "libggml.so.0", "libggml-base.so", "libggml-cpu.so.0.25.3", "libllama.so", "libmtmd.so"]
    assert gpu_backends(plain) == frozenset()
    assert gpu_backends([*plain, "libggml-cuda.so.0", "libggml-vulkan.so", "ggml-hip.dll"]) == {"cuda", "vulkan", "rocm"}
