"""Where the model runs, and whether that is true: pure. One H200 is the only card that was there to calibrate on."""

from __future__ import annotations

from collections.abc import Sequence

from provision.fit.bandwidth import Specified, of_gpu, specified
from provision.smoke.enginelog import LoadLog
from provision.smoke.judge import Answer
from provision.smoke.thresholds import (
    CPU_ROOFLINE,
    GPU_ROOFLINE,
    MAX_LINK_BYTES_PER_S,
    MEMORY_FAIL_LOW,
    MEMORY_HIGH,
    MEMORY_LOW,
    MEMORY_SLACK_BYTES,
    MIN_GPU_GAIN,
    MIN_ROOFLINE_BYTES,
    MIN_UTILISATION,
    MIN_WATCHED_S,
)
from provision.smoke.types import Check, Prediction, Status
from provision.units import format_bytes


def judge_device(
    answer: Answer,
    log: LoadLog,
    prediction: Prediction,
    *,
    require_gpu: bool,
    asked_layers: int | None,
    active_bytes: int | None = None,
) -> list[Check]:
    """B1 where it runs, B2 layers offloaded as planned, B3 memory as predicted and really taken, B4 not absurdly slow for its
    size, B6 a GPU that works. `active_bytes`: weights read per token, where the file's header tells."""
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
    if offloaded:
        checks += [_vram_check(answer, log), _gpu_roofline_check(answer, log, active_bytes), _utilisation_check(answer)]
    else:
        checks.append(_roofline_check(answer))
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


def _vram_check(answer: Answer, log: LoadLog) -> Check:
    """What the driver says is gone from the GPUs' memory, against what the engine says it put there."""
    before = {device["name"]: device["free_bytes"] for device in answer.get("devices", [])}
    taken = {
        device["name"]: before[device["name"]] - device["free_bytes"]
        for device in answer.get("devices_after", [])
        if device["name"] in log.gpu_names and device["name"] in before
    }
    placed = log.gpu_bytes
    if not any(taken.values()):
        summary = "not compared: this driver does not tell how much memory of the GPU is free"
        return Check(id="B3-gpu-memory", status="skip", summary=summary, value=placed)
    if placed < MEMORY_SLACK_BYTES:
        summary = f"{format_bytes(placed)} on the GPU is too little to be told from what others use"
        return Check(id="B3-gpu-memory", status="skip", summary=summary, value=placed)
    total = sum(taken.values())
    # More is normal: the driver's context and kernels, up to some hundred MiB, are in nobody's books.
    status: Status = "pass" if total >= MEMORY_LOW * placed else "fail" if total < MEMORY_FAIL_LOW * placed else "warn"
    return Check(
        id="B3-gpu-memory",
        status=status,
        summary=f"the GPU has {format_bytes(max(total, 0))} less free after loading, {format_bytes(placed)} were put there",
        value=total,
        threshold=placed,
        remedy=None if status == "pass" else "watch it while it runs (nvidia-smi); then provision doctor",
    )


def _gpu_roofline_check(answer: Answer, log: LoadLog, active_bytes: int | None) -> Check:
    """The time a token takes against what bytes and layers should take on this card: weights that lie elsewhere show here."""
    size, speeds = int(answer.get("model_bytes") or 0), answer.get("speed", {}).get("tg")
    cards = list(log.gpu_names.items())
    known = [specified(title, _total_bytes(answer, name)) for name, title in cards]
    why = ""
    if log.offloaded != log.layers:
        why = "only a part of the model is on the GPU"
    elif len(cards) != 1:
        why = "several GPUs take turns"
    elif not speeds or size < MIN_ROOFLINE_BYTES:
        why = f"says nothing below {format_bytes(MIN_ROOFLINE_BYTES)} of weights"
    elif known[0] is None:
        why = f"the bandwidth of {cards[0][1]} is not known"
    if why or not speeds or known[0] is None:
        return Check(id="B4-roofline", status="skip", summary=f"bandwidth not judged: {why}")
    return _gpu_roofline(1 / max(speeds), active_bytes or size, log.layers or 0, known[0])


