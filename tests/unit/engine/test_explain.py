"""Every known failure is recognised in a line people really saw, and nothing is recognised in a good log."""

import dataclasses

import pytest

from provision.engine.explain import explain, signatures
from provision.engine.retry import next_try
from provision.engine.types import BuildPlan

# One line per signature, as the tools print it.
EXAMPLES = {
    "no-c-compiler": "CMake Error: CMAKE_C_COMPILER not set, after EnableLanguage",
    "dead-flag-cublas": "  LLAMA_CUBLAS is deprecated, use GGML_CUDA instead",
    "cuda-toolkit-not-found": "CMake Error at ggml-cuda/CMakeLists.txt:266 (message): CUDA Toolkit not found",
    "cudart-not-found": "-- Could NOT find CUDAToolkit (missing: CUDA_CUDART) (found version 13.0.88)",
    "cublas-target": 'Target "ggml-cuda" links to: CUDA::cublas but the target was not found.',
    "cuda-driver-target": "links to target CUDA::cuda_driver but the target was not found",
    "nvcc-not-set": "No CMAKE_CUDA_COMPILER could be found.",
    "default-arch": "Failed to detect a default CUDA architecture.",
    "library-root": "Couldn't find CUDA library root.",
    "vs-no-cuda-toolset": "No CUDA toolset found.",
    "native-no-gpu": "nvcc fatal   : Unsupported gpu architecture 'compute_No CUDA devices found.'",
    "unsupported-gpu-arch": "nvcc fatal   : Unsupported gpu architecture 'compute_120a'",
    "gcc-too-new": "error: #error -- unsupported GNU version! gcc versions later than 13 are not supported!",
    "clang-unsupported": "#error -- unsupported clang version! clang version must be less than 19 and greater than 3.2",
    "msvc-unsupported": "error: #error -- unsupported Microsoft Visual Studio version! Only the versions between 2017 and 2022",
    "stl1002": "error STL1002: Unexpected compiler version, expected CUDA 12.4 or newer.",
    "glibc-cospi": 'error: exception specification is incompatible with that of previous function "cospi"',
    "glibc-rsqrt": 'error: exception specification is incompatible with that of previous function "rsqrt"',
    "mixed-toolkits": "gcc: error: unrecognized command-line option '-compress-mode=size'",
    "oom": "c++: fatal error: Killed signal terminated program cc1plus",
    "disk-full": "fatal error: error writing to /tmp/ccX.s: No space left on device",
    "win-long-path": "CMake Warning: CMAKE_OBJECT_PATH_MAX is set to 250",
    "link-libcuda": "/usr/bin/ld: warning: libcuda.so.1, needed by bin/libggml-cuda.so, not found (try using -rpath)",
    "link-cudart": "/usr/bin/ld: cannot find -lcudart_static: No such file or directory",
    "conda-ld": "/opt/conda/compiler_compat/ld: bin/libggml-cuda.so: undefined reference to `cublasCreate_v2'",
    "vulkan-missing": "Could NOT find Vulkan (missing: Vulkan_LIBRARY Vulkan_INCLUDE_DIR glslc)",
    "cmake-old": "CMake 3.21 or higher is required.  You are running version 3.16.3",
    "pip-wheel-tag": "ERROR: llama_cpp_python-0.3.35-py3-none-win_amd64.whl is not a supported wheel on this platform.",
    "externally-managed": "error: externally-managed-environment",
    "musl": "OSError: libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory",
    "glibc-version": "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by libllama.so)",
    "glibcxx": "libstdc++.so.6: version `GLIBCXX_3.4.29' not found",
    "libcudart-missing": "OSError: libcudart.so.12: cannot open shared object file: No such file or directory",
    "libcuda-missing": "OSError: libcuda.so.1: cannot open shared object file: No such file or directory",
    "libnccl-missing": "OSError: libnccl.so.2: cannot open shared object file: No such file or directory",
    "dll-dep": r"Could not find module 'C:\x\llama_cpp\lib\llama.dll' (or one of its dependencies)",
    "wrong-arch-dylib": "mach-o file, but is an incompatible architecture (have 'x86_64', need 'arm64')",
    "undefined-symbol": "libllama.so: undefined symbol: ggml_backend_dev_count",
    "lib-not-found": "FileNotFoundError: Shared library with base name 'llama' not found",
    "sigill": "Illegal instruction (core dumped)",
    "driver-too-old": "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
    "unsupported-ptx": "the provided PTX was compiled with an unsupported toolchain.",
    "kernel-image-invalid": "CUDA error: device kernel image is invalid",
    "no-kernel-image": "CUDA error: no kernel image is available for execution on the device",
    "unsupported-driver-combo": "ggml_cuda_init: failed: system has unsupported display driver / cuda driver combination",
    "no-device": "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
    "nvml-mismatch": "Failed to initialize NVML: Driver/library version mismatch",
    "uvm": "modprobe: FATAL: Module nvidia-uvm not found",
    "silent-cpu": "load_tensors: offloaded 0/33 layers to GPU",
    "vram-oom": "allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory",
    "amx-sigsegv": "traps: python3[12] general protection fault ip:7f1 sp:7f2 error:0 in libggml-cpu.so",
    "sched-no-backend": "ggml-backend.cpp:1200: GGML_ASSERT(*cur_backend_id != -1) failed",
    "prealloc-tensor": "pre-allocated tensor (cache_k_l0) in a buffer (Vulkan0) that cannot run the operation (NONE)",
    "ctx-overflow": "ValueError: Requested tokens (812) exceed context window of 512",
    "stale-cmake-cache": "CMake Error: The current CMakeCache.txt directory /a/CMakeCache.txt is different than /b",
    "ccache-failed": "ccache: error: Failed to create directory /root/.cache/ccache/tmp: Read-only file system",
    "vulkan-headers-old": "ggml-vulkan.cpp:5000:10: error: 'LayerSettingEXT' is not a member of 'vk'",
    "spirv-headers": "ggml-vulkan.cpp:12:10: fatal error: spirv/unified1/spirv.hpp: No such file or directory",
    "no-python-headers": "Could NOT find Python3 (missing: Python3_INCLUDE_DIRS Development.Module)",
    "ninja-missing": 'CMake Error: CMake was unable to find a build program corresponding to "Ninja".',
    "ssl": "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
    "network": "NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
    "assembler-avx": "/tmp/ccabc.s:120: Error: no such instruction: `vpdpbusd %ymm0,%ymm1,%ymm2'",
    "gcc-old": "common.cpp:10:10: fatal error: 'charconv' file not found",
    "nvcc-ancient": "nvcc fatal   : Unknown option 'Wall'",
    "parameter-packs": "/usr/include/c++/11/bits/std_function.h:435:145: error: parameter packs not expanded with '...':",
    "native-mismatch": "error: inlining failed in call to 'always_inline' 'vdotq_s32': target specific option mismatch",
    "openssl-link": "server.cpp: undefined reference to `httplib::SSLServer::SSLServer(char const*, char const*)'",
    "curl-missing": "-- Could NOT find CURL (missing: CURL_LIBRARY CURL_INCLUDE_DIR)",
    "cmake-4": "Compatibility with CMake < 3.5 has been removed from CMake.",
    "glslc-missing": "sh: 1: Vulkan_GLSLC_EXECUTABLE-NOTFOUND: not found",
    "hip-compiler": "-- The HIP compiler identification is unknown",
    "metal-compiler": "FAILED: bin/default.metallib /var/folders/4s/build/bin/default.metallib",
    "metal-header": "MTLLibraryErrorDomain Code=3 program_source:3:10: fatal error: 'ggml-common.h' file not found",
    "no-build-backend": "ModuleNotFoundError: No module named 'scikit_build_core'",
    "requires-python": "ERROR: Package 'llama-cpp-python' requires a different Python: 3.7.17 not in '>=3.8'",
    "site-packages-denied": "PermissionError: [Errno 13] Permission denied: '/usr/lib/python3/dist-packages/llama_cpp'",
    "engine-absent": "ModuleNotFoundError: No module named 'llama_cpp'",
    "libgomp-missing": "Failed to load shared library 'libllama.so': libgomp.so.1: cannot open shared object file",
    "engine-parts": "Failed to load shared library 'libllama.so': libggml.so: cannot open shared object file",
    "rocblas-kernels": "rocBLAS error: Cannot read rocblas/library/TensileLibrary.dat: No such file for GPU arch : gfx1036",
    "cublas-start": "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED",
    "unknown-architecture": "llama_model_load: error loading model architecture: unknown model architecture: 'llama4'",
}


