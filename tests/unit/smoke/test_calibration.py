"""Only a run that says something about main memory is remembered, and fit finds it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provision.fit.speed import calibrated
from provision.smoke import calibration
from provision.smoke.demo import demo_model_path

ANSWER: dict[str, Any] = {"model_bytes": 2_800_000, "tg": [90.0, 110.0], "log": ""}


def test_what_a_large_model_reached_is_what_fit_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MIN_ROOFLINE_BYTES", 1_000_000)
    assert calibration.calibrate(demo_model_path(), ANSWER, home=tmp_path)
    known = calibrated(tmp_path, "main memory")
    assert known is not None
    # 100 tokens/s, each reading all 2.8 MB but the embedding of 512 x 256 in Q8_0.
    assert known.bytes_per_s == pytest.approx(100 * 2_650_000, rel=0.02)


@pytest.mark.parametrize(
    "bend",
    [{}, {"log": "load_tensors: offloaded 2/5 layers to GPU", "model_bytes": 10**9}, {"tg": [], "model_bytes": 10**9}],
)
def test_a_run_that_says_nothing_about_memory_is_not_remembered(bend: dict[str, Any], tmp_path: Path) -> None:
    assert not calibration.calibrate(demo_model_path(), {**ANSWER, **bend}, home=tmp_path)
    assert list(tmp_path.iterdir()) == []