def _gpu_roofline(took: float, size: int, layers: int, card: Specified) -> Check:
    """`took`: seconds for a token that reads `size` bytes of weights in so many layers."""
    paces = of_gpu(card)
    longest = paces.slowest(size, layers)
    share = longest / took
    # What the layers take at least is not the weights' fault.
    weights_s = took - paces.fastest(0, layers)
    elsewhere = weights_s > 0 and size / weights_s <= MAX_LINK_BYTES_PER_S
    status: Status = "pass" if share >= GPU_ROOFLINE.warn else "fail" if share < GPU_ROOFLINE.fail and elsewhere else "warn"
    return Check(
        id="B4-roofline",
        status=status,
        summary=f"a token takes {1000 * took:.2f} ms; {1000 * longest:.2f} ms are enough for {format_bytes(size)} in {layers} "
        f"layers on {card.said}" + ("" if status != "fail" else "; the weights seem to lie in main memory"),
        value=round(share, 3),
        threshold=GPU_ROOFLINE.warn,
        remedy=None if status == "pass" else "provision bench MODEL --compare cpu,gpu; then provision doctor",
    )


def _total_bytes(answer: Answer, name: str) -> int | None:
    return next((device["total_bytes"] for device in answer.get("devices", []) if device["name"] == name), None)


def _utilisation_check(answer: Answer) -> Check:
    """NVML's busiest sample. It averages over up to a second, so a generation that is soon over says nothing of the GPU."""
    busiest, watched = answer.get("gpu_utilisation"), float(answer.get("generated_s") or 0.0)
    why = ""
    if busiest is None:
        why = "NVML, which tells it, is not here"
    elif int(answer.get("model_bytes") or 0) < MIN_ROOFLINE_BYTES:
        why = f"says nothing below {format_bytes(MIN_ROOFLINE_BYTES)} of weights"
    elif watched < MIN_WATCHED_S:
        why = f"{watched:.2g} s of generation are too short for it, {MIN_WATCHED_S:g} s are needed; --profile full takes them"
    if busiest is None or why:
        return Check(id="B6-utilisation", status="skip", summary=f"utilisation not judged: {why}", value=busiest)
    good = busiest >= MIN_UTILISATION
    return Check(
        id="B6-utilisation",
        status="pass" if good else "warn",
        summary=f"the GPU was up to {busiest} % busy in {watched:.1f} s of generation",
        value=busiest,
        threshold=MIN_UTILISATION,
        remedy=None if good else "provision bench MODEL --compare cpu,gpu; then provision doctor",
    )


def judge_gain(answer: Answer, cpu_speeds: Sequence[float] | None) -> Check:
    """B5: a GPU is faster than the CPU of the same machine. `cpu_speeds`: tokens/s of the same model without the GPU."""
    own, size = answer.get("speed", {}).get("tg"), int(answer.get("model_bytes") or 0)
    if not own or not cpu_speeds or size < MIN_ROOFLINE_BYTES:
        why = "no speeds" if size >= MIN_ROOFLINE_BYTES else f"below {format_bytes(MIN_ROOFLINE_BYTES)} a GPU gains nothing"
        return Check(id="B5-gain", status="skip", summary=f"GPU and CPU speed not compared: {why}")
    gain = max(own) / max(cpu_speeds)
    good = gain >= MIN_GPU_GAIN
    return Check(
        id="B5-gain",
        status="pass" if good else "warn",
        summary=f"the GPU generates at {max(own):.1f} tok/s, the CPU at {max(cpu_speeds):.1f}: {gain:.1f} times",
        value=round(gain, 2),
        threshold=MIN_GPU_GAIN,
        remedy=None if good else "provision bench MODEL --compare cpu,gpu; the CPU may be the better choice here",
    )


def _roofline_check(answer: Answer) -> Check:
    size, speeds = int(answer.get("model_bytes") or 0), answer.get("speed", {}).get("tg")
    copy = answer.get("host_copy_bytes_per_s")
    if not speeds or not copy or size < MIN_ROOFLINE_BYTES:
        why = f"says nothing below {format_bytes(MIN_ROOFLINE_BYTES)} of weights"
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
