"""What may be used of each memory: per GPU, and main memory within its cgroup."""

from __future__ import annotations

from provision.errors import MachineError
from provision.fit.types import Budget, Budgets, FitWish
from provision.host.types import EngineDevice, Gpu, Host
from provision.units import GIB, MIB, format_bytes

# Outside every breakdown: the CUDA context, cuBLAS workspaces and kernels loaded on first use. Measured on one NVIDIA H200
# (NVML against the plan, 13 plans of four models, llama-cpp-python 0.3.36, 2026-11-26): 521 to 713 MiB over the plan at the
# peak, a mixture of experts the most. With 2 % of the free memory this holds the largest of them from 4 GiB on. Smaller cards
# were not tried; a smoke test measures what this one takes (`measured`).
_CUDA_OVERHEAD = 640 * MIB
_OTHER_OVERHEAD = 128 * MIB
_MAX_HOST_MARGIN = 1 * GIB
_INTERPRETER = 200 * MIB
"""Python with numpy and the engine's libraries, resident before a model is there."""


def read_budgets(host: Host | None, wish: FitWish) -> Budgets:
    """Budgets of `host`, with what the wish says instead. `host` may be None when the wish says both."""
    devices = _asked_devices(wish.vram) if wish.vram is not None else _devices(host)
    return Budgets(devices=devices, host=_host_budget(host, wish.ram))


def _asked_devices(sizes: tuple[int, ...]) -> tuple[Budget, ...]:
    return tuple(
        Budget(
            name=f"GPU{index}",
            free_bytes=size,
            margin_bytes=_CUDA_OVERHEAD + size // 50,
            reason=f"{format_bytes(size)} as asked",
            total_bytes=size,
        )
        for index, size in enumerate(sizes)
    )


def _devices(host: Host | None) -> tuple[Budget, ...]:
    """The GPUs the installed engine will use, in its order; before there is an engine, those of the machine."""
    if host is None:
        return ()
    if host.engine is not None and host.engine.loads:
        used = [device for device in host.engine.devices if device.kind in ("gpu", "igpu") and device.memory_free_bytes]
        return tuple(_engine_budget(device, host) for device in used)
    return _gpus(host)


def _engine_budget(device: EngineDevice, host: Host) -> Budget:
    free = device.memory_free_bytes or 0
    same = next((gpu for gpu in host.gpus if gpu.name and gpu.name in device.description), None)
    overhead = _CUDA_OVERHEAD if device.name.upper().startswith("CUDA") else _OTHER_OVERHEAD
    return Budget(
        name=f"{device.name} {device.description}",
        free_bytes=free,
        margin_bytes=overhead + free // 50,
        reason=f"{format_bytes(free)} free now",
        total_bytes=device.memory_total_bytes,
        unified=device.kind == "igpu" or (same is not None and same.unified_memory),
    )


def gpus_without_engine(host: Host | None) -> tuple[Gpu, ...]:
    """GPUs of the machine that the installed engine can't use: it was built without them."""
    if host is None or host.engine is None or not host.engine.loads:
        return ()
    if any(device.kind in ("gpu", "igpu") for device in host.engine.devices):
        return ()
    return tuple(gpu for gpu in host.gpus if gpu.visible and gpu.vendor != "software")


def _gpus(host: Host) -> tuple[Budget, ...]:
    found = []
    for gpu in host.gpus:
        # A renderer in software is no GPU, and Intel's built-in ones share the CPU's memory and gain nothing over it.
        if gpu.vendor == "software" or (gpu.vendor == "intel" and gpu.integrated):
            continue
        free = gpu.memory_free_bytes if gpu.memory_free_bytes is not None else gpu.memory_total_bytes
        if gpu.visible and free:
            found.append(_gpu_budget(gpu, free))
    return tuple(found)


def _gpu_budget(gpu: Gpu, free: int) -> Budget:
    overhead = _CUDA_OVERHEAD if gpu.vendor == "nvidia" else _OTHER_OVERHEAD
    word = "free now" if gpu.memory_free_bytes is not None else "in total; free memory is not known"
    return Budget(
        name=f"GPU{gpu.index} {gpu.name}",
        free_bytes=free,
        margin_bytes=overhead + free // 50,
        reason=f"{format_bytes(free)} {word}",
        total_bytes=gpu.memory_total_bytes,
        unified=gpu.unified_memory,
    )


def _host_budget(host: Host | None, asked: int | None) -> Budget:
    if asked is not None:
        free, why = asked, f"{format_bytes(asked)} as asked"
    elif host is not None and host.memory.available_bytes is not None:
        memory = host.memory
        free = host.memory.available_bytes
        why = f"{format_bytes(free)} available"
        if memory.limit_bytes is not None and memory.limit_source:
            why += f", limit {format_bytes(memory.limit_bytes)} by {memory.limit_source}"
    else:
        raise MachineError(
            "how much main memory this machine has is not known",
            code="memory-unknown",
            hint="say it: provision fit TARGET --ram 16GiB",
        )
    margin = _INTERPRETER + min(_MAX_HOST_MARGIN, free // 20)
    return Budget(name="main memory", free_bytes=free, margin_bytes=margin, reason=why)
