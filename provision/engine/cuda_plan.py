"""Which CUDA toolkit, architectures and host compiler a build uses, and why not the others. Pure.

Whether a toolkit suits a machine is judged in `host.match`, for toolkits that are here and for those NVIDIA's packages on PyPI
would make; this module decides between them and turns the choice into flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from provision.engine.types import InstallWish, Reason, ToolkitChoice
from provision.errors import MachineError
from provision.host.cuda_tables import ToolkitFacts, all_toolkits, known_defects, toolkit_facts, version_text
from provision.host.match import ToolkitVerdict, cuda_archs, cuda_gpus, judge_toolkit, judge_toolkits
from provision.host.types import CudaToolkit, Driver, Gpu, Host

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
# The oldest driver CUDA 13 works with: what is built for an unknown machine must run on it.
_MODEST_DRIVER = Driver(version=(580,), cuda_version=(13, 0), source="assumed")


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
class NoToolkit:
    """No toolkit can serve this machine; each candidate with the reason against it."""

    archs: tuple[str, ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    choice: ToolkitChoice
    verdict: ToolkitVerdict
    archs: tuple[str, ...]
    hurt_by: tuple[str, ...]

    def rank(self, wanted: tuple[str, ...]) -> tuple[object, ...]:
        newest_first = tuple(-part for part in self.choice.version)
        return (
            bool(self.hurt_by),
            len(wanted) - len(self.archs),
            self.choice.kind != "system",
            self.verdict.native_only,
            newest_first,
        )


def choose_archs(host: Host, wish: InstallWish) -> tuple[tuple[str, ...], Reason]:
    """CUDA architectures to compile for: asked for, else those of the GPUs present. MachineError when there are none."""
    if (wish.gpu_check or not wish.cuda_archs) and (why := why_no_gpu(host)):
        raise MachineError(
            f"cannot install for CUDA: {why}",
            code="no-cuda-gpu",
            hint="provision doctor; or build for another machine: provision install --cuda --cuda-arch 89 --no-gpu-check",
        )
    if wish.cuda_archs:
        return wish.cuda_archs, Reason(topic="architectures", choice=_joined(wish.cuda_archs), because="asked for")
    archs = cuda_archs(host)
    names = ", ".join(sorted({gpu.name for gpu in cuda_gpus(host)}))
    because = f"machine code for the GPUs present ({names}) and no other"
    return archs, Reason(topic="architectures", choice=_joined(archs), because=because)


def why_no_gpu(host: Host) -> str | None:
    """Why no CUDA program would see a GPU here; None when one would."""
    if host.driver is not None and host.driver.problem:
        return f"the NVIDIA driver does not answer: {host.driver.problem}"
    if cuda_archs(host):
        return None
    if cuda_gpus(host):
        return "the compute capability of the GPU is unknown"
    hidden = [gpu for gpu in host.gpus if gpu.vendor == "nvidia"]
    if any(gpu.mig_mode for gpu in hidden):
        return "the GPU is in MIG mode and has no instance"
    if "CUDA_VISIBLE_DEVICES" in host.environment and hidden:
        return f"CUDA_VISIBLE_DEVICES={host.environment['CUDA_VISIBLE_DEVICES']!r} hides every NVIDIA GPU"
    return "the NVIDIA GPU is not visible to programs" if hidden else "no NVIDIA GPU was found"


def plan_cuda(host: Host, wish: InstallWish, *, toolkits_dir: str) -> CudaPlan | NoToolkit:
    """The toolkit, flags and environment for `-DGGML_CUDA=ON` on this host."""
    archs, arch_reason = choose_archs(host, wish)
    target = _target(host, wish, archs)
    rejected: list[str] = []
    found: list[_Candidate] = []
    if wish.toolkit != "pypi":
        found += _system_candidates(target, wish, archs, toolkits_dir, rejected)
    if wish.toolkit == "pypi" or (wish.toolkit == "auto" and not any(one.archs == archs and not one.hurt_by for one in found)):
        found += _pypi_candidates(target, archs, toolkits_dir, rejected)
    if wish.cuda_archs:
        rejected += [f"{_name(one)}: does not compile for all of {', '.join(archs)}" for one in found if one.archs != archs]
        found = [one for one in found if one.archs == archs]
    if not found:
        return NoToolkit(archs=archs, rejected=tuple(rejected))
    best = min(found, key=lambda one: one.rank(archs))
    if best.archs != archs:
        arch_reason = replace(arch_reason, choice=_joined(best.archs))
    return _assemble(target, best, arch_reason, archs, tuple(rejected), toolkits_dir=toolkits_dir)


def _target(host: Host, wish: InstallWish, archs: tuple[str, ...]) -> Host:
    """The machine the engine is for: this one, or (without a GPU check) one with these GPUs and a driver that is old enough."""
    if not wish.cuda_archs:
        return host
    gpus = tuple(
        Gpu(
            index=index,
            name=f"sm_{arch}",
            vendor="nvidia",
            source="asked for",
            compute_capability=(int(arch[:-1]), int(arch[-1])),
        )
        for index, arch in enumerate(archs)
    )
    return replace(host, gpus=gpus, driver=host.driver if wish.gpu_check else _MODEST_DRIVER)


def _system_candidates(
    host: Host, wish: InstallWish, archs: tuple[str, ...], toolkits_dir: str, rejected: list[str]
) -> Iterator[_Candidate]:
    seen = False
    for verdict in judge_toolkits(host):
        toolkit = verdict.toolkit
        if toolkit.root.startswith(f"{toolkits_dir}/"):
            # Assembled by us before; it is planned as what it is, with its runtime packages.
            continue
        if wish.toolkit not in ("auto", "system") and toolkit.root != wish.toolkit:
            continue
        seen = True
        facts = toolkit_facts(toolkit.version) if toolkit.version else None
        obstacles = verdict.obstacles or (() if facts else ("its version is not in the tables",))
        if obstacles or facts is None:
            version = version_text(toolkit.version) if toolkit.version else "?"
            rejected.append(f"CUDA {version} in {toolkit.root}: {'; '.join(obstacles)}")
            continue
        choice = ToolkitChoice(kind="system", version=facts.version, root=toolkit.root)
        yield _Candidate(choice=choice, verdict=verdict, archs=verdict.archs, hurt_by=_hurting_defects(facts, archs))
    if not seen:
        here = wish.toolkit in ("auto", "system")
        rejected.append("no CUDA toolkit is installed here" if here else f"{wish.toolkit}: no CUDA toolkit there")


def _pypi_candidates(host: Host, archs: tuple[str, ...], toolkits_dir: str, rejected: list[str]) -> Iterator[_Candidate]:
    against: dict[str, list[str]] = {}
    for facts in reversed(all_toolkits()):
        if facts.version[0] < 13 or not all(name in facts.pypi_packages for name in _TOOLKIT_PACKAGES):
            continue
        if not facts.builds_from_pypi(host.system.os, host.system.arch):
            against.setdefault(f"no complete compiler for {host.system.os} {host.system.arch}", []).append(facts.name)
            continue
        root = f"{toolkits_dir}/cuda-{facts.name}"
        toolkit = CudaToolkit(
            root=root,
            version=facts.version,
            found_via=("PyPI",),
            nvcc=f"{root}/bin/nvcc",
            nvcc_works=True,
            missing=("driver-stub",),
        )
        verdict = judge_toolkit(host, toolkit)
        if not verdict.usable:
            against.setdefault("; ".join(verdict.obstacles).replace(f"CUDA {facts.name}", "it"), []).append(facts.name)
            continue
        choice = ToolkitChoice(
            kind="pypi",
            version=facts.version,
            root=root,
            packages=tuple(f"{name}{facts.pypi_packages[name]}" for name in _TOOLKIT_PACKAGES),
            runtime_packages=tuple(f"{name}{facts.pypi_packages[name]}" for name in _RUNTIME_PACKAGES),
        )
        yield _Candidate(choice=choice, verdict=verdict, archs=verdict.archs, hurt_by=_hurting_defects(facts, archs))
    rejected += [f"CUDA {', '.join(names)} from PyPI: {reason}" for reason, names in against.items()]


def _assemble(
    host: Host,
    chosen: _Candidate,
    arch_reason: Reason,
    wanted: tuple[str, ...],
    rejected: tuple[str, ...],
    *,
    toolkits_dir: str,
) -> CudaPlan:
    choice, verdict, root = chosen.choice, chosen.verdict, chosen.choice.root
    name = version_text(choice.version)
    nvcc = f"{root}/bin/nvcc"
    defines = {
        "GGML_CUDA": "ON",
        "CMAKE_CUDA_ARCHITECTURES": ";".join(f"{arch}-real" for arch in chosen.archs),
        # FindCUDAToolkit runs before enable_language(CUDA) in ggml: with fewer than all of these, CMake 3.25 mixes two roots.
        "CUDAToolkit_ROOT": root,
        "CMAKE_CUDA_COMPILER": nvcc,
        "GGML_CUDA_NCCL": "OFF",
    }
    from_where = "assembled from NVIDIA's packages on PyPI" if choice.kind == "pypi" else root
    why = (
        "the driver serves its machine code, not its PTX"
        if verdict.native_only
        else "suits driver, GPU, compiler and C library"
    )
    reasons = [
        arch_reason,
        Reason(topic="toolkit", choice=f"CUDA {name}, {from_where}", because="; ".join((why, *rejected))),
        Reason(topic="one root", choice=root, because="CMake, nvcc and the linker must not see two toolkits"),
        Reason(topic="NCCL", choice="off", because="one more library to miss at run time; only several GPUs would gain"),
    ]
    warnings = []
    if left := [arch for arch in wanted if arch not in chosen.archs]:
        warnings.append(f"CUDA {name} does not compile for {', '.join(left)}; those GPUs stay unused")
    if verdict.host_compiler is not None:
        defines["CMAKE_CUDA_HOST_COMPILER"] = verdict.host_compiler.path
        because = next(text for text in verdict.adjustments if "instead" in text)
        reasons.append(Reason(topic="host compiler", choice=verdict.host_compiler.path, because=because))
    if any("COMPRESSION_MODE=speed" in text for text in verdict.adjustments):
        defines["GGML_CUDA_COMPRESSION_MODE"] = "speed"
        reasons.append(Reason(topic="kernel compression", choice="speed", because="the driver cannot load the default packing"))
    if "driver-stub" in verdict.toolkit.missing:
        stub = f"{root}/lib/stubs/libcuda.so" if choice.kind == "pypi" else f"{toolkits_dir}/stubs/libcuda.so"
        defines["CUDA_cuda_driver_LIBRARY"] = stub
        because = "links against a stub; the real one comes with the driver"
        reasons.append(Reason(topic="driver library", choice=stub, because=because))
    for effect in chosen.hurt_by:
        defines["CMAKE_CUDA_FLAGS"] = "-Xcicc -O1"
        warnings.append(f"CUDA {name}: {effect}; compiled with -Xcicc -O1")
    env = {"CUDACXX": nvcc, "CUDA_PATH": root, "PATH": f"{root}/bin"}
    return CudaPlan(
        toolkit=choice, archs=chosen.archs, defines=defines, env=env, reasons=tuple(reasons), warnings=tuple(warnings)
    )


def _hurting_defects(facts: ToolkitFacts, archs: tuple[str, ...]) -> tuple[str, ...]:
    """Recorded miscompilations of this toolkit that a compiler flag avoids."""
    return tuple(
        defect.effect
        for defect in known_defects(facts.version)
        if "Xcicc" in defect.workaround and (not defect.archs or set(defect.archs) & set(archs))
    )


def _name(candidate: _Candidate) -> str:
    return f"CUDA {version_text(candidate.choice.version)} ({candidate.choice.kind})"


def _joined(archs: tuple[str, ...]) -> str:
    return ", ".join(f"{arch}-real" for arch in archs)
