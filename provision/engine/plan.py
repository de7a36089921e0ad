"""From a machine and a wish to a complete plan with reasons. Pure: the executor adds nothing to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from provision.engine.compiling import compiler_cache, leave_out_common
from provision.engine.cuda_plan import CudaPlan, NoToolkit, plan_cuda, why_no_gpu
from provision.engine.flags import UserFlags, cmake_args_text, dead_environment, is_on, merge, parse_cmake_args
from provision.engine.linking import keep_libstdcxx_private
from provision.engine.prebuilt import IndexPages, choose_prebuilt, wanted_tags
from provision.engine.types import Backend, BuildPlan, InstallWish, PrebuiltChoice, Reason
from provision.engine.vulkan import VulkanSdk, why_not_vulkan
from provision.errors import MachineError, UsageError
from provision.host.compilers import NO_AMX_FLAGS, cxx_of
from provision.host.match import cuda_gpus
from provision.host.packages import compiler_command
from provision.host.types import Host, Tool
from provision.units import GIB, MIB

# llama-cpp-python 0.3.36, pyproject.toml: cmake.minimum-version.
_CMAKE_MIN = (3, 21)
_NINJA_MIN = (1, 5)
_BUILD_BACKEND = "scikit-build-core[pyproject]>=0.9.2"
# Core-seconds of one build, measured on two cores in 2026-11: CPU 237 s, CUDA 13.0 for one architecture 38 min. Vulkan took
# 640 s before libllama-common was left out, which saves 180 s. Sixteen threads of a Xeon took 248 s for CUDA, so threads count
# for less than cores: between the two. How CUDA grows with more architectures is an estimate.
_CORE_SECONDS: Mapping[Backend, float] = {"cpu": 240.0, "vulkan": 460.0, "cuda": 3000.0, "metal": 300.0, "rocm": 3000.0}
_CUDA_NEXT_ARCH_SHARE = 0.7
# The unpacked source is 217 MiB and a CPU build tree about as much [measured]; an assembled CUDA toolkit is 957 MB, its
# downloads 566 MB; the CUDA build tree is an estimate.
_DISK: Mapping[Backend, int] = {
    "cpu": 600 * MIB,
    "vulkan": 800 * MIB,
    "cuda": 2 * GIB,
    "metal": 800 * MIB,
    "rocm": 3 * GIB,
}
_PYPI_TOOLKIT_DISK = 1600 * MIB
# Per job. CUDA: the rule of unslothai/unsloth's setup script, (RAM - 2 GiB) / 2 GiB; C++: libllama's largest files.
_MEMORY_PER_JOB: Mapping[Backend, int] = {"cpu": GIB, "vulkan": GIB, "cuda": 2 * GIB, "metal": GIB, "rocm": 2 * GIB}
_MEMORY_KEPT_FREE = {"cuda": 2 * GIB, "rocm": 2 * GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """What a plan needs besides the host: our folders, the user's flags, and what was read for it."""

    provision_home: str
    python: str
    cmake_args: str = ""
    environ: Mapping[str, str]
    vulkan: VulkanSdk | None = None
    index: IndexPages | None = None
    """Pages of the prebuilt wheel index; None when they could not be read."""
    index_problem: str = ""


def build_plan(host: Host, wish: InstallWish, facts: PlanFacts) -> BuildPlan:
    """The plan for `wish` on `host`; MachineError when the machine cannot serve it, UsageError for contradicting flags."""
    user = parse_cmake_args(facts.cmake_args)
    backend, backend_reasons = _choose_backend(host, wish, user, facts)
    cuda = plan_cuda(host, wish, toolkits_dir=f"{facts.provision_home}/toolkits") if backend == "cuda" else None
    warnings = user.warnings + dead_environment(facts.environ)
    prebuilt, prebuilt_reasons = _consider_prebuilt(host, wish, facts, backend, cuda)
    if prebuilt is not None:
        return BuildPlan(
            backend=backend,
            engine_version=wish.engine_version,
            python=facts.python,
            source="prebuilt",
            prebuilt=prebuilt,
            cuda_archs=cuda.archs if cuda else (),
            platform_key=platform_key(host),
            gpu_check=wish.gpu_check,
            disk_bytes=_PYPI_TOOLKIT_DISK if prebuilt.runtime_packages else 400 * MIB,
            reasons=backend_reasons + prebuilt_reasons,
            warnings=warnings,
        )
    if isinstance(cuda, NoToolkit):
        raise _no_toolkit(cuda, prebuilt_reasons)
    return _build(host, wish, facts, user, backend, cuda, backend_reasons + prebuilt_reasons, warnings)


