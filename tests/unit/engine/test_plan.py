import dataclasses
from typing import Any

import pytest

from provision.engine.plan import PlanFacts, build_plan
from provision.engine.types import BuildPlan, InstallWish
from provision.engine.vulkan import VulkanSdk
from provision.engine.wheelcache import cache_key
from provision.errors import MachineError, UsageError
from provision.host.compilers import NO_AMX_FLAGS
from provision.host.types import Cpu, Gpu, Host, Memory, System, Tool
from provision.units import GIB
from tests.support.hosts import CMAKE, GCC12, NINJA, driver, linux, nvidia, toolkit

SDK = VulkanSdk(
    header_version=(1, 4, 309),
    include_dir="/usr/include",
    library="/usr/lib/libvulkan.so",
    glslc="/usr/bin/glslc",
    spirv_headers_dir="/usr/share/cmake/SPIRV-Headers",
)

WITHOUT_COMMON = "-DCMAKE_PROJECT_llama_cpp_INCLUDE=/home/p/cmake/without-common.cmake"
PRIVATE = "-DCMAKE_SHARED_LINKER_FLAGS_INIT=-Wl,--exclude-libs,libstdc++.a"
CCACHE = Tool(name="ccache", path="/usr/bin/ccache", version=(4, 8), works=True)
SCCACHE = dataclasses.replace(CCACHE, name="sccache", path="/opt/sccache")


def facts(**changes: Any) -> PlanFacts:
    return PlanFacts(**({"provision_home": "/home/p", "python": "/venv/bin/python", "environ": {}} | changes))


def plan(host: Host, changes: dict[str, Any] | None = None, **wish: Any) -> BuildPlan:
    return build_plan(host, InstallWish(**wish), facts(**(changes or {})))


def why(made: BuildPlan, topic: str) -> str:
    return "; ".join(str(reason) for reason in made.reasons if reason.topic == topic)


def test_a_cpu_plan_in_full() -> None:
    made = plan(linux())
    assert made.backend == "cpu"
    flags = ("-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON", WITHOUT_COMMON, PRIVATE)
    assert made.cmake_args == flags
    assert dict(made.files) == {"/home/p/cmake/without-common.cmake": "set(LLAMA_BUILD_COMMON OFF)\n"}
    assert dict(made.env) == {
        "CMAKE_ARGS": " ".join(flags),
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": "2",
        "NINJA_STATUS": "[%f/%t] ",
        "SKBUILD_WHEEL_EXCLUDE": "lib/**;include/**",
    }
    assert made.build_requires == ("scikit-build-core[pyproject]>=0.9.2",)
    assert made.warnings == ()
    assert why(made, "backend") == "backend: cpu (no usable GPU)"
    assert made.estimated_s == 120


def test_a_cuda_plan_in_full() -> None:
    host = linux(gpus=(nvidia((8, 9), "NVIDIA L4"),), driver=driver((570, 86, 10), (12, 8)), toolkits=(toolkit((12, 4, 131)),))
    made = plan(host)
    assert made.backend == "cuda"
    assert made.cuda_archs == ("89",)
    assert set(made.cmake_args) == {
        "-DGGML_CUDA=ON",
        "-DCMAKE_CUDA_ARCHITECTURES=89-real",
        "-DCUDAToolkit_ROOT=/usr/local/cuda",
        "-DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc",
        "-DGGML_CUDA_NCCL=OFF",
        "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
        WITHOUT_COMMON,
        PRIVATE,
    }
    # One root everywhere, or CMake 3.25 mixes two toolkits.
    assert made.env["CUDACXX"] == "/usr/local/cuda/bin/nvcc"
    assert made.env["CUDA_PATH"] == "/usr/local/cuda"
    assert made.env["PATH"] == "/usr/local/cuda/bin"
    assert "NVIDIA L4" in why(made, "architectures")


