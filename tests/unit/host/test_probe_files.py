"""Probes that read files and ask programs, on machines that exist only in memory."""

import pytest

from provision.host.cgroups import cpu_quota, memory_limit
from provision.host.probe_memory import probe_memory
from provision.host.probe_nvidia import ask_nvidia_smi, read_jetson, read_proc
from provision.host.probe_other_gpus import ask_apple, ask_rocminfo, capability_from_name, read_kfd, read_pci
from provision.host.probe_system import probe_cpu, probe_system
from provision.host.probe_tools import compiler_trouble, probe_tools
from provision.host.types import Memory, Tool
from provision.units import GIB, MIB
from tests.support.machine_in_memory import MachineInMemory

MEMINFO = "MemTotal:       65536000 kB\nMemFree:         1000000 kB\nMemAvailable:   60000000 kB\nSwapTotal:             0 kB\n"


def test_cgroup_v2_takes_the_tightest_limit_on_the_way_up() -> None:
    machine = MachineInMemory(
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "0::/user.slice/job\n",
            "/sys/fs/cgroup/user.slice/job/memory.max": "max\n",
            "/sys/fs/cgroup/user.slice/memory.max": f"{4 * GIB}\n",
            "/sys/fs/cgroup/user.slice/memory.current": f"{3 * GIB}\n",
            "/sys/fs/cgroup/user.slice/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            "/sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
        }
    )
    memory = probe_memory(machine)
    assert (memory.limit_bytes, memory.limit_source) == (4 * GIB, "cgroup v2 memory.max")
    assert memory.available_bytes == 2 * GIB
    assert memory.swap_total_bytes == 0
    assert cpu_quota(machine) == 1.5


def test_cgroup_v1_in_a_container_whose_own_path_is_not_mounted() -> None:
    machine = MachineInMemory(
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        }
    )
    limit = memory_limit(machine)
    assert limit is not None
    assert limit.source == "cgroup v1 memory.limit_in_bytes"
    assert probe_memory(machine).available_bytes == GIB
    assert cpu_quota(machine) == 0.5


@pytest.mark.parametrize("unlimited", ["max", "9223372036854771712", "", "-1", "99999999999999999999999"])
def test_no_limit_is_no_limit(unlimited: str) -> None:
    machine = MachineInMemory(
        {"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": f"{unlimited}\n"}
    )
    assert memory_limit(machine) is None
    assert probe_memory(machine).available_bytes == 60000000 * 1024


def test_a_limit_above_the_machine_is_none() -> None:
    machine = MachineInMemory(
        {"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.max": f"{900 * GIB}"}
    )
    assert probe_memory(machine).limit_bytes is None


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({}, {}, None),
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({}, {"container": "systemd-nspawn"}, "systemd-nspawn"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"/proc/1/cgroup": "0::/lxc/box"}, {}, "lxc"),
    ],
)
def test_container(files: dict[str, str], environ: dict[str, str], container: str | None) -> None:
    assert probe_system(MachineInMemory(files, environ=environ)).container == container


def test_alpine_is_musl_and_wsl_is_wsl() -> None:
    alpine = probe_system(
        MachineInMemory(
            {"/etc/os-release": 'NAME="Alpine"\nID=alpine\nVERSION_ID=3.20.3\n', "/lib/ld-musl-x86_64.so.1": ""},
            programs={"/lib/ld-musl-x86_64.so.1": (1, "", "musl libc (x86_64)\nVersion 1.2.5\n")},
        )
    )
    assert (alpine.libc, alpine.libc_version, alpine.distribution) == ("musl", (1, 2, 5), "alpine 3.20.3")
    wsl = probe_system(
        MachineInMemory(
            {"/proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n"},
            programs={"getconf GNU_LIBC_VERSION": (0, "glibc 2.39\n")},
        )
    )
    assert wsl.wsl
    assert (wsl.libc, wsl.libc_version) == ("glibc", (2, 39))


def test_processors() -> None:
    x86 = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu avx2 amx_tile\n\nprocessor\t: 1\n"
    cpu = probe_cpu(MachineInMemory({"/proc/cpuinfo": x86}))
    assert (cpu.model, cpu.cores, cpu.flags) == ("Intel(R) Xeon(R)", 2, ("fpu", "avx2", "amx_tile"))
    arm = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
    cpu = probe_cpu(MachineInMemory({"/proc/cpuinfo": arm}, machine="aarch64"))
    assert (cpu.model, cpu.flags) == ("ARM implementer 0x41 part 0xd40", ("fp", "asimd"))


