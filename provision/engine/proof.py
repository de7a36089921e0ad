"""Seeing an engine work before anybody relies on it: devices, a quantized model, layers on the GPU, the CPU's answer."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provision.engine.types import Backend, Device, Proof
from provision.errors import BuildError
from provision.processes import ChildOutcome, run_child

_CHILD = Path(__file__).parent / "children" / "prove.py"
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(r"load_tensors:\s+(\S+) model buffer size =\s+([\d.]+) MiB")
_PROMPT = tuple(range(3, 35))
_N_PREDICT = 12
_FIRST = ("numpy",)
"""Loaded before the engine, as most programs do: its C++ library must not clash with one that the engine brings."""
_TIMEOUT_S = 300


def prove(
    python: str,
    backend: Backend,
    *,
    model: Path | None,
    environ: Mapping[str, str],
    site_packages: Path | None = None,
) -> Proof:
    """Run the engine in children of `python`; `site_packages` is searched first (a stage). BuildError says what is wrong."""
    env = dict(environ)
    if site_packages is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site_packages), environ.get("PYTHONPATH"))))
    gpu = backend != "cpu"
    layers = -1 if gpu else 0
    first = _ask(python, env, model, n_gpu_layers=layers)
    if first.kind == "signal" and _ask(python, env, model, n_gpu_layers=layers, first=()).kind == "ok":
        raise BuildError(
            f"the {backend} engine dies ({first.signal_name}) in every program that has loaded numpy before it: its libraries "
            "export a C++ library of their own",
            code="engine-clashes",
            hint="provision install --from-source --no-cache",
        )
    _must_have_lived(first, backend)
    answer = first.answer
    if site_packages is not None and Path(answer["package"]).resolve() != (site_packages / "llama_cpp").resolve():
        raise BuildError(
            f"another llama_cpp is in front of the new one: {answer['package']}",
            code="engine-shadowed",
            hint="unset PYTHONPATH",
        )
    devices = tuple(_device(row) for row in answer["devices"])
    if gpu and not any(device.kind in ("gpu", "igpu") for device in devices):
        raise BuildError(
            f"the engine was built for {backend} and sees no GPU: {_why_no_device(first)}",
            code="no-device",
            hint="provision doctor; or without the GPU: provision install --cpu",
        )
    if model is None:
        return Proof(devices=devices, notes=("no quantized model was at hand to try",))
    if not answer["finite"]:
        raise BuildError(
            "the engine computes numbers that are none (NaN)", code="wrong-answers", hint="provision install --no-cache"
        )
    if not gpu:
        return Proof(devices=devices, quantized_inference=True)
    offloaded = judge_offload(answer["log"])
    if offloaded is None or offloaded[0] == 0:
        raise BuildError(
            f"the engine was built for {backend} but put no layer on the GPU", code="no-offload", hint="provision doctor"
        )
    cpu = _ask(python, env, model, n_gpu_layers=0)
    _must_have_lived(cpu, backend)
    if cpu.answer["tokens"] != answer["tokens"]:
        raise BuildError(
            f"the GPU answers differently from the CPU: {answer['tokens']} against {cpu.answer['tokens']}",
            code="wrong-answers",
            hint="provision install --cpu; and please report the card and the driver",
        )
    return Proof(
        devices=devices, quantized_inference=True, gpu_offload=True, offloaded_layers=offloaded, same_answer_as_cpu=True
    )


def judge_offload(log: str) -> tuple[int, int] | None:
    """(layers on the GPU, all layers) when the log says so and a GPU buffer of the model really holds something."""
    match = _OFFLOADED.search(log)
    if match is None:
        return None
    on_gpu = sum(
        float(size) for name, size in _BUFFER.findall(log) if not name.startswith(("CPU", "AMX")) and "Host" not in name
    )
    layers = int(match[1]), int(match[2])
    return layers if on_gpu > 0 else (0, layers[1])


def _ask(
    python: str, env: Mapping[str, str], model: Path | None, *, n_gpu_layers: int, first: Sequence[str] = _FIRST
) -> ChildOutcome:
    request = {
        "first": list(first),
        "model": str(model) if model else None,
        "n_gpu_layers": n_gpu_layers,
        "tokens": list(_PROMPT),
        "n_predict": _N_PREDICT,
    }
    return run_child(python, _CHILD, request, timeout_s=_TIMEOUT_S, env=env)


def _must_have_lived(outcome: ChildOutcome, backend: Backend) -> None:
    if outcome.kind == "ok":
        return
    said = str(outcome.answer.get("error") or "") or "; ".join(outcome.stderr_tail.strip().splitlines()[-2:])
    if outcome.kind == "signal":
        what = f"it died with {outcome.signal_name} while a quantized model answered"
        if outcome.signal_name == "SIGILL":
            what += ", which means code for another CPU"
    elif outcome.kind == "timeout":
        what = f"it did not answer within {_TIMEOUT_S} s"
    else:
        what = said or f"it ended with code {outcome.returncode} and said nothing"
    raise BuildError(
        f"the {backend} engine does not work: {what}",
        code="engine-does-not-work",
        hint="provision install --from-source --no-cache",
    )


def _why_no_device(outcome: ChildOutcome) -> str:
    lines = [
        line for line in str(outcome.answer.get("log", "")).splitlines() if re.search(r"error|fail|no .*device", line, re.I)
    ]
    return lines[-1].strip() if lines else "its log says no more"


def _device(row: Mapping[str, Any]) -> Device:
    return Device(
        name=row["name"],
        description=row["description"],
        kind=row["kind"],
        memory_total_bytes=row["total"] or None,
        memory_free_bytes=row["free"] or None,
    )
