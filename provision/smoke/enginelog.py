"""What the engine's load log states as truth. Formats of llama.cpp as of ggml 0.25.3 (src/llama-model.cpp, llama-kv-cache.cpp,
llama-context.cpp); read from real logs."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OFFLOADED = re.compile(r"load_tensors: offloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(
    r"^\s*\w+:\s+(\S+)\s+(model buffer|KV buffer|RS buffer|compute buffer|output buffer) size =\s+([\d.]+) MiB", re.MULTILINE
)
# The name may hold brackets of its own: `Vulkan0 (llvmpipe (LLVM 15.0.6, 256 bits)) (unknown id) - 2048 MiB free`.
_DEVICE = re.compile(r"using device (\S+) \((.*)\) \([^()]*\) - \d+ MiB free")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLog:
    """Layers offloaded and bytes per buffer type (`CPU_Mapped`, `CUDA0`, `CUDA_Host` ...)."""

    offloaded: int | None
    layers: int | None
    buffers: dict[str, int]
    gpu_names: dict[str, str]

    @property
    def total_bytes(self) -> int | None:
        return sum(self.buffers.values()) or None

    @property
    def gpu_bytes(self) -> int:
        return sum(size for name, size in self.buffers.items() if name in self.gpu_names)


def read_load_log(text: str) -> LoadLog:
    """Parse a captured load log. `offloaded` is None when the build has no GPU backend and so says nothing."""
    offloads = _OFFLOADED.findall(text)
    buffers: dict[str, int] = {}
    # Warming up reserves the graph more than once; the last figure of each kind on each device is the one that stands.
    latest: dict[tuple[str, str], int] = {}
    for name, kind, mib in _BUFFER.findall(text):
        size = round(float(mib) * 1024 * 1024)
        adds_up = kind in ("KV buffer", "RS buffer", "model buffer")
        latest[name, kind] = latest.get((name, kind), 0) + size if adds_up else size
    for (name, _), size in latest.items():
        buffers[name] = buffers.get(name, 0) + size
    return LoadLog(
        offloaded=int(offloads[-1][0]) if offloads else None,
        layers=int(offloads[-1][1]) if offloads else None,
        buffers=buffers,
        gpu_names=dict(_DEVICE.findall(text)),
    )