def test_without_a_toolkit_one_is_assembled_from_pypi() -> None:
    host = linux(gpus=(nvidia((12, 0), "RTX 5090"),), driver=driver((580, 95), (13, 0)))
    made = plan(host, backend="cuda")
    assert made.toolkit is not None
    assert made.toolkit.kind == "pypi"
    assert made.toolkit.version == (13, 0)
    assert "nvidia-cuda-nvcc==13.0.88.*" in made.toolkit.packages
    assert not any("nvrtc" in package for package in made.toolkit.packages)
    assert made.runtime_packages == ("nvidia-cuda-runtime==13.0.96.*", "nvidia-cublas==13.1.1.3.*")
    assert "-DCUDA_cuda_driver_LIBRARY=/home/p/toolkits/cuda-13.0/lib/stubs/libcuda.so" in made.cmake_args
    assert "-DCMAKE_CUDA_ARCHITECTURES=120-real" in made.cmake_args


def test_the_miscompiling_toolkit_is_passed_over() -> None:
    made = plan(linux(gpus=(nvidia((8, 9)),), driver=driver((595, 45), (13, 2))), backend="cuda")
    assert made.toolkit is not None
    assert made.toolkit.version == (13, 1)


def test_the_miscompiling_toolkit_asked_for_gets_its_workaround() -> None:
    host = linux(gpus=(nvidia((8, 9)),), driver=driver((595, 45), (13, 2)), toolkits=(toolkit((13, 2)),))
    made = plan(host, backend="cuda", toolkit="system")
    assert "-DCMAKE_CUDA_FLAGS=-Xcicc -O1" in made.cmake_args
    assert any("IQ3" in warning for warning in made.warnings)


def test_the_toolkit_must_know_the_gpu() -> None:
    host = linux(gpus=(nvidia((12, 0)),), driver=driver((580, 95)), toolkits=(toolkit((12, 4)),))
    made = plan(host, backend="cuda")
    assert made.toolkit is not None
    assert made.toolkit.kind == "pypi"
    assert "does not compile for this GPU (sm_120 needs" in why(made, "toolkit")


def test_an_old_driver_with_no_toolkit_gets_a_named_reason() -> None:
    with pytest.raises(MachineError) as caught:
        plan(linux(gpus=(nvidia((6, 1), "GTX 1080"),), driver=driver((535, 54), (12, 2))), backend="cuda")
    assert caught.value.code == "no-cuda-toolkit"
    assert "sm_61 needs CUDA 11.8 to 12.9" in caught.value.message
    assert "provision" in caught.value.hint


def test_auto_without_any_toolkit_says_why_it_is_cpu() -> None:
    made = plan(linux(gpus=(nvidia((6, 1), "GTX 1080"),), driver=driver((535, 54), (12, 2))))
    assert made.backend == "cpu"
    assert "61" in why(made, "not cuda")


def test_a_compiler_too_new_for_nvcc_is_replaced_by_an_older_one() -> None:
    newer = dataclasses.replace(GCC12, version=(14, 2, 0))
    old = Tool(name="g++-13", path="/usr/bin/g++-13", version=(13, 3, 0), works=True, detail="gcc")
    host = linux(
        gpus=(nvidia((8, 6)),), driver=driver((550, 54, 14)), toolkits=(toolkit((12, 4)),), tools=(newer, old, CMAKE, NINJA)
    )
    made = plan(host, backend="cuda")
    assert "-DCMAKE_CUDA_HOST_COMPILER=/usr/bin/g++-13" in made.cmake_args
    with pytest.raises(MachineError, match="refuses gcc 14"):
        plan(dataclasses.replace(host, tools=(newer, CMAKE, NINJA)), backend="cuda", toolkit="system")


def test_a_driver_that_does_not_answer_stops_a_cuda_install_before_it_builds() -> None:
    broken = dataclasses.replace(driver((580, 95)), problem="version mismatch")
    host = linux(gpus=(nvidia((8, 9)),), driver=broken, toolkits=(toolkit((13, 0)),))
    with pytest.raises(MachineError, match="does not answer: version mismatch"):
        plan(host, backend="cuda")
    assert plan(host).backend == "cpu"


