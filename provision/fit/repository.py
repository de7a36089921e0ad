"""All quants of a repository from one header: the architecture is the same, only the weights weigh less or more. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provision.fit.analytic import AnalyticMeter
from provision.fit.plan import Plan, Refusal, decide, sensible_contexts
from provision.fit.types import Budgets, Candidate, FitWish
from provision.gguf.shape import ModelShape
from provision.models.quality import judge_quality
from provision.models.types import ModelSet, RepoRef

SCALED = " (weights per layer by file size from another quant's header, not its own)"
"""On a candidate whose own header was not read: quantizers spread their bits differently over the layers."""


def scaled(shape: ModelShape, base: ModelSet, other: ModelSet) -> ModelShape:
    """`shape`, read from `base`, with the weights of `other`: every tensor in proportion to the files' sizes."""
    ratio = (other.size_bytes or 0) / max(base.size_bytes or 0, 1)
    if other is base:
        return shape
    return replace(
        shape,
        layers=tuple(
            replace(
                layer,
                weight_bytes=round(layer.weight_bytes * ratio),
                largest_tensor_bytes=round(layer.largest_tensor_bytes * ratio),
            )
            for layer in shape.layers
        ),
        input_bytes=round(shape.input_bytes * ratio),
        output_bytes=round(shape.output_bytes * ratio),
        tied_bytes=round(shape.tied_bytes * ratio),
        expert_bytes=round(shape.expert_bytes * ratio),
        file_bytes=other.size_bytes or 0,
    )


def candidates_of(
    sets: Sequence[ModelSet],
    base: ModelSet,
    shape: ModelShape,
    *,
    ref: RepoRef,
    imatrix: bool,
    wish: FitWish,
    budgets: Budgets,
) -> tuple[Candidate, ...]:
    """Every model set with size, evidence and verdict, largest first.

    All are judged at one context, so that their verdicts can be compared: the one asked for, else the usual one. If none fits
    there, smaller ones are tried, and then only the smallest candidate counts: a larger quant at a smaller context would turn
    into a smaller one on a machine with more memory.
    """
    shapes = {one.files[0].path: scaled(shape, base, one) for one in sets}
    for step, n_ctx in enumerate(sensible_contexts(shape, wish)):
        pinned = replace(wish, n_ctx=n_ctx)
        tried = sets if step == 0 else [min(sets, key=lambda one: one.size_bytes or 0)]
        outcomes = {one.files[0].path: _outcome(shapes[one.files[0].path], pinned, budgets) for one in tried}
        if step == 0:
            first = outcomes
        if any(isinstance(outcome, Plan) for outcome in outcomes.values()):
            first |= outcomes
            break
    found = [_candidate(one, one is base, shapes[one.files[0].path], first[one.files[0].path], ref, imatrix) for one in sets]
    return tuple(sorted(found, key=lambda one: (-one.size_bytes, one.quant or "")))


def _outcome(shape: ModelShape, wish: FitWish, budgets: Budgets) -> Plan | Refusal:
    return decide(shape, wish, budgets, AnalyticMeter(shape=shape, wish=wish, budgets=budgets))


def _candidate(one: ModelSet, read: bool, shape: ModelShape, outcome: Plan | Refusal, ref: RepoRef, imatrix: bool) -> Candidate:
    bits = round(8 * shape.file_bytes / shape.parameters, 3) if shape.parameters else None
    return Candidate(
        quant=one.quant,
        files=tuple(file.path for file in one.files),
        size_bytes=one.size_bytes or 0,
        bits_per_weight=bits,
        quality=judge_quality(quant=one.quant, model=ref.name, uploader=ref.org, bits_per_weight=bits, imatrix=imatrix),
        verdict="too-big" if isinstance(outcome, Refusal) else ("fits" if outcome.whole else "partly"),
        reason=(outcome.reason if isinstance(outcome, Refusal) else outcome.reasons[-1]) + ("" if read else SCALED),
    )
