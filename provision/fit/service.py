"""What `provision fit` does: target to header, header to estimates, estimates to a plan."""

from __future__ import annotations

from pathlib import Path

from provision.errors import NotFoundError
from provision.events import Reporter, silent
from provision.fit import analytic
from provision.fit.budgets import read_budgets
from provision.fit.plan import Plan, Refusal, decide
from provision.fit.types import Budgets, Candidate, Chosen, Estimate, FitResult, FitWish, RunSettings, Verdict
from provision.gguf.header import GgufHeader
from provision.gguf.reader import read_header
from provision.gguf.shape import ModelShape, read_shape
from provision.gguf.source import FileSource
from provision.host.types import Host
from provision.settings import Settings


def fit(
    target: str,
    wish: FitWish,
    *,
    host: Host | None,
    settings: Settings,
    reporter: Reporter = silent,
    python: Path | None = None,
) -> FitResult:
    """Fit a local file, a URL of one, or `org/repo[:QUANT]`.

    `host` None is allowed when the wish names both memories. `python` runs the engine's probe; None leaves the engine out.
    """
    path = Path(target).expanduser()
    if path.is_file():
        header = read_header(FileSource(path))
        return fit_header(
            header, wish, target=target, host=host, files=(path.name,), settings=settings, python=python, path=path
        )
    raise NotFoundError(
        f"no such file: {target}", code="model-not-found", hint="give the path of a GGUF file that is here: provision fit FILE"
    )


def fit_header(
    header: GgufHeader,
    wish: FitWish,
    *,
    target: str,
    host: Host | None,
    files: tuple[str, ...] = (),
    quant: str | None = None,
    settings: Settings | None = None,
    python: Path | None = None,
    path: Path | None = None,
) -> FitResult:
    """Fit one model whose header is at hand."""
    shape = read_shape(header)
    budgets = read_budgets(host, wish)
    outcome = decide(shape, wish, budgets, lambda tried: _analytic(shape, tried, budgets, wish))
    verdict: Verdict = "too-big" if isinstance(outcome, Refusal) else ("fits" if outcome.whole else "partly")
    reason = outcome.reason if isinstance(outcome, Refusal) else outcome.reasons[-1]
    candidate = Candidate(
        quant=quant,
        files=files,
        size_bytes=shape.file_bytes,
        bits_per_weight=round(8 * header.tensor_bytes / shape.parameters, 3) if shape.parameters else None,
        quality=None,
        verdict=verdict,
        reason=reason,
    )
    return FitResult(
        target=target,
        architecture=shape.architecture,
        n_layers=shape.n_layers,
        n_ctx_train=shape.n_ctx_train,
        candidates=(candidate,),
        chosen=_chosen(outcome, quant, budgets, shape) if isinstance(outcome, Plan) else None,
        refusal=outcome.reason if isinstance(outcome, Refusal) else "",
        way_out=_way_out(target, wish) if isinstance(outcome, Refusal) else "",
    )


def _analytic(shape: ModelShape, tried: RunSettings, budgets: Budgets, wish: FitWish) -> Estimate:
    return analytic.estimate(
        shape,
        tried,
        n_devices=len(budgets.devices),
        free_bytes=tuple(budget.free_bytes for budget in budgets.devices),
        mmproj_bytes=wish.mmproj_bytes,
    )


def _chosen(plan: Plan, quant: str | None, budgets: Budgets, shape: ModelShape) -> Chosen:
    return Chosen(
        quant=quant,
        settings=plan.settings,
        estimate=plan.estimate,
        budgets=budgets,
        fits=True,
        reasons=(*plan.reasons, *plan.estimate.notes),
    )


def _way_out(target: str, wish: FitWish) -> str:
    if wish.n_ctx is not None and wish.n_ctx > 4096:
        return f"ask for less context: provision fit {target} --ctx 4096"
    if wish.kv_type in (None, "f16") and wish.n_ctx is not None:
        return f"try a smaller KV cache: provision fit {target} --kv-type q8_0"
    return f"choose a smaller quant of this model, or a smaller model: provision fit {target} --explain"
