"""The choice among prebuilt wheels, on frozen pages of the index's format."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from provision.engine.plan import PlanFacts, build_plan, index_tags
from provision.engine.prebuilt import IndexPages, choose_prebuilt, parse_index_page, wanted_tags
from provision.engine.runpath import wanted_runpath
from provision.engine.types import Backend, InstallWish
from provision.errors import MachineError
from provision.host.types import Host, System, Tool
from tests.support.hosts import CMAKE, driver, linux, nvidia

FOLDER = Path(__file__).parents[2] / "data" / "wheel-index"
PAGES: IndexPages = {
    path.stem: parse_index_page(path.read_text(), base_url=f"https://example.org/whl/{path.stem}/llama-cpp-python/")
    for path in FOLDER.glob("*.html")
}


def gpu_host(capability: tuple[int, int], driver_version: tuple[int, ...], **changes: Any) -> Host:
    return linux(gpus=(nvidia(capability),), driver=driver(driver_version), **changes)


def choose(host: Host, backend: Backend, archs: tuple[str, ...] = (), version: str = "0.3.36") -> tuple[str | None, str]:
    choice, why = choose_prebuilt(host, InstallWish(engine_version=version), backend, archs, PAGES, "")
    return (choice.filename if choice else None), why


def test_pages_give_wheels_and_nothing_else() -> None:
    files = {file.filename: file for file in PAGES["cpu"]}
    assert "llama_cpp_python-0.3.36-py3-none-win_amd64.whl" in files
    assert all(file.url.startswith("https://") for file in files.values())
    assert len(files["llama_cpp_python-0.3.36-py3-none-win_amd64.whl"].sha256 or "") == 64
    assert all(file.sha256 is None for file in PAGES["cu124"])


@pytest.mark.parametrize(
    ("driver_version", "first"),
    [((470, 57), "none"), ((525, 60), "cu121"), ((535, 54), "cu122"), ((550, 54, 14), "cu124"), ((580, 95), "cu130")],
)
def test_tags_are_ordered_by_what_the_driver_serves(driver_version: tuple[int, ...], first: str) -> None:
    tags = wanted_tags(gpu_host((8, 9), driver_version), "cuda")
    if first == "none":
        assert tags == ("cu118",)
    elif first == "cu121":
        # CUDA 12.0 is what driver 525 serves in full; newer 12.x run as machine code only and come after what runs fully.
        assert tags[0] == "cu118"
    else:
        assert tags[0] == first


def test_a_cuda_wheel_that_matches_brings_its_runtime_along() -> None:
    host = gpu_host((8, 9), (580, 95))
    choice, why = choose_prebuilt(host, InstallWish(), "cuda", ("89",), PAGES, "")
    assert choice is not None
    assert choice.filename == "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    assert choice.tag == "cu130"
    assert choice.runtime_packages == ("nvidia-cuda-runtime==13.0.96.*", "nvidia-cublas==13.1.1.3.*")
    assert "cu130" in why


def test_the_runpath_follows_the_layout_of_the_runtime_packages() -> None:
    for version, path in (((580, 95), "nvidia/cu13/lib"), ((550, 54, 14), "nvidia/cuda_runtime/lib")):
        facts = PlanFacts(provision_home="/p", python="py", environ={}, index=PAGES)
        plan = build_plan(gpu_host((8, 9), version), InstallWish(backend="cuda"), facts)
        assert plan.source == "prebuilt"
        assert path in (wanted_runpath(plan) or "")
        assert plan.runtime_packages


@pytest.mark.parametrize(
    ("host", "archs", "says"),
    [
        (gpu_host((12, 0), (580, 95)), ("120",), "no machine code for 120"),
        (gpu_host((8, 9), (595, 45)), ("89",), None),
        (gpu_host((6, 1), (580, 95)), ("61",), None),
        (gpu_host((8, 9), (418, 40)), ("89",), "no index tag suits this driver"),
        (gpu_host((8, 7), (580, 95), system=System(os="linux", arch="aarch64")), ("87",), "no CUDA wheels for linux aarch64"),
    ],
)
def test_wheels_that_would_not_run_are_refused_with_the_reason(host: Host, archs: tuple[str, ...], says: str | None) -> None:
    name, why = choose(host, "cuda", archs)
    assert (name is None) is (says is not None)
    if says:
        assert says in why


def test_the_miscompiled_tag_is_never_chosen() -> None:
    choice, why = choose_prebuilt(gpu_host((8, 9), (595, 45)), InstallWish(), "cuda", ("89",), {"cu132": PAGES["cu132"]}, "")
    assert choice is None
    assert "cu132: CUDA 13.2 miscompiles" in why


def test_glibc_of_the_wheel_counts() -> None:
    pages = {"cu124": PAGES["cu124"]}
    old = System(os="linux", arch="x86_64", libc="glibc", libc_version=(2, 31))
    new = System(os="linux", arch="x86_64", libc="glibc", libc_version=(2, 35))
    for system, fits in ((old, False), (new, True)):
        host = gpu_host((8, 9), (550, 54, 14), system=system)
        assert (choose_prebuilt(host, InstallWish(), "cuda", ("89",), pages, "")[0] is not None) is fits


def test_a_lagging_index_leads_to_a_build_and_says_so() -> None:
    host = gpu_host((8, 9), (580, 95))
    facts = PlanFacts(provision_home="/p", python="py", environ={}, index=PAGES)
    plan = build_plan(host, InstallWish(backend="cuda", engine_version="0.3.37"), facts)
    assert plan.source == "build"
    assert "no wheel of 0.3.37" in next(reason.because for reason in plan.reasons if reason.topic == "source")
    with pytest.raises(MachineError) as caught:
        build_plan(host, InstallWish(backend="cuda", engine_version="0.3.37", source="prebuilt"), facts)
    assert caught.value.code == "no-prebuilt"


def test_the_cpu_is_built_where_it_can_be_and_downloaded_where_not() -> None:
    facts = PlanFacts(provision_home="/p", python="py", environ={}, index=PAGES)
    assert build_plan(linux(), InstallWish(), facts).source == "build"
    bare = linux(tools=(CMAKE,))
    assert index_tags(bare, InstallWish()) != ()
    assert index_tags(linux(), InstallWish(backend="cpu")) == ()
    assert index_tags(bare, InstallWish()) == ("cpu",)
    assert index_tags(gpu_host((8, 9), (470, 57), tools=(CMAKE,)), InstallWish()) == ("cu118", "cpu", "vulkan", "rocm72")
    assert index_tags(bare, InstallWish(backend="vulkan")) == ("vulkan",)
    plan = build_plan(bare, InstallWish(), facts)
    assert plan.prebuilt is not None
    assert plan.prebuilt.filename == "llama_cpp_python-0.3.36-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    musl = dataclasses.replace(bare, system=System(os="linux", arch="x86_64", libc="musl", libc_version=(1, 2)))
    plan = build_plan(musl, InstallWish(), facts)
    assert plan.prebuilt is not None
    assert "musllinux" in plan.prebuilt.filename


def test_a_prebuilt_vulkan_engine_needs_no_sdk() -> None:
    pages = {"vulkan": PAGES["cpu"]}
    facts = PlanFacts(provision_home="/p", python="py", environ={}, index=pages)
    made = build_plan(linux(), InstallWish(backend="vulkan", source="prebuilt"), facts)
    assert (made.source, made.backend) == ("prebuilt", "vulkan")
    with pytest.raises(MachineError, match="cannot build for Vulkan"):
        build_plan(linux(), InstallWish(backend="vulkan"), facts)


def test_an_unread_index_is_said_with_its_reason() -> None:
    choice, why = choose_prebuilt(linux(), InstallWish(), "cpu", (), None, "ConnectError: no route")
    assert choice is None
    assert "ConnectError" in why


def test_apple_and_windows_wheels_are_told_apart() -> None:
    clang = Tool(name="clang++", path="/usr/bin/clang++", version=(17,), works=True)
    mac = linux(system=System(os="darwin", arch="arm64"), tools=(clang,))
    assert choose(mac, "cpu")[0] == "llama_cpp_python-0.3.36-py3-none-macosx_11_0_arm64.whl"
    windows = linux(system=System(os="windows", arch="AMD64"))
    assert choose(windows, "cpu")[0] == "llama_cpp_python-0.3.36-py3-none-win_amd64.whl"
