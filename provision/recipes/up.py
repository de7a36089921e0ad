"""`provision up`: doctor, install, fit, fetch and smoke as one resumable sequence with one verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.errors import DoesNotFitError, IntegrityError, ProvisionError, SmokeError
from provision.events import Note, Reporter
from provision.host.types import Host
from provision.models.names import parse_name
from provision.recipes.choice import allowed_quants, best_allowed
from provision.recipes.rooms import Data, Rooms
from provision.recipes.sequence import Outcome, Step, StepRecord, walk
from provision.recipes.target import Wanted, with_load
from provision.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UpReport:
    """How `up` ended. `error` is the reason it stopped, None when the smoke test passed (perhaps with warnings)."""

    recipe: str
    records: tuple[StepRecord, ...]
    verdict: str | None
    smoke: Data | None
    model: Data | None
    error: ProvisionError | None
    line: str
    host: Host | None = None
    install: Data | None = None
    chosen: Data | None = None
    fetched: Data | None = None

    def to_data(self) -> dict[str, Any]:
        """`data` of the contract, plus `model` (path, quant, arguments of the load), `transferred_bytes` and `line`."""
        return {
            "recipe": self.recipe,
            "steps": [record.to_data() for record in self.records],
            "verdict": self.verdict,
            "answer": self.smoke.get("answer") if self.smoke else None,
            "smoke": dict(self.smoke) if self.smoke else None,
            "model": dict(self.model) if self.model else None,
            "transferred_bytes": None if self.fetched is None else transferred_bytes(self.fetched),
            "line": self.line,
        }


def run_up(wanted: Wanted, *, rooms: Rooms, reporter: Reporter) -> UpReport:
    """Walk the five steps. Named failures are in the report; a bug or Ctrl-C passes through."""
    run = _Run(wanted=wanted, rooms=rooms, reporter=reporter)
    walked = walk(run.steps(), reporter=reporter)
    verdict = None if run.smoke is None else str(run.smoke["verdict"])
    return UpReport(
        recipe=wanted.text,
        records=walked.records,
        verdict=verdict,
        smoke=run.smoke,
        model=run.model_data(),
        error=walked.error,
        line=_failure_line(wanted, walked.records) if walked.error else verdict_line(wanted.recipe.name, run.quant, run.smoke),
        host=run.host,
        install=run.installed,
        chosen=run.chosen,
        fetched=run.fetched,
    )


@dataclass(slots=True)
class _Run:
    """What the steps hand to each other."""

    wanted: Wanted
    rooms: Rooms
    reporter: Reporter
    host: Host | None = None
    path: Path | None = None
    quant: str | None = None
    installed: Data | None = None
    chosen: Data | None = None
    fetched: Data | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    smoke: Data | None = None

    def steps(self) -> list[Step]:
        recipe = self.wanted.recipe
        return [
            Step(name="doctor", title="doctor: looking at this machine", run=self._doctor),
            Step(name="install", title="install: llama-cpp-python for this machine", run=self._install),
            Step(name="fit", title=f"fit: quant, layers and context for {recipe.title}", run=self._fit),
            Step(name="fetch", title="fetch: the model", run=self._fetch),
            Step(name="smoke", title="smoke: does it answer right?", run=self._smoke),
        ]

    def model_data(self) -> Data | None:
        if self.path is None:
            return None
        return {"path": str(self.path), "quant": self.quant, "llama_kwargs": self.kwargs}

    def _doctor(self) -> Outcome:
        looked = self.rooms.doctor()
        self.host = looked.host
        # Findings do not stop the sequence: a missing compiler matters only when something must be compiled, and the step that
        # needs what is missing says so itself.
        for sentence in looked.errors:
            self.reporter(Note(level="warning", message=sentence))
        count = len(looked.errors) + len(looked.warnings)
        worries = f"{count} finding{'s' if count != 1 else ''}: provision doctor" if count else "nothing in the way"
        return Outcome(status="done", summary=f"{machine_line(looked.host)}; {worries}")

    def _install(self) -> Outcome:
        assert self.host is not None
        data = self.installed = self.rooms.install(self.wanted.recipe, self.host, False)
        kept = data["action"] == "kept"
        return Outcome(status="kept" if kept else "done", summary=install_line(data))

    def _fit(self) -> Outcome:
        assert self.host is not None
        chosen = self.chosen = choose(self.wanted, rooms=self.rooms, host=self.host)
        self.quant = chosen.get("quant") or _quant_in_name(self.wanted)
        self.kwargs = with_load(chosen["llama_kwargs"], self.wanted.recipe)
        return Outcome(status="done", summary=fit_line({**chosen, "quant": self.quant}))

    def _fetch(self) -> Outcome:
        local = self.wanted.local_path
        if local is not None:
            self.path = local
            where = "ships in the package" if self.wanted.recipe.model.packaged else "is on this machine"
            return Outcome(status="skipped", summary=f"{local.name} {where}")
        data = self.fetched = self.rooms.fetch(self.wanted.recipe, self.quant, False)
        self.path = model_path(data)
        kept = all(file["action"] == "kept" for file in data["files"])
        return Outcome(status="kept" if kept else "done", summary=fetch_line(data))

    def _smoke(self) -> Outcome:
        assert self.path is not None
        self.smoke = self.rooms.smoke(self.path, self.wanted.recipe, self.kwargs, plan=self.chosen)
        if self.smoke["verdict"] == "fail":
            raise smoke_error(self.smoke)
        return Outcome(status="done", summary=verdict_line(self.wanted.recipe.name, self.quant, self.smoke))


def choose(wanted: Wanted, *, rooms: Rooms, host: Host) -> Data:
    """`chosen` of `fit` for the recipe on `host`: its fixed quant, or the best of its variants that this machine can hold."""
    recipe = wanted.recipe
    local = wanted.local_path
    target = str(local) if local is not None else str(wanted.repo_id)
    data = rooms.fit(target, recipe, host, quant=recipe.select.quant)
    chosen = data["chosen"]
    if local is None and recipe.select.quant is None and recipe.select.file is None and recipe.variants:
        allowed = allowed_quants(recipe.variants, host)
        if chosen is None or chosen["quant"] not in allowed:
            data = rooms.fit(target, recipe, host, quant=best_allowed(data["candidates"], allowed, recipe=recipe.name))
            chosen = data["chosen"]
    if chosen is None:
        reason = data.get("refusal") or "it is too big for this machine"
        hint = data.get("way_out") or f"provision fit {target} --explain"
        raise DoesNotFitError(f"{recipe.title} does not fit: {reason}", code="does-not-fit", hint=hint)
    least = recipe.select.min_ctx
    if least is not None and chosen["n_ctx"] < least:
        raise DoesNotFitError(
            f"{recipe.title} fits with {chosen['n_ctx']} tokens of context only, the recipe wants {least}",
            code="context-too-small",
            hint=f"provision fit {target} --ctx {least} --explain",
        )
    result: Data = chosen
    return result


def _quant_in_name(wanted: Wanted) -> str | None:
    local = wanted.local_path
    return parse_name(local.name).quant if local is not None else None


def model_path(fetched: Data) -> Path:
    """The file llama.cpp opens: the only one, or the first shard."""
    paths = sorted(str(file["local_path"]) for file in fetched["files"] if "mmproj" not in str(file["path"]).lower())
    if not paths:
        raise IntegrityError("the download holds no model file", code="no-model-file")
    return Path(paths[0])


def smoke_error(smoke: Data) -> SmokeError:
    """The named reason of a failed smoke test: its first failing check, with that check's remedy."""
    failed = next((check for check in smoke["checks"] if check["status"] == "fail"), None)
    if failed is None:
        return SmokeError("the smoke test failed", code="smoke-failed", hint="provision doctor")
    return SmokeError(
        f"{failed['id']}: {failed['summary']}", code="smoke-failed", hint=str(failed.get("remedy") or "provision doctor")
    )


