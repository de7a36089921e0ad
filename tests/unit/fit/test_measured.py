"""What loads took is kept, found again by its settings, and never trusted blindly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provision.fit import measured
from provision.fit.types import Budget, Budgets, Estimate, RunSettings, Usage
from provision.units import GIB, MIB

SETTINGS = RunSettings(n_ctx=4096, n_gpu_layers=-1)


def load(**bend: Any) -> measured.Load:
    return measured.Load(
        **{
            "model": "m-Q8_0.gguf", "weights_bytes": 3 * GIB, "n_ctx": 4096, "n_gpu_layers": 33, "measured_bytes": 4 * GIB,
            "predicted_bytes": 4 * GIB, "peak_rss_bytes": None, "tokens_per_s": 50.0, "engine_version": "0.3.36",
            "when": "2026-11-21", **bend,
        }
    )  # fmt: skip


def keep(home: Path, *, kwargs: dict[str, Any] | None = None, overheads: dict[str, int] | None = None, **bend: Any) -> None:
    one = load(**bend)
    key = measured.key_of(one.model, kwargs or SETTINGS.llama_kwargs(), n_gpu_layers=one.n_gpu_layers)
    measured.remember(home, key, one, gpu_overheads=overheads or {})


def said(home: Path, settings: RunSettings = SETTINGS, model: str = "m-Q8_0.gguf") -> str | None:
    usage = Usage(model_bytes=3 * GIB, context_bytes=GIB)
    estimate = Estimate(devices=(usage,), host=Usage(), estimator="engine")
    return measured.said_of(home, model, settings, n_layers=32, estimate=estimate)


def test_the_same_settings_are_recognized_and_others_are_not(tmp_path: Path) -> None:
    keep(tmp_path)
    sentence = said(tmp_path) or ""
    assert "2026-11-21" in sentence
    assert sentence.count("4.0 GiB") == 2
    assert said(tmp_path, RunSettings(n_ctx=8192, n_gpu_layers=-1)) is None
    assert said(tmp_path, RunSettings(n_ctx=4096, n_gpu_layers=0)) is None
    assert said(tmp_path, RunSettings(n_ctx=4096, n_gpu_layers=-1, type_k="q8_0")) is None
    assert said(tmp_path, model="other.gguf") is None


def test_arguments_left_out_are_the_engine_s_defaults() -> None:
    spelled = {"n_ctx": 2048, "n_ubatch": 512, "type_k": 1, "type_v": None, "flash_attn": False}
    assert measured.key_of("m", {"n_ctx": 2048}, n_gpu_layers=0) == measured.key_of("m", spelled, n_gpu_layers=0)


def test_the_last_measurement_counts_and_the_store_does_not_grow_for_ever(tmp_path: Path) -> None:
    for n_ctx in range(256, 256 * 300, 256):
        keep(tmp_path, kwargs={"n_ctx": n_ctx})
    keep(tmp_path, measured_bytes=5 * GIB)
    assert "5.0 GiB" in (said(tmp_path) or "")
    assert len(json.loads((tmp_path / "measured.json").read_text())["loads"]) == 200
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def budgets(margin: int = 512 * MIB) -> Budgets:
    card = Budget(name="CUDA0 NVIDIA L4", free_bytes=20 * GIB, margin_bytes=margin, reason="20 GiB free now")
    return Budgets(devices=(card,), host=Budget(name="main memory", free_bytes=8 * GIB, margin_bytes=GIB, reason=""))


def test_a_gpu_that_takes_more_than_assumed_gets_a_wider_margin(tmp_path: Path) -> None:
    keep(tmp_path, overheads={"CUDA0 NVIDIA L4": 900 * MIB})
    (card,) = measured.with_overheads(budgets(), tmp_path).devices
    assert card.margin_bytes == 900 * MIB + 20 * GIB // 50
    assert "900" in card.reason
    assert measured.with_overheads(budgets(), tmp_path).host == budgets().host


def test_one_that_takes_less_keeps_the_assumed_margin(tmp_path: Path) -> None:
    keep(tmp_path, overheads={"CUDA0 NVIDIA L4": 10 * MIB})
    wide = budgets(margin=2 * GIB)
    assert measured.with_overheads(wide, tmp_path) == wide
    keep(tmp_path, overheads={"CUDA1 other": 9000 * MIB})
    assert measured.with_overheads(wide, tmp_path) == wide


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"loads": 7, "gpu_overheads": []}', '{"gpu_overheads": {"CUDA0 NVIDIA L4": {"bytes": "much"}}}'],
)
def test_a_damaged_store_is_no_store(tmp_path: Path, text: str) -> None:
    (tmp_path / "measured.json").write_text(text)
    assert said(tmp_path) is None
    assert measured.with_overheads(budgets(), tmp_path) == budgets()
    keep(tmp_path)
    assert said(tmp_path) is not None


def test_a_stored_load_of_another_shape_is_forgotten(tmp_path: Path) -> None:
    keep(tmp_path)
    stored = json.loads((tmp_path / "measured.json").read_text())
    for one in stored["loads"].values():
        one["measured_bytes"] = "much"
    (tmp_path / "measured.json").write_text(json.dumps(stored))
    assert said(tmp_path) is None


def test_a_home_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""
    assert said(tmp_path / "file") is None
