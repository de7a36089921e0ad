"""Fingerprints: stored whole or not at all, strict against the same setting, tolerant against another, blind to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provision.errors import UsageError
from provision.smoke import golden
from tests.support.smoke_figures import healthy


def taken(setting: str = "CPU", **bend: Any) -> dict[str, Any]:
    answer = healthy()
    answer["passages"][0].update(bend)
    return golden.fingerprint(answer, setting=setting, sha256=None)


def top(*logits: float, ids: tuple[int, ...] = (5, 6, 7, 8, 9)) -> list[dict[str, Any]]:
    return [{"at": 0, "ids": list(ids), "logits": list(logits)}]


def status(old: dict[str, Any], new: dict[str, Any]) -> str:
    (check,) = golden.compare(old, new)
    return check.status


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    golden.save(tmp_path / "deep" / "g.json", taken())
    assert golden.load(tmp_path / "deep" / "g.json") == taken()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["g.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"provision_golden": 99, "passages": []}'])
def test_anything_else_is_refused_with_a_command(tmp_path: Path, text: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        golden.load(path)
    assert refused.value.code == "bad-golden"
    with pytest.raises(UsageError):
        golden.load(tmp_path / "none.json")


def test_the_same_measurement_passes() -> None:
    assert status(taken(), taken()) == "pass"


def test_small_noise_fails_on_the_same_setting_and_warns_on_another() -> None:
    noisy = taken(top=top(9.3, 4.0, 3.0, 2.0, 1.0))
    other = taken("CUDA0", top=top(9.3, 4.0, 3.0, 2.0, 1.0))
    assert status(taken(), noisy) in ("warn", "fail")
    assert status(taken(), taken(top=top(9.5, 4.5, 3.0, 2.0, 1.0))) == "fail"
    assert status(taken(), other) in ("pass", "warn")


def test_likelihood_alone_is_enough_to_notice() -> None:
    assert status(taken(), taken(nll=0.15)) == "warn"
    assert status(taken(), taken(nll=0.5)) == "fail"


def test_another_best_token_fails() -> None:
    assert status(taken(), taken(top=top(9.0, 4.0, 3.0, 2.0, 1.0, ids=(6, 5, 7, 8, 9)))) == "fail"


def test_another_tokenizer_or_model_fails() -> None:
    assert status(taken(), taken(tokens=199)) == "fail"
    assert status(taken(), {**taken(), "model_bytes": 1}) == "fail"
