"""The Vulkan probe against a libvulkan.so.1 of our own; Mesa's software device is in engine/test_vulkan_build.py."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provision.host.vulkan import ask_vulkan, read_vulkan
from provision.units import GIB

pytestmark = pytest.mark.integration
SOURCE = Path(__file__).parents[2] / "support" / "fake_vulkan.c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake libvulkan.so.1")
    folder = tmp_path_factory.mktemp("vulkan")
    library = folder / "libvulkan.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libvulkan.so.1", str(SOURCE), "-o", str(library)], check=True
    )
    return folder


def environ(folder: Path, scenario: str) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKE_VULKAN": scenario}


def test_devices_with_name_kind_and_memory(folder: Path) -> None:
    (arc, pipe), trouble = read_vulkan(ask_vulkan(environ(folder, "two"), timeout_s=20))
    assert trouble is None
    assert (arc.name, arc.vendor, arc.memory_total_bytes) == ("Intel(R) Arc(tm) A770 \ufffd Graphics", "intel", 16 * GIB)
    assert (pipe.vendor, pipe.unified_memory) == ("software", True)


def test_a_loader_without_a_driver_is_no_trouble(folder: Path) -> None:
    assert read_vulkan(ask_vulkan(environ(folder, "none"), timeout_s=20)) == ((), None)


def test_a_driver_that_breaks_is_named(folder: Path) -> None:
    assert read_vulkan(ask_vulkan(environ(folder, "crash"), timeout_s=20))[1] == "Vulkan died of SIGABRT"
    started = time.monotonic()
    assert read_vulkan(ask_vulkan(environ(folder, "hang"), timeout_s=1))[1] == "Vulkan did not answer in 1 s"
    assert time.monotonic() - started < 10


def test_the_whole_command_marks_them_honestly(folder: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "provision", "doctor", "--json", "--only", "gpus"]
    env = {**environ(folder, "two"), "PROVISION_HOME": str(tmp_path)}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120)
    summaries = [finding["summary"] for finding in json.loads(done.stdout)["data"]["findings"]]
    assert any("Arc(tm) A770" in words and "16.0 GiB" in words and "not tried by us" in words for words in summaries), summaries
    assert any("llvmpipe" in words and "a software renderer, no GPU" in words for words in summaries), summaries
