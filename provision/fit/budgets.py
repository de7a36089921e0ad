"""What may be used of each memory: per GPU, and main memory within its cgroup."""

from __future__ import annotations

from provision.errors import MachineError
from provision.fit.types import Budget, Budgets, FitWish
from provision.host.types import Gpu, Host
from provision.units import GIB, MIB, format_bytes

# Outside every breakdown: the CUDA context, cuBLAS workspaces and kernels loaded on first use, 300-500 MiB on real cards.
_CUDA_OVERHEAD = 512 * MIB
_OTHER_OVERHEAD = 128 * MIB
_MAX_HOST_MARGIN = 1 * GIB
_INTERPRETER = 200 * MIB
"""Python with numpy and the engine's libraries, resident before a model is there."""


def read_budgets(host: Host | None, wish: FitWish) -> Budgets:
    """Budgets of `host`, with what the wish says instead. `host` may be None when the wish says both."""
    devices = _asked_devices(wish.vram) if wish.vram is not None else _gpus(host)
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


def _gpus(host: Host | None) -> tuple[Budget, ...]:
    if host is None:
        return ()
    found = []
    for gpu in host.gpus:
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