SMI = "/usr/bin/nvidia-smi"
ROW = (
    "0, NVIDIA GeForce RTX 3060, GPU-12345678, 00000000:01:00.0, 12288, 11000, 535.183.01, 8.6, "
    "[N/A], [N/A], Disabled, 1, 4, 16, 16"
)


def test_nvidia_smi_stands_in_for_nvml() -> None:
    machine = MachineInMemory(programs={SMI: (0, f"{ROW}\n")})
    found = ask_nvidia_smi(machine)
    assert found is not None
    driver, (gpu,) = found
    assert driver.version == (535, 183, 1)
    assert (gpu.name, gpu.cuda_arch, gpu.memory_total_bytes) == ("NVIDIA GeForce RTX 3060", "86", 12288 * MIB)
    assert (gpu.mig_mode, gpu.persistence, gpu.pcie_width_max) == (None, False, 16)


def test_an_old_nvidia_smi_that_knows_fewer_fields() -> None:
    short = "--query-gpu=index,name,uuid,pci.bus_id,memory.total,memory.free,driver_version --format=csv,noheader,nounits"
    machine = MachineInMemory(
        programs={
            f"{SMI} {short}": (0, "0, Tesla K80, GPU-1, 0000:05:00.0, 11441, 11441, 470.57.02\n"),
            SMI: (6, "Field compute_cap is not a valid field"),
        }
    )
    found = ask_nvidia_smi(machine)
    assert found is not None
    assert found[0].version == (470, 57, 2)
    assert found[1][0].compute_capability is None


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54", "version mismatch"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "not loaded"),
        ("No devices were found", "no devices found"),
        ("", "no answer"),
    ],
)
def test_what_nvidia_smi_complains_about(said: str, problem: str) -> None:
    found = ask_nvidia_smi(MachineInMemory(programs={SMI: (9, said)}))
    assert found is not None
    assert (found[0].problem, found[1]) == (problem, ())
    assert ask_nvidia_smi(MachineInMemory()) is None


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024", (550, 54, 14)),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", (580, 65, 6)),
        ("NVRM version: something else", None),
    ],
)
def test_proc_driver_version(line: str, version: tuple[int, ...] | None) -> None:
    machine = MachineInMemory(
        {
            "/proc/driver/nvidia/version": line,
            "/proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 4090\nGPU UUID: \t GPU-????\n",
        }
    )
    found = read_proc(machine)
    assert found is not None
    driver, (gpu,) = found
    assert driver.version == version
    assert driver.problem == "no device nodes"
    assert (gpu.name, gpu.uuid, gpu.pci_bus) == ("NVIDIA GeForce RTX 4090", None, "0000:01:00.0")
    assert read_proc(MachineInMemory()) is None


def test_jetson_by_its_device_tree() -> None:
    (gpu,) = read_jetson(MachineInMemory({"/proc/device-tree/model": b"NVIDIA Jetson AGX Orin Developer Kit\0"}))
    assert (gpu.compute_capability, gpu.unified_memory) == ((8, 7), True)
    assert read_jetson(MachineInMemory({"/proc/device-tree/model": b"Raspberry Pi 5\0"})) == ()


def test_pci_names_devices_without_any_driver() -> None:
    machine = MachineInMemory(
        {
            "/sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
            "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "/sys/bus/pci/devices/0000:01:00.0/device": "0x2684\n",
            "/sys/bus/pci/drivers/nouveau/x": "",
            "/sys/bus/pci/devices/0000:03:00.0/class": "0x030000\n",
            "/sys/bus/pci/devices/0000:03:00.0/vendor": "0x1002\n",
            "/sys/bus/pci/devices/0000:03:00.0/device": "0x744c\n",
            "/sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total": f"{24 * GIB}\n",
            "/sys/bus/pci/devices/0000:03:00.0/mem_info_vram_used": f"{GIB}\n",
            "/sys/bus/pci/devices/0000:00:1f.0/class": "0x060100\n",
            "/usr/share/misc/pci.ids": "1002  AMD\n\t744c  Navi 31\n10de  NVIDIA\n\t2684  AD102 [GeForce RTX 4090]\n",
        },
        links={"/sys/bus/pci/devices/0000:01:00.0/driver": "/sys/bus/pci/drivers/nouveau"},
    )
    (nvidia, amd), bound = read_pci(machine)
    assert (nvidia.name, nvidia.vendor) == ("AD102 [GeForce RTX 4090]", "nvidia")
    assert (amd.name, amd.memory_total_bytes, amd.memory_free_bytes) == ("Navi 31", 24 * GIB, 23 * GIB)
    assert bound == {"0000:01:00.0": "nouveau"}


