"""All GPUs and the NVIDIA driver, from the best source that answers, and which of them a CUDA program would see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from provision.host.nvml import NvmlAnswer, ask_nvml, read_answer, with_unified_memory
from provision.host.probe_nvidia import ask_nvidia_smi, read_jetson, read_proc
from provision.host.probe_other_gpus import (
    ask_apple,
    ask_rocminfo,
    capability_from_name,
    gfx_note,
    read_kfd,
    read_pci,
)
from provision.host.reader import Reader
from provision.host.side_by_side import for_each
from provision.host.types import Driver, Gpu, Memory
from provision.host.vulkan import ask_vulkan, read_vulkan, with_vulkan


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What `probe_gpus` found; `notes` say which source failed."""

    driver: Driver | None
    gpus: tuple[Gpu, ...]
    notes: tuple[str, ...] = ()


def probe_gpus(reader: Reader, memory: Memory, *, timeout_s: float) -> GpuFacts:
    """NVIDIA by NVML, else nvidia-smi, else /proc, else PCI; the other vendors by what the kernel or Vulkan says."""
    apple = reader.os_name == "darwin"
    asks = [ask_vulkan] if apple else [ask_nvml, ask_vulkan]
    *first, told = for_each(lambda ask: ask(reader.environ, timeout_s=timeout_s), asks)
    nvml = read_answer(first[0]) if first else NvmlAnswer()
    driver, nvidia, notes = _nvidia(reader, nvml)
    if nvml.trouble is not None:
        notes.append(nvml.trouble)
    pci, bound = read_pci(reader)
    driver, nvidia = _with_pci(driver, nvidia, [gpu for gpu in pci if gpu.vendor == "nvidia"], bound)
    others = _with_targets([gpu for gpu in pci if gpu.vendor != "nvidia"], read_kfd(reader), reader)
    seen = _visible(with_unified_memory(tuple(nvidia), memory), reader.environ)
    vulkan, trouble = read_vulkan(told)
    if trouble is not None:
        notes.append(trouble)
    # An index is unique per vendor: NVIDIA's is what CUDA_VISIBLE_DEVICES counts in PCI order.
    found = with_vulkan([*seen, *others, *ask_apple(reader, memory)], vulkan)
    return GpuFacts(driver=driver, gpus=found, notes=tuple(notes))


def _nvidia(reader: Reader, nvml: NvmlAnswer) -> tuple[Driver | None, list[Gpu], list[str]]:
    if nvml.trouble is None and nvml.driver is not None:
        return nvml.driver, list(nvml.gpus), []
    notes: list[str] = []
    proc = read_proc(reader)
    smi = ask_nvidia_smi(reader)
    if smi is not None and smi[0].problem is None and smi[1]:
        notes.append("NVML did not answer, so these GPUs are as nvidia-smi shows them")
        return smi[0], list(smi[1]), notes
    problem = (nvml.driver.problem if nvml.driver else None) or (smi[0].problem if smi else None) or nvml.trouble
    jetson = read_jetson(reader)
    if proc is not None:
        # Only the kernel module answers. Where even NVML's library is absent, the container was not given the driver.
        gpus = [replace(gpu, compute_capability=capability_from_name(gpu.name)) for gpu in proc[1]] or list(jetson)
        return replace(proc[0], problem=problem or proc[0].problem or "no driver library"), gpus, notes
    if jetson:
        return Driver(source="device-tree"), list(jetson), notes
    if problem is not None:
        return Driver(source=(nvml.driver or (smi[0] if smi else Driver())).source, problem=problem), [], notes
    return None, [], notes


def _with_pci(
    driver: Driver | None, nvidia: list[Gpu], pci: list[Gpu], bound: Mapping[str, str]
) -> tuple[Driver | None, list[Gpu]]:
    """GPUs only PCI knows have no working driver; what is bound to them instead says why."""
    if nvidia or not pci:
        return driver, nvidia
    bindings = sorted({bound[gpu.pci_bus] for gpu in pci if gpu.pci_bus is not None and gpu.pci_bus in bound})
    if driver is None and bindings:
        driver = Driver(source="sysfs", problem=f"not loaded ({', '.join(bindings)} is bound instead)")
    note = "only the PCI bus shows it: no driver answers"
    return driver, [
        replace(gpu, compute_capability=capability_from_name(gpu.name), visible=False, notes=(*gpu.notes, note)) for gpu in pci
    ]


def _with_targets(gpus: list[Gpu], targets: tuple[str, ...], reader: Reader) -> list[Gpu]:
    """KFD and rocminfo list AMD's GPUs in PCI order; with another count than PCI's, which is which is not known."""
    amd = [gpu for gpu in gpus if gpu.vendor == "amd"]
    if not amd:
        return gpus
    names = ask_rocminfo(reader)
    told = {}
    for number, gpu in enumerate(amd):
        if len(targets) == len(amd):
            gpu = replace(gpu, notes=(*gpu.notes, gfx_note(targets[number])))
        if len(names) == len(amd) and names[number]:
            gpu = replace(gpu, name=names[number])
        told[gpu.pci_bus] = gpu
    return [told[gpu.pci_bus] if gpu.vendor == "amd" else gpu for gpu in gpus]


def _visible(gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """CUDA_VISIBLE_DEVICES as CUDA reads it: indices or UUID prefixes, and the first wrong word ends the list."""
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return gpus
    shown: list[int] = []
    candidates = [position for position, gpu in enumerate(gpus) if gpu.visible]
    for word in (part.strip() for part in wanted.split(",")):
        chosen = _match(word, gpus, candidates)
        if chosen is None:
            break
        shown.append(chosen)
    return tuple(replace(gpu, visible=gpu.visible and position in shown) for position, gpu in enumerate(gpus))


def _match(word: str, gpus: tuple[Gpu, ...], candidates: list[int]) -> int | None:
    if word.isascii() and word.isdecimal() and len(word) < 6:
        number = int(word)
        return candidates[number] if number < len(candidates) else None
    if word.startswith(("GPU-", "MIG-")):
        matches = [position for position in candidates if (gpus[position].uuid or "").lower().startswith(word.lower())]
        return matches[0] if len(matches) == 1 else None
    return None
