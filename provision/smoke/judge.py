"""From measured figures to checks: pure. What was not measured is skipped with a reason, never passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.smoke.deaths import Death
from provision.smoke.enginelog import LoadLog
from provision.smoke.thresholds import (
    CPU_ROOFLINE,
    MAX_SPEED_CV,
    MEMORY_FAIL_LOW,
    MEMORY_HIGH,
    MEMORY_LOW,
    MEMORY_SLACK_BYTES,
    MIN_ROOFLINE_BYTES,
    PLAN_SPEED_SHARE,
)
from provision.smoke.types import Check, Prediction, Status, Verdict
from provision.units import format_bytes

Answer = Mapping[str, Any]
REINSTALL = "provision install --from-source --no-cache"
REFETCH = "provision verify MODEL, then provision fetch ORG/REPO"


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """The worst status that says anything."""
    statuses = {check.status for check in checks}
    return "fail" if "fail" in statuses else "warn" if "warn" in statuses else "pass"


def judge_load(answer: Answer, death: Death | None) -> list[Check]:
    """A3 the child lived, A5 every keyword reached the engine."""
    if death is not None:
        checks = [
            Check(
                id=f"A3-{death.name}",
                status="fail",
                summary=death.summary,
                value=death.name,
                threshold="ok",
                remedy=death.remedy,
            )
        ]
    else:
        seconds = float(answer.get("load_s") or 0.0)
        checks = [Check(id="A3-loads", status="pass", summary=f"loads in {seconds:.1f} s and answers", value=round(seconds, 3))]
    unknown = answer.get("unknown_keywords")
    if unknown:
        checks.append(
            Check(
                id="A5-keywords",
                status="fail",
                summary=f"Llama() would silently ignore: {', '.join(unknown)}",
                value=", ".join(unknown),
                threshold="every keyword known",
                remedy="remove them from the recipe; see: provision fit MODEL",
            )
        )
    elif unknown is not None:
        checks.append(Check(id="A5-keywords", status="pass", summary="every argument is known to the engine"))
    used, taught = answer.get("n_ctx"), answer.get("n_ctx_train")
    if used and taught:
        beyond = used > taught
        checks.append(
            Check(
                id="A5-context",
                status="warn" if beyond else "pass",
                summary=f"n_ctx {used} "
                + (f"is more than the {taught} tokens" if beyond else f"of the {taught} tokens")
                + " the model was trained on",
                value=used,
                threshold=taught,
                remedy=f"provision chat MODEL --smoke --ctx {taught}" if beyond else None,
            )
        )
    return checks


def judge_device(
    answer: Answer, log: LoadLog, prediction: Prediction, *, require_gpu: bool, asked_layers: int | None
) -> list[Check]:
    """B1 where it runs, B2 layers offloaded as planned, B3 memory as predicted, B4 not absurdly slow for its size."""
    gpus = [device for device in answer.get("devices", []) if device["kind"] in ("gpu", "igpu")]
    offloaded = log.offloaded or 0
    checks = [_gpu_check(gpus, offloaded, asked_layers, require_gpu=require_gpu)]
    planned = prediction.n_gpu_layers if prediction.n_gpu_layers is not None else asked_layers
    if planned and log.layers:
        want = log.layers if planned < 0 else min(planned, log.layers)
        good = offloaded == want
        checks.append(
            Check(
                id="B2-offloaded",
                status="pass" if good else "fail",
                summary=f"{offloaded}/{log.layers} layers on the GPU" + ("" if good else f", the plan said {want}"),
                value=offloaded,
                threshold=want,
                remedy=None if good else "provision fit MODEL --explain",
            )
        )
    checks.append(_memory_check(log, prediction))
    checks.append(_roofline_check(answer, offloaded))
    return checks


def _gpu_check(gpus: Sequence[Answer], offloaded: int, asked_layers: int | None, *, require_gpu: bool) -> Check:
    names = ", ".join(f"{gpu['name']} ({gpu['description']})" for gpu in gpus)
    if offloaded:
        return Check(id="B1-device", status="pass", summary=f"runs on {names}", value=names)
    if gpus and asked_layers == 0:
        status: Status = "fail" if require_gpu else "pass"
        return Check(
            id="B1-device",
            status=status,
            summary=f"runs on the CPU as asked (n_gpu_layers=0), though the engine sees {names}",
            value="CPU",
            threshold="GPU" if require_gpu else None,
            remedy="provision chat MODEL --n-gpu-layers auto" if require_gpu else None,
        )
    if require_gpu or asked_layers:
        seen = f"the engine sees {names} but put no layer there" if gpus else "this engine build sees no GPU"
        return Check(
            id="B1-device",
            status="fail",
            summary=f"{seen}: the model runs on the CPU",
            value="CPU",
            threshold="GPU",
            remedy="provision doctor, then provision install --cuda --no-cache",
        )
    return Check(id="B1-device", status="pass", summary="runs on the CPU", value="CPU")


def _memory_check(log: LoadLog, prediction: Prediction) -> Check:
    measured, predicted = log.total_bytes, prediction.total_bytes
    if measured is None or predicted is None:
        why = "no prediction was given" if measured is not None else "the engine logged no buffer sizes"
        return Check(id="B3-memory", status="skip", summary=f"memory not compared: {why}", value=measured)
    ratio = measured / predicted if predicted else 0.0
    close = MEMORY_LOW <= ratio <= MEMORY_HIGH or abs(measured - predicted) <= MEMORY_SLACK_BYTES
    low = ratio < MEMORY_FAIL_LOW and not close
    return Check(
        id="B3-memory",
        status="pass" if close else "fail" if low else "warn",
        summary=f"{format_bytes(measured)} allocated, {format_bytes(predicted)} predicted",
        value=measured,
        threshold=predicted,
        remedy=None if close else "provision fit MODEL --estimator engine --explain",
    )


def _roofline_check(answer: Answer, offloaded: int) -> Check:
    size, speeds = int(answer.get("model_bytes") or 0), answer.get("speed", {}).get("tg")
    copy = answer.get("host_copy_bytes_per_s")
    if offloaded or not speeds or not copy or size < MIN_ROOFLINE_BYTES:
        why = "needs calibration on GPUs" if offloaded else f"says nothing below {format_bytes(MIN_ROOFLINE_BYTES)} of weights"
        return Check(id="B4-roofline", status="skip", summary=f"bandwidth not judged: {why}")
    share = max(speeds) * size / copy
    status: Status = "pass" if share >= CPU_ROOFLINE.warn else "fail" if share < CPU_ROOFLINE.fail else "warn"
    return Check(
        id="B4-roofline",
        status=status,
        summary=f"reads weights at {100 * share:.0f} % of this machine's copy bandwidth",
        value=round(share, 3),
        threshold=CPU_ROOFLINE.warn,
        remedy=None if status == "pass" else "close other work, check cores and memory: provision doctor",
    )


def judge_speed(answer: Answer, prediction: Prediction) -> list[Check]:
    """F1 prompt and generation speed, and how much they vary; F2 against the plan's forecast."""
    speed = answer.get("speed")
    if not speed:
        return [Check(id="F1-speed", status="skip", summary="speed was not measured")]
    prompt, generation = _mean(speed["pp"]), _mean(speed["tg"])
    spread = _cv(speed["tg"])
    steady = spread is None or spread <= MAX_SPEED_CV
    # A busy machine is no fault of the deployment, so an unsteady clock only ever warns, and only where it was measured.
    checks = [
        Check(
            id="F1-speed",
            status="pass",
            summary=f"pp{speed['n_prompt']} {prompt:.0f} tok/s, tg{speed['n_generate']} {generation:.1f} tok/s"
            + ("" if steady else f", varying by {100 * (spread or 0):.0f} % (is the machine busy?)"),
            value=round(generation, 2),
        )
    ]
    low = prediction.tokens_per_s_low
    if low:
        slow = generation < PLAN_SPEED_SHARE * low
        checks.append(
            Check(
                id="F2-forecast",
                status="warn" if slow else "pass",
                summary=f"{generation:.1f} tok/s, forecast at least {low:.1f}",
                value=round(generation, 2),
                threshold=round(PLAN_SPEED_SHARE * low, 2),
                remedy="provision bench MODEL" if slow else None,
            )
        )
    return checks


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _cv(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 / mean) if mean else None
