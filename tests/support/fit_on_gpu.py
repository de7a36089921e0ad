"""Brute force over n_gpu_layers on a device that is really there: is the chosen number the largest, and does it really run?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision.fit.budgets import read_budgets
from provision.fit.engine import CHILD, EngineMeter, read_buffers
from provision.fit.plan import gpu_shortage
from provision.fit.service import fit
from provision.fit.types import Estimate, FitWish
from provision.host.probe import probe_host
from provision.processes import run_child
from provision.settings import Settings
from provision.units import MIB
from tests.support.ggufs import write_sparse
from tests.support.shapes import dense

# Tensors stay below the 128 MiB that lavapipe takes in one buffer. The weights are zeros: an answer, if not a wise one.
_RUN = """
import json, sys
from llama_cpp import Llama
request = json.loads(sys.stdin.readline())
model = Llama(model_path=request["path"], verbose=False, **request["kwargs"])
model.eval([1, 2, 3])
print(json.dumps({"tokens": [int(model.sample(temp=0.0)) for _ in range(2)], "n_ctx": model.n_ctx()}))
"""


def check_layers(python: Path, settings: Settings, environ: Mapping[str, str], folder: Path) -> int:
    """Fit a model twice the device's size on the engine of `python`; returns the layers chosen, after proving them."""
    made = dense("gpu", "llama", layers=20, embd=2048, ff=8192, heads=16, kv_heads=4, vocab=16_000, kind="F16", better="F16")
    path = write_sparse(folder / "gpu.gguf", made.metadata, made.tensors)
    host = probe_host(settings, python=python)
    wish = FitWish(n_ctx=4096, kv_type="f16")
    found = fit(str(path), wish, host=host, settings=settings, python=python)
    assert found.chosen is not None, found.refusal
    assert found.chosen.estimate.estimator == "engine"
    chosen = found.chosen.settings
    assert 0 < chosen.n_gpu_layers < 21, "the device is too large or too small for this test"

    budgets = read_budgets(host, wish)
    meter = EngineMeter(path, python=python, n_devices=len(budgets.devices), env=environ)
    every = [replace(chosen, n_gpu_layers=layers) for layers in range(22)]
    fitting = []
    for one in every:
        truth = meter.measure(one, also=every)
        assert isinstance(truth, Estimate), truth
        if gpu_shortage(truth, budgets) is None:
            fitting.append(one.n_gpu_layers)
    assert chosen.n_gpu_layers == max(fitting)

    _generates(python, path, found.chosen.llama_kwargs, environ)
    return chosen.n_gpu_layers


def _generates(python: Path, path: Path, kwargs: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    request = {"path": str(path), "kwargs": dict(kwargs)}
    ran = subprocess.run(
        [str(python), "-c", _RUN],
        input=json.dumps(request) + "\n",
        capture_output=True,
        text=True,
        env=dict(environ),
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout.splitlines()[-1])["n_ctx"] == 4096


def check_split(python: Path, settings: Settings, environ: Mapping[str, str], folder: Path) -> tuple[float, ...]:
    """Fit a model of two thirds of two devices to both of them; returns the tensor_split, after a real load and run."""
    made = dense("two", "llama", layers=24, embd=2048, ff=8192, heads=16, kv_heads=4, vocab=16_000, kind="F16", better="F16")
    path = write_sparse(folder / "two.gguf", made.metadata, made.tensors)
    host = probe_host(settings, python=python)
    found = fit(str(path), FitWish(n_ctx=4096, kv_type="f16"), host=host, settings=settings, python=python)
    assert found.chosen is not None, found.refusal
    chosen, plan = found.chosen.settings, found.chosen.estimate
    assert plan.estimator == "engine"
    assert len(plan.devices) == 2
    assert chosen.n_gpu_layers == 25, "all layers fit on the two together"
    assert gpu_shortage(plan, found.chosen.budgets) is None
    assert all(usage.model_bytes for usage in plan.devices)
    run = {"path": str(path), "real": True, "n_gpu_layers": chosen.n_gpu_layers, "tensor_split": list(chosen.tensor_split)}
    context = {"n_ctx": 4096, "n_batch": 512, "n_ubatch": 512, "flash_attn": chosen.flash_attn}
    outcome = run_child(python, CHILD, {"runs": [{**run, "contexts": [context]}]}, timeout_s=300, env=environ)
    assert outcome.kind == "ok", outcome.stderr_tail[-2000:]
    real = read_buffers(outcome.answer["runs"][0]["contexts"][0]["buffers"], ["Vulkan0", "Vulkan1"])
    for got, planned in zip(real.devices, plan.devices, strict=True):
        assert (got.model_bytes, got.context_bytes) == (planned.model_bytes, planned.context_bytes)
        # With several devices the engine's own count without allocation is more than it then takes, never less.
        assert planned.compute_bytes - 32 * MIB <= got.compute_bytes <= planned.compute_bytes
    _generates(python, path, found.chosen.llama_kwargs, environ)
    return chosen.tensor_split
