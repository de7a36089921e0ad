"""Says why a model did not load, or why the engine died, from what the engine itself wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provision.engine.refusals import Cause, find_refusal
from provision.errors import DoesNotFitError, IntegrityError, MachineError, ProvisionError, UsageError
from provision.terminal import strip_terminal_escapes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    error: type[ProvisionError]
    code: str
    hint: str


def _report(error: type[ProvisionError], code: str, hint: str) -> _Report:
    return _Report(error=error, code=code, hint=hint)


_DAMAGED = _report(IntegrityError, "model-damaged", "provision verify {model}    (then fetch it again)")
_TOO_OLD = _report(MachineError, "engine-too-old", "provision install    (a newer engine may know this model)")
_REPORTS: Mapping[Cause, _Report] = {
    "out-of-memory": _report(
        DoesNotFitError,
        "out-of-memory",
        "provision fit {model}    (shows what fits; or give a smaller --ctx or --n-gpu-layers)",
    ),
    "unknown-architecture": _TOO_OLD,
    "tokenizer-unreadable": _TOO_OLD,
    "not-gguf": _report(IntegrityError, "not-a-gguf", "provision verify {model}    (the file is not a GGUF)"),
    "file-truncated": _DAMAGED,
    "file-incomplete": _DAMAGED,
    "metadata-broken": _DAMAGED,
    "split-incomplete": _report(
        IntegrityError, "split-incomplete", "provision fetch ORG/REPO:QUANT    (all parts of the split must lie side by side)"
    ),
    "kv-type-refused": _report(
        UsageError, "kv-type-refused", "provision fit {model} --kv-type f16    (a quantized V cache needs flash attention)"
    ),
    "file-missing": _report(UsageError, "model-not-found", "provision fetch ORG/REPO:QUANT    (or mend the path)"),
}


def explain_load_failure(reason: str, detail: str, log: Sequence[str], *, model: str) -> ProvisionError:
    """The error for a refused load: `detail` is Python's sentence, `log` the engine's warnings and errors."""
    if reason == "engine-missing":
        return MachineError(f"the engine is not installed: {detail}", code="engine-missing", hint="provision install")
    if reason == "engine-broken":
        return MachineError(f"the engine does not load: {detail}", code="engine-broken", hint="provision doctor")
    if reason == "template":
        return UsageError(
            f"the chat template cannot be used: {detail}", code="bad-template", hint="provision chat MODEL --help"
        )
    lines = [line for line in (_clean(line) for line in log) if line]
    refusal = find_refusal([*lines, _clean(detail)])
    if refusal is not None:
        report = _REPORTS[refusal.cause]
        message = f"the model does not load: {refusal.line}"
        return report.error(message, code=report.code, hint=report.hint.format(model=model))
    said = lines[-1] if lines else _clean(detail)
    return ProvisionError(f"the model does not load: {said}", code="load-failed", hint=f"provision verify {model}")


def explain_death(signal_name: str | None, returncode: int | None, log_tail: str, *, stage: str, model: str) -> ProvisionError:
    """The error for an engine process that ended without an answer while it was busy with `stage`."""
    last = next((line for line in reversed([_clean(line) for line in log_tail.splitlines()]) if line), "")
    said = f"; its last words: {last}" if last else ""
    match signal_name:
        case "SIGILL":
            return MachineError(
                f"the engine was killed by SIGILL while {stage}: it uses instructions this CPU does not have",
                code="engine-wrong-cpu",
                hint="provision install --from-source    (builds it for this CPU)",
            )
        case "SIGKILL":
            return DoesNotFitError(
                f"the engine was killed (SIGKILL) while {stage}, most likely because memory ran out",
                code="out-of-memory",
                hint=f"provision fit {model}    (shows what fits; or give a smaller --ctx)",
            )
        case "SIGSEGV" | "SIGBUS" | "SIGABRT" | "SIGFPE":
            return ProvisionError(
                f"the engine crashed ({signal_name}) while {stage}{said}",
                code="engine-crashed",
                hint="provision doctor    (checks whether the engine runs quantized models on this machine)",
            )
    how = f"by {signal_name}" if signal_name else f"with exit code {returncode}"
    return ProvisionError(f"the engine ended {how} while {stage}{said}", code="engine-ended", hint="provision doctor")


def _clean(line: str) -> str:
    """One harmless line: the log repeats strings of the model file, which nobody has vouched for."""
    text = " ".join(strip_terminal_escapes(line).split())
    return text if len(text) <= 300 else text[:299] + "…"