def test_kfd_targets_are_written_in_hexadecimal() -> None:
    files = {f"/sys/class/kfd/kfd/topology/nodes/{node}/properties": f"gfx_target_version {number}\n" for node, number in
             (("0", 0), ("1", 110000), ("2", 90010), ("3", 110501))}  # fmt: skip
    assert read_kfd(MachineInMemory(files)) == ("gfx1100", "gfx90a", "gfx1151")


def test_rocminfo_gives_the_names_people_know() -> None:
    said = """
Agent 1
  Name:                    AMD Ryzen 9 7950X
  Marketing Name:          AMD Ryzen 9 7950X 16-Core Processor
  Device Type:             CPU
Agent 2
  Name:                    gfx1100
  Marketing Name:          AMD Radeon RX 7900 XTX
  Device Type:             GPU
"""
    assert ask_rocminfo(MachineInMemory(programs={"/opt/rocm/bin/rocminfo": (0, said)})) == ("AMD Radeon RX 7900 XTX",)
    assert ask_rocminfo(MachineInMemory(programs={"/usr/bin/rocminfo": (1, said)})) == ()
    assert ask_rocminfo(MachineInMemory()) == ()


def test_apple() -> None:
    said = '{"SPDisplaysDataType": [{"sppci_model": "Apple M3 Max"}, {"other": 1}, 3]}'
    machine = MachineInMemory(programs={"system_profiler": (0, said)}, os_name="darwin", machine="arm64")
    (gpu,) = ask_apple(machine, Memory(total_bytes=64 * GIB, available_bytes=GIB))
    assert (gpu.vendor, gpu.memory_total_bytes, gpu.unified_memory) == ("apple", 64 * GIB, True)


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA GeForce RTX 4090", (8, 9)),
        ("AD102 [GeForce RTX 4090]", (8, 9)),
        ("GeForce GTX 1660 SUPER", (7, 5)),
        ("NVIDIA H100 PCIe", (9, 0)),
        ("Tesla T4", (7, 5)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)),
        ("Quadro FX 380", None),
    ],
)
def test_capability_by_name(name: str, capability: tuple[int, int] | None) -> None:
    assert capability_from_name(name) == capability


GCC = "g++ (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0\nCopyright (C) 2023 Free Software Foundation, Inc.\n"


def test_compilers_and_their_versions() -> None:
    machine = MachineInMemory(
        programs={
            "/usr/bin/x86_64-linux-gnu-g++-13": (0, GCC),
            "/usr/bin/g++-11": (0, "g++-11 (Debian 11.3.0-12) 11.3.0\nFree Software Foundation"),
            "/usr/bin/clang++": (0, "Ubuntu clang version 18.1.3 (1ubuntu1)\nTarget: x86_64-pc-linux-gnu\n"),
            "/usr/bin/cmake": (0, "cmake version 3.28.3\n\nCMake suite maintained\n"),
            "/usr/bin/ninja": (1, ""),
        },
        links={"/usr/bin/c++": "/usr/bin/x86_64-linux-gnu-g++-13", "/usr/bin/g++": "/usr/bin/x86_64-linux-gnu-g++-13"},
        environ={"CXX": "clang++"},
    )
    tools = {tool.name: tool for tool in probe_tools(machine)}
    assert (tools["c++"].version, tools["c++"].detail) == ((13, 3, 0), "gcc")
    assert (tools["g++-11"].version, tools["CXX"].version, tools["CXX"].detail) == ((11, 3, 0), (18, 1, 3), "clang")
    assert tools["CXX"].found_via == "CXX"
    assert tools["cmake"].version == (3, 28, 3)
    assert tools["ninja"].works is False


def test_a_compiler_that_cannot_link_says_why() -> None:
    said = "some note\n/usr/bin/ld: cannot find crt1.o: No such file or directory\ncollect2: error: ld returned 1 exit status\n"
    machine = MachineInMemory(programs={"/usr/bin/c++": (1, "", said)})
    assert compiler_trouble(machine, Tool(name="c++", path="/usr/bin/c++")) == (
        "/usr/bin/ld: cannot find crt1.o: No such file or directory"
    )
    assert compiler_trouble(MachineInMemory(programs={"/usr/bin/c++": (0, "")}), Tool(name="c++", path="/usr/bin/c++")) is None
    assert compiler_trouble(MachineInMemory(), Tool(name="c++", path="/usr/bin/c++")) == "it cannot be started or hangs"
