"""How busy NVIDIA GPUs are while something runs, asked of NVML by ctypes: the engine's environment has no binding for it."""

from __future__ import annotations

import ctypes
import threading
from types import TracebackType

_EVERY_S = 0.1


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t (nvml.h): percent of the last sample period, 1/6 to 1 s."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Watch:
    """`with Watch() as watch: ...`; then `watch.busiest` is the highest utilisation of any GPU in percent, or None.

    Inside, `watch.sees` says whether a driver answers at all.
    """

    def __init__(self) -> None:
        self.busiest: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def sees(self) -> bool:
        return self._thread is not None

    def __enter__(self) -> Watch:
        nvml = _open()
        if nvml is not None:
            self._thread = threading.Thread(target=self._look, args=(nvml,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _look(self, nvml: ctypes.CDLL) -> None:
        handles = _handles(nvml)
        while True:
            for handle in handles:
                found = _Utilization()
                if nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(found)) == 0:
                    self.busiest = max(self.busiest or 0, found.gpu)
            if self._stop.wait(_EVERY_S):
                return


def _open() -> ctypes.CDLL | None:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        return nvml if nvml.nvmlInitWithFlags(0) == 0 else None
    except (OSError, AttributeError):
        return None


def _handles(nvml: ctypes.CDLL) -> list[ctypes.c_void_p]:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
            found.append(handle)
    return found
