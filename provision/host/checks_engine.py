"""Checks of the installed engine."""

from __future__ import annotations

from provision.host.findings import Check, Finding, Remedy, error, info, ok, skipped, warning
from provision.host.match import cuda_gpus, working_driver
from provision.host.types import Engine, Host

_INSTALL = Remedy(text="Install it, built for this machine.", commands=("provision install --auto",))
_REBUILD = Remedy(text="Build it again for this machine.", commands=("provision install --auto --from-source --no-cache",))
GPU_BACKENDS = ("cuda", "vulkan", "metal", "rocm", "sycl")


# ggml's name of a feature to the kernel's flag in /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h, arch/arm64 hwcaps).
_FLAGS = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "avx": "avx",
    "avx2": "avx2",
    "f16c": "f16c",
    "fma": "fma",
    "bmi2": "bmi2",
    "avx_vnni": "avx_vnni",
    "avx512": "avx512f",
    "avx512_vbmi": "avx512vbmi",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx_int8",
    "neon": "asimd",
    "fp16_va": "asimdhp",
    "dotprod": "asimddp",
    "matmul_int8": "i8mm",
    "sve": "sve",
}


def foreign_features(host: Host) -> tuple[str, ...]:
    """What the engine's CPU part was compiled for and this CPU lacks. Empty where either is unknown."""
    engine = host.engine
    if engine is None or host.system.os != "linux" or not host.cpu.flags:
        return ()
    return tuple(name for name in engine.cpu_features if name in _FLAGS and _FLAGS[name] not in host.cpu.flags)


def unused_features(host: Host) -> tuple[str, ...]:
    """What this CPU has of the features that decide its speed and the engine was not compiled for."""
    engine = host.engine
    if engine is None or host.system.os != "linux" or not engine.cpu_features:
        return ()
    wanted = ("avx2", "fma", "avx512", "dotprod")
    return tuple(name for name in wanted if _FLAGS[name] in host.cpu.flags and name not in engine.cpu_features)


def judge_engine(host: Host) -> list[Finding]:
    engine = host.engine
    if engine is None:
        return [warning("whether llama-cpp-python is installed is unknown")]
    if engine.version is None:
        if engine.problem is not None:
            return [warning(f"llama-cpp-python could not be looked at: {engine.problem}")]
        return [info("llama-cpp-python is not installed yet", remedy=_INSTALL)]
    words = f"llama-cpp-python {engine.version}"
    if engine.problem is not None:
        return [_broken(host, engine, words)]
    if engine.quantized_inference is False:
        return [error(f"{words} gives wrong numbers for a quantized model", remedy=_REBUILD)]
    foreign = ", ".join(foreign_features(host))
    if foreign:
        summary = f"{words} was built for another CPU: it uses {foreign}, which this one lacks, and may die at any model"
        return [warning(summary, remedy=_REBUILD)]
    unused = unused_features(host)
    if {"avx2", "fma", "dotprod"} & set(unused):
        summary = f"{words} was built for an older CPU: it leaves {', '.join(unused)} of this one unused and is slow"
        return [warning(summary, remedy=_REBUILD)]
    detail = f"this CPU's {', '.join(unused)} stays unused" if unused else ""
    proof = "runs a quantized model" if engine.quantized_inference else "loads; a quantized model was not tried"
    return [ok(f"{words} with {', '.join(engine.backends) or 'no backend'} {proof}", detail=detail)]


def _broken(host: Host, engine: Engine, words: str) -> Finding:
    problem = engine.problem or ""
    if "SIGILL" in problem:
        foreign = ", ".join(foreign_features(host))
        evidence = f"it was compiled for {foreign}, which this CPU lacks" if foreign else ""
        return error(f"{words} was built for another CPU: it {problem}", detail=evidence, remedy=_REBUILD)
    if "SIGSEGV" in problem and "quantized" in problem:
        return error(f"{words} {problem}: the compiler that built it got AMX wrong", remedy=_REBUILD)
    if "libcuda.so.1" in problem:
        summary = f"{words} is a CUDA build and the NVIDIA driver's library is missing"
        remedy = Remedy(text="Give it the driver, or build for the CPU.", commands=("provision install --cpu",))
        return error(summary, detail=problem, remedy=remedy)
    if "libcudart" in problem or "libcublas" in problem:
        summary = f"{words} needs CUDA runtime libraries that are missing"
        return error(summary, detail=problem, remedy=Remedy(text="Build it here.", commands=("provision install --cuda",)))
    if "GLIBC" in problem:
        return error(f"{words} was built for a newer system", detail=problem, remedy=_REBUILD)
    return error(f"{words} does not work: {problem}", remedy=_REBUILD)


def judge_backend(host: Host) -> list[Finding]:
    engine = host.engine
    if engine is None or engine.version is None or not engine.loads or engine.problem is not None:
        return [skipped("no working engine")]
    held = [name for name in engine.backends if name in GPU_BACKENDS]
    seen = [device for device in engine.devices if device.kind in ("gpu", "igpu")]
    usable = cuda_gpus(host) if working_driver(host) is not None else ()
    found = []
    if "rpc" in engine.backends and not seen:
        found.append(info("the engine holds RPC: llama_supports_gpu_offload() says yes although it sees no GPU"))
    if usable and not held:
        remedy = Remedy(text="Build it with CUDA.", commands=("provision install --cuda",))
        found.append(warning(f"the engine is built for the CPU only and leaves the GPU idle: {usable[0].name}", remedy=remedy))
    elif held and not seen:
        why = _why_no_device(host)
        found.append(warning(f"the engine holds {', '.join(held)} and sees no GPU{why}", remedy=_no_device_remedy(host)))
    elif seen:
        found.append(ok("the engine sees " + ", ".join(f"{device.description or device.name}" for device in seen)))
    return found or [ok("the engine is built for the CPU, and there is no usable GPU")]


def _why_no_device(host: Host) -> str:
    if host.driver is not None and host.driver.problem is not None:
        return f": the driver has a problem ({host.driver.problem})"
    if host.environment.get("CUDA_VISIBLE_DEVICES") is not None and not cuda_gpus(host):
        return ": CUDA_VISIBLE_DEVICES hides them"
    if cuda_gpus(host):
        return ": the driver may be older than the CUDA it was built with"
    return ""


def _no_device_remedy(host: Host) -> Remedy:
    if cuda_gpus(host) and working_driver(host) is not None:
        return Remedy(text="Build it for the driver that is there now.", commands=("provision install --cuda --from-source",))
    return Remedy(
        text="See what doctor says about the driver.", commands=("provision doctor --only driver --only gpu-visibility",)
    )


CHECKS = (
    Check(
        id="engine",
        title="llama-cpp-python",
        about="Version, whether its libraries load, and whether a quantized model runs, all in a child process. A missing "
        "engine is no trouble: installing it is what comes next. A broken one is an error. What its CPU part was compiled "
        "for is compared with this CPU: instructions it lacks kill the engine sooner or later, unused ones make it slow.",
        judge=judge_engine,
    ),
    Check(
        id="engine-backend",
        title="The engine uses the GPU",
        about="The backends it holds and the devices it sees, enumerated through ggml; `llama_supports_gpu_offload` alone "
        "says yes whenever RPC is compiled in.",
        judge=judge_backend,
    ),
)
