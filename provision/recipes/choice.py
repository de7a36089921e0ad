"""Which variant of a recipe a machine gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.errors import DoesNotFitError, NotFoundError
from provision.host.types import Host
from provision.recipes.schema import Variant
from provision.units import parse_size

# A fit verdict, better first.
_RANK = {"fits": 0, "partly": 1}


def allowed_quants(variants: Sequence[Variant], host: Host) -> tuple[str, ...]:
    """Quants of the variants whose `needs` this machine meets. What is unknown about the machine rules nothing out."""
    return tuple(variant.quant for variant in variants if _has_vram(variant, host) and _has_ram(variant, host))


def best_allowed(candidates: Sequence[Mapping[str, Any]], allowed: Sequence[str], *, recipe: str) -> str:
    """Of the candidates of `fit` the recipe allows: those that fit before those that fit partly, then the largest."""
    names = {str(quant).upper() for quant in allowed}
    offered = [candidate for candidate in candidates if str(candidate["quant"]).upper() in names]
    if not offered:
        raise NotFoundError(
            f"the repository has none of the quants recipe {recipe} allows on this machine: {', '.join(allowed) or 'none'}",
            code="no-allowed-quant",
            hint=f"provision recipe show {recipe}",
        )
    usable = [candidate for candidate in offered if candidate["verdict"] in _RANK]
    if not usable:
        sizes = ", ".join(str(candidate["quant"]) for candidate in offered)
        raise DoesNotFitError(
            f"no quant of recipe {recipe} fits this machine ({sizes})",
            code="does-not-fit",
            hint=f"provision recipe show {recipe}",
        )
    best = min(usable, key=lambda candidate: (_RANK[candidate["verdict"]], -(candidate["size_bytes"] or 0)))
    return str(best["quant"])


def _has_vram(variant: Variant, host: Host) -> bool:
    if variant.needs.vram is None:
        return True
    sizes = [gpu.memory_total_bytes for gpu in host.gpus if gpu.visible and gpu.vendor != "software"]
    if not sizes:
        return False
    # One card must hold it: memory of several cards is not one memory.
    return any(size is None or size >= parse_size(variant.needs.vram) for size in sizes)


def _has_ram(variant: Variant, host: Host) -> bool:
    total = host.memory.total_bytes
    if variant.needs.ram is None or total is None:
        return True
    return min(total, host.memory.limit_bytes or total) >= parse_size(variant.needs.ram)
