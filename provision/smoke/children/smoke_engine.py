"""The engine as the smoke test's children use it: a loaded model, its log, its devices, its logits.

Runs where `provision` may not be installed: standard library, numpy and llama_cpp only. Anything here may die of native code.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib
from smoke_entry import snapshot

Logits = npt.NDArray[np.float32]
_DEVICE_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}  # enum ggml_backend_dev_type, ggml 0.25.3 ggml-backend.h
_LEVEL_DEBUG = 1  # enum ggml_log_level, ggml 0.25.3 ggml.h
_log: list[str] = []
# Llama() points descriptor 2 at /dev/null while it loads, which is just when the engine says why it dies.
_STDERR = os.dup(2)


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far (Linux counts KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _on_log(level: int, text: bytes, user_data: object) -> None:
    if level != _LEVEL_DEBUG:
        _log.append(text.decode("utf-8", "replace"))
        os.write(_STDERR, text)


# Kept in a module variable: the C side holds only its address.
_LOG_CALLBACK = lib.llama_log_callback(_on_log)


def log_text() -> str:
    """Everything the C side logged since `open_model`."""
    return "".join(_log)


def unknown_keywords(llama_kwargs: dict[str, Any]) -> list[str]:
    """Names `Llama()` does not know; it swallows them silently (llama-cpp-python 0.3.36, llama.py `**kwargs`)."""
    known = inspect.signature(llama_cpp.Llama.__init__).parameters
    return sorted(name for name in llama_kwargs if name not in known)


def open_model(path: str, llama_kwargs: dict[str, Any]) -> llama_cpp.Llama:
    """The model as the user would load it, log captured. Raises ValueError when the engine refuses it."""
    lib.llama_log_set(_LOG_CALLBACK, ctypes.c_void_p(0))
    known = {name: value for name, value in llama_kwargs.items() if name not in unknown_keywords(llama_kwargs)}
    return llama_cpp.Llama(model_path=path, **{**known, "verbose": False})


def load(request: dict[str, Any], answer: dict[str, Any]) -> Any:
    """Open the model of the request; the answer learns who answers, with which devices, and how long it took."""
    kwargs = request["llama_kwargs"]
    answer |= {"cpu_flags": cpu_flags(), "engine_version": llama_cpp.__version__, "unknown_keywords": unknown_keywords(kwargs)}
    answer |= {"stage": "load", "devices": devices()}
    snapshot(answer)
    began = time.monotonic()
    llm = open_model(request["model"], kwargs)
    answer |= {
        "load_s": time.monotonic() - began,
        "devices_after": devices(),
        "model_bytes": lib.llama_model_size(llm._model.model),
    }
    return llm


def devices() -> list[dict[str, Any]]:
    """Every ggml device, with memory. Read from the copy of libggml that libllama uses: others hold their own registry."""
    registry = _registry()
    if registry is None:
        return []
    found = []
    for index in range(registry.ggml_backend_dev_count()):
        device = registry.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        registry.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(
            {
                "name": registry.ggml_backend_dev_name(device).decode(),
                "description": registry.ggml_backend_dev_description(device).decode(),
                "kind": _DEVICE_KINDS.get(registry.ggml_backend_dev_type(device), "other"),
                "free_bytes": free.value,
                "total_bytes": total.value,
            }
        )
    return found


def _registry() -> Any:
    folder = Path(llama_cpp.__file__).parent / "lib"
    for name in ("libggml.so.0", "libggml.so", "libggml.dylib", "ggml.dll"):
        if (folder / name).exists():
            registry: Any = ctypes.CDLL(str(folder / name))
            break
    else:
        return None
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for text in ("name", "description"):
        getattr(registry, f"ggml_backend_dev_{text}").restype = ctypes.c_char_p
        getattr(registry, f"ggml_backend_dev_{text}").argtypes = [ctypes.c_void_p]
    registry.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    registry.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return registry


def cpu_flags() -> list[str]:
    """Flags of the first processor as Linux lists them; empty elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return line.partition(":")[2].split()
    return []


def clear(llm: Any) -> None:
    """Forget everything: a reused prefix would change batch shapes, and with them the last digits of logits."""
    lib.llama_memory_clear(lib.llama_get_memory(llm._ctx.ctx), True)
    llm.reset()


