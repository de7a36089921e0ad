"""Says why a model did not load, or why the engine died, from what the engine itself wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from provision.chat.terminal import strip_terminal_escapes
from provision.errors import DoesNotFitError, IntegrityError, MachineError, ProvisionError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    pattern: re.Pattern[str]
    error: type[ProvisionError]
    code: str
    hint: str


def _cause(pattern: str, error: type[ProvisionError], code: str, hint: str) -> _Cause:
    return _Cause(pattern=re.compile(pattern, re.IGNORECASE), error=error, code=code, hint=hint)


# Messages of llama.cpp 0.5.0-dev (commit 0c1e57098): src/llama-model-loader.cpp, src/llama-model.cpp, src/llama-vocab.cpp,
# ggml/src/gguf.cpp, ggml/src/ggml-backend*.cpp, ggml/src/ggml-cuda. The first that matches any line wins.
_CAUSES = (
    _cause(r"out of memory|failed to allocate|unable to allocate|cudaMalloc failed|OutOfDeviceMemory", DoesNotFitError,
           "out-of-memory", "provision fit {model}    (shows what fits; or give a smaller --ctx or --n-gpu-layers)"),
    _cause(r"unknown model architecture|unknown pre-tokenizer type|unknown tokenizer", MachineError,
           "engine-too-old", "provision install    (a newer engine may know this model)"),
    _cause(r"invalid magic|failed to read magic", IntegrityError,
           "not-a-gguf", "provision verify {model}    (the file is not a GGUF)"),
    _cause(r"not within the file bounds|corrupted or incomplete|failed to read (key|tensor)|unexpectedly reached end",
           IntegrityError, "model-damaged", "provision verify {model}    (then fetch it again)"),
    _cause(r"illegal split|missing.*split|failed to load.*split", IntegrityError,
           "split-incomplete", "provision fetch ORG/REPO:QUANT    (all parts of the split must lie side by side)"),
    _cause(r"missing tensor|wrong number of tensors|wrong shape|has wrong type|invalid.*key", IntegrityError,
           "model-damaged", "provision verify {model}"),
    _cause(r"no such file|failed to open|does not exist", UsageError,
           "model-not-found", "look at the path, or: provision fetch ORG/REPO:QUANT"),
)  # fmt: skip


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
    for cause in _CAUSES:
        for line in (*lines, _clean(detail)):
            if cause.pattern.search(line):
                message = f"the model does not load: {line}"
                return cause.error(message, code=cause.code, hint=cause.hint.format(model=model))
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
