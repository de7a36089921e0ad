"""The death of the measuring child, as a named diagnosis with a remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from provision.engine.refusals import Cause, find_refusal
from provision.processes import ChildOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Why nothing (or not everything) could be measured."""

    name: str
    summary: str
    remedy: str


_REFUSAL_REMEDIES: Mapping[Cause, str] = {
    "not-gguf": "fetch the file again: provision fetch ORG/REPO",
    "file-truncated": "fetch the file again; only what is missing is transferred: provision fetch ORG/REPO",
    "split-incomplete": "fetch the missing parts; all must lie side by side: provision fetch ORG/REPO",
    "unknown-architecture": "install a newer engine: provision install --from-source --no-cache",
    "tokenizer-unreadable": "this file's tokenizer is broken or too new; take another file of the model, or a newer engine: "
    "provision install",
    "out-of-memory": "plan for this machine's memory: provision fit MODEL --explain",
    "file-incomplete": "the file does not hold the whole model: provision fetch ORG/REPO, or provision verify MODEL",
    "metadata-broken": "the file's metadata contradicts itself; take another conversion of the model",
    "kv-type-refused": "a quantized V cache needs flash_attn=True",
    "file-missing": "look at the path, or: provision fetch ORG/REPO",
}


def diagnose_death(outcome: ChildOutcome) -> Death | None:
    """What killed the child, or None when it answered everything."""
    stage = str(outcome.answer.get("stage", "start"))
    match outcome.kind:
        case "ok" if stage == "done":
            return None
        case "missing":
            return Death(
                name="python-missing", summary=f"cannot start Python: {outcome.stderr_tail[:200]}", remedy="provision doctor"
            )
        case "timeout":
            return Death(
                name="timeout",
                summary=f"no end after {outcome.elapsed_s:.0f} s, stopped during {stage}",
                remedy="a smaller quant or context answers sooner: provision fit MODEL --policy speed",
            )
        case "signal":
            return _signal_death(outcome, stage)
        case _:
            return _error_death(outcome, stage)


def _signal_death(outcome: ChildOutcome, stage: str) -> Death:
    flags = outcome.answer.get("cpu_flags", [])
    match outcome.signal_name:
        case "SIGSEGV" if "amx_tile" in flags and stage not in ("start", "load"):
            return Death(
                name="amx-miscompiled",
                summary=f"the engine died of SIGSEGV during {stage}: on a CPU with AMX, a build by an older GCC does this to "
                "every quantized model",
                remedy="provision install --cpu --from-source --no-cache",
            )
        case "SIGSEGV":
            return Death(
                name="segfault",
                summary=f"the engine died of SIGSEGV during {stage}",
                remedy="check file and engine: provision verify MODEL, then provision install --from-source --no-cache",
            )
        case "SIGILL":
            return Death(
                name="illegal-instruction",
                summary="the engine uses instructions this CPU does not have: it was built for another machine",
                remedy="build it here: provision install --cpu --from-source --no-cache",
            )
        case "SIGKILL":
            return Death(
                name="killed",
                summary=f"the engine was killed during {stage}, most likely for using too much memory",
                remedy="plan for the memory there is: provision fit MODEL --explain",
            )
        case "SIGBUS":
            return Death(
                name="bus-error",
                summary=f"the engine died of SIGBUS during {stage}: the mapped file changed or its disk failed",
                remedy="provision verify MODEL",
            )
        case "SIGABRT":
            line = _last(r".*GGML_ASSERT\(.*|.*terminate called.*|.*ggml_abort.*", outcome.stderr_tail)
            return Death(
                name="abort",
                summary=f"the engine gave up during {stage}" + (f": {line}" if line else ""),
                remedy="try it on the CPU: provision chat MODEL --smoke --n-gpu-layers 0; then provision install --no-cache",
            )
        case name:
            return Death(name="signal", summary=f"the engine died of {name} during {stage}", remedy="provision doctor")


def _error_death(outcome: ChildOutcome, stage: str) -> Death:
    error = str(outcome.answer.get("error", "")) or _last(r"\w*Error.*", outcome.stderr_tail) or "it ended without an answer"
    if stage == "import" or "No module named 'llama_cpp'" in outcome.stderr_tail:
        return Death(name="engine-missing", summary=f"the engine cannot be imported: {error[:200]}", remedy="provision install")
    if stage == "load" and re.match(r"\w*(Template|UndefinedError)\w*:", error):
        return Death(
            name="template-broken",
            summary=f"the chat template cannot be used: {error[:200]}",
            remedy="take another conversion of the model, or name chat_format in the recipe",
        )
    if stage == "load":
        refusal = find_refusal(outcome.stderr_tail.splitlines())
        if refusal is not None:
            summary = f"the engine refuses the model: {refusal.line}"
            return Death(name=refusal.cause, summary=summary, remedy=_REFUSAL_REMEDIES[refusal.cause])
        line = _last(r".*error.*|.*failed.*", outcome.stderr_tail) or error
        return Death(name="load-failed", summary=f"the engine cannot load the model: {line}", remedy="provision verify MODEL")
    return Death(name="child-error", summary=f"{stage} failed: {error[:300]}", remedy="provision doctor")


def _last(pattern: str, text: str) -> str | None:
    lines = [line.strip() for line in re.findall(rf"^({pattern})$", text, re.MULTILINE) if isinstance(line, str)]
    # The engine closes with the least telling line of all; what went before it names the reason.
    telling = [line for line in lines if not re.search(r"failed to load model|Failed to load model from file", line)]
    picked = telling or lines
    return picked[-1][:300] if picked else None
