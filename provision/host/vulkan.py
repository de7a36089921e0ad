"""Vulkan's answer (children/vulkan.py) as GPUs, and what it adds to those the kernel shows. Tried with Mesa's lavapipe only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision.host.probe_other_gpus import PCI_VENDORS, Vendor
from provision.host.types import Gpu
from provision.processes import ChildOutcome, run_child

CHILD = Path(__file__).parent / "children" / "vulkan.py"


def ask_vulkan(environ: Mapping[str, str], *, timeout_s: float) -> ChildOutcome:
    """Run the child under our own Python."""
    return run_child(sys.executable, CHILD, {}, timeout_s=timeout_s, env=environ)


def read_vulkan(outcome: ChildOutcome) -> tuple[tuple[Gpu, ...], str | None]:
    """The devices, and why there are none although Vulkan is there. Takes any answer, however malformed."""
    if outcome.kind == "timeout":
        return (), f"Vulkan did not answer in {outcome.elapsed_s:.0f} s"
    if outcome.kind == "signal":
        return (), f"Vulkan died of {outcome.signal_name}"
    if isinstance(outcome.answer.get("error"), str):
        return (), f"Vulkan cannot start: {outcome.answer['error'][:200]}"
    rows = outcome.answer.get("devices")
    found: list[Gpu] = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping):
            found.append(_gpu(row, len(found)))
    return tuple(found), None


def with_vulkan(known: Sequence[Gpu], vulkan: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Devices of vendors nobody else showed, and the memory of GPUs whose kernel driver does not tell it.

    Vulkan shows the same GPUs again and in its own order: a single one of a vendor on both sides is the same, of several it is
    not known which is which.
    """
    told = list(known)
    for place, gpu in enumerate(known):
        same = [other for other in vulkan if other.vendor == gpu.vendor]
        alone = len(same) == 1 and sum(other.vendor == gpu.vendor for other in known) == 1
        if alone and gpu.vendor in ("amd", "intel") and gpu.memory_total_bytes is None:
            note = "name and memory as Vulkan tells them"
            told[place] = replace(
                gpu,
                name=same[0].name,
                memory_total_bytes=same[0].memory_total_bytes,
                integrated=same[0].integrated,
                unified_memory=same[0].unified_memory,
                notes=(*gpu.notes, note),
            )
    vendors = {gpu.vendor for gpu in known}
    return (*told, *(gpu for gpu in vulkan if gpu.vendor not in vendors))


def _gpu(row: Mapping[str, Any], index: int) -> Gpu:
    vendor: Vendor = PCI_VENDORS.get(str(row.get("vendor")), "other")
    kind = row.get("kind")
    if kind == "cpu":
        vendor = "software"
    name, memory = row.get("name"), row.get("memory")
    return Gpu(
        index=index,
        name=name[:200] if isinstance(name, str) and name else "Vulkan device",
        vendor=vendor,
        source="vulkan",
        memory_total_bytes=memory
        if isinstance(memory, int) and not isinstance(memory, bool) and 0 < memory < 1 << 63
        else None,
        integrated=kind == "integrated",
        unified_memory=kind in ("integrated", "cpu"),
    )
