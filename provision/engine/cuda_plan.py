"""Which CUDA toolkit, architectures and host compiler a build uses, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provision.engine.types import InstallWish, Reason, ToolkitChoice
from provision.errors import MachineError
from provision.host.cuda_tables import (
    ToolkitFacts,
    all_toolkits,
    arch_toolkit_range,
    driver_verdict,
    known_defects,
    toolkit_facts,
    version_text,
)
from provision.host.types import CudaToolkit, Gpu, Host, Tool, Version

_RANK = {"runs": 0, "native-only": 1, "unknown": 2}
# What nvcc, cudart, cublas and cccl need; cuda-toolkit's extras would also pull nvrtc, which ggml does not use.
_TOOLKIT_PACKAGES = (
    "nvidia-cuda-nvcc",
    "nvidia-nvvm",
    "nvidia-cuda-crt",
    "nvidia-cuda-runtime",
    "nvidia-cuda-cccl",
    "nvidia-cublas",
)
_RUNTIME_PACKAGES = ("nvidia-cuda-runtime", "nvidia-cublas")


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaPlan:
    """The CUDA part of a build plan."""

    toolkit: ToolkitChoice
    archs: tuple[str, ...]
    defines: Mapping[str, str]
    env: Mapping[str, str]
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    choice: ToolkitChoice
    facts: ToolkitFacts
    verdict: str
    compiler: Tool | None
    lacks_stub: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToolkit:
    """No toolkit can serve this machine; each candidate with the reason against it."""

    archs: tuple[str, ...]
    rejected: tuple[str, ...]


def cuda_gpus(host: Host) -> tuple[Gpu, ...]:
    """NVIDIA GPUs a process of ours would see."""
    return tuple(gpu for gpu in host.gpus if gpu.vendor == "nvidia" and gpu.visible)


def choose_archs(host: Host, wish: InstallWish) -> tuple[tuple[str, ...], Reason]:
    """CUDA architectures to compile for: asked for, else those of the GPUs present. MachineError when there are none."""
    if wish.cuda_archs:
        return wish.cuda_archs, Reason(topic="architectures", choice=_joined(wish.cuda_archs), because="asked for")
    gpus = cuda_gpus(host)
    archs = tuple(sorted({arch for gpu in gpus if (arch := gpu.cuda_arch)}, key=int))
    if not archs:
        hidden = [gpu for gpu in host.gpus if gpu.vendor == "nvidia" and not gpu.visible]
        problem = host.driver.problem if host.driver else None
        why = (
            "CUDA_VISIBLE_DEVICES hides every NVIDIA GPU"
            if hidden
            else f"the NVIDIA driver does not answer: {problem}"
            if problem
            else "the compute capability of the GPU is unknown"
            if gpus
            else "no NVIDIA GPU was found"
        )
        raise MachineError(
            f"cannot build for CUDA: {why}",
            code="no-cuda-gpu",
            hint="provision doctor; or build for another machine: provision install --cuda --cuda-arch 89 --no-gpu-check",
        )
    names = ", ".join(sorted({gpu.name for gpu in gpus}))
    return archs, Reason(
        topic="architectures", choice=_joined(archs), because=f"machine code for the GPUs present ({names}) and no other"
    )


def plan_cuda(host: Host, wish: InstallWish, *, toolkits_dir: str) -> CudaPlan | NoToolkit:
    """The toolkit, flags and environment for `-DGGML_CUDA=ON` on this host."""
    archs, arch_reason = choose_archs(host, wish)
    rejected: list[str] = []
    found: list[_Candidate] = []
    if wish.toolkit != "pypi":
        found += _system_candidates(host, wish, archs, toolkits_dir, rejected)
    if wish.toolkit == "pypi" or (wish.toolkit == "auto" and not found):
        found += _pypi_candidates(host, wish, archs, toolkits_dir, rejected)
    if not found:
        return NoToolkit(archs=archs, rejected=tuple(rejected))
    found.sort(
        key=lambda one: (bool(_hurting_defects(one.facts.version, archs)), _RANK[one.verdict], _newest_first(one.facts.version))
    )
    return _assemble(host, found[0], archs, arch_reason, tuple(rejected), toolkits_dir=toolkits_dir)


def host_compilers(host: Host) -> tuple[Tool, ...]:
    """The g++ of this host, plain name first, then g++-N from newest to oldest."""
    plain = [tool for tool in host.tools if tool.name in ("g++", "c++") and tool.works is not False]
    versioned = [tool for tool in host.tools if tool.name.startswith("g++-") and tool.works is not False]
    return tuple(plain[:1]) + tuple(sorted(versioned, key=lambda tool: tool.version or (), reverse=True))


def _system_candidates(
    host: Host, wish: InstallWish, archs: tuple[str, ...], toolkits_dir: str, rejected: list[str]
) -> list[_Candidate]:
    found: list[_Candidate] = []
    for toolkit in host.toolkits:
        if wish.toolkit not in ("auto", "system") and toolkit.root != wish.toolkit:
            continue
        if toolkit.root.startswith(f"{toolkits_dir}/"):
            # Assembled by us before; it is planned as what it is, with its runtime packages.
            continue
        name = f"CUDA {version_text(toolkit.version[:2]) if toolkit.version else '?'} in {toolkit.root}"
        against = _against_system(toolkit)
        facts = toolkit_facts(toolkit.version) if toolkit.version else None
        if against is None and facts is None:
            against = "its version is not in the tables"
        if against is not None or facts is None:
            rejected.append(f"{name}: {against}")
            continue
        verdict, against, compiler = _judge(host, wish, facts, archs)
        if against is not None:
            rejected.append(f"{name}: {against}")
            continue
        choice = ToolkitChoice(kind="system", version=facts.version, root=toolkit.root)
        stub = "driver-stub" in toolkit.missing
        found.append(_Candidate(choice=choice, facts=facts, verdict=verdict, compiler=compiler, lacks_stub=stub))
    if wish.toolkit not in ("auto", "system") and not any(toolkit.root == wish.toolkit for toolkit in host.toolkits):
        rejected.append(f"{wish.toolkit}: no CUDA toolkit there")
    if not host.toolkits and wish.toolkit in ("auto", "system"):
        rejected.append("no CUDA toolkit installed on this machine")
    return found


def _pypi_candidates(
    host: Host, wish: InstallWish, archs: tuple[str, ...], toolkits_dir: str, rejected: list[str]
) -> list[_Candidate]:
    found: list[_Candidate] = []
    reasons: dict[str, list[str]] = {}
    for facts in reversed(all_toolkits()):
        against: str | None
        if not facts.builds_from_pypi(host.system.os, host.system.arch):
            if facts.version[0] >= 13:
                reasons.setdefault(f"PyPI has no complete compiler for {host.system.os} {host.system.arch}", []).append(
                    facts.name
                )
            continue
        if not all(name in facts.pypi_packages for name in _TOOLKIT_PACKAGES):
            continue
        verdict, against, compiler = _judge(host, wish, facts, archs)
        if against is not None:
            reasons.setdefault(against, []).append(facts.name)
            continue
        packages = tuple(f"{name}{facts.pypi_packages[name]}" for name in _TOOLKIT_PACKAGES)
        runtime = tuple(f"{name}{facts.pypi_packages[name]}" for name in _RUNTIME_PACKAGES)
        root = f"{toolkits_dir}/cuda-{facts.name}"
        choice = ToolkitChoice(kind="pypi", version=facts.version, root=root, packages=packages, runtime_packages=runtime)
        found.append(_Candidate(choice=choice, facts=facts, verdict=verdict, compiler=compiler, lacks_stub=True))
    rejected += [f"CUDA {', '.join(names)} from PyPI: {reason}" for reason, names in reasons.items()]
    return found


def _against_system(toolkit: CudaToolkit) -> str | None:
    if toolkit.nvcc is None or "nvcc" in toolkit.missing:
        return "has no nvcc"
    if toolkit.nvcc_works is False:
        return "its nvcc does not run"
    missing = [part for part in toolkit.missing if part != "driver-stub"]
    return f"lacks {', '.join(missing)}" if missing else None


def _judge(host: Host, wish: InstallWish, facts: ToolkitFacts, archs: tuple[str, ...]) -> tuple[str, str | None, Tool | None]:
    """(driver verdict, reason against or None, host compiler)."""
    unknown = [arch for arch in archs if not facts.knows_arch(arch)]
    if unknown:
        known = arch_toolkit_range(unknown[0])
        served = f"CUDA {version_text(known[0])} to {version_text(known[1])} know it" if known else "no known toolkit does"
        return "unknown", f"its nvcc does not know architecture {unknown[0]} ({served})", None
    driver = host.driver
    verdict: str = driver_verdict(
        facts.version, driver=driver.version if driver else None, driver_cuda=driver.cuda_version if driver else None
    )
    if verdict == "too-old":
        have = version_text(driver.version) if driver and driver.version else "?"
        if wish.gpu_check:
            floor = version_text(facts.min_driver_windows if host.system.wsl else facts.min_driver_linux)
            return verdict, f"needs an NVIDIA driver {floor} or newer, this is {have}", None
        verdict = "unknown"
    libc = host.system.libc_version
    if host.system.libc == "glibc" and libc is not None and not facts.glibc_ok(libc):
        return verdict, f"its headers do not compile with glibc {version_text(libc)}", None
    compilers = host_compilers(host)
    fitting = [tool for tool in compilers if facts.gcc_max is None or tool.version is None or tool.version[0] <= facts.gcc_max]
    if compilers and not fitting:
        newest = compilers[0].version
        return verdict, f"takes GCC {facts.gcc_max} at most, this is {version_text(newest) if newest else '?'}", None
    return verdict, None, fitting[0] if fitting else None


def _assemble(
    host: Host,
    chosen: _Candidate,
    archs: tuple[str, ...],
    arch_reason: Reason,
    rejected: tuple[str, ...],
    *,
    toolkits_dir: str,
) -> CudaPlan:
    choice, facts, compiler = chosen.choice, chosen.facts, chosen.compiler
    root = choice.root
    nvcc = f"{root}/bin/nvcc"
    defines = {
        "GGML_CUDA": "ON",
        "CMAKE_CUDA_ARCHITECTURES": ";".join(f"{arch}-real" for arch in archs),
        # FindCUDAToolkit runs before enable_language(CUDA) in ggml: with fewer than all of these, CMake 3.25 mixes two roots.
        "CUDAToolkit_ROOT": root,
        "CMAKE_CUDA_COMPILER": nvcc,
        "GGML_CUDA_NCCL": "OFF",
    }
    env = {"CUDACXX": nvcc, "CUDA_PATH": root, "PATH": f"{root}/bin"}
    from_where = "assembled from NVIDIA's packages on PyPI" if choice.kind == "pypi" else root
    why = {
        "runs": "newest that the driver serves fully",
        "native-only": "the driver serves its machine code, though not its PTX",
        "unknown": "no driver here to compare with",
    }[chosen.verdict]
    reasons = [
        arch_reason,
        Reason(topic="toolkit", choice=f"CUDA {facts.name}, {from_where}", because="; ".join((why, *rejected))),
        Reason(topic="one root", choice=root, because="CMake, nvcc and the linker must not see two toolkits"),
        Reason(topic="NCCL", choice="off", because="one more library to miss at run time; only several GPUs would gain"),
    ]
    warnings: list[str] = []
    plain = next(iter(host_compilers(host)), None)
    if compiler is not None and plain is not None and compiler.path != plain.path:
        defines["CMAKE_CUDA_HOST_COMPILER"] = compiler.path
        reasons.append(
            Reason(topic="host compiler", choice=compiler.path, because=f"nvcc {facts.name} takes GCC {facts.gcc_max} at most")
        )
    floor = facts.compression_driver_floor
    driver = host.driver.version if host.driver else None
    if floor is not None and driver is not None and driver < floor:
        defines["GGML_CUDA_COMPRESSION_MODE"] = "speed"
        because = (
            f"driver {version_text(driver)} cannot load kernels packed by the default mode (from {version_text(floor)} on)"
        )
        reasons.append(Reason(topic="kernel compression", choice="speed", because=because))
    if chosen.lacks_stub:
        stub = f"{root}/lib/stubs/libcuda.so" if choice.kind == "pypi" else f"{toolkits_dir}/stubs/libcuda.so"
        defines["CUDA_cuda_driver_LIBRARY"] = stub
        reasons.append(
            Reason(topic="driver library", choice=stub, because="links against a stub; the real one comes with the driver")
        )
    for defect in _hurting_defects(facts.version, archs):
        defines["CMAKE_CUDA_FLAGS"] = "-Xcicc -O1"
        warnings.append(f"CUDA {facts.name}: {defect}; compiled with -Xcicc -O1")
    return CudaPlan(toolkit=choice, archs=archs, defines=defines, env=env, reasons=tuple(reasons), warnings=tuple(warnings))


def _hurting_defects(version: Version, archs: tuple[str, ...]) -> tuple[str, ...]:
    """Recorded defects that make this toolkit compile wrong kernels (13.2; the workaround is in the tables)."""
    return tuple(
        defect.effect
        for defect in known_defects(version)
        if "Xcicc" in defect.workaround and (not defect.archs or set(defect.archs) & set(archs))
    )


def _newest_first(version: Version) -> tuple[int, ...]:
    return tuple(-part for part in version)


def _joined(archs: tuple[str, ...]) -> str:
    return ", ".join(f"{arch}-real" for arch in archs)