def machine_line(host: Host) -> str:
    """`debian 12, 2 cores, 7.8 GiB RAM, NVIDIA H200 139 GiB`."""
    parts = [host.system.distribution or host.system.os]
    if host.cpu.cores:
        parts.append(f"{host.cpu.cores} core{'s' if host.cpu.cores != 1 else ''}")
    if host.memory.total_bytes:
        parts.append(f"{format_bytes(min(host.memory.total_bytes, host.memory.limit_bytes or host.memory.total_bytes))} RAM")
    gpus = [gpu for gpu in host.gpus if gpu.visible and gpu.vendor != "software"]
    parts += [f"{gpu.name} {format_bytes(gpu.memory_total_bytes)}" if gpu.memory_total_bytes else gpu.name for gpu in gpus]
    return ", ".join(parts if gpus else [*parts, "no GPU"])


def install_line(data: Data) -> str:
    """`llama-cpp-python 0.3.36, cpu, built`."""
    return f"llama-cpp-python {data['engine_version']}, {data['backend']}, {data['action']}"


def fit_line(chosen: Data) -> str:
    """`Q4_K_M, 33 layers on GPU, 8192 tokens of context`."""
    layers = chosen["n_gpu_layers"]
    where = f"{layers} layers on GPU" if layers else "on CPU"
    return f"{chosen.get('quant') or 'this file'}, {where}, {chosen['n_ctx']} tokens of context"


def fetch_line(data: Data) -> str:
    """`4.6 GiB in 1 file, 1.2 GiB transferred`."""
    files = data["files"]
    size = sum(file["size_bytes"] or 0 for file in files)
    moved = transferred_bytes(data)
    count = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    return f"{format_bytes(size)} in {count}, " + (f"{format_bytes(moved)} transferred" if moved else "already there")


def transferred_bytes(fetched: Data) -> int:
    """What came over the network for this `fetch`, the rest was here."""
    return sum(file["transferred_bytes"] or 0 for file in fetched["files"])


def verdict_line(name: str, quant: str | None, smoke: Mapping[str, Any] | None) -> str:
    """`PASS  demo · Q8_0 · CPU · 3/3 known answers · 210 tok/s`; parts that are unknown are left out."""
    if smoke is None:
        return ""
    parts = [name, quant or smoke.get("quant"), smoke.get("device")]
    answers = smoke.get("known_answers")
    if answers and answers["asked"]:
        parts.append(f"{answers['right']}/{answers['asked']} known answers")
    speed = smoke.get("generation_tokens_per_s")
    if speed:
        parts.append(f"{speed:.0f} tok/s" if speed >= 10 else f"{speed:.1f} tok/s")
    return f"{str(smoke['verdict']).upper()}  {' · '.join(str(part) for part in parts if part)}"


def _failure_line(wanted: Wanted, records: tuple[StepRecord, ...]) -> str:
    return f"FAIL  {wanted.recipe.name} · {records[-1].name}: {records[-1].summary}"
