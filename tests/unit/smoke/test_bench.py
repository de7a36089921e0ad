"""Bench: which loads are planned, what the figures are turned into."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from provision.cli.bench_view import write_report
from provision.errors import UsageError
from provision.smoke.bench import BenchResult, BenchWish, Row, notes_on, plan_cases, sibling_quants
from provision.smoke.bench_report import bars, markdown, svg

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


def test_reports_survive_hostile_names(tmp_path: Path) -> None:
    rows = [row(quant=None, model='<script>|"&.gguf').to_data(), row(test="pp512", tokens_per_s=900.0).to_data()]
    root = ElementTree.fromstring(svg(rows))
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    table = [line for line in markdown(rows, []).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
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
