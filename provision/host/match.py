"""Does a CUDA toolkit suit this machine: driver, GPUs, host compiler, C library. Pure; the facts are in cuda_tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provision.host.compilers import cxx_of
from provision.host.cuda_tables import (
    ToolkitFacts,
    arch_toolkit_range,
    driver_cuda_version,
    driver_text,
    driver_verdict,
    known_defects,
    prebuilt_archs,
    prebuilt_cuda_tags,
    tag_version,
    toolkit_facts,
    toolkits_for,
    version_text,
)
from provision.host.types import CudaToolkit, Driver, Gpu, Host, Tool, Version

# What a build of ggml-cuda cannot do without; the driver stub can be replaced by an empty library of our own.
NEEDED_PARTS = ("nvcc", "cublas", "cudart", "headers", "nvvm")
PART_NAMES = {
    "nvcc": "the compiler nvcc",
    "cublas": "cuBLAS (libcublas.so, libcublasLt.so, cublas_v2.h)",
    "cudart": "the runtime library libcudart.so",
    "headers": "the headers (cuda_runtime.h)",
    "nvvm": "the device compiler cicc (nvvm)",
    "driver-stub": "the driver stub libcuda.so",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolkitVerdict:
    """`usable` when nothing in `obstacles`; `adjustments` are what a build has to do about it, each with its reason."""

    toolkit: CudaToolkit
    usable: bool
    obstacles: tuple[str, ...]
    adjustments: tuple[str, ...] = ()
    host_compiler: Tool | None = None
    """The C++ compiler nvcc must be given; None when the default one will do."""
    native_only: bool = False
    """PTX of this toolkit is newer than the driver: build `NN-real` only."""
    archs: tuple[str, ...] = ()
    """The architectures of this machine's GPUs that it compiles for."""


def cuda_gpus(host: Host) -> tuple[Gpu, ...]:
    """The NVIDIA GPUs a CUDA program started here would see."""
    return tuple(gpu for gpu in host.gpus if gpu.vendor == "nvidia" and gpu.visible)


def cuda_archs(host: Host) -> tuple[str, ...]:
    """Their architectures, oldest first, without repetition."""
    archs = {gpu.compute_capability: gpu.cuda_arch for gpu in cuda_gpus(host) if gpu.compute_capability}
    return tuple(arch for _, arch in sorted(archs.items()) if arch is not None)


def working_driver(host: Host) -> Driver | None:
    """The driver, when programs can use it."""
    return host.driver if host.driver is not None and host.driver.problem is None else None


def driver_serves(driver: Driver | None) -> Version | None:
    """The newest CUDA the driver serves: what it says, else what its branch is known to serve."""
    if driver is None:
        return None
    return driver.cuda_version or (driver_cuda_version(driver.version) if driver.version else None)


def judge_toolkit(host: Host, toolkit: CudaToolkit) -> ToolkitVerdict:
    """Whether ggml's CUDA backend can be built with `toolkit` and would run here."""
    obstacles = [f"it lacks {PART_NAMES[part]}" for part in NEEDED_PARTS if part in toolkit.missing]
    if toolkit.nvcc is not None and toolkit.nvcc_works is False:
        obstacles.append("its nvcc does not run")
    if host.system.libc == "musl":
        obstacles.append("NVIDIA's libraries need glibc, this system has musl")
    adjustments = _cmake_adjustments(host)
    if "driver-stub" in toolkit.missing:
        adjustments.append("it has no libcuda.so to link against: a stub is made, or the driver's library is named")
    facts = toolkit_facts(toolkit.version) if toolkit.version else None
    if facts is None:
        adjustments.append(
            "its version is not in our tables: nothing about driver, GPU and compiler was checked"
            if toolkit.version
            else "its version is unknown"
        )
        return _verdict(toolkit, obstacles, adjustments)
    archs = tuple(arch for arch in cuda_archs(host) if facts.knows_arch(arch) is not False)
    obstacles += _arch_obstacles(host, facts, archs)
    if archs and len(archs) < len(cuda_archs(host)):
        left = ", ".join(f"sm_{arch}" for arch in cuda_archs(host) if arch not in archs)
        adjustments.append(f"it does not compile for {left}; those GPUs stay unused")
    native_only = _driver_fit(host, facts, obstacles, adjustments)
    libc = host.system.libc_version
    if host.system.libc == "glibc" and libc is not None and not facts.glibc_ok(libc):
        newer = "13.2" if libc >= (2, 42) else "13.0"
        obstacles.append(f"its headers clash with glibc {version_text(libc)} (CUDA {newer} or newer is needed)")
    compiler = _host_compiler(host, facts)
    obstacles += [compiler.obstacle] if compiler.obstacle else []
    adjustments += [compiler.adjustment] if compiler.adjustment else []
    for defect in known_defects(facts.version):
        concerned = not defect.archs or set(defect.archs) & set(cuda_archs(host))
        if defect.layout is None and concerned:
            adjustments.append(f"known defect: {defect.effect} ({', '.join(defect.sources)})")
    return _verdict(toolkit, obstacles, adjustments, host_compiler=compiler.chosen, native_only=native_only, archs=archs)


