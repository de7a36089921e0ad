"""Ask the engine for its own memory figures. Runs in a child process: a GGML_ASSERT aborts the interpreter.

Request: {"runs": [{"path", "real", "n_gpu_layers", "tensor_split", "use_mmap", "use_extra_bufts", "contexts": [{...}]}]}; the
context keys are fields of llama_context_params. Answer after every context, so that a crash keeps what came before:
{"runs": [{"contexts": [{"buffers": [{"name", "device", "host", "model", "context", "compute"}]}], "n_layers"}]}.

A request {"projector": PATH} is answered with {"projector": [{"device", "device_type", "bytes"}]}: weights and compute of a
multimodal projector, from libmtmd's own count (`mtmd_get_memory_usage`, tools/mtmd/mtmd.h).

With `real` false nothing is allocated (`no_alloc`) and `path` may be a header followed by a hole. The breakdown is a
std::map<ggml_backend_buffer_type_t, {model, context, compute}> returned by value (src/llama-ext.h, llama.cpp 0.5.0); its nodes
are walked as libstdc++ or, on macOS, libc++ lays them out. Tried on x86-64 Linux only; a count that does not come out right,
and any other platform, gives {"error": "abi"}.
"""

import ctypes
import json
import os
import platform
import sys
from typing import Any, NamedTuple

MARK = "@provision "
SYMBOL = "_Z26llama_get_memory_breakdownPK13llama_context"
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}


def say(answer: dict[str, Any]) -> None:
    print(MARK + json.dumps(answer), flush=True)


