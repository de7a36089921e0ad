"""Bench: which loads are planned, what the figures are turned into."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from provision.cli.bench_view import render_bench, write_report
from provision.errors import UsageError
from provision.smoke.bench import BenchResult, BenchWish, Row, notes_on, plan_cases, sibling_quants
from provision.smoke.bench_report import bars, markdown, number, short_device, side_by_side, svg

MODEL = Path("m-Q8_0.gguf")


def row(**bend: Any) -> Row:
    figures: dict[str, Any] = {
        "model": "m-Q8_0.gguf", "quant": "Q8_0", "device": "CPU", "test": "tg128", "n_threads": 4, "tokens_per_s": 12.5,
        "tokens_per_s_stdev": 0.2, "repetitions": 5, "offloaded_layers": 0,
    }  # fmt: skip
    return Row(**{**figures, **bend})


def test_cpu_means_no_gpu_at_all_and_gpu_means_every_layer() -> None:
    gpu, cpu = plan_cases([MODEL], BenchWish(compare=("gpu", "cpu")), {"n_gpu_layers": 0, "flash_attn": True})
    assert gpu.llama_kwargs["n_gpu_layers"] == -1
    assert (cpu.llama_kwargs["n_gpu_layers"], cpu.llama_kwargs["op_offload"], cpu.llama_kwargs["offload_kqv"]) == (
        0,
        False,
        False,
    )
    assert gpu.llama_kwargs["flash_attn"] is cpu.llama_kwargs["flash_attn"] is True


def test_the_plan_s_partial_offload_is_what_gpu_means_when_there_is_one() -> None:
    (case,) = plan_cases([MODEL], BenchWish(compare=("gpu",)), {"n_gpu_layers": 20})
    assert case.llama_kwargs["n_gpu_layers"] == 20


def test_every_combination_once_and_the_context_holds_the_test() -> None:
    cases = plan_cases([MODEL, Path("m-Q4_0.gguf")], BenchWish(threads=(1, 2), n_prompt=4096), {"n_ctx": 131072})
    assert [(case.model.name, case.n_threads) for case in cases] == [
        ("m-Q8_0.gguf", 1), ("m-Q8_0.gguf", 2), ("m-Q4_0.gguf", 1), ("m-Q4_0.gguf", 2),
    ]  # fmt: skip
    assert {case.llama_kwargs["n_ctx"] for case in cases} == {4097}


def test_siblings_are_quants_of_the_same_model_only(tmp_path: Path) -> None:
    for name, size in (
        ("a-Q8_0.gguf", 30),
        ("a-Q4_0.gguf", 10),
        ("b-Q4_0.gguf", 1),
        ("a-mmproj-F16.gguf", 1),
        ("notes.txt", 1),
    ):
        (tmp_path / name).write_bytes(b"x" * size)
    assert [path.name for path in sibling_quants(tmp_path / "a-Q8_0.gguf")] == ["a-Q4_0.gguf", "a-Q8_0.gguf"]


def test_data_has_the_contract_s_keys() -> None:
    data = BenchResult(rows=(row(),), notes=()).to_data()["rows"][0]
    assert {"device", "test", "tokens_per_s", "tokens_per_s_stdev", "ms_per_token"} <= set(data)
    assert (data["ms_per_token"], data["s_per_100_tokens"]) == (80.0, 8.0)


def test_notes_name_unsteady_figures_and_the_winner() -> None:
    rows = [row(), row(device="CUDA0 (RTX)", tokens_per_s=75.0, offloaded_layers=33), row(test="pp512", tokens_per_s_stdev=6.0)]
    unsteady, ratio = notes_on(rows)
    assert "pp512 varies by 48 %" in unsteady
    assert "6.0 times" in ratio


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (75.0, "the GPU is 6.0 times as fast"),
        (1250.0, "the GPU is 100 times as fast"),
        (12.6, "the GPU is as fast as the CPU"),
        (0.05, "the CPU is 250 times as fast as the GPU: this model is better off without it"),
    ],
)
def test_who_is_faster_is_said_so_that_it_makes_sense(speed: float, said: str) -> None:
    (note,) = notes_on([row(), row(device="CUDA0 (RTX)", tokens_per_s=speed, tokens_per_s_stdev=0.0, offloaded_layers=33)])
    assert said in note
    assert "0.0 times" not in note


def test_a_sweep_ends_in_the_best_thread_count() -> None:
    rows = [row(n_threads=count, tokens_per_s=speed) for count, speed in ((1, 5.0), (4, 14.0), (8, 12.0))]
    assert notes_on(rows) == ("m-Q8_0.gguf tg128: fastest on the CPU with 4 threads",)


LAVAPIPE = "Vulkan0 (llvmpipe (LLVM 15.0.6, 256 bits))"


@pytest.mark.parametrize(
    ("device", "short"),
    [
        ("CPU", "CPU"),
        (LAVAPIPE, "Vulkan0"),
        ("CUDA0 (NVIDIA A100-SXM4-80GB), CUDA1 (NVIDIA A100-SXM4-80GB)", "CUDA0+CUDA1"),
        ("GPU", "GPU"),
        ("", ""),
    ],
)
def test_devices_have_a_short_name(device: str, short: str) -> None:
    assert short_device(device) == short


@pytest.mark.parametrize(
    ("value", "text"),
    [(13969.2, "13969"), (999.6, "1000"), (100.0, "100.0"), (76.9, "76.90"), (1.0, "1.00"), (0.0716, "0.0716")],
)
def test_figures_keep_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text
    assert number(0.625, like=30.9) == "0.62"


def compared() -> list[dict[str, Any]]:
    return [
        row(device=LAVAPIPE, tokens_per_s=17.4, offloaded_layers=5).to_data(),
        row(n_threads=1, tokens_per_s=900.0).to_data(),
        row(n_threads=2, tokens_per_s=2984.5, tokens_per_s_stdev=382.9).to_data(),
        row(test="pp512", tokens_per_s=13969.2).to_data(),
    ]


def test_cpu_and_gpu_stand_side_by_side_each_with_its_best_thread_count() -> None:
    assert side_by_side(compared()) == [
        ("Q8_0", "tg128", "tokens/s", "2984", "17.40", "0.0058 x"),
        ("Q8_0", "tg128", "ms/token", "0.3351", "57.47", ""),
        ("Q8_0", "tg128", "s/100 tokens", "0.0335", "5.75", ""),
    ]
    assert side_by_side([row().to_data()]) == []
    assert "| Q8_0 | tg128 | tokens/s | 2984 | 17.40 | 0.0058 x |" in markdown(compared(), [])


def test_the_view_fits_eighty_columns_and_names_the_card_once() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    render_bench(console, {"rows": compared(), "notes": []})
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines), lines
    assert sum("llvmpipe" in line for line in lines) == 1
    assert any("2984 tok/s" in line for line in lines)
    assert "s/100 tokens" in lines[0]


def test_reports_survive_hostile_names(tmp_path: Path) -> None:
    rows = [row(quant=None, model='<script>|"&.gguf').to_data(), row(test="pp512", tokens_per_s=900.0).to_data()]
    root = ElementTree.fromstring(svg(rows))
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    table = [line for line in markdown(rows, []).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
    assert "llvmpipe (LLVM" in svg(compared())
    for name in ("r.json", "r.md", "r.svg"):
        write_report(tmp_path / name, {"rows": rows, "notes": []})
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == rows
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(UsageError):
        write_report(tmp_path / "no" / "r.md", {"rows": rows, "notes": []})


def test_bars_fit_the_width_and_the_fastest_is_longest() -> None:
    rows = [row().to_data(), row(quant="Q4_0", tokens_per_s=25.0).to_data()]
    lines = bars(rows, width=80)
    assert all(len(line) <= 80 for line in lines)
    assert lines[2].count("█") > lines[1].count("█") > 0
