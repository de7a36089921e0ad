import json
from importlib.resources import files

import pytest

from provision.fit import bandwidth, speed
from provision.fit.analytic import estimate
from provision.fit.types import RunSettings
from provision.gguf.shape import read_shape
from provision.models.quality import judge_quality
from provision.units import GIB
from tests.support.shapes import llama_8b, mixtral_8x7b


def quality(
    quant: str | None, bits: float | None, *, model: str = "Some-Model", uploader: str = "someone", imatrix: bool = False
):  # type: ignore[no-untyped-def]
    return judge_quality(quant=quant, model=model, uploader=uploader, bits_per_weight=bits, imatrix=imatrix)


def test_a_file_that_was_measured_is_judged_by_its_own_number() -> None:
    found = quality("Q4_K_M", 4.9, model="Qwen3.5-9B-GGUF", uploader="bartowski")
    assert (found.mean_kld, found.fallback) == (0.0087, False)
    assert "2026-03" in found.source
    other = quality("Q4_K_M", 4.9, model="Qwen3.5-9B-GGUF", uploader="somebody-else")
    assert other.fallback


def test_everything_else_is_called_a_fallback_and_names_its_source() -> None:
    found = quality("Q4_K_M", 4.899)
    assert found.fallback
    assert found.mean_kld == pytest.approx(0.031273)
    assert found.source.startswith("fallback: Llama-3-8B")
    assert "f364eb6f" in found.source


def test_more_bits_never_lose_more_on_the_curve() -> None:
    for imatrix in (True, False):
        values = [quality(None, bits / 20, imatrix=imatrix).mean_kld for bits in range(30, 340)]
        assert values == sorted(values, reverse=True)


def test_old_formats_are_judged_by_name_and_native_ones_not_at_all() -> None:
    assert quality("Q4_0", 4.6).mean_kld > quality("Q4_K_S", 4.6).mean_kld
    assert quality("MXFP4_MOE", 4.5) is None
    assert quality(None, None) is None


def test_every_number_has_a_source_and_a_date() -> None:
    for name in ("quant-quality.json", "gpu-bandwidth.json"):
        table = json.loads(files("provision.data").joinpath(name).read_text(encoding="utf-8"))
        for row in table["rows"] + table.get("files", []):
            assert table["sources"][row["source"]]["read"]


def test_gpu_names_are_matched_as_words_and_by_memory() -> None:
    def rate(name: str, memory: int | None = None) -> float | None:
        found = bandwidth.specified(name, memory)
        return found.bytes_per_s / 1e9 if found else None

    assert rate("NVIDIA GeForce RTX 4090") == 1008
    assert rate("NVIDIA GeForce RTX 4090 Laptop GPU") == 576
    assert rate("NVIDIA GeForce RTX 4070 Ti SUPER") == 672
    assert rate("NVIDIA A100-SXM4-80GB", 80 * 10**9) == 2039
    assert rate("NVIDIA A100-SXM4-40GB", 40 * 10**9) == 1555
    assert rate("NVIDIA A10") == 600
    assert rate("NVIDIA A1000") is None
    assert rate("GPU0") is None


def test_only_active_experts_are_read_per_token() -> None:
    settings = RunSettings(n_ctx=4096, n_gpu_layers=33)
    dense, experts = read_shape(llama_8b().header()), read_shape(mixtral_8x7b().header())
    assert sum(speed.token_bytes(dense, estimate(dense, settings, n_devices=1))) == pytest.approx(
        dense.weight_bytes - dense.input_bytes, rel=1e-6
    )
    read = sum(speed.token_bytes(experts, estimate(experts, settings, n_devices=1)))
    assert 0.2 < read / experts.weight_bytes < 0.35


def test_a_forecast_is_an_interval_with_a_basis_or_a_reason_why_not() -> None:
    shape = read_shape(llama_8b().header())
    settings = RunSettings(n_ctx=4096, n_gpu_layers=33)
    found = estimate(shape, settings, n_devices=1)
    fast = bandwidth.Bandwidth(paces=(bandwidth.Pace(bytes_per_s=5e11), bandwidth.Pace(bytes_per_s=1e12)), basis="test")
    forecast = speed.forecast(shape, settings, found, [fast, fast])
    assert isinstance(forecast, speed.Speed)
    assert 0 < forecast.low < forecast.high < 1e12 / (4 * GIB)
    assert "test" in forecast.basis
    assert "not known" in str(speed.forecast(shape, settings, found, [None, fast]))
