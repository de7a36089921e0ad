"""Every check passes on healthy figures, and each bent figure fails the check that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from provision.fit.analytic import estimate
from provision.fit.bandwidth import of_gpu, specified
from provision.fit.speed import forecast
from provision.fit.types import RunSettings, Speed
from provision.gguf.reader import read_header
from provision.gguf.shape import read_shape
from provision.gguf.source import FileSource
from provision.smoke.demo import demo_model_path
from provision.smoke.enginelog import LoadLog
from provision.smoke.judge import judge_load, judge_speed, verdict_of
from provision.smoke.judge_device import judge_device
from provision.smoke.judge_model import count_right, judge_behaviour, judge_numerics, judge_variant
from provision.smoke.judge_text import judge_template, judge_tokenizer
from provision.smoke.material import PROFILES, known_questions
from provision.smoke.types import Check, Prediction
from tests.support.smoke_figures import healthy

QUESTIONS = known_questions(PROFILES["quick"])
CPU_LOG = LoadLog(offloaded=None, layers=None, buffers={"CPU_Mapped": 2_000_000_000, "CPU": 500_000_000}, gpu_names={})
GPU_LOG = LoadLog(offloaded=33, layers=33, buffers={"CUDA0": 5_000_000_000, "CPU": 1_000_000}, gpu_names={"CUDA0": "RTX 4090"})


def judge_all(answer: dict[str, Any], *, is_demo: bool = True) -> dict[str, Check]:
    checks = [
        *judge_load(answer, None),
        *judge_device(answer, CPU_LOG, Prediction(), require_gpu=False, asked_layers=0),
        *judge_numerics(answer, quantized_kv=False),
        *judge_tokenizer(answer),
        *judge_template(answer),
        *judge_behaviour(answer, QUESTIONS, is_demo=is_demo),
        *judge_speed(answer, Prediction()),
    ]
    assert len({check.id for check in checks}) == len(checks), "ids are unique"
    return {check.id: check for check in checks}


def test_healthy_figures_raise_no_alarm() -> None:
    checks = judge_all(healthy())
    assert verdict_of(list(checks.values())) == "pass"
    assert {check.id for check in checks.values() if check.status == "skip"} == {"B3-memory", "B4-roofline"}


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last, value = path

    def bend(answer: dict[str, Any]) -> None:
        place: Any = answer
        for key in keys:
            place = place[key]
        place[last] = value

    return bend


def _differing(against: str) -> dict[str, Any]:
    return {"against": against, "differs": [{"name": "u", "got": "<|im_end|>", "wanted": "<|im_end|>\n"}]}


@pytest.mark.parametrize(
    ("check_id", "status", "bend"),
    [
        ("A5-keywords", "fail", _set("unknown_keywords", ["rpc_servers"])),
        ("C1-finite", "fail", _set("passages", 0, "finite", False)),
        ("C1-finite", "fail", _set("passages", 0, "std", 0.0)),
        ("C2-entropy", "fail", _set("passages", 0, "entropy", 6.2)),
        ("C3-likelihood", "fail", _set("passages", 0, "nll", 4.5)),
        ("C3-likelihood", "warn", _set("passages", 0, "nll", 3.5)),
        ("C3-word-order", "fail", _set("passages", 0, "nll_shuffled", 0.4)),
        ("C3-word-order", "warn", _set("passages", 0, "nll_shuffled", 1.2)),
        ("C4-late-text", "fail", _set("passages", 0, "nll_second_half", 1.5)),
        ("C5-batch-single", "fail", _set("passages", 0, "single", "nmse", 0.1)),
        ("C5-batch-single", "pass", _set("passages", 0, "single", "nmse", 9.8e-4)),  # Q4_0 on a healthy H200
        ("C5-batch-single", "warn", _set("passages", 0, "single", "nmse", 5e-3)),
        ("C5-batch-single", "fail", _set("passages", 0, "single", "nmse", None)),
        ("D1-round-trip", "warn", _set("tokenizer", "round_trip_failures", ["a"])),
        ("D1-round-trip", "fail", _set("tokenizer", "round_trip_failures", ["a", "b", "c"])),
        ("D2-control-tokens", "fail", _set("tokenizer", "control_tokens_split", ["<|im_end|>"])),
        ("D2-control-tokens", "warn", _set("tokenizer", "control_tokens", 0)),
        ("D3-pre-tokenizer", "warn", _set("tokenizer", "pre", None)),
        ("D6-renders", "fail", _set("template", "renders", "u", "leading_bos", 2)),
        ("D6-renders", "warn", _set("template", "renders", "u", "leading_bos", 0)),
        ("D6-renders", "fail", _set("template", "renders", "uau", {"error": "UndefinedError: x"})),
        ("D6-renders", "pass", _set("template", "renders", "su", {"error": "ValueError: System role not supported"})),
        ("D6-renders", "fail", _set("template", "renders", "u", "missing", ["Hello"])),
        ("D6-renders", "fail", _set("template", "renders", "uau", "missing", ["Hello", "zebra crossing"])),
        ("D6-renders", "warn", _set("template", "renders", "su", "missing", ["Be brief."])),
        ("D7-template-original", "warn", _set("template", "compared", _differing("own"))),
        ("D7-template-original", "warn", _set("template", "compared", _differing("original"))),
        ("D7-template-original", "skip", _set("template", "compared", None)),
        ("D8-early-end", "fail", _set("tokenizer", "ordinary_endings", [" the"])),
        ("D8-early-end", "warn", _set("tokenizer", "ordinary_endings", ["</s>"])),
        ("D2-special-ids", "warn", _set("tokenizer", "bos_is_ordinary", True)),
        ("A5-context", "warn", _set("n_ctx_train", 512)),
        ("D8-turn-ends", "fail", _set("template", "closing", "is_eog", False)),
        ("D8-turn-ends", "skip", _set("template", "closing", None)),
        ("E2-known-answers", "fail", _set("answers", 0, "text", "The capital of France is Berlin.")),
        ("E3-no-leaks", "fail", _set("answers", 1, "shape", "controls", ["<|im_start|>"])),
        ("E4-no-repetition", "fail", _set("answers", 1, "shape", "character_run", 64)),
        ("E4-no-repetition", "fail", _set("answers", 1, "shape", "token_run", 20)),
        ("E5-chinese", "warn", _set("answers", 2, "shape", "cjk_share", 0.0)),
        ("E1-stops", "warn", _set("answers", 0, "finish", "length")),
        ("E1-stops", "warn", _set("answers", 0, "finish", "time")),
    ],
)
def test_each_bent_figure_is_caught(check_id: str, status: str, bend: Callable[[dict[str, Any]], None]) -> None:
    answer = healthy()
    bend(answer)
    assert judge_all(answer)[check_id].status == status


def test_a_check_that_is_not_good_says_what_to_do() -> None:
    answer = healthy()
    answer["passages"][0]["finite"] = False
    answer["template"]["closing"]["is_eog"] = False
    for check in judge_all(answer).values():
        assert check.status != "fail" or check.remedy


def test_answers_that_never_stop_fail_once_they_are_the_majority() -> None:
    answer = healthy()
    for got in answer["answers"][:2]:
        got["finish"] = "length"
    assert judge_all(answer)["E1-stops"].status == "fail"


def test_a_small_stranger_needs_fewer_right_answers_than_the_demo() -> None:
    answer = healthy()
    answer["answers"][0]["text"] = answer["answers"][1]["text"] = "I do not know."
    assert judge_all(answer, is_demo=False)["E2-known-answers"].status == "pass"
    assert judge_all(answer, is_demo=True)["E2-known-answers"].status == "fail"


@pytest.mark.parametrize(
    ("text", "right"),
    [("5", 1), ("It is 5.", 1), ("2+3=5!", 1), ("FIVE", 1), ("15", 0), ("0.5", 0), ("5.5", 0), ("1,5", 0), ("", 0)],
)
def test_a_number_counts_only_when_it_stands_alone(text: str, right: int) -> None:
    assert count_right([{"id": "sum", "text": text}], QUESTIONS) == right


def test_a_large_model_must_know_them_all() -> None:
    answer = healthy()
    answer["n_params"] = 8_000_000_000
    answer["answers"][1]["text"] = "six"
    assert judge_all(answer, is_demo=False)["E2-known-answers"].status == "fail"


def test_a_silent_fallback_template_fails() -> None:
    answer = healthy()
    answer["template"] |= {"in_file": False, "format": "llama-2"}
    assert judge_all(answer)["D5-template"].status == "fail"


def test_require_gpu_makes_a_cpu_run_fail() -> None:
    checks = judge_device(healthy(), CPU_LOG, Prediction(), require_gpu=True, asked_layers=None)
    assert checks[0].id == "B1-device"
    assert checks[0].status == "fail"


def test_layers_asked_for_but_no_gpu_build_fails() -> None:
    assert judge_device(healthy(), CPU_LOG, Prediction(), require_gpu=False, asked_layers=-1)[0].status == "fail"


def _on_gpu() -> dict[str, Any]:
    answer = healthy()
    answer["devices"].append({"name": "CUDA0", "description": "RTX 4090", "kind": "gpu", "free_bytes": 1, "total_bytes": 2})
    return answer


def test_offloaded_layers_must_equal_the_plan() -> None:
    good = judge_device(_on_gpu(), GPU_LOG, Prediction(n_gpu_layers=33), require_gpu=True, asked_layers=33)
    bad = judge_device(_on_gpu(), GPU_LOG, Prediction(n_gpu_layers=20), require_gpu=True, asked_layers=33)
    all_of_them = judge_device(_on_gpu(), GPU_LOG, Prediction(), require_gpu=True, asked_layers=-1)
    assert [check.status for check in good[:2]] == ["pass", "pass"]
    assert bad[1].status == "fail"
    assert all_of_them[1].status == "pass"


@pytest.mark.parametrize(
    ("predicted", "status"),
    [(2_500_000_000, "pass"), (2_300_000_000, "pass"), (4_000_000_000, "warn"), (9_000_000_000, "fail")],
)
def test_memory_is_compared_with_the_prediction(predicted: int, status: str) -> None:
    checks = judge_device(healthy(), CPU_LOG, Prediction(total_bytes=predicted), require_gpu=False, asked_layers=0)
    memory = next(check for check in checks if check.id == "B3-memory")
    assert (memory.status, memory.value, memory.threshold) == (status, 2_500_000_000, predicted)


@pytest.mark.parametrize(("speed", "status"), [(5.0, "pass"), (2.5, "warn"), (1.0, "fail")])
def test_a_cpu_run_far_below_memory_bandwidth_is_noticed(speed: float, status: str) -> None:
    answer = healthy() | {"model_bytes": 1_000_000_000, "host_copy_bytes_per_s": 10_000_000_000.0}
    answer["speed"]["tg"] = [speed]
    checks = judge_device(answer, CPU_LOG, Prediction(), require_gpu=False, asked_layers=0)
    assert next(check for check in checks if check.id == "B4-roofline").status == status


def test_half_the_forecast_speed_warns() -> None:
    checks = judge_speed(healthy(), Prediction(tokens_per_s_low=1000.0))
    assert checks[1].status == "warn"


@pytest.mark.parametrize("reached", [3767.0, 4243.31, 5490.0])
def test_the_demo_is_as_fast_on_an_h200_as_its_forecast_says(reached: float) -> None:
    """Measured with the Q8_0 demo, smoke test in quick and deep and bench, 2026-11-26."""
    shape = read_shape(read_header(FileSource(demo_model_path())))
    settings = RunSettings(n_ctx=2048, n_gpu_layers=shape.n_layers + 1)
    card = specified("CUDA0 NVIDIA H200", None)
    assert card is not None
    told = forecast(shape, settings, estimate(shape, settings, n_devices=1), [of_gpu(card), None])
    assert isinstance(told, Speed)
    assert told.low < reached < told.high
    answer = healthy()
    answer["speed"]["tg"] = [reached]
    assert judge_speed(answer, Prediction(tokens_per_s_low=told.low))[1].status == "pass"


def test_a_bad_variant_fails_only_where_it_is_used() -> None:
    bad = [{"nmse": 0.5, "argmax": 0.3, "kl": 2.0}]
    assert judge_variant("flash attention", bad, problem=None, in_use=True).status == "fail"
    assert judge_variant("flash attention", bad, problem=None, in_use=False).status == "warn"
    assert judge_variant("KV q4_0", None, problem="refused", in_use=False).status == "skip"
