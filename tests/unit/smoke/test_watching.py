"""For how long a GPU is to be watched: only where layers go to one, and only in the profiles that take their time."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.processes import ChildOutcome
from provision.settings import read_settings
from provision.smoke import service
from provision.smoke.demo import demo_model_path
from provision.smoke.thresholds import MIN_WATCHED_S
from provision.smoke.types import ProfileName


@pytest.mark.parametrize(
    ("profile", "layers", "smallest", "asked"),
    [
        ("quick", -1, 1000, 0),
        ("full", -1, 1000, 2.5),
        ("deep", 33, 1000, 2.5),
        ("full", 0, 1000, None),
        ("full", None, 1000, None),
        ("full", -1, 10**9, None),
    ],
)
def test_what_the_child_is_asked(
    profile: ProfileName,
    layers: int | None,
    smallest: int,
    asked: float | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    requests: list[Mapping[str, Any]] = []

    def no_child(python: Path, script: Path, request: Mapping[str, Any], **_: Any) -> ChildOutcome:
        requests.append(request)
        return ChildOutcome(kind="timeout", answer={}, signal_name=None, returncode=None, stderr_tail="", elapsed_s=0.0)

    monkeypatch.setattr(service, "run_child", no_child)
    monkeypatch.setattr(service, "MIN_ROOFLINE_BYTES", smallest)
    kwargs = {} if layers is None else {"n_gpu_layers": layers}
    settings = read_settings({}, home=tmp_path)
    service.run_smoke(demo_model_path(), llama_kwargs=kwargs, python=Path(sys.executable), settings=settings, profile=profile)
    assert len(requests) == 1, "a child that died is not asked again"
    assert requests[0].get("watch_s") == asked


def test_the_watch_is_long_enough_to_judge() -> None:
    assert all(profile.watch_s > MIN_WATCHED_S for profile in service.PROFILES.values() if profile.name != "quick")
