"""Checks of GPUs and their driver."""

from __future__ import annotations

import re
from collections.abc import Sequence

from provision.host.cuda_tables import arch_family, driver_text, version_text
from provision.host.findings import Check, Finding, Remedy, info, ok, skipped, warning
from provision.host.match import cuda_gpus, driver_serves
from provision.host.packages import driver_command
from provision.host.types import Gpu, Host
from provision.units import format_bytes

_DRIVER_URL = "https://www.nvidia.com/drivers"


# `nvidia-smi -L` prints `  MIG 3g.71gb  Device 0: (UUID: MIG-...)`; 2p takes the second slice.
_SECOND_SLICE = "export CUDA_VISIBLE_DEVICES=$(nvidia-smi -L | sed -n 's/.*UUID: \\(MIG-[^)]*\\).*/\\1/p' | sed -n 2p)"


def nvidia_gpus(host: Host) -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in host.gpus if gpu.vendor == "nvidia")


def judge_gpus(host: Host) -> list[Finding]:
    if not host.gpus:
        return [info("no GPU found: everything runs on the CPU")]
    return [_about(gpu) for gpu in host.gpus]


def _about(gpu: Gpu) -> Finding:
    words = gpu.name
    if gpu.mig_parent is not None:
        words += f" (MIG slice of GPU {gpu.mig_parent})"
    if gpu.cuda_arch is not None:
        family = arch_family(gpu.cuda_arch)
        words += f", sm_{gpu.cuda_arch}" + (f" ({family})" if family else "")
    if gpu.memory_total_bytes is not None:
        shared = " shared with the host" if gpu.unified_memory else ""
        free = f", {format_bytes(gpu.memory_free_bytes)} free" if gpu.memory_free_bytes is not None else ""
        words += f", {format_bytes(gpu.memory_total_bytes)}{shared}{free}"
    detail = "; ".join((*_facts(gpu), *gpu.notes))
    if gpu.vendor == "nvidia":
        return ok(words, detail=detail)
    if gpu.vendor == "software":
        return info(f"{words}: a software renderer, no GPU", detail=detail)
    backend = {"amd": "ROCm or Vulkan", "intel": "Vulkan", "apple": "Metal"}.get(gpu.vendor, "Vulkan")
    return info(f"{words}: usable through {backend}, which was not tried by us on this hardware", detail=detail)


def _facts(gpu: Gpu) -> list[str]:
    """The rest of what the driver says of it, where it says it."""
    words = []
    if gpu.pcie_generation and gpu.pcie_width:
        most = (
            f" of {gpu.pcie_generation_max}.0 x{gpu.pcie_width_max}" if gpu.pcie_generation_max and gpu.pcie_width_max else ""
        )
        words.append(f"PCIe {gpu.pcie_generation}.0 x{gpu.pcie_width}{most} now")
    for name, on in (("ECC", gpu.ecc), ("persistence", gpu.persistence), ("MIG", gpu.mig_mode)):
        if on is not None:
            words.append(f"{name} {'on' if on else 'off'}")
    if gpu.processes is not None:
        words.append(f"{gpu.processes or 'no'} process{'' if gpu.processes == 1 else 'es'} on it")
    if gpu.throttle_reasons:
        words.append(f"clocks held down by {', '.join(gpu.throttle_reasons)}")
    return words


def judge_driver(host: Host) -> list[Finding]:
    driver, gpus = host.driver, nvidia_gpus(host)
    if driver is None:
        if not gpus:
            return [skipped("no NVIDIA GPU")]
        return [_no_driver(host)]
    version = f" {driver_text(driver.version)}" if driver.version else ""
    if driver.problem is not None:
        return [_driver_trouble(host, driver.problem, version)]
    serves = driver_serves(driver)
    if driver.version is None and serves is None:
        return [info("an NVIDIA driver answers, its version is unknown")]
    return [ok(f"driver{version}" + (f" serves CUDA up to {version_text(serves)}" if serves else ""))]


def _no_driver(host: Host) -> Finding:
    if host.system.wsl:
        remedy = Remedy(
            text="Install or update NVIDIA's driver in Windows, then run this in a Windows shell.", commands=("wsl --shutdown",)
        )
        return warning("no NVIDIA driver reaches WSL", remedy=remedy)
    command = driver_command(host)
    remedy = Remedy(text="Install NVIDIA's driver and restart.", commands=(command,) if command else (), url=_DRIVER_URL)
    return warning("an NVIDIA GPU and no NVIDIA driver: the GPU cannot be used", remedy=remedy)


