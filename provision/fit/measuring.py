"""Which estimator answers: the installed engine where it can, pure Python where it can't, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from provision.errors import MachineError
from provision.fit.analytic import AnalyticMeter
from provision.fit.engine import EngineMeter, HeaderOnDisk, Silence
from provision.fit.plan import Plan, Refusal, decide, gpu_shortage
from provision.fit.types import Budgets, Estimate, FitWish, RunSettings
from provision.gguf.header import GgufHeader
from provision.gguf.shape import ModelShape
from provision.settings import Settings

_FAR_TOO_MUCH = 2
"""Times the memory there is. The formula is within a few per cent (docs/reference/accuracy.md)."""


class _EngineSilentError(Exception):
    pass


def plan_model(
    headers: Sequence[GgufHeader],
    shape: ModelShape,
    wish: FitWish,
    budgets: Budgets,
    *,
    python: Path | None,
    settings: Settings,
    path: Path | None = None,
) -> tuple[Plan | Refusal, tuple[str, ...]]:
    """The plan by the estimator the wish allows, and notes on why it was not the engine's.

    `path` is the model on this disk, if it is; otherwise the headers become a sparse file for the engine.
    Raises MachineError (`engine-silent`) when only the engine was allowed and it has no answer.
    """
    by_formula = AnalyticMeter(shape=shape, wish=wish, budgets=budgets)
    if wish.estimator == "analytic":
        return decide(shape, wish, budgets, by_formula), ()
    reason = _why_not(wish, python)
    if wish.n_ctx is not None and wish.estimator == "auto":
        # Even without allocating the cache the engine keeps some bytes for each of its cells: 12 GiB at a billion tokens.
        hopeless = decide(shape, wish, budgets, by_formula)
        if isinstance(hopeless, Refusal) and _total(hopeless.estimate) > _FAR_TOO_MUCH * _all_of(budgets):
            return hopeless, ("figures by formula, because this is far more than the machine has",)
    if not reason and python is not None:
        environ = settings.environ
        try:
            if path is not None:
                return _by_engine(path, shape, wish, budgets, by_formula, python, environ), ()
            with HeaderOnDisk(headers) as sparse:
                return _by_engine(sparse, shape, wish, budgets, by_formula, python, environ), ()
        except _EngineSilentError as silence:
            reason = str(silence)
        except OSError as error:
            reason = f"no room for the header: {error}"
    if wish.estimator == "engine":
        raise MachineError(
            f"the engine can't estimate this: {reason}", code="engine-silent", hint="provision fit TARGET --estimator analytic"
        )
    return decide(shape, wish, budgets, by_formula), (f"figures by formula, because {reason}",)


def _total(estimate: Estimate) -> int:
    return estimate.host.total_bytes + sum(usage.total_bytes for usage in estimate.devices)


def _all_of(budgets: Budgets) -> int:
    return budgets.host.budget_bytes + sum(budget.budget_bytes for budget in budgets.devices)


def _why_not(wish: FitWish, python: Path | None) -> str:
    if python is None:
        return "no engine was named"
    if wish.vram:
        return "the GPUs asked about are not this machine's"
    return ""


def _by_engine(
    path: Path,
    shape: ModelShape,
    wish: FitWish,
    budgets: Budgets,
    by_formula: AnalyticMeter,
    python: Path,
    environ: Mapping[str, str],
) -> Plan | Refusal:
    meter = EngineMeter(
        path,
        python=python,
        n_devices=len(budgets.devices),
        env=environ,
        mmproj_bytes=wish.mmproj_bytes,
    )

    def measure(settings: RunSettings, *, also: Iterable[RunSettings] = ()) -> Estimate:
        found = meter.measure(settings, also=also)
        if isinstance(found, Silence):
            raise _EngineSilentError(found.reason)
        return found

    def guess(settings: RunSettings, every: int) -> int:
        low, high = 0, every
        while low < high:
            middle = (low + high + 1) // 2
            tried = by_formula(replace(settings, n_gpu_layers=middle))
            low, high = (middle, high) if gpu_shortage(tried, budgets) is None else (low, middle - 1)
        return low

    return decide(shape, wish, budgets, measure, guess)
