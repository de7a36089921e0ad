"""The smoke test: measure a deployment in child processes, judge the figures, give one verdict."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provision.errors import NotFoundError
from provision.events import Note, Progress, ProgressEnded, Reporter, silent
from provision.models.names import parse_name
from provision.processes import ChildOutcome, run_child
from provision.settings import Settings
from provision.smoke import golden as goldens
from provision.smoke.calibration import active_bytes, calibrate, remember_memory
from provision.smoke.deaths import Death, diagnose_death
from provision.smoke.demo import demo_folder, demo_sha256
from provision.smoke.enginelog import LoadLog, read_load_log
from provision.smoke.filechecks import FileFacts, check_files
from provision.smoke.judge import judge_load, judge_speed, verdict_of
from provision.smoke.judge_device import judge_device
from provision.smoke.judge_model import count_right, judge_behaviour, judge_numerics
from provision.smoke.judge_text import judge_template, judge_tokenizer
from provision.smoke.material import DEMO_NAME, PROFILES, Profile, known_questions, measure_request, round_trips
from provision.smoke.reference import Reference, find_reference, judge_reference
from provision.smoke.thresholds import MIN_ROOFLINE_BYTES
from provision.smoke.types import ChatTemplate, Check, Prediction, ProfileName, Question, SmokeResult
from provision.smoke.variants import check_variants, quantized_kv

_CHILD = Path(__file__).parent / "children" / "measure.py"
_DEFAULT_CTX = 2048
_SLOWEST_LOAD_BYTES_PER_S = 20e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What every child run of one smoke test shares."""

    model: Path
    python: Path
    settings: Settings
    profile: Profile
    size_bytes: int
    chat: Mapping[str, Any]

    def run(self, request: Mapping[str, Any]) -> ChildOutcome:
        limit = self.profile.base_timeout_s + self.size_bytes / _SLOWEST_LOAD_BYTES_PER_S
        return run_child(
            self.python, _CHILD, {"model": str(self.model), **request}, timeout_s=limit, env=dict(self.settings.environ)
        )


def run_smoke(
    model: Path,
    *,
    llama_kwargs: Mapping[str, Any],
    python: Path,
    settings: Settings,
    chat: ChatTemplate | None = None,
    profile: ProfileName = "quick",
    require_gpu: bool = False,
    questions: Sequence[Question] | None = None,
    plan: Mapping[str, Any] | None = None,
    expected_sha256: str | None = None,
    golden: Path | None = None,
    save_golden: Path | None = None,
    reporter: Reporter = silent,
) -> SmokeResult:
    """Check the deployment `Llama(model_path=model, **llama_kwargs)` under the environment of `python`.

    `chat` says how turns become prompts where that is not the file's own template. `plan` is the `chosen` object of
    `provision fit --json`; `questions` replaces the shipped ones. A fingerprint is compared with `golden` and stored at
    `save_golden` when given. Raises NotFoundError when there is no such file and UsageError for
    a bad fingerprint; everything else, a dead engine included, is a check of the result.
    """
    if not model.is_file():
        raise NotFoundError(f"no such model file: {model}", code="model-not-found", hint="provision fetch ORG/REPO:QUANT")
    known = goldens.load(golden) if golden else None
    chosen = PROFILES[profile]
    reporter(Progress(task="smoke", label="smoke test: file", done=0, total=None, unit="steps"))
    file = check_files(
        model,
        expected_sha256=expected_sha256 or demo_sha256(model.name),
        hash_limit_bytes=chosen.hash_limit_bytes,
        reporter=reporter,
    )
    asked = tuple(questions) if questions is not None else known_questions(chosen)
    bench = _Bench(
        model=model,
        python=python,
        settings=settings,
        profile=chosen,
        size_bytes=file.size_bytes,
        chat=chat.to_request() if chat else {},
    )
    got = _measure(bench, file, asked, {"n_ctx": _DEFAULT_CTX, **llama_kwargs}, reporter)
    if known is None and got.is_demo:
        known = _shipped_golden(model.name)
    result = _result(model, got, known, prediction=predict(plan), require_gpu=require_gpu, profile=profile)
    if got.death is None:
        answer, home = got.outcome.answer, settings.provision_home
        remember_memory(model, answer, got.kwargs, predicted_bytes=result.predicted_bytes, home=home)
        if chosen.variants:
            calibrate(model, {**answer, "tg": answer["speed"]["tg"]}, home=home)
    if save_golden is not None and result.fingerprint is not None:
        goldens.save(save_golden, result.fingerprint)
        reporter(Note(level="info", message=f"fingerprint stored: {save_golden}"))
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    outcome: ChildOutcome
    death: Death | None
    file: FileFacts
    questions: tuple[Question, ...]
    is_demo: bool
    kwargs: Mapping[str, Any]
    reference: Reference | None
    variants: tuple[Check, ...]


