"""From an estimator and budgets to settings: the largest n_gpu_layers that fits, and a context that makes sense. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from provision.fit.types import Budgets, Estimate, FitWish, RunSettings
from provision.gguf.shape import ModelShape
from provision.units import format_bytes


class Measure(Protocol):
    """Memory under given settings. `also` are settings that will probably be asked next, for estimators that ask in batches."""

    def __call__(self, settings: RunSettings, *, also: Iterable[RunSettings] = ()) -> Estimate: ...


Guess = Callable[[RunSettings, int], int]

BASE_CONTEXT = 8192
"""What is tried first when nobody asks: enough for a conversation with a document in it."""
GENEROUS_CONTEXT = 32_768
"""The most that is chosen unasked; more only costs memory nobody fills."""
SMALLEST_CONTEXT = 2048
_BATCH = 512


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


def gpu_shortage(estimate: Estimate, budgets: Budgets) -> str | None:
    """The first GPU whose budget is exceeded, in words."""
    for budget, usage in zip(budgets.devices, estimate.devices, strict=True):
        if usage.total_bytes > budget.budget_bytes:
            return (
                f"{budget.name} needs {format_bytes(usage.total_bytes)}, "
                f"{format_bytes(budget.budget_bytes)} may be used ({budget.reason}, less {format_bytes(budget.margin_bytes)})"
            )
    return None


def host_shortage(estimate: Estimate, budgets: Budgets) -> str | None:
    """Whether main memory falls short, GPUs that share it counted in."""
    host = budgets.host
    shared = sum(u.total_bytes for b, u in zip(budgets.devices, estimate.devices, strict=True) if b.unified)
    needed = estimate.host.total_bytes + shared
    if needed <= host.budget_bytes:
        return None
    anonymous = estimate.host.anonymous_bytes + shared
    return (
        f"{host.name} needs {format_bytes(needed)} ({format_bytes(anonymous)} of it can't be paged out to the file), "
        f"{format_bytes(host.budget_bytes)} may be used ({host.reason}, less {format_bytes(host.margin_bytes)})"
    )


def decide(shape: ModelShape, wish: FitWish, budgets: Budgets, measure: Measure, guess: Guess | None = None) -> Plan | Refusal:
    """The plan for one model: context, KV type, layers on GPUs.

    `guess` says where to begin looking for the number of layers; only the estimates of `measure` decide.
    """
    planner = _Planner(shape, wish, budgets, measure, guess)
    if wish.n_ctx is not None:
        return planner.with_context(wish.n_ctx, f"n_ctx {wish.n_ctx} as asked")
    return planner.with_some_context()


def sensible_contexts(shape: ModelShape, wish: FitWish) -> list[int]:
    """The context asked for, else the usual one followed by what to fall back to."""
    if wish.n_ctx is not None:
        return [wish.n_ctx]
    base = min(BASE_CONTEXT, shape.n_ctx_train or BASE_CONTEXT)
    return [base, *(n_ctx for n_ctx in (base // 2, base // 4) if n_ctx >= SMALLEST_CONTEXT)]


class _Planner:
    def __init__(self, shape: ModelShape, wish: FitWish, budgets: Budgets, measure: Measure, guess: Guess | None) -> None:
        self.shape = shape
        self.every = shape.n_layers + 1
        self.trained = shape.n_ctx_train or BASE_CONTEXT
        self.wish = wish
        self.budgets = budgets
        self.measure = measure
        self.guess = guess or self._bisect

    def with_some_context(self) -> Plan | Refusal:
        base, *smaller = sensible_contexts(self.shape, self.wish)
        first = self.with_context(base, self._why(base))
        if isinstance(first, Refusal):
            return self._smaller(first, base, smaller)
        if not self.budgets.devices or not first.whole:
            return first
        for n_ctx in (min(GENEROUS_CONTEXT, self.trained), min(GENEROUS_CONTEXT // 2, self.trained)):
            if n_ctx > base:
                more = self.with_context(n_ctx, self._why(n_ctx))
                if isinstance(more, Plan) and more.whole:
                    return more
        return first

    def _smaller(self, refusal: Refusal, base: int, smaller: Iterable[int]) -> Plan | Refusal:
        why = refusal.reason
        for n_ctx in smaller:
            found = self.with_context(n_ctx, f"n_ctx {n_ctx}: with {base} {why}")
            if isinstance(found, Plan):
                return found
            refusal = found
        return refusal

    def _why(self, n_ctx: int) -> str:
        if n_ctx == self.trained:
            return f"n_ctx {n_ctx}: all the model was trained for"
        return f"n_ctx {n_ctx} chosen, the model was trained for {self.trained}; ask for more with --ctx"

    def with_context(self, n_ctx: int, reason: str) -> Plan | Refusal:
        """The plan for `n_ctx` tokens per sequence; with a smaller KV cache if only that puts every layer on GPUs."""
        wish = self.wish
        first = self._with_kind(n_ctx, wish.kv_type or "f16", reason)
        if wish.kv_type is not None or wish.policy == "quality" or wish.n_gpu_layers is not None:
            return first
        if not self.budgets.devices or (isinstance(first, Plan) and first.whole) or not _can_quantize_cache(self.shape):
            return first
        second = self._with_kind(n_ctx, "q8_0", reason)
        if isinstance(second, Refusal) or not second.whole:
            return first
        why = "KV cache q8_0: with f16 not every layer would fit on the GPU; --kv-type f16 or --policy quality keep it"
        return replace(second, reasons=(second.reasons[0], why, *second.reasons[1:]))

    def _with_kind(self, n_ctx: int, kind: str, reason: str) -> Plan | Refusal:
        settings = RunSettings(
            n_ctx=n_ctx * self.wish.parallel,
            n_seq_max=self.wish.parallel,
            type_k=kind,
            type_v=kind,
            n_batch=min(_BATCH, n_ctx),
            n_ubatch=min(_BATCH, n_ctx),
        )
        if not self.budgets.devices:
            return self._judged(settings, self.measure(settings), (reason, "no GPU: every layer in main memory"))
        if self.wish.n_gpu_layers is not None:
            settings, estimate = self._arranged(settings, min(self.wish.n_gpu_layers, self.every))
            short = gpu_shortage(estimate, self.budgets)
            if short:
                return Refusal(reason=short, estimate=estimate, settings=settings)
            return self._judged(settings, estimate, (reason, "n_gpu_layers as asked"))
        return self._most_layers(settings, reason)

    def _judged(self, settings: RunSettings, estimate: Estimate, reasons: tuple[str, ...]) -> Plan | Refusal:
        short = host_shortage(estimate, self.budgets)
        if short:
            return Refusal(reason=short, estimate=estimate, settings=settings)
        whole = not self.budgets.devices or settings.n_gpu_layers == self.every
        return Plan(settings=settings, estimate=estimate, whole=whole, reasons=reasons)

    def _most_layers(self, settings: RunSettings, reason: str) -> Plan | Refusal:
        """The largest number of layers no GPU is too small for; fewer would only cost more main memory."""
        layers = max(0, min(self.guess(settings, self.every), self.every))
        best, estimate = self._arranged(settings, layers)
        short = gpu_shortage(estimate, self.budgets)
        problem = ""
        if short is not None and layers < self.every:
            # All layers can need less than most of them: nothing is left behind that the GPU would have to help with.
            everything, all_estimate = self._arranged(settings, self.every)
            if gpu_shortage(all_estimate, self.budgets) is None:
                best, estimate, short, layers = everything, all_estimate, None, self.every
        if short is None:
            while layers < self.every:
                more, more_estimate = self._arranged(settings, layers + 1)
                found = gpu_shortage(more_estimate, self.budgets)
                if found:
                    problem = found
                    break
                layers, best, estimate = layers + 1, more, more_estimate
        while short is not None and layers > 0:
            problem, layers = short, layers - 1
            best, estimate = self._arranged(settings, layers)
            short = gpu_shortage(estimate, self.budgets)
        if short is not None:
            # Not even help with large batches fits: the GPU is left alone.
            best = replace(settings, n_gpu_layers=0, op_offload=False)
            estimate = self.measure(best)
            short = gpu_shortage(estimate, self.budgets)
            if short is not None:
                return Refusal(reason=short, estimate=estimate, settings=best)
        if layers == self.every:
            why = f"all {self.every} layers fit on the GPU" + ("s" if len(self.budgets.devices) > 1 else "")
        else:
            why = f"{layers} of {self.every} layers on the GPU: with one more {problem}"
        return self._judged(best, estimate, (reason, why))

    def _bisect(self, settings: RunSettings, every: int) -> int:
        low, high = 0, every
        while low < high:
            middle = (low + high + 1) // 2
            if gpu_shortage(self._arranged(settings, middle)[1], self.budgets) is None:
                low = middle
            else:
                high = middle - 1
        return low

    def _arranged(self, settings: RunSettings, layers: int) -> tuple[RunSettings, Estimate]:
        """`layers` layers over all GPUs: by their budgets first, then one by one from the tightest to the roomiest."""
        budgets = [budget.budget_bytes for budget in self.budgets.devices]
        settings = replace(settings, n_gpu_layers=layers)
        if len(budgets) == 1 or layers == 0:
            near = (replace(settings, n_gpu_layers=n) for n in (layers + 1, layers - 1) if 0 <= n <= self.every)
            return settings, self.measure(settings, also=near)
        counts = _proportional(budgets, layers)
        seen: set[tuple[int, ...]] = set()
        while True:
            settings = replace(settings, tensor_split=tuple(float(count) for count in counts))
            estimate = self.measure(settings)
            spare = [budget - usage.total_bytes for budget, usage in zip(budgets, estimate.devices, strict=True)]
            donor, taker = spare.index(min(spare)), spare.index(max(spare))
            if spare[donor] >= 0 or spare[taker] <= 0 or tuple(counts) in seen or not counts[donor]:
                return settings, estimate
            seen.add(tuple(counts))
            counts[donor] -= 1
            counts[taker] += 1


def _proportional(budgets: list[int], layers: int) -> list[int]:
    """Layers per GPU in proportion to its budget; what is left over goes to the largest remainders."""
    total = sum(budgets) or 1
    exact = [layers * budget / total for budget in budgets]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(budgets)), key=lambda index: (counts[index] - exact[index], index))
    for index in by_remainder[: layers - sum(counts)]:
        counts[index] += 1
    return counts


def _can_quantize_cache(shape: ModelShape) -> bool:
    """Rows of the cache must be whole blocks of 32; a model without a cache gains nothing."""
    owners = [layer for layer in shape.layers if layer.owns_kv]
    return bool(owners) and all(layer.head_k % 32 == 0 and layer.head_v % 32 == 0 for layer in owners)