def _driver_trouble(host: Host, problem: str, version: str) -> Finding:
    if "mismatch" in problem:
        remedy = Remedy(
            text="The driver was updated while the old kernel module runs on: restart the machine.", commands=("sudo reboot",)
        )
        return warning(
            f"driver{version}: kernel module and library differ in version, so no program can use the GPU", remedy=remedy
        )
    if host.system.container and ("no device nodes" in problem or "no driver library" in problem):
        remedy = Remedy(
            text="Start the container with --gpus all (podman: --device nvidia.com/gpu=all). Where this fails on the host, the "
            "NVIDIA Container Toolkit is missing there:",
            commands=("docker run --rm --gpus all ubuntu:24.04 nvidia-smi",),
            url="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
        )
        return warning(f"driver{version} runs on the host, but this container was given no GPU", remedy=remedy)
    if "not loaded" in problem:
        if "nouveau" in problem:
            return _no_driver(host)
        remedy = Remedy(
            text="Load the kernel module; if that fails, it was not built for this kernel.", commands=("sudo modprobe nvidia",)
        )
        return warning(f"the NVIDIA kernel module is not loaded{': ' + problem if '(' in problem else ''}", remedy=remedy)
    if "no device nodes" in problem:
        remedy = Remedy(text="Make the device nodes.", commands=("sudo nvidia-modprobe -u -c=0",))
        return warning(f"driver{version} is loaded and /dev/nvidia* is missing", remedy=remedy)
    if "no driver library" in problem:
        return warning(
            f"driver{version} is loaded and its libraries (libnvidia-ml, libcuda) are missing", remedy=_no_driver(host).remedy
        )
    if "no permission" in problem:
        remedy = Remedy(
            text="Join the groups that own the device files.",
            commands=('sudo usermod -aG video,render "$USER"', "ls -l /dev/nvidia*"),
        )
        return warning(f"driver{version}: this user may not open the GPU", remedy=remedy)
    remedy = Remedy(
        text="See what the kernel says; a restart mends most of it.",
        commands=("sudo dmesg | grep -i nvrm | tail", "nvidia-smi"),
    )
    return warning(f"driver{version} does not answer: {problem}", remedy=remedy)


def judge_visibility(host: Host) -> list[Finding]:
    gpus = [gpu for gpu in nvidia_gpus(host) if not gpu.mig_mode]
    wanted = host.environment.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        return [skipped("no NVIDIA GPU")]
    # CUDA's default is FASTEST_FIRST (CUDA programming guide, environment variables); NVML and nvidia-smi count by PCI bus.
    unsure = len({gpu.name for gpu in gpus}) > 1 and host.environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
    numbering = Remedy(text="Number them by PCI bus, as nvidia-smi does.", commands=("export CUDA_DEVICE_ORDER=PCI_BUS_ID",))
    by_bus = "by PCI bus: " + ", ".join(f"{gpu.index} is {gpu.name}" for gpu in gpus)
    if wanted is None:
        if unsure:
            summary = "unequal GPUs: CUDA numbers the fastest first, nvidia-smi by PCI bus"
            return [info(summary, detail=by_bus, remedy=numbering)]
        return [ok("CUDA_VISIBLE_DEVICES is not set; every GPU is seen")]
    seen = cuda_gpus(host)
    remedy = Remedy(text="Unset it, or name the GPUs you mean.", commands=("unset CUDA_VISIBLE_DEVICES",))
    shown = wanted if re.fullmatch(r"[\d,\s-]*", wanted) else "a list of UUIDs"
    if not seen:
        if host.driver is not None and host.driver.problem is not None:
            return [skipped("the driver does not work, so nothing is seen")]
        return [warning(f"CUDA_VISIBLE_DEVICES={shown!r} hides every GPU", remedy=remedy)]
    summary = f"CUDA_VISIBLE_DEVICES={shown} shows {len(seen)} of {len(gpus)} GPUs"
    if unsure and len(seen) < len(gpus) and re.search(r"\d", shown):
        means = f"{summary}, counted fastest first by CUDA and by PCI bus here: they may be others than {_names(seen)}"
        return [warning(means, detail=by_bus, remedy=numbering)]
    return [info(summary, remedy=remedy if len(seen) < len(gpus) else None)]


def _names(gpus: Sequence[Gpu]) -> str:
    return ", ".join(gpu.name for gpu in gpus)


def judge_gpu_memory(host: Host) -> list[Finding]:
    found = []
    for gpu in cuda_gpus(host):
        total, free = gpu.memory_total_bytes, gpu.memory_free_bytes
        if total is None or free is None or gpu.unified_memory:
            continue
        if free < total // 2:
            by = f" by {gpu.processes} processes" if gpu.processes else ""
            remedy = Remedy(
                text="End what uses it, or choose a smaller quant.",
                commands=("nvidia-smi --query-compute-apps=pid,used_memory --format=csv",),
            )
            found.append(
                warning(f"{gpu.name}: {format_bytes(total - free)} of {format_bytes(total)} in use{by}", remedy=remedy)
            )
    return found or [ok("GPU memory is free") if cuda_gpus(host) else skipped("no visible NVIDIA GPU")]


