"""Whether a model is really on the GPU: every figure that could lie, bent one by one; and the figures of one real card."""

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
    """An 8B model of 4.7 GB on a card of 24 GB, watched for long enough: 110 tok/s read 51 % of its bandwidth."""

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
        "generated_s": 2.5,
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
    # 35 % of the bandwidth and 95 us a layer are 16.5 ms; it took 9.1.
    assert found["B4-roofline"].value == pytest.approx((4.7e9 / 0.35 / 1008e9 + 33 * 95e-6) * 110, abs=0.001)


@pytest.mark.parametrize(
    ("check_id", "status", "answer"),
    [
        ("B3-gpu-memory", "fail", on_gpu(taken=300_000_000)),
        ("B3-gpu-memory", "warn", on_gpu(taken=4_000_000_000)),
        ("B3-gpu-memory", "skip", on_gpu(taken=0)),
        ("B4-roofline", "fail", on_gpu(tg=8.0)),
        ("B4-roofline", "pass", on_gpu(tg=65.0)),
        ("B4-roofline", "warn", on_gpu(tg=55.0)),
        ("B4-roofline", "warn", on_gpu(tg=20.0)),
        ("B4-roofline", "skip", on_gpu(model_bytes=100_000_000)),
        ("B6-utilisation", "warn", on_gpu(busy=3)),
        ("B6-utilisation", "skip", on_gpu(busy=None)),
        ("B6-utilisation", "skip", on_gpu(busy=3, generated_s=1.9)),
        ("B6-utilisation", "skip", on_gpu(busy=3, generated_s=None)),
        ("B6-utilisation", "skip", on_gpu(busy=95, generated_s=0.2)),
        ("B6-utilisation", "skip", on_gpu(busy=3, model_bytes=100_000_000)),
        ("B6-utilisation", "warn", on_gpu(busy=29, generated_s=2.0)),
        ("B6-utilisation", "pass", on_gpu(busy=30, generated_s=2.0)),
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


H200 = "NVIDIA H200"  # 4800 GB/s in provision/data/gpu-bandwidth.json
# Weights per token, layers with the output, tokens/s measured on it (bench and smoke test, 2026-11-26).
HEALTHY = [
    (4_617_396_224, 33, 268.5),
    (4_188_176_384, 33, 274.13),
    (4_370_558_976, 29, 268.393),
    (799_862_784, 17, 834.872),
    (585_256_738, 17, 898.58),
]


def rooflined(size: int, layers: int, tg: float) -> Check:
    log = LoadLog(offloaded=layers, layers=layers, buffers={"CUDA0": size}, gpu_names={"CUDA0": H200})
    return judged(on_gpu(tg=tg, model_bytes=size), log, size)["B4-roofline"]


@pytest.mark.parametrize(("size", "layers", "tg"), HEALTHY)
def test_a_healthy_fast_card_passes_with_every_model(size: int, layers: int, tg: float) -> None:
    check = rooflined(size, layers, tg)
    assert check.status == "pass", check.summary
    assert isinstance(check.value, float)
    assert 1.4 < check.value < 1.8
    assert check.remedy is None


@pytest.mark.parametrize("link", [12e9, 25e9, 50e9])
@pytest.mark.parametrize(("size", "layers"), [*(row[:2] for row in HEALTHY), (400_000_000, 29), (80 * GB, 81)])
def test_weights_that_come_over_pcie_fail_at_every_size(size: int, layers: int, link: float) -> None:
    """The layers take as long as on a healthy card."""
    check = rooflined(size, layers, 1 / (size / link + layers * 50e-6))
    assert check.status == "fail", check.summary
    assert "main memory" in check.summary
    assert check.remedy


@pytest.mark.parametrize(("link", "status"), [(12e9, "fail"), (25e9, "fail"), (50e9, "warn")])
def test_at_the_smallest_size_a_fast_link_and_a_slow_processor_look_alike_and_warn(link: float, status: str) -> None:
    assert rooflined(210_000_000, 25, 1 / (210_000_000 / link + 25 * 50e-6)).status == status


@pytest.mark.parametrize(("size", "layers"), [(210_000_000, 25), *(row[:2] for row in HEALTHY)])
def test_a_slow_start_of_every_layer_is_no_weight_in_main_memory(size: int, layers: int) -> None:
    """A busy or slow processor that takes 200 us a layer."""
    assert rooflined(size, layers, 1 / (size / 2400e9 + layers * 200e-6)).status in ("warn", "pass")


def test_what_was_too_short_to_judge_is_said_in_words() -> None:
    short = judged(on_gpu(busy=13, generated_s=0.15))["B6-utilisation"]
    assert "0.15 s of generation are too short" in short.summary
    assert short.value == 13
    assert "200 MiB" in judged(on_gpu(busy=13, model_bytes=12_000_000))["B6-utilisation"].summary
