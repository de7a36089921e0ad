"""Forecasts of tokens/s against what was measured, and what one measured model says of another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision.fit import speed
from provision.fit.analytic import estimate
from provision.fit.bandwidth import Bandwidth, Pace, Run, Specified, of_gpu, of_run, specified
from provision.fit.types import RunSettings
from provision.gguf.shape import read_shape
from provision.units import GIB
from tests.support.shapes import Model, dense, llama_8b, mixtral_8x7b, qwen25_7b

CUDA0 = "CUDA0 NVIDIA H200"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """tg128 of one NVIDIA H200, llama-cpp-python 0.3.36, 2026-11-26; bytes of weights per token, layers with the output."""

    size: int
    layers: int
    tokens_per_s: float

    def run(self) -> Run:
        return Run(bytes_per_token=self.size, layers=self.layers, tokens_per_s=self.tokens_per_s, when="2026-11-26")


LLAMA_8B = Measured(size=4_617_396_224, layers=33, tokens_per_s=268.5)
LLAMA_8B_SMALL_VOCABULARY = Measured(size=4_188_176_384, layers=33, tokens_per_s=274.13)
QWEN_7B = Measured(size=4_370_558_976, layers=29, tokens_per_s=268.393)
LLAMA_1B = Measured(size=799_862_784, layers=17, tokens_per_s=834.872)
LLAMA_1B_SMALL_VOCABULARY = Measured(size=585_256_738, layers=17, tokens_per_s=898.58)
DEMO_BENCH = Measured(size=2_655_232, layers=5, tokens_per_s=5490)
DEMO_SMOKE = Measured(size=2_655_232, layers=5, tokens_per_s=4243.31)
DEMO_QUICK = Measured(size=2_655_232, layers=5, tokens_per_s=3767)
LARGE = (LLAMA_8B, LLAMA_8B_SMALL_VOCABULARY, QWEN_7B, LLAMA_1B, LLAMA_1B_SMALL_VOCABULARY)
EVERY = (*LARGE, DEMO_BENCH, DEMO_SMOKE, DEMO_QUICK)


def h200() -> Specified:
    found = specified(CUDA0, 150 * 10**9)
    assert found is not None
    return found


def between(found: Bandwidth, size: float, layers: float) -> tuple[float, float]:
    return 1 / found.slowest(size, layers), 1 / found.fastest(size, layers)


def llama_1b() -> Model:
    return dense(
        "1B", "llama", layers=16, embd=2048, ff=8192, heads=32, kv_heads=8, vocab=128_256, tied=True, head_dim=64
    )  # fmt: skip


@pytest.mark.parametrize("seen", EVERY)
def test_what_an_h200_was_measured_at_lies_in_the_forecast(seen: Measured) -> None:
    low, high = between(of_gpu(h200()), seen.size, seen.layers)
    assert low < seen.tokens_per_s < high
    assert high < 3 * low


@pytest.mark.parametrize(("made", "seen"), [(llama_8b(), LLAMA_8B), (qwen25_7b(), QWEN_7B), (llama_1b(), LLAMA_1B)])
def test_and_in_the_forecast_of_a_whole_plan(made: Model, seen: Measured) -> None:
    shape = read_shape(made.header())
    settings = RunSettings(n_ctx=8192, n_gpu_layers=shape.n_layers + 1)
    found = estimate(shape, settings, n_devices=1)
    assert speed.token_bytes(shape, found) == [pytest.approx(seen.size, rel=1e-3), 0]
    assert speed.gpu_layers(shape, settings) == seen.layers
    forecast = speed.forecast(shape, settings, found, [of_gpu(h200()), None])
    assert isinstance(forecast, speed.Speed)
    assert forecast.low < seen.tokens_per_s < forecast.high
    assert "35 to 95 µs more per layer" in forecast.basis


# GitHub XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README at 00dd2bde, tg 512 of Llama 3 8B and, with `7B`, the mean of
# LLaMA 2 7B Q4_0 (3.82 GiB with its embedding, 33 layers); `later`: as quoted from a later version of it, not read here.
F16_8B = 2 * (8_030_261_248 - 128_256 * 4096)
Q4_0_7B = round(3.82 * GIB - 32_000 * 4096 * 4.5 / 8)
PUBLIC = [
    ("RTX 3070", 448, LLAMA_8B.size, 72.79),
    ("RTX 3080", 760, LLAMA_8B.size, 109.57),
    ("RTX 3080 Ti", 912, LLAMA_8B.size, 110.60),
    ("RTX 4070 Ti", 504, LLAMA_8B.size, 83.50),
    ("RTX 4080", 716.8, LLAMA_8B.size, 108.15),
    ("RTX 4080 F16", 716.8, F16_8B, 40.58),
    ("RTX 3090", 936, LLAMA_8B.size, 115.42),
    ("RTX 3090 F16", 936, F16_8B, 47.40),
    ("RTX 4090", 1008, LLAMA_8B.size, 130.58),
    ("RTX 4090 F16", 1008, F16_8B, 54.84),
    ("A100 80GB 7B", 2039, Q4_0_7B, 136.24),
    ("H100 PCIe 7B", 2000, Q4_0_7B, 133.77),
    ("A100 PCIe later", 2039, LLAMA_8B.size, 138),
    ("H100 PCIe later", 2000, LLAMA_8B.size, 144),
]


@pytest.mark.parametrize(("name", "gb_per_s", "size", "seen"), PUBLIC, ids=[row[0] for row in PUBLIC])
def test_public_figures_of_other_cards_lie_inside_too(name: str, gb_per_s: float, size: int, seen: float) -> None:
    low, high = between(of_gpu(Specified(bytes_per_s=gb_per_s * 1e9, said=name)), size, 33)
    assert low < seen < high


@pytest.mark.parametrize("card", [h200(), None], ids=["specified", "a card nobody specified"])
@pytest.mark.parametrize("learnt", LARGE)
def test_one_measured_model_says_what_others_reach(learnt: Measured, card: Specified | None) -> None:
    found = of_run(CUDA0, learnt.run(), card)
    for other in LARGE:
        low, high = between(found, other.size, other.layers)
        assert low < other.tokens_per_s < high, (learnt, other)
    for demo in (DEMO_BENCH, DEMO_SMOKE, DEMO_QUICK):  # its layers, 256 wide, are cheaper than those of any real model
        assert between(found, demo.size, demo.layers)[0] < demo.tokens_per_s


@pytest.mark.parametrize("learnt", LARGE)
def test_the_model_that_was_measured_is_told_as_closely_as_measuring_is(learnt: Measured) -> None:
    for card in (h200(), None):
        low, high = between(of_run(CUDA0, learnt.run(), card), learnt.size, learnt.layers)
        assert (low, high) == (pytest.approx(0.8 * learnt.tokens_per_s), pytest.approx(1.2 * learnt.tokens_per_s))


def test_what_was_measured_narrows_the_forecast() -> None:
    for other in (QWEN_7B, LLAMA_1B):
        wide = between(of_gpu(h200()), other.size, other.layers)
        for learnt in (LLAMA_8B, LLAMA_1B_SMALL_VOCABULARY):
            low, high = between(of_run(CUDA0, learnt.run(), h200()), other.size, other.layers)
            assert high / low < 0.9 * wide[1] / wide[0]


@pytest.mark.parametrize("rate", [8.0, 5000.0])
def test_a_card_slower_or_faster_than_any_known_is_as_much_so_with_other_models(rate: float) -> None:
    """8 tokens/s of an 8B: its weights came over PCIe."""
    odd = Measured(size=LLAMA_8B.size, layers=33, tokens_per_s=rate)
    found = of_run(CUDA0, odd.run(), h200())
    assert all(pace.bytes_per_s > 0 and pace.layer_s > 0 for pace in found.paces)
    low, high = between(found, 2 * odd.size, 66)
    assert low < rate / 2 < high


def test_layers_of_the_cpu_cost_nothing_besides_and_those_of_gpus_once() -> None:
    shape = read_shape(llama_8b().header())
    none = Bandwidth(paces=(Pace(bytes_per_s=1e30, layer_s=1e-3),), basis="layers alone")
    memory = Bandwidth(paces=(Pace(bytes_per_s=1e30, layer_s=1e-3),), basis="memory")
    for layers, devices in ((33, 1), (33, 3), (-1, 2), (20, 1), (20, 2), (0, 1)):
        settings = RunSettings(n_ctx=512, n_gpu_layers=layers, tensor_split=(1.0,) * devices if devices > 1 else ())
        found = estimate(shape, settings, n_devices=devices)
        forecast = speed.forecast(shape, settings, found, [none] * devices + [memory])
        assert isinstance(forecast, speed.Speed)
        on_gpu = 33 if layers < 0 else layers
        if on_gpu:
            assert forecast.low == pytest.approx(1000 / on_gpu, abs=0.1)
        else:
            assert forecast.low > 1e9


def test_only_active_experts_count_but_every_layer_does() -> None:
    shape = read_shape(mixtral_8x7b().header())
    settings = RunSettings(n_ctx=4096, n_gpu_layers=33)
    forecast = speed.forecast(shape, settings, estimate(shape, settings, n_devices=1), [of_gpu(h200()), None])
    assert isinstance(forecast, speed.Speed)
    assert forecast.high < 1 / (33 * 35e-6)


def test_what_a_smoke_test_measured_is_remembered_for_each_memory(tmp_path: Path) -> None:
    assert speed.calibrated(tmp_path, CUDA0, bytes_per_token=1) is None
    speed.remember(tmp_path, CUDA0, LLAMA_8B.run())
    speed.remember(tmp_path, "main memory", Run(bytes_per_token=10**9, layers=0, tokens_per_s=10.0, when="2026-11-21"))
    found = speed.calibrated(tmp_path, CUDA0, bytes_per_token=LLAMA_8B.size, card=h200())
    assert found is not None
    assert "268.5 tokens/s with 4.3 GiB per token and 33 layers in the smoke test of 2026-11-26" in found.basis
    memory = speed.calibrated(tmp_path, "main memory", bytes_per_token=5)
    assert memory is not None
    assert [pace.bytes_per_s for pace in memory.paces] == [pytest.approx(8e9), pytest.approx(12e9)]
    assert "main memory reached 10.0 GB/s" in memory.basis
    assert not list(tmp_path.glob(".speed*"))


def test_of_several_measured_models_the_nearest_in_size_is_asked_and_the_latest_counts(tmp_path: Path) -> None:
    for run in (LLAMA_8B.run(), LLAMA_1B.run(), QWEN_7B.run()):
        speed.remember(tmp_path, CUDA0, run)
    again = Run(bytes_per_token=LLAMA_1B.size, layers=17, tokens_per_s=700.0, when="2026-11-27")
    speed.remember(tmp_path, CUDA0, again)
    for size, said in ((2 * 10**9, "268.4"), (10**9, "700.0"), (10, "700.0"), (10**11, "268.5")):
        found = speed.calibrated(tmp_path, CUDA0, bytes_per_token=size)
        assert found is not None
        assert said in found.basis
    for size in range(1, 30):
        speed.remember(tmp_path, CUDA0, Run(bytes_per_token=size * 10**9, layers=3, tokens_per_s=1.0, when="2026-11-28"))
    assert len(json.loads((tmp_path / "speed.json").read_text())[CUDA0]) == 8


SOUND = {"bytes_per_token": 10**9, "layers": 0, "tokens_per_s": 10.0, "when": "2026-11-26"}


@pytest.mark.parametrize(
    "stored",
    [
        "{broken",
        "[]",
        "null",
        json.dumps({CUDA0: {"bytes_per_s": 5.259e11, "when": "2026-11-26"}}),  # as versions before wrote it
        *(
            json.dumps({CUDA0: bad})
            for bad in (
                [], [[]], [None], "x", 5, [{}],
                *([{**SOUND, **bend}] for bend in (
                    {"bytes_per_token": 0}, {"bytes_per_token": "a"}, {"bytes_per_token": 10**400}, {"layers": -1},
                    {"layers": None}, {"tokens_per_s": 0}, {"tokens_per_s": float("nan")}, {"tokens_per_s": float("inf")},
                    {"tokens_per_s": 1e-300}, {"tokens_per_s": []}, {"when": 3},
                )),
            )
        ),
    ],
)  # fmt: skip
def test_what_is_no_run_is_quietly_left_out_and_gone_with_the_next_one(stored: str, tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(stored)
    assert speed.calibrated(tmp_path, CUDA0, bytes_per_token=10**9, card=h200()) is None
    speed.remember(tmp_path, "main memory", Run(**SOUND))
    known: dict[str, Any] = json.loads((tmp_path / "speed.json").read_text())
    assert known == {"main memory": [SOUND]}
