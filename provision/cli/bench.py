"""`provision bench`: how fast a model runs here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.smoke.bench import BenchWish, Side

_SUFFIXES = (".json", ".md", ".svg")


def bench(
    model: Annotated[list[str], typer.Argument(help="A local GGUF, ORG/REPO[:QUANT], or a recipe name; several are compared.")],
    compare: Annotated[str, typer.Option(metavar="cpu,gpu", help="Measure on these, side by side.")] = "",
    threads: Annotated[str, typer.Option(metavar="N[,N...]|sweep", help="Thread counts; sweep: 1, 2, 4 ... all cores.")] = "",
    all_quants: Annotated[bool, typer.Option("--all-quants", help="Compare every quant of MODEL in its folder.")] = False,
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, max=100, help="Rounds per figure.")] = 5,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=65536, help="Tokens of the prompt test.")] = 512,
    generate_tokens: Annotated[int, typer.Option(min=1, max=65536, help="Tokens of the generation test.")] = 128,
    n_gpu_layers: Annotated[int | None, typer.Option("--n-gpu-layers", help="Layers on the GPU; default: what fits.")] = None,
    output: Annotated[
        list[Path] | None, typer.Option("--output", "-o", help="Also write FILE.json, FILE.md or FILE.svg.")
    ] = None,
    python: Annotated[Path | None, typer.Option("--python", help="Python whose environment holds the engine.")] = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Measure prompt (pp512) and generation (tg128) speed as llama-bench defines them, with their spread."""
    from provision.smoke.bench import BenchWish

    session = open_session(json=json, progress=progress)
    for path in output or []:
        if path.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"--output {path}: not one of {', '.join(_SUFFIXES)}", code="bad-option", hint="end it in .md")
    wish = BenchWish(
        compare=_sides(compare),
        threads=_counts(threads),
        n_prompt=prompt_tokens,
        n_generate=generate_tokens,
        repetitions=repetitions,
    )
    overrides = {} if n_gpu_layers is None else {"n_gpu_layers": n_gpu_layers}
    return _run(model, wish, session, overrides, python or Path(sys.executable), output or [], all_quants=all_quants)


def _run(
    names: list[str],
    wish: BenchWish,
    session: Session,
    overrides: dict[str, Any],
    python: Path,
    output: list[Path],
    *,
    all_quants: bool,
) -> Spoken:
    from provision.cli.bench_view import render_bench, write_report
    from provision.recipes.target import resolve_model
    from provision.result import Result
    from provision.smoke.bench import BenchResult, Row, run_bench, sibling_quants

    rows: list[Row] = []
    notes: list[str] = []
    for name in names:
        target = resolve_model(name, settings=session.settings, reporter=session.reporter, python=python)
        models = sibling_quants(target.path) if all_quants else (target.path,)
        kwargs = {**target.llama_kwargs, **overrides}
        found = run_bench(
            models, wish, llama_kwargs=kwargs, python=python, settings=session.settings, reporter=session.reporter
        )
        rows += found.rows
        notes += found.notes
    data = BenchResult(rows=tuple(rows), notes=tuple(dict.fromkeys(notes))).to_data()
    for path in output:
        write_report(path, data)
    return Spoken(result=Result(command="bench", data=data), render=render_bench)


def _sides(text: str) -> tuple[Side, ...]:
    words = {word.strip().lower() for word in text.split(",") if word.strip()}
    if words - {"cpu", "gpu"}:
        raise UsageError(f"--compare {text!r} names more than cpu and gpu", code="bad-option", hint="--compare cpu,gpu")
    # The GPU first: where there is none, that is said before minutes are spent on the CPU.
    sides: tuple[Side, ...] = ("gpu", "cpu")
    return tuple(side for side in sides if side in words)


def _counts(text: str) -> tuple[int, ...]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if text.strip().lower() == "sweep":
        return tuple(sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores}))
    try:
        counts = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        counts = (0,)
    if any(not 1 <= count <= 1024 for count in counts):
        raise UsageError(f"--threads {text!r} is no list of thread counts", code="bad-option", hint="--threads 1,2,4 or sweep")
    return counts