def index_tags(host: Host, wish: InstallWish) -> tuple[str, ...]:
    """Pages of the prebuilt index worth reading before planning; empty when a build is certain."""
    if wish.source == "build" or not wish.gpu_check:
        return ()
    tags: list[str] = []
    wants_cuda = wish.backend == "cuda" or (wish.backend == "auto" and bool(cuda_gpus(host)))
    if wants_cuda:
        tags += wanted_tags(host, "cuda")
    if wish.source == "prebuilt" or cxx_of(host.tools) is None:
        tags += [tag for one in _other_backends(host, wish) for tag in wanted_tags(host, one)]
    return tuple(tags)


def _other_backends(host: Host, wish: InstallWish) -> tuple[Backend, ...]:
    """Backends besides CUDA that the plan may come to."""
    if wish.backend != "auto":
        return (wish.backend,) if wish.backend != "cuda" else ()
    if host.system.os == "darwin":
        return "metal", "cpu"
    return ("cpu", "vulkan", "rocm") if any(gpu.visible for gpu in host.gpus) else ("cpu",)


def platform_key(host: Host) -> str:
    """Operating system, machine and C library, as far as a wheel depends on them."""
    libc = f"{host.system.libc}{'.'.join(map(str, host.system.libc_version or ()))}" if host.system.libc else "libc?"
    return f"{host.system.os}-{host.system.arch}-{libc}"


def _choose_backend(host: Host, wish: InstallWish, user: UserFlags, facts: PlanFacts) -> tuple[Backend, tuple[Reason, ...]]:
    if wish.backend != "auto":
        if user.backend is not None and user.backend != wish.backend:
            raise UsageError(
                f"--{wish.backend} was asked for, but CMAKE_ARGS switches {user.backend} on",
                code="conflicting-backend",
                hint=f"unset CMAKE_ARGS, or: provision install --{user.backend}",
            )
        if wish.backend == "metal" and host.system.os != "darwin":
            raise MachineError("Metal exists on macOS only", code="no-metal", hint="provision install --auto")
        builds = wish.source != "prebuilt"
        if builds and wish.backend == "vulkan" and (lacks := why_not_vulkan(host, facts.vulkan)):
            raise MachineError(f"cannot build for Vulkan: {lacks.message}", code="vulkan-missing", hint=lacks.hint)
        if builds and wish.backend == "rocm" and host.tool("hipcc") is None:
            raise MachineError(
                "cannot build for ROCm: no hipcc (ROCm 6.1 or newer)", code="rocm-missing", hint="provision install --vulkan"
            )
        return wish.backend, (Reason(topic="backend", choice=wish.backend, because="asked for"),)
    if user.backend is not None:
        return user.backend, (Reason(topic="backend", choice=user.backend, because="CMAKE_ARGS switches it on"),)
    return _auto_backend(host, wish, facts)


def _auto_backend(host: Host, wish: InstallWish, facts: PlanFacts) -> tuple[Backend, tuple[Reason, ...]]:
    said: list[Reason] = []
    if host.system.os == "darwin":
        if host.system.arch == "arm64":
            return "metal", (Reason(topic="backend", choice="metal", because="Apple silicon"),)
        return "cpu", (Reason(topic="backend", choice="cpu", because="Metal on Intel Macs is not tried here"),)
    if not (why := why_no_gpu(host)):
        cuda = plan_cuda(host, wish, toolkits_dir=f"{facts.provision_home}/toolkits")
        prebuilt, _ = _consider_prebuilt(host, wish, facts, "cuda", cuda)
        if isinstance(cuda, CudaPlan) or prebuilt is not None:
            return "cuda", (
                Reason(topic="backend", choice="cuda", because=f"{cuda_gpus(host)[0].name} and its driver are here"),
            )
        said.append(Reason(topic="not cuda", choice="no toolkit for this GPU", because="; ".join(cuda.rejected)))
    elif any(gpu.vendor == "nvidia" for gpu in host.gpus):
        said.append(Reason(topic="not cuda", choice="the NVIDIA GPU is not usable", because=why))
    others = [gpu for gpu in host.gpus if gpu.vendor in ("amd", "intel", "nvidia") and gpu.visible]
    if any(gpu.vendor == "amd" for gpu in others) and host.tool("hipcc") is not None:
        return "rocm", (*said, Reason(topic="backend", choice="rocm", because="an AMD GPU and hipcc are here"))
    if others:
        lacks = why_not_vulkan(host, facts.vulkan)
        if lacks is None:
            return "vulkan", (
                *said,
                Reason(topic="backend", choice="vulkan", because=f"{others[0].name} and the Vulkan SDK are here"),
            )
        said.append(Reason(topic="not vulkan", choice="cannot be built here", because=lacks.message))
    because = "no usable GPU" if not said else "no GPU backend can be had here"
    return "cpu", (*said, Reason(topic="backend", choice="cpu", because=because))