def test_gpus_no_single_toolkit_serves_are_left_out_by_name() -> None:
    gpus = (nvidia((6, 1), "GTX 1080"), nvidia((12, 0), "RTX 5090", index=1))
    host = linux(gpus=gpus, driver=driver((580, 95), (13, 0)), toolkits=(toolkit((13, 0)),))
    made = plan(host, backend="cuda")
    assert made.cuda_archs == ("120",)
    assert "does not compile for 61" in made.warnings[0]
    with pytest.raises(MachineError, match="does not compile for all of 61, 120"):
        plan(host, backend="cuda", cuda_archs=("61", "120"))


def test_the_root_cmake_args_name_is_used_everywhere() -> None:
    host = linux(gpus=(nvidia((8, 9)),), driver=driver((550, 54, 14)), toolkits=(toolkit((12, 4), "/usr/local/cuda-12.4"),))
    made = plan(host, {"cmake_args": "-DCUDAToolkit_ROOT=/usr/local/cuda"}, backend="cuda")
    assert "/usr/local/cuda-12.4" not in " ".join((*made.cmake_args, *made.env.values()))
    assert made.env["CUDACXX"] == "/usr/local/cuda/bin/nvcc"
    assert any("names the CUDA root" in warning for warning in made.warnings)


def test_kernel_compression_an_old_driver_cannot_read_is_turned_down() -> None:
    host = linux(gpus=(nvidia((8, 0)),), driver=driver((535, 54, 3), (12, 2)), toolkits=(toolkit((12, 8)),))
    assert "-DGGML_CUDA_COMPRESSION_MODE=speed" in plan(host, backend="cuda").cmake_args


def test_glibc_2_41_rules_out_old_toolkits() -> None:
    system = System(os="linux", arch="x86_64", distribution="debian 13", libc="glibc", libc_version=(2, 41))
    host = linux(system=system, gpus=(nvidia((8, 9)),), driver=driver((575, 51), (12, 9)), toolkits=(toolkit((12, 9)),))
    with pytest.raises(MachineError, match=r"glibc 2\.41"):
        plan(host, backend="cuda")


def test_building_for_another_machine_needs_no_gpu() -> None:
    made = plan(linux(), backend="cuda", cuda_archs=("89",), gpu_check=False)
    assert made.cuda_archs == ("89",)
    assert not made.gpu_check
    # Neither may the CPU part be for this machine.
    assert "-DGGML_NATIVE=OFF" in made.cmake_args
    assert made.cpu_key == ""
    with pytest.raises(MachineError) as caught:
        plan(linux(), backend="cuda")
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-cuda-gpu", 3)


@pytest.mark.parametrize(("verdict", "flags_added"), [("miscompiles", True), ("untested", True), ("trusted", False)])
def test_amx_is_left_out_unless_the_compiler_is_trusted(verdict: Any, flags_added: bool) -> None:
    host = linux(cpu=Cpu(cores=4, flags=("amx_tile", "avx512f"), amx_compiler=verdict))
    made = plan(host, {"environ": {"CFLAGS": "-O3"}})
    assert (made.env.get("CFLAGS") == "-O3 " + " ".join(NO_AMX_FLAGS)) is flags_added
    assert (made.env.get("CXXFLAGS") == " ".join(NO_AMX_FLAGS)) is flags_added


@pytest.mark.parametrize(
    ("cores", "available", "backend", "jobs"),
    [
        (16, 64, "cpu", 16),
        (16, 4, "cpu", 4),
        (16, 0.5, "cpu", 1),
        (8, 10, "cuda", 4),
        (8, 3, "cuda", 1),
        (None, None, "cpu", 1),
    ],
)
def test_jobs_follow_cores_and_memory(cores: int | None, available: float | None, backend: Any, jobs: int) -> None:
    free = None if available is None else round(available * GIB)
    host = linux(
        cpu=Cpu(cores=cores, amx_compiler="not-needed"),
        memory=Memory(available_bytes=free),
        gpus=(nvidia((8, 9)),),
        driver=driver((580, 95), (13, 0)),
    )
    made = plan(host, backend=backend)
    assert (made.jobs, made.env["CMAKE_BUILD_PARALLEL_LEVEL"]) == (jobs, str(jobs))


