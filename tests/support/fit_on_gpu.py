"""Brute force over n_gpu_layers on a device that is really there: is the chosen number the largest, and does it really run?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from provision.fit.budgets import read_budgets
from provision.fit.engine import EngineMeter
from provision.fit.plan import gpu_shortage
from provision.fit.service import fit
from provision.fit.types import Estimate, FitWish
from provision.host.probe import probe_host
from provision.settings import Settings
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

    request = {"path": str(path), "kwargs": found.chosen.llama_kwargs}
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
    return chosen.n_gpu_layers
