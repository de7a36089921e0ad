"""The estimate in pure Python: for before the engine exists, and for machines that are not this one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

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
            host = _grown(host, mmproj_bytes)
    return Estimate(devices=tuple(devices), host=host, estimator="analytic", notes=shape.assumptions)


def _on_device(shape: ModelShape, settings: RunSettings, placement: Placement, context: list[int], device: int | None) -> Usage:
    mine = [index for index, owner in enumerate(placement.layers) if owner == device]
    has_output = placement.output == device
    if not mine and not has_output:
        return Usage()
    model = sum(shape.layers[index].weight_bytes for index in mine)
    if has_output:
        # A tied output is the embedding once more, because the input layer never leaves main memory.
        model += shape.output_bytes + (shape.tied_bytes if device is not None else 0)
    cache = sum(context[index] for index in mine) if settings.offload_kqv or device is None else 0
    compute = compute_bytes(shape, settings, layers=mine, has_output=has_output)
    if _pipelined(placement, settings, shape) and device is not None:
        # src/llama-context.cpp: with several GPUs and everything offloaded the inputs are kept four times.
        compute += 3 * input_bytes(shape, settings)
    return Usage(model_bytes=model, context_bytes=cache, compute_bytes=compute)


def _on_host(shape: ModelShape, settings: RunSettings, placement: Placement, context: list[int], n_devices: int) -> Usage:
    usage = _on_device(shape, settings, placement, context, None)
    cache = usage.context_bytes
    if not settings.offload_kqv:
        cache = sum(context)
    compute = max(usage.compute_bytes, input_bytes(shape, settings) if n_devices else 0)
    return Usage(model_bytes=usage.model_bytes + shape.input_bytes, context_bytes=cache, compute_bytes=compute)


def _pipelined(placement: Placement, settings: RunSettings, shape: ModelShape) -> bool:
    used = {device for device in (*placement.layers, placement.output) if device is not None}
    return len(used) > 1 and placement.offloaded == shape.n_layers + 1 and settings.offload_kqv


def _grown(usage: Usage, model_bytes: int) -> Usage:
    return Usage(
        model_bytes=usage.model_bytes + model_bytes,
        context_bytes=usage.context_bytes,
        compute_bytes=usage.compute_bytes,
        repacked_bytes=usage.repacked_bytes,
    )