def _cmake_adjustments(host: Host) -> list[str]:
    """CMake before 3.18 does not know CMAKE_CUDA_ARCHITECTURES, and the build of llama-cpp-python asks for 3.21."""
    cmake = host.tool("cmake")
    if cmake is None or not cmake.version or cmake.version >= (3, 21):
        return []
    return [f"cmake {version_text(cmake.version)} is too old for a CUDA build: a newer one comes from PyPI"]


def judge_toolkits(host: Host) -> tuple[ToolkitVerdict, ...]:
    """Every toolkit of the machine, best first: usable, then newest, then search order."""
    verdicts = [judge_toolkit(host, toolkit) for toolkit in host.toolkits]
    return tuple(sorted(verdicts, key=lambda verdict: (not verdict.usable, *(-part for part in _padded(verdict)))))


def pypi_toolkits(host: Host) -> tuple[ToolkitFacts, ...]:
    """Toolkits that can be assembled from PyPI without root and suit this machine, best first."""
    system, driver = host.system, working_driver(host)
    if system.libc == "musl" or driver is None or not cuda_gpus(host):
        return ()
    found = toolkits_for(
        cuda_archs(host),
        driver=driver.version,
        driver_cuda=driver_serves(driver),
        glibc=system.libc_version if system.libc == "glibc" else None,
    )
    ready = [
        facts
        for facts in found
        if facts.builds_from_pypi(system.os, system.arch) and facts.pypi_packages and not _host_compiler(host, facts).obstacle
    ]
    return _best_first(ready, driver_serves(driver))


def _best_first(found: Sequence[ToolkitFacts], serves: Version | None) -> tuple[ToolkitFacts, ...]:
    """A known miscompilation ranks last; one no newer than the driver needs no care about PTX; then the newest."""
    return tuple(
        sorted(
            found,
            key=lambda facts: (
                any(defect.layout is None and not defect.archs for defect in known_defects(facts.version)),
                serves is not None and facts.version > serves[:2],
                tuple(-part for part in facts.version),
            ),
        )
    )


def fitting_toolkits(host: Host) -> tuple[ToolkitFacts, ...]:
    """Toolkits worth installing here, best first, wherever they come from."""
    driver = working_driver(host)
    found = toolkits_for(
        cuda_archs(host),
        driver=driver.version if driver else None,
        driver_cuda=driver_serves(driver),
        glibc=host.system.libc_version if host.system.libc == "glibc" else None,
    )
    return _best_first([facts for facts in found if not _host_compiler(host, facts).obstacle] or found, driver_serves(driver))


def prebuilt_tags(host: Host) -> tuple[str, ...]:
    """Tags of prebuilt CUDA engines that would run here, best first. Only the index knows whether it has a wheel of one."""
    archs = cuda_archs(host)
    if host.system.libc == "musl" or working_driver(host) is None or not archs:
        return ()
    return tuple(
        tag
        for tag in tags_for_driver(host)
        if set(archs) <= set(prebuilt_archs(tag))
        and not any(defect.layout is None and not defect.archs for defect in known_defects(tag_version(tag)))
    )


