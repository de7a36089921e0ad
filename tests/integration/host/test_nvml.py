"""The real pynvml against a libnvidia-ml.so.1 of our own: no GPU is needed, and none is asked."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provision.host.nvml import NvmlAnswer, ask_nvml, read_answer
from provision.host.probe_gpus import probe_gpus
from provision.host.reader import Reader
from provision.host.types import Memory
from provision.units import GIB, MIB

pytestmark = pytest.mark.integration
Scenario = Callable[[str], dict[str, str]]


def ask(environ: dict[str, str], timeout_s: float = 20.0) -> NvmlAnswer:
    return read_answer(ask_nvml(environ, timeout_s=timeout_s))


def test_two_gpus(fake_nvml: Scenario) -> None:
    answer = ask(fake_nvml("two"))
    assert answer.trouble is None
    assert answer.driver is not None
    assert (answer.driver.version, answer.driver.cuda_version) == ((550, 54, 14), (12, 4))
    big, small = answer.gpus
    assert (big.name, big.cuda_arch, big.pci_bus) == ("NVIDIA GeForce RTX 4090", "89", "00000000:01:00.0")
    assert big.uuid is not None
    assert big.uuid.startswith("GPU-aaaa")
    assert (big.memory_total_bytes, big.memory_free_bytes) == (24564 * MIB, 23540 * MIB)
    assert big.throttle_reasons == ("power cap", "hardware thermal slowdown")
    assert (big.ecc, big.processes, big.mig_mode) == (None, 1, None)
    assert (small.ecc, small.persistence, small.processes) == (True, True, 0)
    assert (small.pcie_width, small.pcie_width_max, small.throttle_reasons) == (8, 16, ())


def test_mig_shows_the_whole_gpu_as_hidden_and_its_slices_as_devices(fake_nvml: Scenario) -> None:
    whole, first, second = ask(fake_nvml("mig")).gpus
    assert (whole.mig_mode, whole.visible) == (True, False)
    assert (first.mig_parent, second.mig_parent) == (0, 0)
    assert first.cuda_arch == "90"
    assert first.memory_total_bytes == 71424 * MIB
    assert first.uuid != second.uuid


def test_unified_memory_is_the_hosts(fake_nvml: Scenario) -> None:
    memory = Memory(total_bytes=128 * GIB, available_bytes=100 * GIB)
    (gpu,) = probe_gpus(Reader(environ=fake_nvml("unified")), memory, timeout_s=20).gpus
    assert gpu.unified_memory
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (128 * GIB, 100 * GIB)
    assert gpu.cuda_arch == "121"


def test_a_lost_gpu_does_not_hide_the_other(fake_nvml: Scenario) -> None:
    good, lost = ask(fake_nvml("lost")).gpus
    assert good.name == "NVIDIA GeForce RTX 4090"
    assert not lost.visible
    assert "lost" in lost.notes[0]


@pytest.mark.parametrize(
    ("scenario", "problem"), [("mismatch", "version mismatch"), ("unloaded", "not loaded"), ("denied", "no permission")]
)
def test_a_refusing_driver_is_named(fake_nvml: Scenario, scenario: str, problem: str) -> None:
    answer = ask(fake_nvml(scenario))
    assert answer.driver is not None
    assert answer.driver.problem == problem
    assert answer.gpus == ()


def test_a_hanging_driver_costs_its_time_limit_and_nothing_more(fake_nvml: Scenario) -> None:
    started = time.monotonic()
    answer = ask(fake_nvml("hang"), timeout_s=1.0)
    assert time.monotonic() - started < 5
    assert answer.trouble == "NVML did not answer in 1 s; the driver hangs"


def test_behind_a_hanging_driver_the_other_sources_are_asked_and_the_hang_is_said(fake_nvml: Scenario) -> None:
    facts = probe_gpus(Reader(environ=fake_nvml("hang")), Memory(), timeout_s=1.0)
    assert "NVML did not answer in 1 s; the driver hangs" in facts.notes
    assert facts.driver is not None
    assert facts.driver.problem is not None


def test_a_crashing_driver_is_a_value(fake_nvml: Scenario) -> None:
    assert ask(fake_nvml("crash")).trouble == "NVML died of SIGABRT"


def test_garbage_is_unknown_not_wrong(fake_nvml: Scenario) -> None:
    answer = ask(fake_nvml("garbage"))
    assert answer.driver is not None
    assert (answer.driver.version, answer.driver.cuda_version) == (None, None)
    (gpu,) = answer.gpus
    assert gpu.compute_capability is None
    assert gpu.memory_total_bytes is None
    assert gpu.notes


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("GPU-bbbb", [1]),
        ("gpu-bbbb", []),
        ("GPU-", []),
    ],
)
def test_cuda_visible_devices(fake_nvml: Scenario, wanted: str | None, seen: list[int]) -> None:
    environ = fake_nvml("two")
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    if wanted is not None:
        environ["CUDA_VISIBLE_DEVICES"] = wanted
    gpus = probe_gpus(Reader(environ=environ), Memory(), timeout_s=20).gpus
    assert [gpu.index for gpu in gpus if gpu.vendor == "nvidia" and gpu.visible] == seen


def test_the_whole_command_with_two_gpus(fake_nvml: Scenario, tmp_path: Path) -> None:
    environ = {**fake_nvml("two"), "HOME": str(tmp_path), "PROVISION_HOME": str(tmp_path / "own")}
    argv = [sys.executable, "-m", "provision", "doctor", "--json", "--only", "gpus", "--only", "driver"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, timeout=120)
    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [gpu["name"] for gpu in answer["data"]["host"]["gpus"] if gpu["vendor"] == "nvidia"] == [
        "NVIDIA GeForce RTX 4090",
        "Tesla T4",
    ]
    assert "GPU-aaaa" not in done.stdout
    assert "550.54.14" in done.stdout
    asked = subprocess.run([*argv, "--include-identifiers"], capture_output=True, text=True, env=environ, timeout=120)
    assert "GPU-aaaa" in asked.stdout