def _measure(
    bench: _Bench, file: FileFacts, questions: tuple[Question, ...], kwargs: Mapping[str, Any], reporter: Reporter
) -> _Measured:
    """Every figure the profile asks for, each load of the model in a process of its own."""
    is_demo = file.name == DEMO_NAME
    reference = find_reference(bench.model, file.header, hub_cache=bench.settings.hf_hub_cache)
    reporter(Progress(task="smoke", label=f"smoke test ({bench.profile.name}): measuring", done=1, total=None, unit="steps"))
    with tempfile.TemporaryDirectory(prefix="provision-smoke-") as folder:
        request = {**measure_request(bench.profile, questions, is_demo=is_demo), "llama_kwargs": kwargs, "chat": bench.chat}
        if reference is not None:
            request["reference_template"] = reference.template_data()
        if kwargs.get("n_gpu_layers") and file.size_bytes >= MIN_ROOFLINE_BYTES:
            request["watch_s"] = bench.profile.watch_s
        if bench.profile.variants:
            request["logits_path"] = str(Path(folder) / "logits.npz")
        outcome = bench.run(request)
        death = diagnose_death(outcome)
        more = bench.profile.variants and death is None
        variants = check_variants(bench.run, request, outcome.answer, reporter) if more else []
    reporter(ProgressEnded(task="smoke"))
    return _Measured(
        outcome=outcome,
        death=death,
        file=file,
        questions=questions,
        is_demo=is_demo,
        kwargs=kwargs,
        reference=reference,
        variants=tuple(variants),
    )


def predict(plan: Mapping[str, Any] | None) -> Prediction:
    """What the `chosen` object of fit's data (or the whole data) promises; nothing without one."""
    chosen = (plan or {}).get("chosen", plan)
    if not chosen or "host" not in chosen:
        return Prediction()
    gpu = sum(_usage(device) for device in chosen["devices"])
    speed = chosen.get("tokens_per_s") or {}
    return Prediction(
        total_bytes=gpu + _usage(chosen["host"]),
        gpu_bytes=gpu,
        n_gpu_layers=chosen.get("n_gpu_layers"),
        tokens_per_s_low=speed.get("low"),
    )


def _usage(memory: Mapping[str, Any]) -> int:
    return int(memory["model_bytes"]) + int(memory["context_bytes"]) + int(memory["compute_bytes"])


def _result(
    model: Path,
    got: _Measured,
    known: Mapping[str, Any] | None,
    *,
    prediction: Prediction,
    require_gpu: bool,
    profile: ProfileName,
) -> SmokeResult:
    answer = got.outcome.answer
    log = read_load_log(str(answer.get("log") or got.outcome.stderr_tail))
    checks = [*got.file.checks, *judge_load(answer, got.death)]
    fingerprint = None if got.death else _fingerprint(answer, got.kwargs, got.file)
    if "load_s" in answer:
        layers = got.kwargs.get("n_gpu_layers", 0)
        checks += judge_device(
            answer,
            log,
            prediction,
            require_gpu=require_gpu,
            asked_layers=layers,
            active_bytes=active_bytes(got.file.header),
        )
    if got.death is None:
        checks += judge_numerics(answer, quantized_kv=quantized_kv(got.kwargs))
        checks += got.variants
        if known is not None:
            checks.append(goldens.compare(known, fingerprint) if fingerprint else goldens.not_compared())
        checks += judge_tokenizer(answer)
        read = (answer.get("tokenizer") or {}).get("ids")
        checks += judge_reference(got.reference, got.file.header, round_trips(), read)
        checks += judge_template(answer)
        checks += judge_behaviour(answer, got.questions, is_demo=got.is_demo)
        checks += judge_speed(answer, prediction)
    answers = answer.get("answers") or []
    speed = answer.get("speed") or {}
    parsed = parse_name(model.name)
    return SmokeResult(
        model=_title(model, parsed.quant, is_demo=got.is_demo),
        quant=parsed.quant,
        verdict=verdict_of(checks),
        checks=tuple(_with_model(check, model) for check in checks),
        device=_device(answer, log) if "load_s" in answer else None,
        offloaded_layers=(log.offloaded or 0) if "load_s" in answer else None,
        prompt_tokens_per_s=_mean(speed.get("pp")),
        generation_tokens_per_s=_mean(speed.get("tg")),
        predicted_bytes=prediction.total_bytes,
        measured_bytes=log.total_bytes,
        answer=answers[0]["text"] if answers else None,
        known_right=count_right(answers, got.questions),
        known_asked=len(answers),
        profile=profile,
        fingerprint=fingerprint,
    )


def _with_model(check: Check, model: Path) -> Check:
    """The check with a remedy that can be pasted: this model where the judges could only write MODEL."""
    if check.remedy is None:
        return check
    return replace(check, remedy=re.sub(r"\bMODEL\b", lambda _: shlex.quote(str(model)), check.remedy))


def _title(model: Path, quant: str | None, *, is_demo: bool) -> str:
    if is_demo:
        return "demo"
    stem = model.name.removesuffix(".gguf")
    return stem[: stem.upper().rfind(quant.upper())].rstrip("-._") or stem if quant and quant.upper() in stem.upper() else stem


def _device(answer: Mapping[str, Any], log: LoadLog) -> str:
    if not log.offloaded:
        return "CPU"
    return ", ".join(f"{name} ({title})" for name, title in log.gpu_names.items()) or "GPU"


def _mean(values: Sequence[float] | None) -> float | None:
    return round(sum(values) / len(values), 2) if values else None


def _fingerprint(answer: Mapping[str, Any], kwargs: Mapping[str, Any], file: FileFacts) -> dict[str, Any] | None:
    device = _device(answer, read_load_log(str(answer.get("log", ""))))
    kv = "f16" if not quantized_kv(kwargs) else f"{kwargs.get('type_k')}/{kwargs.get('type_v')}"
    setting = f"{device}, flash attention {'on' if kwargs.get('flash_attn') else 'off'}, KV {kv}"
    return goldens.fingerprint(answer, setting=setting, sha256=file.sha256)


def _shipped_golden(name: str) -> Mapping[str, Any] | None:
    path = demo_folder() / f"{name.removesuffix('.gguf')}.golden.json"
    return goldens.load(path) if path.is_file() else None
