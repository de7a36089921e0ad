"""From an estimator and budgets to settings: the largest n_gpu_layers that fits, and a context that makes sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from provision.fit.types import Budgets, Estimate, FitWish, RunSettings
from provision.gguf.shape import ModelShape
from provision.units import format_bytes

Measure = Callable[[RunSettings], Estimate]

BASE_CONTEXT = 8192
"""What is tried first when nobody asks: enough for a conversation with a document in it."""
GENEROUS_CONTEXT = 32_768
"""The most that is chosen unasked; more only costs memory nobody fills."""
SMALLEST_CONTEXT = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Settings with their estimate; `whole` when every layer is on GPUs, or there are no GPUs."""

    settings: RunSettings
    estimate: Estimate
    whole: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Nothing fits; `reason` holds the number that decided."""

    reason: str
    estimate: Estimate
    settings: RunSettings


def shortage(estimate: Estimate, budgets: Budgets) -> str | None:
    """The first budget that is exceeded, in words; None when all hold."""
    for budget, usage in zip(budgets.devices, estimate.devices, strict=True):
        if usage.total_bytes > budget.budget_bytes:
            return (
                f"{budget.name} needs {format_bytes(usage.total_bytes)}, "
                f"{format_bytes(budget.budget_bytes)} may be used ({budget.reason}, less {format_bytes(budget.margin_bytes)})"
            )
    host = budgets.host
    shared = sum(u.total_bytes for b, u in zip(budgets.devices, estimate.devices, strict=True) if b.unified)
    needed = estimate.host.total_bytes + shared
    if needed > host.budget_bytes:
        anonymous = estimate.host.anonymous_bytes + shared
        return (
            f"{host.name} needs {format_bytes(needed)} ({format_bytes(anonymous)} of it can't be paged out to the file), "
            f"{format_bytes(host.budget_bytes)} may be used ({host.reason}, less {format_bytes(host.margin_bytes)})"
        )
    return None


def decide(shape: ModelShape, wish: FitWish, budgets: Budgets, measure: Measure) -> Plan | Refusal:
    """The plan for one model: context, KV type, layers on GPUs."""
    if wish.n_ctx is not None:
        return _with_context(shape, wish, budgets, measure, wish.n_ctx, (f"n_ctx {wish.n_ctx} as asked",))
    trained = shape.n_ctx_train or BASE_CONTEXT
    base = min(BASE_CONTEXT, trained)
    first = _with_context(shape, wish, budgets, measure, base, (_why_context(base, trained),))
    if isinstance(first, Refusal):
        return _smaller_context(shape, wish, budgets, measure, first, base)
    if not budgets.devices or not first.whole:
        return first
    for n_ctx in (min(GENEROUS_CONTEXT, trained), min(GENEROUS_CONTEXT // 2, trained)):
        if n_ctx > base:
            more = _with_context(shape, wish, budgets, measure, n_ctx, (_why_context(n_ctx, trained),))
            if isinstance(more, Plan) and more.whole:
                return more
    return first


def _smaller_context(
    shape: ModelShape, wish: FitWish, budgets: Budgets, measure: Measure, refusal: Refusal, base: int
) -> Plan | Refusal:
    n_ctx = base // 2
    while n_ctx >= SMALLEST_CONTEXT:
        found = _with_context(shape, wish, budgets, measure, n_ctx, (f"n_ctx {n_ctx}: with {base} {refusal.reason}",))
        if isinstance(found, Plan):
            return found
        refusal = found
        n_ctx //= 2
    return refusal


def _why_context(n_ctx: int, trained: int) -> str:
    if n_ctx == trained:
        return f"n_ctx {n_ctx}: all the model was trained for"
    return f"n_ctx {n_ctx} chosen, the model was trained for {trained}; ask for more with --ctx"


def _with_context(
    shape: ModelShape, wish: FitWish, budgets: Budgets, measure: Measure, n_ctx: int, reasons: tuple[str, ...]
) -> Plan | Refusal:
    kind = wish.kv_type or "f16"
    settings = RunSettings(
        n_ctx=n_ctx * wish.parallel,
        n_seq_max=wish.parallel,
        type_k=kind,
        type_v=kind,
        n_batch=min(512, n_ctx),
        n_ubatch=min(512, n_ctx),
    )
    every = shape.n_layers + 1
    if not budgets.devices:
        estimate = measure(settings)
        problem = shortage(estimate, budgets)
        if problem:
            return Refusal(reason=problem, estimate=estimate, settings=settings)
        return Plan(settings=settings, estimate=estimate, whole=True, reasons=(*reasons, "no GPU: every layer in main memory"))
    if wish.n_gpu_layers is not None:
        fixed = replace(settings, n_gpu_layers=min(wish.n_gpu_layers, every))
        estimate = measure(fixed)
        problem = shortage(estimate, budgets)
        if problem:
            return Refusal(reason=problem, estimate=estimate, settings=fixed)
        whole = fixed.n_gpu_layers == every
        return Plan(settings=fixed, estimate=estimate, whole=whole, reasons=(*reasons, "n_gpu_layers as asked"))
    return _most_layers(settings, every, budgets, measure, reasons)


def _most_layers(
    settings: RunSettings, every: int, budgets: Budgets, measure: Measure, reasons: tuple[str, ...]
) -> Plan | Refusal:
    """Walk down from all layers: GPU memory shrinks and main memory grows with every layer that stays behind."""
    problem = ""
    estimate = None
    for layers in range(every, -1, -1):
        tried = replace(settings, n_gpu_layers=layers)
        estimate = measure(tried)
        found = shortage(estimate, budgets)
        if found is None:
            why = (
                f"all {every} layers fit on the GPU"
                if layers == every
                else f"{layers} of {every} layers: with one more {problem}"
            )
            return Plan(settings=tried, estimate=estimate, whole=layers == every, reasons=(*reasons, why))
        problem = found
    assert estimate is not None
    return Refusal(reason=problem, estimate=estimate, settings=replace(settings, n_gpu_layers=0))
