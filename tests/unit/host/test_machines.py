"""What doctor says about machines we do not have."""

from dataclasses import replace

import pytest

from provision.host.doctor import diagnose
from provision.host.match import fitting_toolkits, judge_toolkits
from provision.host.types import Driver
from tests.support.machine_files import load_machine, machine_names


def test_there_are_enough_machines() -> None:
    assert len(machine_names()) >= 24


@pytest.mark.parametrize("name", machine_names())
def test_machine(name: str) -> None:
    machine = load_machine(name)
    diagnosis = diagnose(machine.host)
    assert diagnosis.verdict == machine.verdict
    by_status = {
        status: {finding.check for finding in diagnosis.findings if finding.status == status}
        for status in ("error", "warning", "crashed")
    }
    assert by_status["error"] == machine.errors
    assert by_status["warning"] == machine.warnings
    assert by_status["crashed"] == set()
    assert tuple(verdict.toolkit.root for verdict in judge_toolkits(machine.host) if verdict.usable) == machine.usable_toolkits
    for check, words in machine.says.items():
        said = [finding.summary for finding in diagnosis.findings if finding.check == check]
        assert any(words in summary for summary in said), said


@pytest.mark.parametrize("name", machine_names())
def test_whatever_needs_an_act_names_it(name: str) -> None:
    for finding in diagnose(load_machine(name).host).findings:
        if finding.status == "error":
            assert finding.remedy is not None, finding
            assert finding.remedy.commands, finding


def remedies(name: str, check: str, **changes: object) -> list[str]:
    host = replace(load_machine(name).host, **changes)  # type: ignore[arg-type]
    return [
        command
        for finding in diagnose(host, only=[check]).findings
        if finding.remedy is not None
        for command in finding.remedy.commands
    ]


def test_a_missing_part_is_not_worth_adding_to_a_toolkit_the_driver_cannot_run() -> None:
    commands = remedies("toolkit-without-cublas", "cuda-toolkits")
    assert commands[0] == "provision install --cuda --toolkit pypi"
    assert any("libcublas-dev-13-0" in command for command in commands)
    old = Driver(version=(550, 54, 14), cuda_version=(12, 4), source="nvml")
    commands = remedies("toolkit-without-cublas", "cuda-toolkits", driver=old)
    assert not any("libcublas" in command for command in commands)
    # Driver 550 wants CUDA 12.4, for which NVIDIA has no packages on Ubuntu 24.04.
    assert commands == ["conda install -c nvidia/label/cuda-12.4.0 cuda-toolkit"]


def test_the_toolkit_to_install_is_one_the_driver_serves_fully_and_the_compiler_suits() -> None:
    host = load_machine("gpu-without-toolkit-old-driver").host
    # Driver 535 serves 12.2; gcc 13 is too new for every toolkit before 12.4.
    assert fitting_toolkits(host)[0].version == (12, 9)
    older = tuple(replace(tool, version=(12, 3, 0)) if tool.detail == "gcc" else tool for tool in host.tools)
    assert fitting_toolkits(replace(host, tools=older))[0].version == (12, 2)


def test_an_empty_version_is_an_unknown_one() -> None:
    host = load_machine("rtx4090-cuda124").host
    tools = tuple(replace(tool, version=()) for tool in host.tools)
    toolkits = tuple(replace(toolkit, version=()) for toolkit in host.toolkits)
    driver = Driver(version=(), cuda_version=(), source="nvml")
    for changed in (replace(host, tools=tools), replace(host, toolkits=toolkits), replace(host, driver=driver)):
        diagnosis = diagnose(changed)
        assert "crashed" not in {finding.status for finding in diagnosis.findings}
        assert diagnosis.verdict == "CUDA build possible with /usr/local/cuda-12.4 for sm_89"


def test_an_engine_that_died_of_sigill_is_told_which_instructions_it_used() -> None:
    (finding,) = diagnose(load_machine("engine-for-another-cpu").host, only=["engine"]).findings
    assert finding.detail == "it was compiled for avx512, avx512_vnni, which this CPU lacks"


def test_what_a_cpu_or_an_engine_does_not_tell_is_no_finding() -> None:
    host = load_machine("engine-with-instructions-this-cpu-lacks").host
    assert host.engine is not None
    silent = replace(host.engine, cpu_features=())
    for unknown in (replace(host, engine=silent), replace(host, cpu=replace(host.cpu, flags=()))):
        assert diagnose(unknown, only=["engine"]).findings[0].status == "ok"
    unused = replace(host, cpu=replace(host.cpu, flags=(*host.cpu.flags, "avx512f", "avx512_vnni", "avx512_bf16")))
    assert diagnose(unused, only=["engine"]).findings[0].status == "ok"


@pytest.mark.parametrize(
    ("environment", "status", "words"),
    [
        ({}, "info", "CUDA numbers the fastest first"),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "ok", "every GPU is seen"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, "warning", "they may be others than"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "warning", "they may be others than"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "info", "shows 2 of 4 GPUs"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}, "info", "a list of UUIDs shows 2 of 4 GPUs"),
    ],
)
def test_indices_of_unequal_gpus_mean_what_the_device_order_says(environment: dict[str, str], status: str, words: str) -> None:
    host = load_machine("four-unequal-gpus").host
    shown = "CUDA_VISIBLE_DEVICES" in environment
    gpus = tuple(replace(gpu, visible=not shown or place < 2) for place, gpu in enumerate(host.gpus))
    (finding,) = diagnose(replace(host, gpus=gpus, environment=environment), only=["gpu-visibility"]).findings
    assert (finding.status, words in finding.summary) == (status, True), finding.summary
    if "fastest" in finding.summary:
        assert finding.remedy is not None
        assert finding.remedy.commands == ("export CUDA_DEVICE_ORDER=PCI_BUS_ID",)
        assert finding.detail.startswith("by PCI bus: 0 is ")


def test_the_evidence_about_a_gpu_names_link_ecc_persistence_processes_and_throttling() -> None:
    host = load_machine("four-unequal-gpus").host
    gpu = replace(
        host.gpus[0], ecc=True, persistence=False, pcie_generation=3, pcie_generation_max=4, pcie_width=8, pcie_width_max=16,
        processes=2, throttle_reasons=("power cap",), mig_mode=False,
    )  # fmt: skip
    (finding,) = diagnose(replace(host, gpus=(gpu,)), only=["gpus"]).findings
    assert finding.detail.startswith(
        "PCIe 3.0 x8 of 4.0 x16 now; ECC on; persistence off; MIG off; 2 processes on it; clocks held down by power cap"
    )


def test_no_toolkit_is_recommended_where_none_can_run() -> None:
    for check in ("cuda-toolkits", "cuda-match"):
        assert remedies("musl-with-gpu", check) == ["docker run --gpus all -it ubuntu:24.04"]
