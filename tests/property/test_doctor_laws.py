"""Whatever a machine holds, says or claims to be, doctor answers and does not crash."""

import dataclasses
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision.cli.main import main
from provision.host import types as host_types
from provision.host.cgroups import cpu_quota, memory_limit
from provision.host.compilers import compiler_version
from provision.host.cuda_tables import driver_cuda_version, driver_verdict, parse_version
from provision.host.doctor import CHECKS, diagnose
from provision.host.match import judge_toolkits, pypi_toolkits
from provision.host.nvml import read_answer
from provision.host.probe_engine import read_engine
from provision.host.probe_gpus import _visible
from provision.host.probe_memory import probe_memory
from provision.host.probe_nvidia import ask_nvidia_smi, read_jetson, read_proc
from provision.host.probe_other_gpus import ask_apple, ask_rocminfo, read_kfd, read_pci
from provision.host.probe_python import read_facts
from provision.host.probe_system import probe_cpu, probe_system
from provision.host.probe_toolkits import probe_toolkits
from provision.host.probe_tools import probe_tools
from provision.host.report import markdown_report
from provision.host.serial import host_from_json, host_to_data
from provision.host.types import Gpu, Host
from provision.host.vulkan import read_vulkan, with_vulkan
from provision.processes import ChildOutcome
from tests.support.machine_files import load_machine, machine_names
from tests.support.machine_in_memory import MachineInMemory

LAWS = settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# -- arbitrary hosts, built from the types themselves so that a new field is covered the day it is added --


def strategy_of(hint: Any, name: str = "") -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return host_like(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[0] is int:
        return versions_of_all_kinds
    if origin is tuple:
        return st.lists(strategy_of(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        keys = st.sampled_from(["CUDA_VISIBLE_DEVICES", "CMAKE_ARGS", "LD_LIBRARY_PATH", "FORCE_CMAKE", "CUDA_HOME"])
        return st.dictionaries(keys, texts, max_size=4)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(st.none() if part is type(None) else strategy_of(part, name) for part in arguments))
    return {int: sizes, bool: st.booleans(), str: texts, float: st.floats()}[hint]


versions_of_all_kinds = st.one_of(
    st.sampled_from(
        [(), (0,), (-1,), (12,), (12, 4), (12, 8, 93), (13, 0), (13, 2), (2, 41), (2, 42), (550, 54, 14), (8, 9), (99, 9)]
    ),
    st.lists(st.integers(-3, 900), max_size=3).map(tuple),
)
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "PATH",
            "cublas",
            "gcc",
            "clang",
            "c++",
            "g++",
            "cmake",
            "cuda",
            "rpc",
            "nouveau",
            "not loaded",
            "no device nodes",
            "version mismatch",
            "dies of SIGILL",
            "libcuda.so.1",
            "-DLLAMA_CUBLAS=on",
            "/usr/lib/stubs",
            "x86_64",
            "aarch64",
        ]
    ),
)
sizes = st.one_of(st.integers(-3, 600), st.integers(-(2**63), 2**63 - 1))


def host_like(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: strategy_of(hints[field.name]) for field in dataclasses.fields(kind)}
    if kind is Host:
        fields["schema"] = st.just(1)
    return st.builds(kind, **fields)


@LAWS
@given(host=host_like(Host))
def test_any_host_gets_a_verdict_and_an_answer_from_every_check(host: Host) -> None:
    diagnosis = diagnose(host)
    crashed = [finding for finding in diagnosis.findings if finding.status == "crashed"]
    assert crashed == []
    assert diagnosis.verdict
    assert "crashed" not in diagnosis.verdict
    assert {finding.check for finding in diagnosis.findings} == {check.id for check in CHECKS}
    judge_toolkits(host)
    pypi_toolkits(host)


@settings(parent=LAWS, max_examples=250)
@given(name=st.sampled_from(machine_names()), data=st.data())
def test_a_plausible_machine_with_strange_values_gets_its_answers_too(name: str, data: st.DataObject) -> None:
    host = MACHINES[name]
    for _ in range(data.draw(st.integers(1, 4))):
        host = with_a_strange_value(host, data)
    diagnosis = diagnose(host)
    assert [finding for finding in diagnosis.findings if finding.status == "crashed"] == []
    assert "crashed" not in diagnosis.verdict


MACHINES = {name: load_machine(name).host for name in machine_names()}