def decode(llm: Any, ids: Sequence[int], *, start: int, all_logits: bool) -> Iterator[Logits]:
    """Decode `ids` at positions from `start`, one batch; yields logits `[n_vocab]` of every (or of the last) token."""
    n_vocab, count = llm.n_vocab(), len(ids)
    batch = lib.llama_batch_init(count, 0, 1)
    try:
        batch.n_tokens = count
        for index, token in enumerate(ids):
            batch.token[index] = token
            batch.pos[index] = start + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = 1 if all_logits or index == count - 1 else 0
        status = lib.llama_decode(llm._ctx.ctx, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        for index in range(count):
            if all_logits or index == count - 1:
                row = lib.llama_get_logits_ith(llm._ctx.ctx, index)
                yield np.ctypeslib.as_array(row, shape=(n_vocab,)).astype(np.float32)
    finally:
        lib.llama_batch_free(batch)


def batch_logits(llm: Any, ids: Sequence[int]) -> Logits:
    """Logits `[len(ids), n_vocab]` of a fresh context that reads `ids` in batches as large as it allows."""
    clear(llm)
    step = min(llm.n_batch, 512)
    rows: list[Logits] = []
    for start in range(0, len(ids), step):
        rows.extend(decode(llm, ids[start : start + step], start=start, all_logits=True))
    clear(llm)
    return np.stack(rows)


def single_logits(llm: Any, ids: Sequence[int], *, limit_s: float) -> Logits:
    """Logits of `ids` decoded one by one from an empty context; fewer rows than ids when `limit_s` runs out."""
    clear(llm)
    began = time.monotonic()
    rows: list[Logits] = []
    for index, token in enumerate(ids):
        rows.extend(decode(llm, [token], start=index, all_logits=True))
        if time.monotonic() - began > limit_s:
            break
    clear(llm)
    return np.stack(rows)


def log_softmax(logits: Logits) -> Logits:
    """Natural-log probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def compare(reference: Logits, other: Logits) -> dict[str, float | None]:
    """NMSE (as llama.cpp's test tools: squared error over squared reference), share of equal argmax, mean KL in nats."""
    if not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return {"nmse": None, "argmax": None, "kl": None}
    nmse = float(((other - reference) ** 2).sum() / max(float((reference**2).sum()), 1e-30))
    argmax = float((reference.argmax(-1) == other.argmax(-1)).mean())
    left, right = log_softmax(reference).astype(np.float64), log_softmax(other).astype(np.float64)
    return {"nmse": nmse, "argmax": argmax, "kl": float((np.exp(left) * (left - right)).sum(-1).mean())}


def speed(
    llm: Any, *, n_prompt: int, n_generate: int, repetitions: int, limit_s: float | None = None
) -> dict[str, list[float]]:
    """Tokens/s of each repetition as llama-bench measures them: a prompt of random tokens from an empty context in batches
    of n_batch, then single random tokens from an empty context; one round that is not counted warms up.

    `limit_s` keeps slow machines from waiting: a warm-up prompt that took longer is the figure, and a generation stops there.
    `tg_s` are the seconds of each generation.
    """
    n_prompt, n_generate = (min(count, llm.n_ctx() - 1) for count in (n_prompt, n_generate))
    limit = limit_s if limit_s is not None else float("inf")
    draw = np.random.default_rng(0)
    answer: dict[str, list[float]] = {"pp": [], "tg": [], "tg_s": []}
    for repetition in range(repetitions + 1):
        if not answer["pp"] or limit_s is None or n_prompt / answer["pp"][0] < limit:
            prompt_s = _timed_prompt(llm, draw.integers(0, llm.n_vocab(), n_prompt).tolist())
            if repetition or prompt_s > limit:
                answer["pp"].append(n_prompt / prompt_s)
        ids = draw.integers(0, llm.n_vocab(), n_generate if repetition else min(4, n_generate)).tolist()
        done, seconds = _timed_generation(llm, ids, limit)
        if repetition:
            answer["tg"].append(done / seconds)
            answer["tg_s"].append(seconds)
    clear(llm)
    return answer


def _timed_prompt(llm: Any, ids: list[int]) -> float:
    """Seconds for a prompt from an empty context."""
    clear(llm)
    began = time.perf_counter()
    for start in range(0, len(ids), llm.n_batch):
        list(decode(llm, ids[start : start + llm.n_batch], start=start, all_logits=False))
    lib.llama_synchronize(llm._ctx.ctx)
    return time.perf_counter() - began


def _timed_generation(llm: Any, ids: list[int], limit_s: float) -> tuple[int, float]:
    """How many single tokens from an empty context, in how many seconds; fewer, at least four, when time runs out."""
    clear(llm)
    began = time.perf_counter()
    done = 0
    for done, token in enumerate(ids, start=1):
        list(decode(llm, [token], start=done - 1, all_logits=False))
        if done >= 4 and time.perf_counter() - began > limit_s:
            break
    lib.llama_synchronize(llm._ctx.ctx)
    return done, time.perf_counter() - began


def keep_generating(llm: Any, *, seconds: float) -> float:
    """Generate single tokens for that long and no longer, from an empty context each time one is full; the seconds it took."""
    began = time.perf_counter()
    ids = np.random.default_rng(1).integers(0, llm.n_vocab(), min(256, llm.n_ctx() - 1)).tolist()
    while time.perf_counter() - began < seconds:
        _timed_generation(llm, ids, seconds - (time.perf_counter() - began))
    clear(llm)
    return time.perf_counter() - began


def host_copy_bytes_per_s(size: int = 64 * 1024 * 1024) -> float:
    """Bytes read per second by a large copy on this many threads (1): the host's bandwidth as one core sees it."""
    source = np.ones(size, dtype=np.uint8)
    target = np.empty_like(source)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best