def test_the_users_number_of_jobs_wins() -> None:
    made = plan(linux(), {"environ": {"CMAKE_BUILD_PARALLEL_LEVEL": "1"}})
    assert (made.jobs, made.env["CMAKE_BUILD_PARALLEL_LEVEL"]) == (1, "1")
    assert plan(linux(), {"environ": {"CMAKE_BUILD_PARALLEL_LEVEL": "many"}}).jobs == plan(linux()).jobs


@pytest.mark.parametrize(
    "asked",
    [
        {"cmake_args": "-DLLAMA_BUILD_COMMON=ON"},
        {"cmake_args": "-DLLAMA_BUILD_SERVER=ON"},
        {"cmake_args": "-DCMAKE_PROJECT_llama_cpp_INCLUDE=/my/own.cmake"},
    ],
)
def test_what_needs_common_gets_common(asked: dict[str, Any]) -> None:
    made = plan(linux(), asked)
    assert WITHOUT_COMMON not in made.cmake_args
    assert not made.files
    assert not why(made, "left out")


def test_common_is_built_by_versions_whose_build_files_were_not_read() -> None:
    assert not plan(linux(), engine_version="0.3.35").files


def test_a_compiler_cache_is_used_and_leaves_the_key_alone() -> None:
    with_cache = linux(tools=(*linux().tools, CCACHE, SCCACHE))
    made = plan(with_cache)
    assert made.env["CMAKE_C_COMPILER_LAUNCHER"] == made.env["CMAKE_CXX_COMPILER_LAUNCHER"] == "/usr/bin/ccache"
    assert made.env["CCACHE_BASEDIR"] == "/home/p/builds"
    assert "CMAKE_CUDA_COMPILER_LAUNCHER" not in made.env
    assert cache_key(made) == cache_key(plan(linux()))
    assert "ccache is on PATH" in why(made, "compiler cache")
    cuda = plan(with_cache, backend="cuda", cuda_archs=("89",), gpu_check=False)
    assert cuda.env["CMAKE_CUDA_COMPILER_LAUNCHER"] == "/usr/bin/ccache"
    other = plan(linux(tools=(*linux().tools, SCCACHE)))
    assert other.env["CMAKE_C_COMPILER_LAUNCHER"] == "/opt/sccache"
    assert "CCACHE_BASEDIR" not in other.env


@pytest.mark.parametrize(
    "changes",
    [
        {"cmake_args": "-DGGML_CCACHE=OFF"},
        {"cmake_args": "-DCMAKE_CXX_COMPILER_LAUNCHER=distcc"},
        {"environ": {"CCACHE_DISABLE": "1"}},
        {"environ": {"CMAKE_C_COMPILER_LAUNCHER": "distcc"}},
    ],
)
def test_what_the_user_decided_about_compiler_caches_stands(changes: dict[str, Any]) -> None:
    made = plan(linux(tools=(*linux().tools, CCACHE)), changes)
    assert "CMAKE_CXX_COMPILER_LAUNCHER" not in made.env


def test_a_compiler_cache_that_does_not_run_is_not_used() -> None:
    broken = dataclasses.replace(CCACHE, works=False)
    assert "CMAKE_C_COMPILER_LAUNCHER" not in plan(linux(tools=(*linux().tools, broken))).env


def test_old_or_missing_build_tools_come_from_pypi() -> None:
    old = dataclasses.replace(CMAKE, version=(3, 16, 3))
    made = plan(linux(tools=(GCC12, old)))
    assert made.build_requires[1:] == ("cmake>=3.21", "ninja>=1.5")
    assert "too old" in why(made, "cmake")


@pytest.mark.parametrize(
    ("distribution", "hint"),
    [("debian 12", "apt install build-essential"), ("fedora 42", "dnf install"), ("alpine 3.20", "apk add")],
)
def test_no_compiler_is_named_with_the_command_that_brings_one(distribution: str, hint: str) -> None:
    system = System(os="linux", arch="x86_64", distribution=distribution)
    with pytest.raises(MachineError) as caught:
        plan(linux(system=system, tools=(CMAKE, NINJA)))
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-compiler", 3)
    assert hint in caught.value.hint


