"""Whether a model is really on the GPU: every figure that could lie, bent one by one. No GPU was there to calibrate on."""

from __future__ import annotations

from typing import Any

import pytest

from provision.smoke.enginelog import LoadLog
from provision.smoke.judge_device import judge_device, judge_gain
from provision.smoke.types import Check, Prediction
from tests.support.smoke_figures import healthy

GB = 1_000_000_000
CARD = "NVIDIA GeForce RTX 4090"  # 1008 GB/s in provision/data/gpu-bandwidth.json
LOG = LoadLog(offloaded=33, layers=33, buffers={"CUDA0": 5 * GB, "CPU": 1_000_000}, gpu_names={"CUDA0": CARD})


def on_gpu(*, taken: int = 5_400_000_000, tg: float = 110.0, busy: int | None = 95, **bend: Any) -> dict[str, Any]:
    """An 8B model of 4.7 GB on a card of 24 GB: 110 tok/s read 51 % of its bandwidth."""

    def card(free: int) -> dict[str, Any]:
        return {"name": "CUDA0", "description": CARD, "kind": "gpu", "free_bytes": free, "total_bytes": 24 * GB}

    return {
        **healthy(),
        "model_bytes": 4_700_000_000,
        "devices": [card(23 * GB)],
        "devices_after": [card(23 * GB - taken)],
        "speed": {"n_prompt": 512, "n_generate": 128, "pp": [4000.0], "tg": [tg]},
        "host_copy_bytes_per_s": 40e9,
        "gpu_utilisation": busy,
        **bend,
    }


def judged(answer: dict[str, Any], log: LoadLog = LOG, active: int | None = 4_700_000_000) -> dict[str, Check]:
    checks = judge_device(answer, log, Prediction(), require_gpu=True, asked_layers=-1, active_bytes=active)
    return {check.id: check for check in checks}


def test_a_sound_gpu_raises_no_alarm() -> None:
    found = judged(on_gpu())
    assert {check.id: check.status for check in found.values()} == {
        "B1-device": "pass", "B2-offloaded": "pass", "B3-memory": "skip", "B3-gpu-memory": "pass", "B4-roofline": "pass",
        "B6-utilisation": "pass",
    }  # fmt: skip
    assert found["B4-roofline"].value == pytest.approx(0.513, abs=0.001)


@pytest.mark.parametrize(
    ("check_id", "status", "answer"),
    [
        ("B3-gpu-memory", "fail", on_gpu(taken=300_000_000)),
        ("B3-gpu-memory", "warn", on_gpu(taken=4_000_000_000)),
        ("B3-gpu-memory", "skip", on_gpu(taken=0)),
        ("B4-roofline", "fail", on_gpu(tg=8.0)),
        ("B4-roofline", "warn", on_gpu(tg=8.0, host_copy_bytes_per_s=10e9)),
        ("B4-roofline", "warn", on_gpu(tg=65.0)),
        ("B4-roofline", "skip", on_gpu(model_bytes=100_000_000)),
        ("B6-utilisation", "warn", on_gpu(busy=3)),
        ("B6-utilisation", "skip", on_gpu(busy=None)),
    ],
)
def test_a_bent_figure_shows_in_the_check_that_is_there_for_it(check_id: str, status: str, answer: dict[str, Any]) -> None:
    check = judged(answer)[check_id]
    assert check.status == status, check.summary
    assert (check.remedy is not None) == (status in ("warn", "fail"))


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (LoadLog(offloaded=20, layers=33, buffers=LOG.buffers, gpu_names=LOG.gpu_names), "part of the model"),
        (LoadLog(offloaded=33, layers=33, buffers=LOG.buffers, gpu_names={"CUDA0": CARD, "CUDA1": CARD}), "several GPUs"),
        (LoadLog(offloaded=33, layers=33, buffers=LOG.buffers, gpu_names={"CUDA0": "Some New Card"}), "not known"),
    ],
)
def test_what_cannot_be_judged_is_skipped_with_the_reason(log: LoadLog, why: str) -> None:
    check = judged(on_gpu(), log)["B4-roofline"]
    assert check.status == "skip"
    assert why in check.summary


def test_a_small_model_is_not_looked_for_in_the_memory_others_use() -> None:
    small = LoadLog(offloaded=5, layers=5, buffers={"CUDA0": 30_000_000}, gpu_names={"CUDA0": CARD})
    assert judged(on_gpu(taken=500_000_000), small)["B3-gpu-memory"].status == "skip"


@pytest.mark.parametrize(
    ("cpu", "status"), [([10.0], "pass"), ([100.0], "warn"), ([400.0], "warn"), (None, "skip"), ([], "skip")]
)
def test_a_gpu_is_worth_its_while(cpu: list[float] | None, status: str) -> None:
    assert judge_gain(on_gpu(), cpu).status == status


def test_nothing_is_said_of_a_gain_with_a_model_that_fits_a_cache() -> None:
    assert judge_gain(on_gpu(model_bytes=3_000_000), [500.0]).status == "skip"
