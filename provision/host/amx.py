"""Whether the C++ compiler at hand can be trusted with AMX, found out by compiling and running a few lines.

With GCC 12 on a CPU with AMX a stock build of the engine loads a quantized model and dies at its first product, because the
compiler drops the tile configuration (children/amx_probe.cpp says how). Version numbers say too little: distributions backport.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from provision.processes import Finished, run

AmxVerdict = Literal["trusted", "miscompiles", "untested", "not-needed"]

_SOURCE = Path(__file__).parent / "children" / "amx_probe.cpp"
_COMPILE = ("-x", "c++", "-std=c++11", "-O2", "-mamx-tile", "-mamx-int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class AmxProbe:
    """The verdict, and a sentence why."""

    verdict: AmxVerdict
    reason: str


def probe_amx(
    *,
    flags: Sequence[str],
    cpu_model: str | None,
    compiler: Path | None,
    environ: Mapping[str, str],
    cache: Path | None = None,
    timeout_s: float = 20.0,
    extra_flags: Sequence[str] = (),
) -> AmxProbe:
    """Compile the probe with `compiler` and run it. `cache` is a JSON file that remembers verdicts per compiler and CPU.

    `flags` are those of /proc/cpuinfo; without `amx_tile` nothing is compiled. Never raises: a probe that cannot be carried out
    is `untested` with the reason.
    """
    if "amx_tile" not in flags:
        return AmxProbe(verdict="not-needed", reason="this CPU has no AMX")
    if compiler is None:
        return AmxProbe(verdict="untested", reason="no C++ compiler to try")
    key = _identity(compiler, cpu_model, extra_flags)
    known = _recall(cache, key)
    if known is not None:
        return known
    try:
        probe = _compile_and_run(compiler, environ, timeout_s, extra_flags)
    except OSError as error:
        return AmxProbe(verdict="untested", reason=f"{compiler.name} or its program cannot be run: {error.strerror or error}")
    if probe.verdict != "untested":
        _remember(cache, key, probe)
    return probe


def judge_run(done: Finished) -> AmxProbe:
    """What the end of the probe program means."""
    if done.timed_out:
        return AmxProbe(verdict="untested", reason="the AMX program did not end in time")
    if done.returncode < 0:
        return AmxProbe(verdict="miscompiles", reason=f"the compiled AMX program died of signal {-done.returncode}")
    word = done.stdout.strip()
    if word == "denied":
        return AmxProbe(verdict="not-needed", reason="the kernel does not grant AMX to processes")
    if done.returncode == 0 and word == "right":
        return AmxProbe(verdict="trusted", reason="a compiled AMX program gave the right product")
    if done.returncode == 0 and word == "wrong":
        return AmxProbe(verdict="miscompiles", reason="a compiled AMX program gave a wrong product")
    return AmxProbe(verdict="untested", reason=f"the AMX program ended with {done.returncode} and said {word[:40]!r}")


def _compile_and_run(compiler: Path, environ: Mapping[str, str], timeout_s: float, extra_flags: Sequence[str]) -> AmxProbe:
    with tempfile.TemporaryDirectory(prefix="provision-amx-", ignore_cleanup_errors=True) as folder:
        program = Path(folder) / "amx_probe"
        argv = [str(compiler), *_COMPILE, *extra_flags, str(_SOURCE), "-o", str(program)]
        compiled = run(argv, timeout_s=timeout_s, env=environ, cwd=Path(folder))
        if compiled.timed_out:
            return AmxProbe(verdict="untested", reason=f"{compiler.name} did not end in time")
        if compiled.returncode != 0:
            # A compiler without AMX compiles ggml's AMX file to nothing, so it does no harm; still, nothing was tried.
            said = next(iter(compiled.stderr.strip().splitlines()), "")
            return AmxProbe(verdict="untested", reason=f"{compiler.name} does not compile AMX: {said[:160]}")
        return judge_run(run([str(program)], timeout_s=timeout_s, env=environ, cwd=Path(folder)))


def _identity(compiler: Path, cpu_model: str | None, extra_flags: Sequence[str]) -> str:
    """Changes when the compiler file, the CPU model or the probe does."""
    real = Path(os.path.realpath(compiler))
    try:
        facts = real.stat()
        stamp = f"{facts.st_size} {facts.st_mtime_ns}"
        source = _SOURCE.read_bytes()
    except OSError:
        stamp, source = "", b""
    text = "\n".join([str(real), stamp, cpu_model or "", *_COMPILE, *extra_flags])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape") + source).hexdigest()[:32]


def _recall(cache: Path | None, key: str) -> AmxProbe | None:
    entry = _read_cache(cache).get(key)
    if not isinstance(entry, dict) or entry.get("verdict") not in get_args(AmxVerdict):
        return None
    return AmxProbe(verdict=entry["verdict"], reason=str(entry.get("reason", "")))


def _remember(cache: Path | None, key: str, probe: AmxProbe) -> None:
    if cache is None:
        return
    entries = _read_cache(cache)
    entries[key] = {"verdict": probe.verdict, "reason": probe.reason}
    partial = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(cache)
    except OSError:
        # The cache only saves time: a read-only home costs half a second per run, nothing more.
        partial.unlink(missing_ok=True)


def _read_cache(cache: Path | None) -> dict[str, object]:
    if cache is None:
        return {}
    try:
        entries = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