def test_the_table_is_complete() -> None:
    assert len(signatures()) >= 80
    assert {one.id for one in signatures()} == set(EXAMPLES)
    assert all(one.sources and one.cause.endswith(".") and one.remedy for one in signatures())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_line_that_was_really_seen_is_recognised(name: str) -> None:
    found = explain(f"-- Detecting C compiler ABI info - done\n  {EXAMPLES[name]}\n  ninja: build stopped")
    assert name in {one.signature.id for one in found}
    assert all(one.line in (1, 2) for one in found)


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        ("[build] Killed\n[build] [27/230] Building CUDA object a.cu.o", "oom"),
        ("[build] FAILED: [code=137] ggml/src/ggml-cuda/CMakeFiles/ggml-cuda.dir/fattn.cu.o", "oom"),
        ("nvcc fatal   : Value 'native' is not defined for option 'gpu-architecture'", "unsupported-gpu-arch"),
        ("-- The CXX compiler identification is unknown", "no-c-compiler"),
        ("ggml_init_cublas: no CUDA devices found, CUDA will be disabled", "no-device"),
        ("urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files', port=443): Read timed out.", "network"),
    ],
)
def test_other_words_for_the_same_failure(seen: str, name: str) -> None:
    assert name in {one.signature.id for one in explain(seen)}