def _consider_prebuilt(
    host: Host, wish: InstallWish, facts: PlanFacts, backend: Backend, cuda: CudaPlan | NoToolkit | None
) -> tuple[PrebuiltChoice | None, tuple[Reason, ...]]:
    """A wheel of the index, when one is wanted and matches."""
    compiler = cxx_of(host.tools)
    if wish.source == "build" or not wish.gpu_check:
        return None, (Reason(topic="source", choice="build", because="asked for" if wish.gpu_check else "for another machine"),)
    if wish.source == "any" and backend not in ("cuda",) and compiler is not None:
        because = "a compiler is here; prebuilt wheels are made for the CPU of another machine"
        return None, (Reason(topic="source", choice="build", because=because),)
    archs = cuda.archs if cuda is not None else ()
    choice, why = choose_prebuilt(host, wish, backend, archs, facts.index, facts.index_problem)
    if choice is not None:
        return choice, (Reason(topic="source", choice=choice.filename, because=why),)
    if wish.source == "prebuilt":
        raise MachineError(
            f"no prebuilt wheel serves this machine: {why}", code="no-prebuilt", hint="provision install --from-source"
        )
    return None, (Reason(topic="source", choice="build", because=why),)


def _no_toolkit(cuda: NoToolkit, prebuilt: tuple[Reason, ...]) -> MachineError:
    tried = [*cuda.rejected, *(f"prebuilt wheel: {reason.because}" for reason in prebuilt)]
    return MachineError(
        f"no CUDA toolkit can build for architecture {', '.join(cuda.archs)} here: " + "; ".join(tried),
        code="no-cuda-toolkit",
        hint="provision doctor --only cuda-toolkits; or without the GPU: provision install --cpu",
    )


def _build(
    host: Host,
    wish: InstallWish,
    facts: PlanFacts,
    user: UserFlags,
    backend: Backend,
    cuda: CudaPlan | None,
    reasons: tuple[Reason, ...],
    warnings: tuple[str, ...],
) -> BuildPlan:
    compiler = _compiler(host)
    ours, env, flag_reasons, flag_warnings = _flags(wish, user, backend, cuda)
    lean, files, lean_reasons = leave_out_common(wish, user, folder=f"{facts.provision_home}/cmake")
    private, private_reasons = keep_libstdcxx_private(host, user)
    ours |= lean | private
    said = [*reasons, *flag_reasons, *lean_reasons, *private_reasons]
    toolkit = cuda.toolkit if cuda is not None else None
    arguments, overridden = merge(ours, user)
    native = is_on(user.defines.get("GGML_NATIVE", ours.get("GGML_NATIVE", "ON")))
    jobs, job_reason = _jobs(host, backend, facts.environ)
    tools, tool_reasons = _build_tools(host)
    amx, amx_reasons = _amx_flags(host, facts.environ, compiler) if native else ({}, ())
    said += [job_reason, *tool_reasons, *amx_reasons]
    launchers, cache_reasons = compiler_cache(host, user, facts.environ, backend, builds=f"{facts.provision_home}/builds")
    said += cache_reasons
    env |= launchers | {
        "CMAKE_ARGS": cmake_args_text(arguments),
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "NINJA_STATUS": "[%f/%t] ",
        "SKBUILD_WHEEL_EXCLUDE": "lib/**;include/**",
        **amx,
    }
    seconds = _CORE_SECONDS[backend] / jobs
    if cuda is not None:
        seconds *= 1 + _CUDA_NEXT_ARCH_SHARE * (len(cuda.archs) - 1)
    return BuildPlan(
        backend=backend,
        engine_version=wish.engine_version,
        python=facts.python,
        source="build",
        cmake_args=arguments,
        env=env,
        files=files,
        jobs=jobs,
        build_requires=(_BUILD_BACKEND, *tools),
        cuda_archs=cuda.archs if cuda is not None else (),
        toolkit=toolkit,
        compiler=f"{compiler.name} {'.'.join(map(str, compiler.version or ())) or '?'}",
        platform_key=platform_key(host),
        cpu_key=hashlib.sha256(" ".join(sorted(host.cpu.flags)).encode()).hexdigest()[:16] if native else "",
        gpu_check=wish.gpu_check,
        estimated_s=seconds,
        disk_bytes=_DISK[backend] + (_PYPI_TOOLKIT_DISK if toolkit is not None and toolkit.kind == "pypi" else 0),
        reasons=tuple(said),
        warnings=warnings + flag_warnings + overridden,
    )


