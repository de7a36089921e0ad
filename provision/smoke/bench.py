"""How fast a model runs here: pp512 and tg128 as llama-bench defines them, on CPU and GPU, over threads and quants."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from provision.errors import MachineError, NotFoundError, ProvisionError
from provision.events import Note, Progress, ProgressEnded, Reporter, silent
from provision.models.names import parse_name
from provision.models.types import Role
from provision.processes import run_child
from provision.settings import Settings
from provision.smoke.bench_report import label
from provision.smoke.calibration import calibrate
from provision.smoke.deaths import diagnose_death
from provision.smoke.enginelog import read_load_log
from provision.smoke.filechecks import shards
from provision.smoke.thresholds import MAX_SPEED_CV
from provision.smoke.variants import CPU_ONLY

_CHILD = Path(__file__).parent / "children" / "bench.py"
Side = Literal["cpu", "gpu"]
# A context for the tests and nothing more: a larger one costs memory, not speed. n_batch takes the whole prompt at once.
_SIZES = {"n_ctx": 1024, "n_batch": 512, "n_ubatch": 512}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchWish:
    """What to compare. `compare` empty: the sides the plan uses; `threads` empty: what the engine takes by itself."""

    compare: tuple[Side, ...] = ()
    threads: tuple[int, ...] = ()
    n_prompt: int = 512
    n_generate: int = 128
    repetitions: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure: mean and sample standard deviation over the repetitions."""

    model: str
    quant: str | None
    device: str
    test: str
    n_threads: int
    tokens_per_s: float
    tokens_per_s_stdev: float
    repetitions: int
    offloaded_layers: int

    def to_data(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "test": self.test,
            "tokens_per_s": round(self.tokens_per_s, 3),
            "tokens_per_s_stdev": round(self.tokens_per_s_stdev, 3),
            "ms_per_token": round(1000 / self.tokens_per_s, 4),
            "s_per_100_tokens": round(100 / self.tokens_per_s, 4),
            "model": self.model,
            "quant": self.quant,
            "n_threads": self.n_threads,
            "offloaded_layers": self.offloaded_layers,
            "repetitions": self.repetitions,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """All rows, and sentences on what to think of them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """`data` of `provision bench` in the command-line contract."""
        return {"rows": [row.to_data() for row in self.rows], "notes": list(self.notes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One load of one model: side None runs it as the plan says."""

    model: Path
    side: Side | None
    n_threads: int | None
    llama_kwargs: Mapping[str, Any]


def plan_cases(models: Sequence[Path], wish: BenchWish, llama_kwargs: Mapping[str, Any]) -> tuple[Case, ...]:
    """Every combination of model, side and thread count, with the arguments of its load. Pure."""
    sides: tuple[Side | None, ...] = wish.compare or (None,)
    counts: tuple[int | None, ...] = wish.threads or (None,)
    cases = []
    for model, side, count in itertools.product(models, sides, counts):
        kwargs = {**llama_kwargs, **_SIZES}
        kwargs["n_ctx"] = max(_SIZES["n_ctx"], wish.n_prompt + 1, wish.n_generate + 1)
        if side == "cpu":
            kwargs |= CPU_ONLY
        elif side == "gpu" and not kwargs.get("n_gpu_layers"):
            kwargs["n_gpu_layers"] = -1
        if count is not None:
            kwargs |= {"n_threads": count, "n_threads_batch": count}
        cases.append(Case(model=model, side=side, n_threads=count, llama_kwargs=kwargs))
    return tuple(cases)


def sibling_quants(model: Path) -> tuple[Path, ...]:
    """All quants of the same model in the same folder, `model` included, smallest file first."""
    own = parse_name(model.name)
    if own.quant is None:
        return (model,)
    bare = own.stem.removesuffix(own.quant)
    found = []
    for path in sorted(model.parent.glob("*.gguf")):
        parsed = parse_name(path.name)
        first = parsed.index in (None, 1)
        if parsed.role is Role.MODEL and parsed.quant and first and parsed.stem.removesuffix(parsed.quant) == bare:
            found.append(path)
    return tuple(
        sorted(found, key=lambda path: (sum(file.stat().st_size for file in shards(path) if file.is_file()), path.name))
    )


def run_bench(
    models: Sequence[Path],
    wish: BenchWish,
    *,
    llama_kwargs: Mapping[str, Any],
    python: Path,
    settings: Settings,
    reporter: Reporter = silent,
) -> BenchResult:
    """Measure every case in a child of its own. Raises NotFoundError for a missing file, MachineError (`no-gpu`) when a GPU
    is to be compared and none takes a layer, ProvisionError (`bench-died`, or the name of the death) when the engine dies."""
    for model in models:
        if not model.is_file():
            raise NotFoundError(f"no such model file: {model}", code="model-not-found", hint="provision fetch ORG/REPO:QUANT")
    cases = plan_cases(models, wish, llama_kwargs)
    rows: list[Row] = []
    for index, case in enumerate(cases):
        label = f"bench {case.model.name}" + (f", {case.side}" if case.side else "")
        reporter(Progress(task="bench", label=label, done=index, total=len(cases), unit="steps"))
        answer = _measure(case, wish, python=python, settings=settings)
        rows += _rows(case, wish, answer)
        # An odd thread count says what that count reaches, not what the machine does when it is used.
        if case.n_threads is None and calibrate(case.model, answer, home=settings.provision_home):
            reporter(Note(level="info", message="remembered for the forecasts of provision fit"))
    reporter(ProgressEnded(task="bench"))
    return BenchResult(rows=tuple(rows), notes=notes_on(rows))


def _measure(case: Case, wish: BenchWish, *, python: Path, settings: Settings) -> Mapping[str, Any]:
    request = {
        "model": str(case.model),
        "llama_kwargs": dict(case.llama_kwargs),
        "n_prompt": wish.n_prompt,
        "n_generate": wish.n_generate,
        "repetitions": wish.repetitions,
    }
    outcome = run_child(python, _CHILD, request, timeout_s=4 * 3600, env=dict(settings.environ))
    death = diagnose_death(outcome)
    if death is not None:
        raise ProvisionError(
            f"{case.model.name}: {death.summary}", code=death.name, hint=death.remedy.replace("MODEL", str(case.model))
        )
    if case.side == "gpu" and not read_load_log(str(outcome.answer["log"])).offloaded:
        raise MachineError(
            "no GPU took a layer: this engine build or this machine has none",
            code="no-gpu",
            hint="provision doctor, then provision install --cuda --no-cache; or leave out gpu from --compare",
        )
    return outcome.answer


def _rows(case: Case, wish: BenchWish, answer: Mapping[str, Any]) -> list[Row]:
    log = read_load_log(str(answer["log"]))
    device = ", ".join(f"{name} ({title})" for name, title in log.gpu_names.items()) if log.offloaded else "CPU"
    rows = []
    for test, speeds, threads in (
        (f"pp{wish.n_prompt}", answer["pp"], answer["n_threads_batch"]),
        (f"tg{wish.n_generate}", answer["tg"], answer["n_threads"]),
    ):
        rows.append(
            Row(
                model=case.model.name,
                quant=parse_name(case.model.name).quant,
                device=device,
                test=test,
                n_threads=threads,
                tokens_per_s=mean(speeds),
                tokens_per_s_stdev=stdev(speeds) if len(speeds) > 1 else 0.0,
                repetitions=len(speeds),
                offloaded_layers=log.offloaded or 0,
            )
        )
    return rows


def notes_on(rows: Sequence[Row]) -> tuple[str, ...]:
    """Sentences on unsteady figures, on who is faster, and on the best thread count. Pure."""
    notes = []
    unsteady = [row for row in rows if row.tokens_per_s_stdev > MAX_SPEED_CV * row.tokens_per_s]
    if unsteady:
        worst = max(unsteady, key=lambda row: row.tokens_per_s_stdev / row.tokens_per_s)
        share = 100 * worst.tokens_per_s_stdev / worst.tokens_per_s
        which = f"{label(worst.to_data())} · {worst.test}"
        notes.append(f"{which} varies by {share:.0f} %: the machine is busy or hot; measure again when it is idle")

    def kind(row: Row) -> tuple[str, str]:
        return row.model, row.test

    for (model, test), group in itertools.groupby(sorted(rows, key=kind), key=kind):
        measured = list(group)
        on_gpu = [row for row in measured if row.offloaded_layers]
        on_cpu = [row for row in measured if not row.offloaded_layers]
        if on_gpu and on_cpu:
            notes.append(f"{model} {test}: {_faster(_best(on_gpu), _best(on_cpu))}")
        if len({row.n_threads for row in on_cpu}) > 1:
            best = _best(on_cpu)
            notes.append(f"{model} {test}: fastest on the CPU with {best.n_threads} thread{'' if best.n_threads == 1 else 's'}")
    return tuple(notes)


def _best(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row.tokens_per_s)


def _faster(gpu: Row, cpu: Row) -> str:
    ratio = gpu.tokens_per_s / cpu.tokens_per_s
    if 0.95 < ratio < 1.05:
        return "the GPU is as fast as the CPU"
    if ratio > 1:
        return f"the GPU is {_times(ratio)} as fast as the CPU"
    return f"the CPU is {_times(1 / ratio)} as fast as the GPU: this model is better off without it (--n-gpu-layers 0)"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 9.95 else f"{ratio:.0f} times"