def with_a_strange_value(value: Any, data: st.DataObject) -> Any:
    """The same dataclass with one field, however deep, drawn anew."""
    field = data.draw(st.sampled_from(dataclasses.fields(value)))
    if field.name == "schema":
        return value
    if "version" in {field.name for field in dataclasses.fields(value)} and data.draw(st.booleans()):
        # Half of the time a version: most judgements compare versions.
        field = next(field for field in dataclasses.fields(value) if field.name == "version")
    held = getattr(value, field.name)
    rows = held if isinstance(held, tuple) and held and dataclasses.is_dataclass(held[0]) else ()
    if dataclasses.is_dataclass(held):
        new = with_a_strange_value(held, data)
    elif rows:
        place = data.draw(st.integers(0, len(rows) - 1))
        new = (*rows[:place], with_a_strange_value(rows[place], data), *rows[place + 1 :])
    else:
        new = data.draw(strategy_of(typing.get_type_hints(type(value))[field.name]))
    return dataclasses.replace(value, **{field.name: new})


@LAWS
@given(host=host_like(Host))
def test_any_host_survives_json_and_becomes_a_report(host: Host) -> None:
    data = host_to_data(host, identifiers=True)
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    assert host_from_json(text) == host
    findings = [finding.to_data() for finding in diagnose(host).findings]
    report = markdown_report({"verdict": "v", "host": data, "findings": findings})
    assert report.startswith("### provision doctor")


@settings(parent=LAWS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=60).map(str.encode), host_like(Host).map(
    lambda host: json.dumps(host_to_data(host)).encode())))  # fmt: skip
def test_any_host_file_ends_in_a_documented_exit_code(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "machine.json"
    file.write_bytes(content)
    code = main(["doctor", "--host", str(file), "--json"])
    assert code in (0, 1, 2)
    assert json.loads(capsys.readouterr().out)["exit_code"] == code


# -- whatever programs and files say --

garbage = st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "replace")))
lines = st.lists(
    st.one_of(
        garbage,
        st.sampled_from(
            [
                "MemTotal: 5 kB",
                "0::/a/b",
                "9:memory:/x",
                "0::/../..",
                "model name : x",
                "flags : amx_tile",
                "max 100000",
                "1 0",
                "0, RTX, GPU-1, 00:01, 12, 11, 550.1",
                "NVRM version: Kernel Module 550.54",
                "Model: x",
                "gfx_target_version 90010",
                "release 12.4, V12.4.131",
                "GPU0:",
                "deviceName = x",
                "ID=debian",
                "#$ TOP=/usr",
                'prepend_path("PATH", "/a/bin")',
                "0x030000",
                "0x10de",
                "999999999999999999999999",
                "NVIDIA Jetson Orin",
                "#define CUDART_VERSION 12040",
                "{}",
                "[]",
            ]
        ),
    ),
    max_size=6,
).map("\n".join)
PATHS = (
    *("/proc/meminfo", "/proc/cpuinfo", "/proc/self/cgroup", "/proc/1/cgroup", "/etc/os-release", "/proc/sys/kernel/osrelease"),
    *(
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/a/memory.max",
        "/sys/fs/cgroup/a/cpu.max",
        "/sys/fs/cgroup/memory/x/memory.stat",
    ),
    *("/proc/driver/nvidia/version", "/proc/driver/nvidia/gpus/0000:01:00.0/information", "/proc/device-tree/model"),
    *("/sys/bus/pci/devices/0000:01:00.0/class", "/sys/bus/pci/devices/0000:01:00.0/vendor", "/usr/share/misc/pci.ids"),
    *("/sys/class/kfd/kfd/topology/nodes/1/properties", "/usr/local/cuda-12/version.json", "/lib/ld-musl-x86_64.so.1"),
    *("/usr/local/cuda-12/include/cuda_runtime_api.h", "/m/cuda/12.lua", "/dev/nvidiactl", "/etc/nv_tegra_release"),
)
PROGRAMS = (
    *(
        "/usr/bin/nvidia-smi",
        "/usr/bin/rocminfo",
        "/usr/bin/c++",
        "/usr/bin/g++-12",
        "/usr/bin/cmake",
        "/usr/bin/nvcc",
    ),
    *("/usr/local/cuda-12/bin/nvcc", "getconf", "sysctl", "vm_stat", "sw_vers", "system_profiler", "/lib/ld-musl-x86_64.so.1"),
)


@LAWS
@given(
    files=st.dictionaries(st.sampled_from(PATHS), st.one_of(lines, st.binary(max_size=60)), max_size=10),
    programs=st.dictionaries(st.sampled_from(PROGRAMS), st.tuples(st.sampled_from([0, 1, -11, 255]), lines, lines), max_size=8),
    os_name=st.sampled_from(["linux", "darwin", "win32", "plan9"]),
    environ=st.dictionaries(
        st.sampled_from(["CUDA_HOME", "CUDACXX", "CXX", "CONDA_PREFIX", "MODULEPATH", "PATH", "container"]), texts
    ),
)
def test_no_machine_makes_a_probe_crash(
    files: dict[str, str | bytes], programs: dict[str, tuple[int, str, str]], os_name: str, environ: dict[str, str]
) -> None:
    environ = {"PATH": "/usr/bin:/usr/local/bin", "MODULEPATH": "/m", **environ}
    machine = MachineInMemory(files, programs=programs, os_name=os_name, environ=environ)
    system, cpu, memory = probe_system(machine), probe_cpu(machine), probe_memory(machine)
    memory_limit(machine)
    cpu_quota(machine)
    tools = probe_tools(machine)
    toolkits = probe_toolkits(machine, site_folders=("/site",), own_folder="/own", home="/home/ana")
    smi, proc = ask_nvidia_smi(machine), read_proc(machine)
    gpus = [*(smi[1] if smi else ()), *(proc[1] if proc else ()), *read_jetson(machine), *read_pci(machine)[0]]
    gpus += ask_apple(machine, memory)
    read_kfd(machine)
    ask_rocminfo(machine)
    host = Host(system=system, cpu=cpu, memory=memory, tools=tools, toolkits=toolkits, gpus=tuple(gpus))
    assert not [finding for finding in diagnose(host).findings if finding.status == "crashed"]


