"""What NVML says, as one JSON line. In a child, because a broken driver can hang the caller or take it down.

Every question is asked by itself: old drivers lack functions, integrated GPUs answer "not supported", containers hide some.
"""

import contextlib
import ctypes
import json
import sys
from typing import Any

FALLBACK_FOLDERS = ("/usr/lib/wsl/lib", "/run/opengl-driver/lib", "/usr/lib/nvidia", "/usr/lib64/nvidia")


def main() -> None:
    sys.stdin.read()
    import pynvml

    _preload()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        answer({"error": _name(pynvml, error)})
        return
    found: dict[str, Any] = {
        "driver": ask(pynvml, pynvml.nvmlSystemGetDriverVersion),
        "cuda": ask(pynvml, pynvml.nvmlSystemGetCudaDriverVersion_v2),
        "gpus": [],
    }
    count = ask(pynvml, pynvml.nvmlDeviceGetCount)
    for index in range(count.get("value", 0) if isinstance(count.get("value"), int) else 0):
        handle = ask(pynvml, pynvml.nvmlDeviceGetHandleByIndex, index)
        if "value" in handle:
            found["gpus"].append(read_gpu(pynvml, index, handle["value"]))
        else:
            found["gpus"].append({"index": index, "lost": handle["problem"]})
    answer(found)


def read_gpu(pynvml: Any, index: int, handle: Any) -> dict[str, Any]:
    """Every field is {"value": ...} or {"problem": NVML's name for the error}."""

    def get(function: Any, *arguments: Any) -> dict[str, Any]:
        return ask(pynvml, function, handle, *arguments)

    return {
        "index": index,
        "name": get(pynvml.nvmlDeviceGetName),
        "uuid": get(pynvml.nvmlDeviceGetUUID),
        "bus": get(lambda device: pynvml.nvmlDeviceGetPciInfo(device).busId),
        "compute_capability": get(pynvml.nvmlDeviceGetCudaComputeCapability),
        "memory": get(lambda device: memory(pynvml.nvmlDeviceGetMemoryInfo(device))),
        "ecc": get(lambda device: pynvml.nvmlDeviceGetEccMode(device)[0]),
        "persistence": get(pynvml.nvmlDeviceGetPersistenceMode),
        "pcie_generation": get(pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
        "pcie_generation_max": get(pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
        "pcie_width": get(pynvml.nvmlDeviceGetCurrPcieLinkWidth),
        "pcie_width_max": get(pynvml.nvmlDeviceGetMaxPcieLinkWidth),
        "throttle": get(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
        "processes": get(lambda device: count_processes(pynvml, device)),
        "mig": get(lambda device: pynvml.nvmlDeviceGetMigMode(device)[0]),
        "slices": slices(pynvml, handle),
    }


def slices(pynvml: Any, handle: Any) -> list[dict[str, Any]]:
    """The MIG devices of one GPU."""
    found: list[dict[str, Any]] = []
    mode = ask(pynvml, lambda device: pynvml.nvmlDeviceGetMigMode(device)[0], handle)
    if mode.get("value") != 1:
        return found
    most = ask(pynvml, pynvml.nvmlDeviceGetMaxMigDeviceCount, handle).get("value", 0)
    for number in range(most):
        piece = ask(pynvml, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if "value" not in piece:
            continue
        device = piece["value"]
        found.append(
            {
                "name": ask(pynvml, pynvml.nvmlDeviceGetName, device),
                "uuid": ask(pynvml, pynvml.nvmlDeviceGetUUID, device),
                "memory": ask(pynvml, lambda at: memory(pynvml.nvmlDeviceGetMemoryInfo(at)), device),
            }
        )
    return found


def memory(info: Any) -> dict[str, int]:
    return {"total": int(info.total), "free": int(info.free)}


def count_processes(pynvml: Any, device: Any) -> int:
    running = list(pynvml.nvmlDeviceGetComputeRunningProcesses(device))
    with contextlib.suppress(pynvml.NVMLError):
        running += list(pynvml.nvmlDeviceGetGraphicsRunningProcesses(device))
    return len({process.pid for process in running})


def ask(pynvml: Any, function: Any, *arguments: Any) -> dict[str, Any]:
    try:
        value = function(*arguments)
    except pynvml.NVMLError as error:
        return {"problem": _name(pynvml, error)}
    except Exception as error:  # a library older or newer than the binding
        return {"problem": type(error).__name__}
    return {"value": value.decode("utf-8", "replace") if isinstance(value, bytes) else value}


def answer(found: dict[str, Any]) -> None:
    print("@provision " + json.dumps(found, default=str), flush=True)


def _name(pynvml: Any, error: Exception) -> str:
    """`NVMLError_LibRmVersionMismatch` and the like; the number where NVML has no class for it."""
    name = type(error).__name__
    return name if name != "NVMLError" else f"NVMLError {getattr(error, 'value', '?')}"


def _preload() -> None:
    """Where libnvidia-ml is outside the loader's path; once loaded under its soname, pynvml's own dlopen finds it."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        for folder in FALLBACK_FOLDERS:
            try:
                ctypes.CDLL(f"{folder}/libnvidia-ml.so.1")
            except OSError:
                continue
            return


main()
