"""Fingerprints: stored whole or not at all, strict against the same setting, tolerant against another, blind to nothing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from provision.errors import UsageError
from provision.smoke import golden
from provision.smoke.demo import demo_folder
from tests.support.smoke_figures import healthy


def taken(setting: str = "CPU, KV f16", *, logits: tuple[float, ...] = (9.0, 4.0, 3.0), **bend: Any) -> dict[str, Any]:
    answer = healthy()
    facts = answer["passages"][0]["fingerprint"]
    facts.update({"best": [{"ids": [5, 6, 7], "logits": list(logits)}]} | bend)
    found = golden.fingerprint(answer, setting=setting, sha256=None)
    assert found is not None
    return found


def status(old: dict[str, Any], new: dict[str, Any]) -> str:
    return golden.compare(old, new).status


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    golden.save(tmp_path / "deep" / "g.json", taken())
    assert golden.load(tmp_path / "deep" / "g.json") == taken()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["g.json"]


def test_it_can_lie_in_a_toml_file_as_it_is() -> None:
    stored = tomllib.loads(tomli_w.dumps(taken()))
    assert stored == taken()
    assert status(stored, taken()) == "pass"


def test_the_shipped_one_is_small_and_covers_both_languages() -> None:
    path = demo_folder() / "provision-demo-Q8_0.golden.json"
    assert [one["name"] for one in golden.load(path)["passages"]] == ["english", "chinese"]
    assert path.stat().st_size < 4096


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99, "passages": []}', '{"provision_golden": 1, "passages": []}'])
def test_anything_else_is_refused_with_a_command(tmp_path: Path, text: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        golden.load(path)
    assert refused.value.code == "bad-golden"
    assert "--save-golden" in (refused.value.hint or "")
    with pytest.raises(UsageError):
        golden.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("passages", []),
        ("passages", 7),
        ("passages", [{"name": "english"}]),
        ("n_vocab", "512"),
        ("setting", None),
        ("tolerances", {}),
        ("tolerances", {"same": {"nmse": "much"}}),
    ],
)
def test_a_bent_one_is_refused_by_name_of_what_is_wrong(key: str, value: Any) -> None:
    with pytest.raises(UsageError):
        golden.compare({**taken(), key: value}, taken())


@pytest.mark.parametrize("line", ["", "5=1.0", "5=nan 6=1.0", "five=1 6=2"])
def test_a_line_that_names_no_logits_is_refused(line: str) -> None:
    bent = taken()
    bent["passages"][0]["best"][0] = line
    with pytest.raises(UsageError):
        golden.compare(bent, taken())


def test_the_same_measurement_passes() -> None:
    assert status(taken(), taken()) == "pass"


def test_small_noise_fails_on_the_same_setting_and_passes_or_warns_on_another() -> None:
    assert status(taken(), taken(logits=(9.5, 4.5, 3.0))) == "fail"
    assert status(taken(), taken(logits=(9.05, 4.05, 3.0))) == "warn"
    assert status(taken(), taken("CUDA0, KV f16", logits=(9.05, 4.05, 3.0))) == "pass"
    assert status(taken(), taken("CUDA0, KV f16", logits=(10.0, 5.0, 3.0))) == "fail"


def test_stated_tolerances_are_the_ones_that_count() -> None:
    loose = taken()
    loose["tolerances"]["same"] |= {"nmse": 0.1, "nmse_fail": 0.2}
    assert status(loose, taken(logits=(9.5, 4.5, 3.0))) == "pass"


def test_likelihood_alone_is_enough_to_notice() -> None:
    assert status(taken(), taken(nll=0.15)) == "warn"
    assert status(taken(), taken(nll=0.5)) == "fail"


def test_another_best_token_fails_unless_it_was_a_tie() -> None:
    swapped = {"best": [{"ids": [6, 5, 7], "logits": [9.0, 8.9999, 3.0]}]}
    assert status(taken(logits=(9.0, 8.9999, 3.0)), taken(**swapped)) == "pass"
    assert status(taken(logits=(9.0, 4.0, 3.0)), taken(best=[{"ids": [6, 5, 7], "logits": [9.0, 4.0, 3.0]}])) == "fail"


def test_another_tokenizer_or_model_fails() -> None:
    assert status(taken(), taken(ids=[9, *range(63)])) == "fail"
    assert status(taken(), {**taken(), "model_bytes": 1}) == "fail"


def test_another_context_too_short_for_the_passage_is_no_verdict() -> None:
    assert status(taken(), taken(ids=list(range(40)))) == "skip"


def test_nothing_is_taken_from_logits_that_are_not_numbers() -> None:
    answer = healthy()
    answer["passages"].append({"name": "chinese", "tokens": 9, "finite": False})
    assert golden.fingerprint(answer, setting="CPU", sha256=None) is None


def test_it_is_part_of_the_machine_readable_answer() -> None:
    assert json.loads(json.dumps(taken())) == taken()


def test_another_processor_is_judged_by_its_own_limits_where_the_fingerprint_has_them() -> None:
    old, new = taken("CPU, KV f16"), taken("CPU, KV f16", logits=(9.2, 4.0, 3.0))
    new["cpu"] = "another"
    assert status(old, new) == "warn"
    del old["tolerances"]["processor"]
    assert status(old, new) == "pass"