# -- whatever a child answers --

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)
fields = st.fixed_dictionaries({}, optional={"value": json_values, "problem": json_values})
gpu_rows = st.dictionaries(
    st.sampled_from(
        ["index", "name", "uuid", "bus", "compute_capability", "memory", "ecc", "mig", "slices", "throttle", "lost"]
    ),
    st.one_of(json_values, fields, st.lists(fields, max_size=2)),
)
answers = st.dictionaries(
    st.sampled_from(
        [
            "driver",
            "cuda",
            "gpus",
            "error",
            "version",
            "loads",
            "backends",
            "devices",
            "stage",
            "problem",
            "quantized_inference",
            "pip_version",
            "prefix",
            "site_folders",
            "is_venv",
            "has_headers",
            "placed_by_us",
            "libraries",
        ]
    ),
    st.one_of(json_values, fields, st.lists(gpu_rows, max_size=3)),
)
outcomes = st.builds(
    ChildOutcome,
    kind=st.sampled_from(["ok", "error", "signal", "timeout", "protocol", "missing"]),
    answer=answers,
    signal_name=st.one_of(st.none(), st.just("SIGSEGV")),
    returncode=st.one_of(st.none(), st.integers(-64, 255)),
    stderr_tail=garbage,
    elapsed_s=st.floats(0, 60),
)


@LAWS
@given(outcome=outcomes)
def test_no_answer_of_a_child_makes_its_reader_crash(outcome: ChildOutcome) -> None:
    nvml = read_answer(outcome)
    engine = read_engine(outcome)
    gpus = with_vulkan(nvml.gpus, read_vulkan(outcome)[0])
    read_facts(outcome.answer, python=sys.executable)
    host = Host(system=host_types.System(os="linux", arch="x86_64"), driver=nvml.driver, gpus=gpus, engine=engine)
    assert not [finding for finding in diagnose(host).findings if finding.status == "crashed"]
    assert host_from_json(json.dumps(host_to_data(host, identifiers=True))) == host


# -- laws of the tables and of CUDA_VISIBLE_DEVICES --

versions = st.lists(st.integers(0, 900), min_size=1, max_size=3).map(tuple)


@LAWS
@given(text=st.text(max_size=30))
def test_any_text_is_a_version_or_none(text: str) -> None:
    for version in (parse_version(text), compiler_version(text)):
        assert version is None or all(part >= 0 for part in version)


@LAWS
@given(driver=versions, newer=st.integers(0, 50))
def test_a_newer_driver_never_serves_an_older_cuda(driver: tuple[int, ...], newer: int) -> None:
    old, new = driver_cuda_version(driver), driver_cuda_version((driver[0] + newer, *driver[1:]))
    assert old is None or (new is not None and new >= old)


@LAWS
@given(serves=st.tuples(st.integers(11, 14), st.integers(0, 9)), toolkit=st.tuples(st.integers(11, 14), st.integers(0, 9)))
def test_a_driver_runs_what_is_not_newer_than_itself(serves: tuple[int, int], toolkit: tuple[int, int]) -> None:
    verdict = driver_verdict(toolkit, driver=None, driver_cuda=serves)
    assert (verdict == "runs") == (toolkit <= serves)
    assert (verdict == "too-old") == (toolkit[0] > serves[0])


@LAWS
@given(wanted=st.one_of(st.text("0123456789,-GPUMIab ", max_size=12), st.text(max_size=8)), count=st.integers(0, 4))
def test_cuda_visible_devices_never_shows_more_than_there_is(wanted: str, count: int) -> None:
    gpus = tuple(Gpu(index=n, name="g", vendor="nvidia", source="nvml", uuid=f"GPU-{n}a") for n in range(count))
    shown = [gpu for gpu in _visible(gpus, {"CUDA_VISIBLE_DEVICES": wanted}) if gpu.visible]
    assert len(shown) <= min(count, wanted.count(",") + 1)
    assert [gpu for gpu in _visible(gpus, {}) if gpu.visible] == list(gpus)