def test_a_message_broken_in_two_lines_is_recognised_where_it_begins() -> None:
    log = 'a.h(2): error: exception specification is\n      incompatible with that of previous function "cospi"'
    assert [(one.signature.id, one.line) for one in explain(log)] == [("glibc-cospi", 1)]


def test_causes_come_before_what_follows_from_them() -> None:
    log = "\n".join(
        (EXAMPLES["libcudart-missing"], EXAMPLES["oom"], EXAMPLES["gcc-too-new"], EXAMPLES["default-arch"], EXAMPLES["network"])
    )
    assert [one.signature.id for one in explain(log)] == ["network", "gcc-too-new", "default-arch", "oom", "libcudart-missing"]


def test_a_good_log_shows_nothing() -> None:
    log = """-- CUDA Toolkit found
-- Performing Test CMAKE_HAVE_LIBC_PTHREAD - Success
-- Warning: ccache not found - consider installing it for faster compilation or disable this warning with GGML_CCACHE=OFF
-- Found OpenMP: TRUE (found version "4.5")
[187/187] /usr/bin/g++ -fPIC -O3 -shared -o bin/libmtmd.so
load_tensors: offloaded 33/33 layers to GPU
*** Created llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"""
    assert explain(log) == ()


PLAN = BuildPlan(
    backend="cuda",
    engine_version="0.3.36",
    python="python",
    source="build",
    cmake_args=("-DGGML_CUDA=ON",),
    env={"CMAKE_ARGS": "-DGGML_CUDA=ON", "CMAKE_BUILD_PARALLEL_LEVEL": "8"},
    jobs=8,
    build_requires=("scikit-build-core[pyproject]>=0.9.2", "cmake>=3.21"),
)


def test_memory_running_out_halves_the_jobs_down_to_one() -> None:
    plan, jobs = PLAN, []
    while (again := next_try(plan, explain(EXAMPLES["oom"]))) is not None:
        plan = again.plan
        jobs.append(plan.jobs)
        assert plan.env["CMAKE_BUILD_PARALLEL_LEVEL"] == str(plan.jobs)
        assert "memory ran out" in again.say
        assert not again.fresh
    assert jobs == [4, 2, 1]


def test_a_retry_changes_what_its_rule_says_and_only_once() -> None:
    again = next_try(PLAN, explain(EXAMPLES["ccache-failed"]))
    assert again is not None
    launchers = tuple(f"-DCMAKE_{language}_COMPILER_LAUNCHER=" for language in ("C", "CXX", "CUDA"))
    assert again.plan.cmake_args == ("-DGGML_CUDA=ON", "-DGGML_CCACHE=OFF", *launchers)
    assert again.plan.env["CMAKE_ARGS"] == " ".join(again.plan.cmake_args)
    assert next_try(again.plan, explain(EXAMPLES["ccache-failed"])) is None
    newer = next_try(PLAN, explain(EXAMPLES["cmake-old"]))
    assert newer is not None
    assert newer.plan.build_requires == ("scikit-build-core[pyproject]>=0.9.2", "cmake>=3.31")
    assert newer.plan == dataclasses.replace(PLAN, build_requires=newer.plan.build_requires)
    fresh = next_try(PLAN, explain(EXAMPLES["stale-cmake-cache"]))
    assert fresh is not None
    assert fresh.fresh


def test_what_is_not_known_to_be_safe_is_not_retried() -> None:
    assert next_try(PLAN, explain(EXAMPLES["gcc-too-new"])) is None
    assert next_try(PLAN, ()) is None
