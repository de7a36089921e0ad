"""Only a run that says something about a memory is remembered, and fit finds it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provision.fit import measured
from provision.fit.speed import calibrated
from provision.fit.types import Budget, Budgets
from provision.gguf.reader import read_header
from provision.gguf.source import FileSource
from provision.smoke import calibration
from provision.smoke.demo import demo_model_path
from provision.smoke.enginelog import read_load_log

ANSWER: dict[str, Any] = {"model_bytes": 2_800_000, "tg": [90.0, 110.0], "log": ""}


def test_what_a_large_model_reached_is_what_fit_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MIN_ROOFLINE_BYTES", 1_000_000)
    assert calibration.calibrate(demo_model_path(), ANSWER, home=tmp_path)
    known = calibrated(tmp_path, "main memory", bytes_per_token=2_650_000)
    assert known is not None
    # 100 tokens/s, each reading all 2.8 MB but the embedding of 512 x 256 in Q8_0; give or take a fifth.
    assert [pace.bytes_per_s for pace in known.paces] == pytest.approx([80 * 2_650_000, 120 * 2_650_000], rel=0.02)
    assert all(pace.layer_s == 0 for pace in known.paces)


@pytest.mark.parametrize(
    "bend",
    [{}, {"log": "load_tensors: offloaded 2/5 layers to GPU", "model_bytes": 10**9}, {"tg": [], "model_bytes": 10**9}],
)
def test_a_run_that_says_nothing_about_memory_is_not_remembered(bend: dict[str, Any], tmp_path: Path) -> None:
    assert not calibration.calibrate(demo_model_path(), {**ANSWER, **bend}, home=tmp_path)
    assert list(tmp_path.iterdir()) == []


CARD = """using device CUDA0 (NVIDIA L4) (0000:00:00.0) - 20000 MiB free
load_tensors: offloaded 5/5 layers to GPU
load_tensors:        CUDA0 model buffer size =  1000.00 MiB
load_tensors:   CPU_Mapped model buffer size =     1.00 MiB
"""


def on_card(**bend: Any) -> dict[str, Any]:
    gib = 1024**3
    return {
        **ANSWER, "model_bytes": 10**9, "log": CARD, "n_ctx": 2048, "engine_version": "0.3.36",
        "devices": [{"name": "CUDA0", "free_bytes": 20 * gib}], "devices_after": [{"name": "CUDA0", "free_bytes": 18 * gib}],
        **bend,
    }  # fmt: skip


def test_the_one_gpu_that_holds_every_layer_is_remembered_by_the_name_fit_knows(tmp_path: Path) -> None:
    assert calibration.calibrate(demo_model_path(), on_card(), home=tmp_path)
    known = calibrated(tmp_path, "CUDA0 NVIDIA L4", bytes_per_token=2_650_000)
    assert known is not None
    assert "100.0 tokens/s with 2.5 MiB per token and 5 layers" in known.basis
    assert calibrated(tmp_path, "main memory", bytes_per_token=2_650_000) is None


def test_what_the_gpu_lost_besides_the_buffers_is_its_overhead(tmp_path: Path) -> None:
    calibration.remember_memory(demo_model_path(), on_card(), {"n_ctx": 2048}, predicted_bytes=None, home=tmp_path)
    card = Budget(name="CUDA0 NVIDIA L4", free_bytes=18 * 1024**3, margin_bytes=0, reason="")
    budgets = Budgets(devices=(card,), host=Budget(name="main memory", free_bytes=1, margin_bytes=0, reason=""))
    (wider,) = measured.with_overheads(budgets, tmp_path).devices
    assert wider.margin_bytes == 2 * 1024**3 - 1000 * 1024**2 + 18 * 1024**3 // 50


@pytest.mark.parametrize("free", [20, 21])
def test_a_driver_that_tells_nothing_or_others_who_left_teach_nothing(free: int) -> None:
    answer = on_card(devices_after=[{"name": "CUDA0", "free_bytes": free * 1024**3}])
    assert calibration.gpu_overheads(answer, read_load_log(CARD)) == {}


def test_a_log_without_buffers_is_not_remembered(tmp_path: Path) -> None:
    calibration.remember_memory(demo_model_path(), on_card(log=""), {}, predicted_bytes=None, home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_active_bytes_leave_out_the_embedding_that_is_only_looked_up() -> None:
    header = read_header(FileSource(demo_model_path()))
    assert calibration.active_bytes(header) == pytest.approx(2_650_000, rel=0.02)
    assert calibration.active_bytes(None) is None
