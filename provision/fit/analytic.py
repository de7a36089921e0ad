"""The estimate in pure Python: for before the engine exists, and for machines that are not this one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from provision.fit.compute import compute_bytes, input_bytes
from provision.fit.context import context_by_layer
from provision.fit.placement import Placement, place
from provision.fit.types import Budgets, Estimate, FitWish, RunSettings, Usage
from provision.gguf.shape import ModelShape


@dataclass(slots=True, kw_only=True)
class AnalyticMeter:
    """The pure estimator, each setting computed once."""

    shape: ModelShape
    wish: FitWish
    budgets: Budgets
    _known: dict[RunSettings, Estimate] = field(default_factory=dict)

    def __call__(self, settings: RunSettings, *, also: Iterable[RunSettings] = ()) -> Estimate:
        if settings not in self._known:
            self._known[settings] = estimate(
                self.shape,
                settings,
                n_devices=len(self.budgets.devices),
                free_bytes=tuple(budget.free_bytes for budget in self.budgets.devices),
                mmproj_bytes=self.wish.mmproj_bytes,
            )
        return self._known[settings]


def estimate(
    shape: ModelShape, settings: RunSettings, *, n_devices: int, free_bytes: tuple[int, ...] = (), mmproj_bytes: int = 0
) -> Estimate:
    """Memory of `shape` under `settings` with `n_devices` GPUs.

    Without a tensor_split the engine shares layers by `free_bytes`. `mmproj_bytes` is a projector on the first GPU, or in main
    memory without one.
    """
    shares = settings.tensor_split or tuple(float(free) for free in free_bytes) or (1.0,) * n_devices
    placement = place(shape, n_gpu_layers=settings.n_gpu_layers, shares=shares[:n_devices])
    context = context_by_layer(shape, settings)
    devices = [_on_device(shape, settings, placement, context, index) for index in range(n_devices)]
    host = _on_host(shape, settings, placement, context, n_devices)
    if mmproj_bytes:
        if devices:
            devices[0] = _grown(devices[0], mmproj_bytes)
        else:
            host = replace(host, compute_bytes=host.compute_bytes + mmproj_bytes)
    return Estimate(devices=tuple(devices), host=host, estimator="analytic", notes=shape.assumptions)


def _on_device(shape: ModelShape, settings: RunSettings, placement: Placement, context: list[int], device: int) -> Usage:
    mine = [index for index, owner in enumerate(placement.layers) if owner == device]
    has_output = placement.output == device
    left_behind = [index for index, owner in enumerate(placement.layers) if owner is None]
    compute = 0
    if mine or has_output:
        compute = compute_bytes(shape, settings, layers=mine, has_output=has_output)
    if device == 0 and settings.op_offload and (left_behind or placement.output is None):
        compute = max(compute, _borrowed(shape, settings, placement, left_behind))
    if compute and _pipelined(placement, settings, shape):
        # src/llama-context.cpp: with several GPUs and everything offloaded the inputs are kept four times.
        compute += 3 * input_bytes(shape, settings)
    model = sum(shape.layers[index].weight_bytes for index in mine)
    if has_output:
        # A tied output is the embedding once more, because the input layer never leaves main memory.
        model += shape.output_bytes + shape.tied_bytes
    cache = sum(context[index] for index in mine) if settings.offload_kqv else 0
    return Usage(model_bytes=model, context_bytes=cache, compute_bytes=compute)


def _borrowed(shape: ModelShape, settings: RunSettings, placement: Placement, left_behind: list[int]) -> int:
    """What the first GPU needs to lend a hand: `op_offload` copies weights of main memory there for large batches."""
    every = range(shape.n_layers)
    attention_free = replace(settings, flash_attn=True)
    copies = [shape.layers[index].largest_tensor_bytes for index in left_behind]
    if placement.output is None:
        copies.append(shape.tied_bytes or shape.output_bytes)
    return compute_bytes(shape, attention_free, layers=every, has_output=True) + max(copies, default=0)


def _on_host(shape: ModelShape, settings: RunSettings, placement: Placement, context: list[int], n_devices: int) -> Usage:
    mine = [index for index, owner in enumerate(placement.layers) if owner is None]
    has_output = placement.output is None
    model = shape.input_bytes + sum(shape.layers[index].weight_bytes for index in mine)
    if has_output:
        model += shape.output_bytes
    cache = sum(context[index] for index in mine) if settings.offload_kqv else sum(context)
    if not n_devices or not settings.op_offload:
        compute = compute_bytes(shape, settings, layers=mine, has_output=has_output)
    else:
        compute = input_bytes(shape, settings)
        if (mine or not settings.offload_kqv) and not settings.flash_attn:
            # The products of attention stay where the cache is; the rest goes to the GPU in large batches.
            compute = max(compute, compute_bytes(shape, settings, layers=mine or range(shape.n_layers), has_output=False))
    return Usage(model_bytes=model, context_bytes=cache, compute_bytes=compute)


def _pipelined(placement: Placement, settings: RunSettings, shape: ModelShape) -> bool:
    used = {device for device in (*placement.layers, placement.output) if device is not None}
    return len(used) > 1 and placement.offloaded == shape.n_layers + 1 and settings.offload_kqv


def _grown(usage: Usage, model_bytes: int) -> Usage:
    return replace(usage, model_bytes=usage.model_bytes + model_bytes)
