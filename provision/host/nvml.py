"""NVML's answer (children/nvml.py) as a Driver and GPUs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from provision.host.cuda_tables import parse_version
from provision.host.types import Driver, Gpu, Memory, Version
from provision.processes import ChildOutcome, run_child

CHILD = Path(__file__).parent / "children" / "nvml.py"
# Bits of nvmlClocksThrottleReasons (nvml.h, binding 13.615): idle, requested clocks and display settings are no trouble.
_THROTTLE = {
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0020: "software thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "power brake",
}
_PROBLEMS = {
    "NVMLError_LibRmVersionMismatch": "version mismatch",
    "NVMLError_DriverNotLoaded": "not loaded",
    "NVMLError_NoPermission": "no permission",
}
_ABSENT = "NVMLError_LibraryNotFound"


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlAnswer:
    """`driver` None: there is no NVML here. `trouble` says why NVML, although there, cannot be relied on."""

    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    trouble: str | None = None


def ask_nvml(environ: Mapping[str, str], *, timeout_s: float) -> ChildOutcome:
    """Run the child under our own Python, which has the binding."""
    return run_child(sys.executable, CHILD, {}, timeout_s=timeout_s, env=environ)


def read_answer(outcome: ChildOutcome) -> NvmlAnswer:
    """What the child's end means. Takes any answer, however malformed."""
    if outcome.kind == "timeout":
        return NvmlAnswer(trouble=f"NVML did not answer in {outcome.elapsed_s:.0f} s; the driver hangs")
    if outcome.kind == "signal":
        return NvmlAnswer(trouble=f"NVML died of {outcome.signal_name}")
    answer = outcome.answer
    error = answer.get("error")
    if isinstance(error, str):
        if error == _ABSENT:
            return NvmlAnswer()
        problem = _PROBLEMS.get(error, error)
        return NvmlAnswer(driver=Driver(source="nvml", problem=problem), trouble=f"NVML cannot start: {error}")
    if outcome.kind != "ok":
        last = outcome.stderr_tail.strip().splitlines()[-1:] or ["no answer"]
        return NvmlAnswer(trouble=f"the NVML probe failed: {last[0][:200]}")
    driver = Driver(version=_version(answer.get("driver")), cuda_version=_cuda(answer.get("cuda")), source="nvml")
    rows = answer.get("gpus")
    gpus: list[Gpu] = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping):
            gpus.extend(_gpus_of(row, len(gpus)))
    return NvmlAnswer(driver=driver, gpus=tuple(gpus))


def with_unified_memory(gpus: tuple[Gpu, ...], memory: Memory) -> tuple[Gpu, ...]:
    """GPUs whose memory NVML does not report use the host's (GB10, Jetson); their budget is the host's."""
    return tuple(
        replace(gpu, memory_total_bytes=memory.total_bytes, memory_free_bytes=memory.available_bytes)
        if gpu.unified_memory and gpu.memory_total_bytes is None
        else gpu
        for gpu in gpus
    )


def _gpus_of(row: Mapping[str, Any], position: int) -> list[Gpu]:
    said = row.get("index")
    index = said if _is_number(said) else position
    if isinstance(row.get("lost"), str):
        note = f"NVML lost this GPU: {row['lost']}"
        return [Gpu(index=index, name="NVIDIA GPU", vendor="nvidia", source="nvml", visible=False, notes=(note,))]
    total, free, memory_problem = _memory(row.get("memory"))
    unified = memory_problem == "NVMLError_NotSupported"
    mig = _flag(row, "mig")
    gpu = Gpu(
        index=index,
        name=_text(row, "name") or "NVIDIA GPU",
        vendor="nvidia",
        source="nvml",
        compute_capability=_capability(_value(row, "compute_capability")),
        memory_total_bytes=total,
        memory_free_bytes=free,
        unified_memory=unified,
        integrated=unified,
        uuid=_text(row, "uuid"),
        pci_bus=_text(row, "bus"),
        mig_mode=mig,
        ecc=_flag(row, "ecc"),
        persistence=_flag(row, "persistence"),
        pcie_generation=_number(row, "pcie_generation"),
        pcie_generation_max=_number(row, "pcie_generation_max"),
        pcie_width=_number(row, "pcie_width"),
        pcie_width_max=_number(row, "pcie_width_max"),
        throttle_reasons=_throttle(_number(row, "throttle")),
        processes=_number(row, "processes"),
        notes=_memory_notes(memory_problem),
    )
    slices = row.get("slices")
    pieces = [piece for piece in slices if isinstance(piece, Mapping)] if isinstance(slices, list) else []
    if not mig:
        return [gpu]
    # With MIG on, a process sees a slice and never the whole GPU.
    return [replace(gpu, visible=False), *(_slice_of(gpu, piece, number) for number, piece in enumerate(pieces))]


def _slice_of(parent: Gpu, piece: Mapping[str, Any], number: int) -> Gpu:
    total, free, problem = _memory(piece.get("memory"))
    return Gpu(
        index=number,
        name=_text(piece, "name") or f"{parent.name} MIG slice",
        vendor="nvidia",
        source="nvml",
        compute_capability=parent.compute_capability,
        memory_total_bytes=total,
        memory_free_bytes=free,
        uuid=_text(piece, "uuid"),
        pci_bus=parent.pci_bus,
        mig_parent=parent.index,
        notes=(f"memory unknown: {problem}",) if problem else (),
    )


def _memory_notes(problem: str | None) -> tuple[str, ...]:
    if problem is None:
        return ()
    if problem == "NVMLError_NotSupported":
        return ("the driver reports no memory of its own: it shares the host's",)
    return (f"memory unknown: {problem}",)


def _memory(field: Any) -> tuple[int | None, int | None, str | None]:
    """Total, free, and NVML's name for why there are none."""
    value = field.get("value") if isinstance(field, Mapping) else None
    if isinstance(value, Mapping) and _is_number(value.get("total")) and _is_number(value.get("free")) and value["total"] > 0:
        return value["total"], value["free"], None
    if isinstance(value, Mapping) and value.get("total") == 0:
        return None, None, "NVMLError_NotSupported"
    problem = field.get("problem") if isinstance(field, Mapping) else None
    return None, None, problem if isinstance(problem, str) else "no answer"


def _throttle(bits: int | None) -> tuple[str, ...]:
    return tuple(name for bit, name in _THROTTLE.items() if bits is not None and bits & bit)


def _value(row: Mapping[str, Any], name: str) -> Any:
    field = row.get(name)
    return field.get("value") if isinstance(field, Mapping) else None


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = _value(row, name)
    return value[:200] if isinstance(value, str) and value else None


def _number(row: Mapping[str, Any], name: str) -> int | None:
    value = _value(row, name)
    return value if _is_number(value) else None


def _flag(row: Mapping[str, Any], name: str) -> bool | None:
    number = _number(row, name)
    return None if number is None else number == 1


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _capability(value: Any) -> Version | None:
    if isinstance(value, list) and len(value) == 2 and all(_is_number(part) and part < 1000 for part in value):
        return (value[0], value[1])
    return None


def _version(field: Any) -> Version | None:
    value = field.get("value") if isinstance(field, Mapping) else None
    return parse_version(value) if isinstance(value, str) else None


def _cuda(field: Any) -> Version | None:
    """NVML says 12040 for CUDA 12.4."""
    value = field.get("value") if isinstance(field, Mapping) else None
    return (value // 1000, value % 1000 // 10) if _is_number(value) and 1000 <= value < 1_000_000 else None