def _flags(
    wish: InstallWish, user: UserFlags, backend: Backend, cuda: CudaPlan | None
) -> tuple[dict[str, str], dict[str, str], tuple[Reason, ...], tuple[str, ...]]:
    """(definitions for CMake, environment, reasons, warnings) before the user's own flags are merged in."""
    ours: dict[str, str] = {}
    env: dict[str, str] = {}
    said: list[Reason] = []
    warnings: tuple[str, ...] = ()
    if cuda is not None:
        ours |= cuda.defines
        env |= cuda.env
        said += cuda.reasons
        warnings += cuda.warnings
        if (root := user.defines.get("CUDAToolkit_ROOT")) is not None:
            ours |= {"CUDAToolkit_ROOT": root, "CMAKE_CUDA_COMPILER": f"{root}/bin/nvcc"}
            env |= {"CUDACXX": f"{root}/bin/nvcc", "CUDA_PATH": root, "PATH": f"{root}/bin"}
            warnings += (f"CMAKE_ARGS names the CUDA root {root}; used everywhere instead of {cuda.toolkit.root}",)
    elif backend != "cpu":
        ours[{"vulkan": "GGML_VULKAN", "metal": "GGML_METAL", "rocm": "GGML_HIP"}[backend]] = "ON"
    ours["CMAKE_PLATFORM_NO_VERSIONED_SONAME"] = "ON"
    said.append(Reason(topic="wheel", choice="one copy of each library", because="plain wheels carry every library six times"))
    if not wish.gpu_check:
        ours["GGML_NATIVE"] = "OFF"
        said.append(Reason(topic="CPU code", choice="not native", because="the other machine's CPU is not known"))
    return ours, env, tuple(said), warnings


def _compiler(host: Host) -> Tool:
    tool = cxx_of(host.tools)
    if tool is None:
        message = "no C++ compiler was found, and the engine has to be built here"
        raise MachineError(message, code="no-compiler", hint=compiler_command(host))
    if tool.works is False:
        message = f"the C++ compiler {tool.path} does not compile a small program: {tool.detail or 'no reason given'}"
        raise MachineError(message, code="broken-compiler", hint=compiler_command(host))
    return tool


def _jobs(host: Host, backend: Backend, environ: Mapping[str, str]) -> tuple[int, Reason]:
    cores = host.cpu.cores
    asked = environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "").strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked), Reason(topic="jobs", choice=asked, because="CMAKE_BUILD_PARALLEL_LEVEL says so")
    available = host.memory.available_bytes
    by_cores = cores or 1
    if available is None:
        return min(by_cores, 2), Reason(topic="jobs", choice=str(min(by_cores, 2)), because="free memory is unknown")
    per_job = _MEMORY_PER_JOB[backend]
    by_memory = max(1, (available - _MEMORY_KEPT_FREE.get(backend, 0)) // per_job)
    jobs = max(1, min(by_cores, by_memory))
    room = f"{available / GIB:.1f} GiB free for about {per_job / GIB:.0f} GiB a job"
    because = f"{cores if cores is not None else 'unknown'} cores, {room}"
    return jobs, Reason(topic="jobs", choice=str(jobs), because=because)


def _build_tools(host: Host) -> tuple[tuple[str, ...], tuple[Reason, ...]]:
    """cmake and ninja of the machine when new enough, else PyPI's in the build environment."""
    wanted: list[str] = []
    reasons: list[Reason] = []
    for name, floor in (("cmake", _CMAKE_MIN), ("ninja", _NINJA_MIN)):
        tool = host.tool(name)
        text = ".".join(map(str, floor))
        if tool is not None and tool.works is not False and tool.version is not None and tool.version >= floor:
            reasons.append(
                Reason(topic=name, choice=tool.path, because=f"version {'.'.join(map(str, tool.version))}, {text} is enough")
            )
            continue
        why = (
            "none on this machine" if tool is None else f"the one in {tool.path} is too old or does not run ({text} is needed)"
        )
        wanted.append(f"{name}>={text}")
        reasons.append(Reason(topic=name, choice="from PyPI, in the build environment", because=why))
    return tuple(wanted), tuple(reasons)


def _amx_flags(host: Host, environ: Mapping[str, str], compiler: Tool) -> tuple[dict[str, str], tuple[Reason, ...]]:
    verdict: Literal["trusted", "miscompiles", "untested", "not-needed"] = host.cpu.amx_compiler
    has_amx = any(flag.startswith("amx") for flag in host.cpu.flags)
    if verdict == "not-needed" or verdict == "trusted" or not has_amx:
        return {}, ()
    why = (
        f"a test program compiled by {compiler.path} died on this CPU's AMX, as every quantized model would"
        if verdict == "miscompiles"
        else "this CPU has AMX and the compiler could not be tried with it; GCC 12 is known to miscompile it"
    )
    added = " ".join(NO_AMX_FLAGS)
    env = {name: f"{environ[name]} {added}" if environ.get(name) else added for name in ("CFLAGS", "CXXFLAGS")}
    return env, (Reason(topic="AMX", choice="left out", because=why),)