def judge_gpu_health(host: Host) -> list[Finding]:
    found = []
    for gpu in nvidia_gpus(host):
        heat = [reason for reason in gpu.throttle_reasons if reason != "power cap"]
        if heat:
            remedy = Remedy(text="Look at cooling and power.", commands=("nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER",))
            found.append(warning(f"{gpu.name} is slowed down: {', '.join(heat)}", remedy=remedy))
        if gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max:
            # The generation drops when idle and says nothing; the width does not.
            summary = f"{gpu.name} has {gpu.pcie_width} of {gpu.pcie_width_max} PCIe lanes: loading models is slower"
            found.append(info(summary, detail="a riser, a shared slot or a card not fully seated"))
        if any("lost" in note for note in gpu.notes):
            remedy = Remedy(
                text="See the kernel's messages; a restart brings it back for a while.", commands=("sudo dmesg | grep -i xid",)
            )
            found.append(warning(f"GPU {gpu.index} fell off the bus", detail="; ".join(gpu.notes), remedy=remedy))
    return found or [ok("no GPU is slowed down") if nvidia_gpus(host) else skipped("no NVIDIA GPU")]


def judge_mig(host: Host) -> list[Finding]:
    parents = [gpu for gpu in host.gpus if gpu.mig_mode]
    slices = [gpu for gpu in host.gpus if gpu.mig_parent is not None]
    if not parents:
        return [skipped("no GPU is divided (MIG)")]
    found = []
    for parent in parents:
        own = [piece for piece in slices if piece.mig_parent == parent.index]
        if not own and parent.source == "nvml":
            remedy = Remedy(
                text="Create instances or turn MIG off.",
                commands=("sudo nvidia-smi mig -lgip", f"sudo nvidia-smi -i {parent.index} -mig 0"),
            )
            found.append(
                warning(
                    f"GPU {parent.index} ({parent.name}): MIG is on and no instance exists, so programs see no GPU",
                    remedy=remedy,
                )
            )
    if len(slices) > 1:
        remedy = Remedy(text="Choose a slice by its UUID, here the second.", commands=("nvidia-smi -L", _SECOND_SLICE))
        found.append(info(f"{len(slices)} MIG slices: a CUDA program uses only one of them, the first", remedy=remedy))
    return found or [ok(f"{len(slices)} MIG slice" if slices else "MIG is on")]


def judge_unified_memory(host: Host) -> list[Finding]:
    shared = [gpu for gpu in host.gpus if gpu.unified_memory and gpu.vendor in ("nvidia", "apple")]
    if not shared:
        return [skipped("no GPU shares the host's memory")]
    return [info(f"{gpu.name} shares the host's memory: model and system compete for the same budget") for gpu in shared]


CHECKS = (
    Check(
        id="gpus",
        title="GPUs",
        about="Every GPU by the best source that answers: NVML, nvidia-smi, the driver's /proc files, PCI, KFD, Vulkan, "
        "system_profiler. PCIe link, ECC, persistence, MIG, processes and throttling are in its evidence.",
        judge=judge_gpus,
    ),
    Check(
        id="driver",
        title="NVIDIA driver",
        about="Whether the driver answers, and the newest CUDA it serves. Version mismatch after an update, a module that is "
        "not loaded, missing device nodes and containers without GPUs are told apart.",
        judge=judge_driver,
    ),
    Check(
        id="gpu-visibility",
        title="CUDA_VISIBLE_DEVICES",
        about="Which GPUs a CUDA program started here would see, by index or UUID. CUDA counts the fastest first, NVML and "
        "nvidia-smi by PCI bus: with unequal GPUs an index means another card unless CUDA_DEVICE_ORDER is PCI_BUS_ID.",
        judge=judge_visibility,
    ),
    Check(
        id="gpu-memory",
        title="GPU memory",
        about="A warning when more than half of a GPU is taken by others.",
        judge=judge_gpu_memory,
    ),
    Check(
        id="gpu-health",
        title="GPU health",
        about="Thermal and power throttling, PCIe lanes, GPUs the driver lost.",
        judge=judge_gpu_health,
    ),
    Check(id="mig", title="MIG", about="A divided GPU: processes see slices, and CUDA uses one of them.", judge=judge_mig),
    Check(
        id="unified-memory",
        title="Unified memory",
        about="GB10, Jetson and Apple GPUs use main memory; there is one budget, not two.",
        judge=judge_unified_memory,
    ),
)
