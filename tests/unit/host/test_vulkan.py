from dataclasses import replace

from provision.host.types import Gpu
from provision.host.vulkan import read_vulkan, with_vulkan
from provision.processes import ChildOutcome
from provision.units import GIB

ARC = {"name": "Intel(R) Arc(tm) A770", "vendor": "0x8086", "device": "0x56a0", "kind": "discrete", "memory": 16 * GIB}
PIPE = {"name": "llvmpipe (LLVM 15.0.6, 256 bits)", "vendor": "0x10005", "kind": "cpu", "memory": 8 * GIB}
SYSFS = Gpu(index=0, name="INTEL GPU [8086:56a0]", vendor="intel", source="sysfs", pci_bus="0000:03:00.0")


def outcome(**answer: object) -> ChildOutcome:
    return ChildOutcome(kind="ok", answer=answer, signal_name=None, returncode=0, stderr_tail="", elapsed_s=0.1)


def test_software_is_told_from_hardware() -> None:
    (arc, pipe), trouble = read_vulkan(outcome(devices=[ARC, PIPE]))
    assert trouble is None
    assert (arc.vendor, arc.memory_total_bytes, arc.unified_memory) == ("intel", 16 * GIB, False)
    assert (pipe.vendor, pipe.name) == ("software", "llvmpipe (LLVM 15.0.6, 256 bits)")


def test_no_vulkan_is_no_trouble_and_a_broken_one_is() -> None:
    assert read_vulkan(outcome(absent=True)) == ((), None)
    assert read_vulkan(outcome(error="vkCreateInstance gave -3"))[1] == "Vulkan cannot start: vkCreateInstance gave -3"
    assert read_vulkan(replace(outcome(), kind="signal", signal_name="SIGSEGV"))[1] == "Vulkan died of SIGSEGV"
    assert read_vulkan(replace(outcome(), kind="timeout", elapsed_s=6.0))[1] == "Vulkan did not answer in 6 s"


def test_memory_the_kernel_does_not_tell_is_taken_from_vulkan_when_there_is_no_doubt() -> None:
    (arc, pipe), _ = read_vulkan(outcome(devices=[ARC, PIPE]))
    first, second = with_vulkan([SYSFS], [arc, pipe])
    assert (first.name, first.memory_total_bytes, first.pci_bus) == (ARC["name"], 16 * GIB, "0000:03:00.0")
    assert second == pipe
    two = [SYSFS, replace(SYSFS, index=1)]
    assert with_vulkan(two, [arc]) == tuple(two)
    known = replace(SYSFS, memory_total_bytes=12 * GIB)
    assert with_vulkan([known], [arc]) == (known,)