def open_engine() -> tuple[Any, Any, list[str], Any]:
    """The bindings, the library with the ggml symbols typed, and the log lines it writes."""
    import llama_cpp.llama_cpp as native

    lib = native._lib
    for name, result, arguments in (
        ("ggml_backend_buft_name", ctypes.c_char_p, [ctypes.c_void_p]),
        ("ggml_backend_buft_is_host", ctypes.c_bool, [ctypes.c_void_p]),
        ("ggml_backend_buft_get_device", ctypes.c_void_p, [ctypes.c_void_p]),
        ("ggml_backend_dev_name", ctypes.c_char_p, [ctypes.c_void_p]),
        ("ggml_backend_dev_type", ctypes.c_int, [ctypes.c_void_p]),
        ("ggml_backend_dev_count", ctypes.c_size_t, []),
        ("ggml_backend_dev_get", ctypes.c_void_p, [ctypes.c_size_t]),
        ("ggml_backend_dev_description", ctypes.c_char_p, [ctypes.c_void_p]),
        ("ggml_backend_dev_memory", None, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lines: list[str] = []

    def keep(level: int, text: bytes, data: Any) -> None:
        line = text.decode("utf-8", "replace")
        lines.append(line)
        sys.stderr.write(line)

    callback = native.llama_log_callback(keep)
    native.llama_log_set(callback, ctypes.c_void_p(0))
    native.llama_backend_init()
    return native, lib, lines, callback


def devices(lib: Any) -> list[dict[str, Any]]:
    found = []
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(
            {
                "name": lib.ggml_backend_dev_name(device).decode(),
                "description": lib.ggml_backend_dev_description(device).decode("utf-8", "replace"),
                "type": lib.ggml_backend_dev_type(device),
                "free": free.value,
                "total": total.value,
            }
        )
    return found


class Layout(NamedTuple):
    """Where a std::map of pointers to three words keeps things, in bytes."""

    size: int
    root: int
    nodes: int
    left: int
    right: int


# The object is returned through a hidden pointer on all of them, which ctypes (libffi) does for any structure this large. A
# node's key is at +32, the three words follow, in both libraries.
LIBSTDCPP = Layout(size=48, root=16, nodes=40, left=16, right=24)
LIBCPP = Layout(size=24, root=8, nodes=16, left=0, right=8)


def layout(system: str, machine: str) -> Layout | None:
    """None where nobody knows how the engine's answer lies in memory (Windows)."""
    if machine.lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
        return None
    return {"Linux": LIBSTDCPP, "Darwin": LIBCPP}.get(system)


def word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def entries(map_address: int, shape: Layout) -> list[tuple[int, int, int, int]]:
    """Key and three words of every node of the red-black tree; empty when there are not as many as the map says."""
    found: list[tuple[int, int, int, int]] = []
    pending = [word(map_address + shape.root)]
    limit = word(map_address + shape.nodes)
    while pending and len(found) <= min(limit, 64):
        node = pending.pop()
        if node:
            pending += [word(node + shape.left), word(node + shape.right)]
            found.append((word(node + 32), word(node + 40), word(node + 48), word(node + 56)))
    return found if len(found) == limit else []


def breakdown(lib: Any, context: Any) -> list[dict[str, Any]]:
    shape = layout(platform.system(), platform.machine()) or LIBSTDCPP
    returned = type("Map", (ctypes.Structure,), {"_fields_": [("words", ctypes.c_size_t * (shape.size // 8))]})
    function = getattr(lib, SYMBOL)
    function.restype, function.argtypes = returned, [ctypes.c_void_p]
    answer = function(context)
    buffers = []
    for kind, model, cache, compute in entries(ctypes.addressof(answer), shape):
        device = lib.ggml_backend_buft_get_device(kind)
        buffers.append(
            {
                "name": lib.ggml_backend_buft_name(kind).decode(),
                "device": lib.ggml_backend_dev_name(device).decode() if device else None,
                "device_type": lib.ggml_backend_dev_type(device) if device else 0,
                "host": bool(lib.ggml_backend_buft_is_host(kind)),
                "model": model,
                "context": cache,
                "compute": compute,
            }
        )
    return sorted(buffers, key=lambda buffer: buffer["name"])


PROJECTOR_SYMBOL = "_Z21mtmd_get_memory_usagePKc19mtmd_context_params"


def projector(lib: Any, path: str) -> dict[str, Any]:
    """What libmtmd would allocate per device for the projector at `path`; it may be a header followed by a hole."""
    from llama_cpp import mtmd_cpp

    mtmd, shape = mtmd_cpp._libmtmd, layout(platform.system(), platform.machine()) or LIBSTDCPP
    parameters = mtmd_cpp.mtmd_context_params_default()
    parameters.warmup = True
    parameters.print_timings = False
    function = getattr(mtmd, PROJECTOR_SYMBOL, None)
    if function is None:
        return {"error": "symbol"}
    returned = type("Map", (ctypes.Structure,), {"_fields_": [("words", ctypes.c_size_t * (shape.size // 8))]})
    function.restype, function.argtypes = returned, [ctypes.c_char_p, mtmd_cpp.mtmd_context_params]
    answer = function(os.fsencode(path), parameters)
    rows = [
        {"device": lib.ggml_backend_dev_name(device).decode(), "device_type": lib.ggml_backend_dev_type(device), "bytes": size}
        for device, size, _, _ in entries(ctypes.addressof(answer), shape)
    ]
    return {"projector": rows} if rows else {"error": "the engine refused the projector"}


def model_parameters(native: Any, run: dict[str, Any]) -> Any:
    parameters = native.llama_model_default_params()
    parameters.n_gpu_layers = run.get("n_gpu_layers", 0)
    parameters.use_extra_bufts = run.get("use_extra_bufts", True)
    if not run.get("real"):
        parameters.no_alloc = True
        parameters.load_mode = native.LLAMA_LOAD_MODE_NONE
    elif run.get("use_mmap", True):
        parameters.load_mode = native.LLAMA_LOAD_MODE_MMAP
    else:
        parameters.load_mode = native.LLAMA_LOAD_MODE_NONE
    split = run.get("tensor_split")
    if split:
        values = (ctypes.c_float * native.llama_max_devices())(*split)
        parameters.tensor_split = values
        run["_keep"] = values
    return parameters


def context_parameters(native: Any, wanted: dict[str, Any]) -> Any:
    parameters = native.llama_context_default_params()
    for key, value in wanted.items():
        if key == "flash_attn":
            kind = native.LLAMA_FLASH_ATTN_TYPE_ENABLED if value else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
            parameters.flash_attn_type = kind
        elif key in ("type_k", "type_v"):
            setattr(parameters, key, TYPES[value])
        else:
            setattr(parameters, key, value)
    return parameters


def main() -> None:
    request = json.loads(sys.stdin.readline())
    if layout(platform.system(), platform.machine()) is None:
        say({"error": "abi"})
        return
    native, lib, lines, _keep = open_engine()
    if not hasattr(lib, SYMBOL):
        say({"error": "symbol"})
        return
    if "projector" in request:
        say(projector(lib, request["projector"]))
        return
    answer = {"devices": devices(lib), "runs": []}
    for run in request["runs"]:
        answer["runs"].append({"contexts": []})
        model = native.llama_model_load_from_file(os.fsencode(run["path"]), model_parameters(native, run))
        if not model:
            answer["runs"][-1]["error"] = "".join(lines)[-2000:]
            say(answer)
            continue
        for wanted in run["contexts"]:
            lines.clear()
            context = native.llama_init_from_model(model, context_parameters(native, wanted))
            if context:
                buffers = breakdown(lib, context)
                native.llama_free(context)
                if not buffers:
                    say({"error": "abi"})
                    return
                answer["runs"][-1]["contexts"].append({"buffers": buffers})
            else:
                answer["runs"][-1]["contexts"].append({"error": "".join(lines)[-2000:]})
            say(answer)
        native.llama_model_free(model)
    say(answer)


if __name__ == "__main__":
    main()