def tags_for_driver(host: Host) -> tuple[str, ...]:
    """Tags of prebuilt CUDA engines whose CUDA the driver serves: first those it serves in full, then the newest."""
    driver = host.driver
    rows = []
    for tag in prebuilt_cuda_tags(host.system.os, host.system.arch):
        version = tag_version(tag)
        verdict = driver_verdict(version, driver=driver.version if driver else None, driver_cuda=driver_serves(driver))
        if verdict in ("runs", "native-only"):
            rows.append((verdict != "runs", tuple(-part for part in version), tag))
    return tuple(tag for _, _, tag in sorted(rows))


def _verdict(
    toolkit: CudaToolkit,
    obstacles: list[str],
    adjustments: list[str],
    *,
    host_compiler: Tool | None = None,
    native_only: bool = False,
    archs: tuple[str, ...] = (),
) -> ToolkitVerdict:
    return ToolkitVerdict(
        toolkit=toolkit,
        usable=not obstacles,
        obstacles=tuple(obstacles),
        adjustments=tuple(adjustments),
        host_compiler=host_compiler,
        native_only=native_only,
        archs=archs,
    )


def _padded(verdict: ToolkitVerdict) -> tuple[int, int, int]:
    version = (*(verdict.toolkit.version or ()), 0, 0, 0)
    return version[0], version[1], version[2]


def _arch_obstacles(host: Host, facts: ToolkitFacts, archs: tuple[str, ...]) -> list[str]:
    wanted = cuda_archs(host)
    if not wanted or archs:
        return []
    ranges = {arch: arch_toolkit_range(arch) for arch in wanted}
    needs = "; ".join(
        f"sm_{arch} needs CUDA {version_text(known[0])} to {version_text(known[1])}"
        if known
        else f"no known CUDA has sm_{arch}"
        for arch, known in ranges.items()
    )
    return [f"CUDA {facts.name} does not compile for this GPU ({needs})"]


def _driver_fit(host: Host, facts: ToolkitFacts, obstacles: list[str], adjustments: list[str]) -> bool:
    """Adds what the driver says about it; True when only machine code for the exact GPU will run."""
    driver = working_driver(host)
    serves = driver_serves(driver)
    if driver is None or serves is None:
        return False
    fits = driver_verdict(facts.version, driver=driver.version, driver_cuda=serves)
    if fits == "too-old":
        needed = driver_text(facts.min_driver("windows" if host.system.wsl else "linux"))
        obstacles.append(f"the driver serves CUDA {version_text(serves)} and CUDA {facts.name} needs driver {needed} or newer")
        return False
    floor = facts.compression_driver_floor
    if floor is not None and driver.version is not None and driver.version < floor and not host.system.wsl:
        adjustments.append(
            f"the driver is older than {driver_text(floor)}: kernels must not be compressed (GGML_CUDA_COMPRESSION_MODE=speed)"
        )
    if fits == "native-only":
        adjustments.append(
            f"the driver serves CUDA {version_text(serves)}, older than {facts.name}: only machine code runs (NN-real, no PTX)"
        )
    return fits == "native-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class _CompilerFit:
    chosen: Tool | None = None
    """What nvcc must be told to use; None when the default one will do."""
    obstacle: str | None = None
    adjustment: str | None = None


def _host_compiler(host: Host, facts: ToolkitFacts) -> _CompilerFit:
    default = cxx_of(host.tools)
    if default is None:
        return _CompilerFit(obstacle="there is no C++ compiler for nvcc to work with")
    if not default.version or _accepts(facts, default):
        return _CompilerFit()
    fitting = [
        tool for tool in host.tools if _is_cxx(tool) and tool.version and tool.works is not False and _accepts(facts, tool)
    ]
    best = max(fitting, key=lambda tool: tool.version or (), default=None)
    refuses = f"its nvcc refuses {default.detail or 'the compiler'} {default.version[0]}"
    if best is None:
        limit = facts.clang_max if default.detail == "clang" else facts.gcc_max
        return _CompilerFit(obstacle=f"{refuses} (newest it takes: {limit})")
    return _CompilerFit(chosen=best, adjustment=f"{refuses}: {best.path} is used instead")


def _accepts(facts: ToolkitFacts, tool: Tool) -> bool:
    limit = {"gcc": facts.gcc_max, "clang": facts.clang_max}.get(tool.detail)
    return limit is None or not tool.version or tool.version[0] <= limit


def _is_cxx(tool: Tool) -> bool:
    return "++" in tool.name and tool.detail in ("gcc", "clang")
