"""Loads a quantized model with the engine of this environment and says what happened: devices, tokens, log lines.

Dies with the engine when the engine is wrong (GCC 12's AMX, foreign CPU flags); the parent reads the death.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import sys
from typing import Any

LOG_CHARS = 1_000_000  # a load says some hundred lines; a broken driver may say the same line for ever


def main() -> None:
    request = json.loads(sys.stdin.readline())
    # As programs do it: what they loaded before must not kill the engine, nor the engine what they load after.
    for name in request.get("first", ()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import llama_cpp

    lines: list[str] = []

    def keep(level: int, text: bytes, user_data: Any) -> None:
        lines.append(text.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(callback, None)
    answer: dict[str, Any] = {"version": llama_cpp.__version__, "package": os.path.dirname(os.path.abspath(llama_cpp.__file__))}
    llama_cpp.llama_backend_init()
    answer["devices"] = devices(answer["package"])
    if request.get("model"):
        answer.update(infer(llama_cpp, request))
    answer["log"] = "".join(lines)[-LOG_CHARS:]
    print("@provision " + json.dumps(answer), flush=True)


def infer(llama_cpp: Any, request: dict[str, Any]) -> dict[str, Any]:
    gpu = [row for row in devices(os.path.dirname(os.path.abspath(llama_cpp.__file__))) if row["kind"] in ("gpu", "igpu")]
    llama = llama_cpp.Llama(
        model_path=request["model"],
        n_gpu_layers=request["n_gpu_layers"],
        n_ctx=256,
        n_batch=64,
        n_threads=2,
        seed=1,
        verbose=False,
    )
    after = {row["name"]: row["free"] for row in devices(os.path.dirname(os.path.abspath(llama_cpp.__file__)))}
    vocabulary = llama.n_vocab()
    prompt = [token % vocabulary for token in request["tokens"]]
    llama.eval(prompt)
    tokens: list[int] = []
    finite = True
    for _ in range(request["n_predict"]):
        logits = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
        values = logits[:vocabulary]
        finite = finite and all(math.isfinite(value) for value in values)
        best = max(range(vocabulary), key=values.__getitem__)
        tokens.append(best)
        llama.eval([best])
    return {
        "tokens": tokens,
        "finite": finite,
        "gpu_memory_used": {
            row["name"]: row["free"] - after[row["name"]] for row in gpu if row["free"] and row["name"] in after
        },
    }


def devices(package: str) -> list[dict[str, Any]]:
    """Every ggml device, read where libllama registers them: plain wheels hold libggml.so and libggml.so.0 as two copies."""
    import ctypes

    folder = os.path.join(package, "lib")
    extension = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    names = ["libggml" + extension + ".0", "libggml" + extension, "ggml" + extension]
    ggml = ctypes.CDLL(next(path for path in (os.path.join(folder, name) for name in names) if os.path.exists(path)))
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for name in ("name", "description"):
        function = getattr(ggml, "ggml_backend_dev_" + name)
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_memory.restype = None
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p] + [ctypes.POINTER(ctypes.c_size_t)] * 2
    kinds = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}  # enum ggml_backend_dev_type, ggml-backend.h of ggml 0.25.3
    rows = []
    for index in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, free, total)
        rows.append(
            {
                "name": ggml.ggml_backend_dev_name(device).decode("utf-8", "replace"),
                "description": ggml.ggml_backend_dev_description(device).decode("utf-8", "replace"),
                "kind": kinds.get(ggml.ggml_backend_dev_type(device), "other"),
                "total": total.value,
                "free": free.value,
            }
        )
    return rows


try:
    main()
except Exception as error:
    print("@provision " + json.dumps({"error": type(error).__name__ + ": " + str(error)}), flush=True)
