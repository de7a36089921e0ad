"""Real lines of llama.cpp's load log (ggml 0.25.3) to figures."""

from __future__ import annotations

from provision.smoke.enginelog import read_load_log

MIB = 1024 * 1024
CUDA = """\
llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 4090) (0000:01:00.0) - 23000 MiB free
load_tensors: offloaded 33/33 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
load_tensors:        CUDA0 model buffer size =  4403.49 MiB
llama_context:  CUDA_Host  output buffer size =     0.49 MiB
llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =   128.00 MiB
sched_reserve:      CUDA0 compute buffer size =   300.00 MiB
sched_reserve:      CUDA0 compute buffer size =   258.50 MiB
"""


def test_a_full_offload() -> None:
    log = read_load_log(CUDA)
    assert (log.offloaded, log.layers) == (33, 33)
    assert log.gpu_names == {"CUDA0": "NVIDIA GeForce RTX 4090"}
    # Both caches of a sliding-window model count; of two reservations the later one stands.
    assert log.gpu_bytes == round((4403.49 + 512 + 128 + 258.5) * MIB)
    assert log.total_bytes == sum(log.buffers.values())
    assert log.buffers["CPU_Mapped"] == round(281.81 * MIB)


def test_a_cpu_build_says_nothing_of_offloading() -> None:
    log = read_load_log("load_tensors:   CPU_Mapped model buffer size =     2.66 MiB\n")
    assert (log.offloaded, log.layers, log.gpu_bytes) == (None, None, 0)


def test_a_device_name_with_brackets_of_its_own() -> None:
    line = "load: using device Vulkan0 (llvmpipe (LLVM 15.0.6, 256 bits)) (unknown id) - 2048 MiB free\n"
    assert read_load_log(line).gpu_names == {"Vulkan0": "llvmpipe (LLVM 15.0.6, 256 bits)"}


def test_an_empty_log_knows_nothing() -> None:
    assert read_load_log("").total_bytes is None