def test_cmake_args_choose_the_backend_under_auto_and_contradict_a_flag() -> None:
    changes = {"cmake_args": "-DLLAMA_CUBLAS=on", "environ": {"FORCE_CMAKE": "1"}}
    host = linux(gpus=(nvidia((8, 9)),), driver=driver((580, 95)))
    made = plan(host, changes)
    assert made.backend == "cuda"
    assert any("LLAMA_CUBLAS is dead" in warning for warning in made.warnings)
    assert any("FORCE_CMAKE" in warning for warning in made.warnings)
    with pytest.raises(UsageError) as caught:
        plan(host, changes, backend="cpu")
    assert caught.value.code == "conflicting-backend"


def test_a_build_that_is_not_native_needs_no_amx_flags() -> None:
    host = linux(cpu=Cpu(cores=4, flags=("amx_tile",), amx_compiler="miscompiles"))
    assert "CFLAGS" in plan(host).env
    assert "CFLAGS" not in plan(host, {"cmake_args": "-DGGML_NATIVE=OFF"}).env


def test_cmake_args_win_and_the_plan_says_so() -> None:
    made = plan(linux(), {"cmake_args": "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=OFF -DGGML_NATIVE=OFF"})
    assert made.cmake_args == ("-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=OFF", WITHOUT_COMMON, PRIVATE, "-DGGML_NATIVE=OFF")
    assert "CMAKE_ARGS wins" in made.warnings[0]
    assert made.cpu_key == ""


def test_vulkan_names_what_is_missing() -> None:
    amd = Gpu(index=0, name="Radeon RX 7900", vendor="amd", source="sysfs")
    assert plan(linux(gpus=(amd,)), {"vulkan": SDK}).backend == "vulkan"
    old = dataclasses.replace(SDK, header_version=(1, 3, 239), glslc=None, spirv_headers_dir=None)
    with pytest.raises(MachineError) as caught:
        plan(linux(), {"vulkan": old}, backend="vulkan")
    for name in ("1.3.239", "glslc", "SPIRV-Headers"):
        assert name in caught.value.message
    made = plan(linux(gpus=(amd,)), {"vulkan": old})
    assert made.backend == "cpu"
    assert "1.3.239" in why(made, "not vulkan")


def test_a_hidden_gpu_is_not_built_for() -> None:
    made = plan(
        linux(gpus=(nvidia((8, 9), visible=False),), driver=driver((580, 95)), environment={"CUDA_VISIBLE_DEVICES": ""})
    )
    assert made.backend == "cpu"
    assert "hides" in why(made, "not cuda")


def test_apple_silicon_gets_metal() -> None:
    clang = Tool(name="clang++", path="/usr/bin/clang++", version=(17, 0), works=True)
    mac = linux(system=System(os="darwin", arch="arm64"), tools=(clang, CMAKE, NINJA))
    made = plan(mac)
    assert (made.backend, "-DGGML_METAL=ON" in made.cmake_args) == ("metal", True)
    with pytest.raises(MachineError):
        plan(linux(), backend="metal")


def test_the_cache_key_changes_with_everything_that_matters_and_nothing_else() -> None:
    base = plan(linux())
    key = cache_key(base)
    assert key.startswith("cpu-0.3.36-")
    assert cache_key(plan(linux(memory=Memory(available_bytes=GIB)))) == key
    other = [
        plan(linux(), engine_version="0.3.35"),
        plan(linux(cpu=Cpu(cores=2, flags=("avx512f",), amx_compiler="not-needed"))),
        plan(linux(tools=(dataclasses.replace(GCC12, version=(13, 1)), CMAKE, NINJA))),
        plan(linux(), {"cmake_args": "-DGGML_LTO=ON"}),
        plan(linux(system=System(os="linux", arch="x86_64", libc="glibc", libc_version=(2, 41)))),
        plan(linux(), {"vulkan": SDK}, backend="vulkan"),
        plan(linux(), backend="cuda", cuda_archs=("89",), gpu_check=False),
        plan(linux(), backend="cuda", cuda_archs=("90",), gpu_check=False),
    ]
    keys = [cache_key(made) for made in other]
    assert len({key, *keys}) == len(keys) + 1
