"""What the llama-cpp-python of this environment is and can do: one JSON line per stage, so that a death leaves the last one.

The libraries are opened directly: importing the package would say nothing more and cost half a second. Devices are enumerated
on libggml.so.0 where there is one: wheels hold copies, not links, and the copy libllama uses has the registry that counts.
"""

import ctypes
import importlib.util
import json
import os
import sys
from typing import Any

CPU_FEATURES = (
    *("sse3", "ssse3", "avx", "avx2", "f16c", "fma", "bmi2", "avx_vnni", "avx512", "avx512_vbmi", "avx512_vnni", "avx512_bf16"),
    *("amx_int8", "neon", "fp16_va", "dotprod", "matmul_int8", "sve"),
)
KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}  # enum ggml_backend_dev_type, ggml-backend.h of ggml 0.25.3


def main(found: dict[str, Any]) -> None:
    request = json.loads(sys.stdin.readline() or "{}")
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        say(found)
        return
    found["version"] = installed_version()
    folder = os.path.join(next(iter(spec.submodule_search_locations)), "lib")
    found["placed_by_us"] = placed_by_us()
    found["libraries"] = identity(folder)
    found["stage"] = "load"
    say(found)
    try:
        ggml = ctypes.CDLL(library(folder, "libggml"))
        ctypes.CDLL(library(folder, "libllama"))
    except OSError as error:
        found["problem"] = str(error)
        say(found)
        return
    found["loads"] = True
    found["cpu_features"] = cpu_features(folder)
    found["stage"] = "devices"
    say(found)
    found["devices"], found["backends"] = devices(ggml)
    found["stage"] = "listed"
    say(found)
    if request.get("model"):
        found["stage"] = "inference"
        say(found)
        found["quantized_inference"] = infer(request["model"])
        found["stage"] = "done"
        say(found)


def library(folder: str, name: str) -> str:
    extension = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    names = [f"{name}{extension}.0", f"{name}{extension}", f"{name.removeprefix('lib')}{extension}"]
    paths = [os.path.join(folder, file) for file in names]
    return next((path for path in paths if os.path.exists(path)), paths[1])


def cpu_features(folder: str) -> list[str]:
    """What the CPU part was compiled for: `ggml_cpu_has_avx2()` and the like (ggml-cpu.h) are constants of the build."""
    try:
        cpu = ctypes.CDLL(library(folder, "libggml-cpu"))
    except OSError:
        return []
    return [name for name in CPU_FEATURES if hasattr(cpu, f"ggml_cpu_has_{name}") and getattr(cpu, f"ggml_cpu_has_{name}")()]


def devices(ggml: Any) -> tuple[list[dict[str, Any]], list[str]]:
    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = getattr(ggml, name)
        found.restype, found.argtypes = result, list(arguments)
        return found

    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    count = function("ggml_backend_dev_count", ctypes.c_size_t)
    get = function("ggml_backend_dev_get", pointer, ctypes.c_size_t)
    name = function("ggml_backend_dev_name", text, pointer)
    description = function("ggml_backend_dev_description", text, pointer)
    kind = function("ggml_backend_dev_type", ctypes.c_int, pointer)
    memory = function("ggml_backend_dev_memory", None, pointer, *[ctypes.POINTER(ctypes.c_size_t)] * 2)
    rows = []
    for index in range(count()):
        device = get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, free, total)
        rows.append(
            {
                "name": name(device).decode("utf-8", "replace"),
                "description": description(device).decode("utf-8", "replace"),
                "kind": KINDS.get(kind(device), "other"),
                "total": total.value,
                "free": free.value,
            }
        )
    registered = function("ggml_backend_reg_count", ctypes.c_size_t)
    backend = function("ggml_backend_reg_get", pointer, ctypes.c_size_t)
    backend_name = function("ggml_backend_reg_name", text, pointer)
    return rows, [backend_name(backend(index)).decode("utf-8", "replace").lower() for index in range(registered())]


def infer(model: str) -> bool:
    """True when a quantized model gives finite logits on the CPU."""
    from math import isfinite

    import llama_cpp

    llama = llama_cpp.Llama(model_path=model, n_ctx=64, n_batch=64, n_threads=1, n_gpu_layers=0, verbose=False)
    llama.eval([1, 2, 3, 4, 5, 6, 7, 8] * 2)
    logits = llama_cpp.llama_get_logits(llama.ctx)
    return all(isfinite(logits[position]) for position in range(64))


def identity(folder: str) -> list[str] | None:
    """Changes when the libraries do: name, size and time of each."""
    rows = []
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            facts = entry.stat()
            rows.append(f"{entry.name} {facts.st_size} {facts.st_mtime_ns}")
    except OSError:
        return None
    return rows


def installed_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("llama-cpp-python")
    except Exception:
        return "unknown"


def placed_by_us() -> bool:
    """Whether the package's INSTALLER file names us."""
    from importlib import metadata

    try:
        return "provision" in (metadata.distribution("llama-cpp-python").read_text("INSTALLER") or "")
    except Exception:
        return False


def say(found: dict[str, Any]) -> None:
    print("@provision " + json.dumps(found), flush=True)


found_so_far: dict[str, Any] = {"version": None}
try:
    main(found_so_far)
except Exception as error:
    say({**found_so_far, "error": f"{type(error).__name__}: {error}"})
