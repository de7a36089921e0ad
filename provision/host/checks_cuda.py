"""Checks of CUDA toolkits and how they match the machine."""

from __future__ import annotations

from shlex import quote

from provision.host.cuda_tables import ToolkitFacts, version_text
from provision.host.findings import Check, Finding, Remedy, info, ok, skipped, warning
from provision.host.match import (
    PART_NAMES,
    ToolkitVerdict,
    cuda_archs,
    cuda_gpus,
    driver_serves,
    fitting_toolkits,
    judge_toolkits,
    prebuilt_tags,
    pypi_toolkits,
    working_driver,
)
from provision.host.packages import cuda_package_commands
from provision.host.types import CudaToolkit, Host

_DOWNLOADS = "https://developer.nvidia.com/cuda-toolkit-archive"


def judge_all_toolkits(host: Host) -> list[Finding]:
    if not host.toolkits:
        return [info("no CUDA toolkit found") if cuda_gpus(host) else skipped("no CUDA toolkit, and no GPU to use it")]
    return [_about(host, verdict) for verdict in judge_toolkits(host)]


def _about(host: Host, verdict: ToolkitVerdict) -> Finding:
    toolkit = verdict.toolkit
    words = f"{toolkit_name(toolkit)} (found via {', '.join(toolkit.found_via)})"
    notes = "; ".join((*verdict.adjustments, *toolkit.notes))
    if verdict.usable:
        archs = f" for {', '.join(f'sm_{arch}' for arch in verdict.archs)}" if verdict.archs else ""
        return ok(f"{words}: usable{archs}", detail=notes)
    summary = f"{words}: not usable, {'; '.join(verdict.obstacles)}"
    # With another toolkit that suits, this one is only worth knowing about.
    needed = cuda_gpus(host) and working_driver(host) and not any(other.usable for other in judge_toolkits(host))
    finding = warning if needed else info
    return finding(summary, detail=notes, remedy=_toolkit_remedy(host, verdict))


def _toolkit_remedy(host: Host, verdict: ToolkitVerdict) -> Remedy | None:
    toolkit = verdict.toolkit
    # Mending one part of a toolkit that would not run here anyway helps nobody.
    if "cublas" in toolkit.missing and toolkit.version and len(verdict.obstacles) == 1:
        family = "-".join(str(part) for part in toolkit.version[:2])
        own = cuda_package_commands(host, f"libcublas-dev-{family}", toolkit.version)
        if pypi_toolkits(host):
            text = "Let provision assemble a toolkit from PyPI without root" + (", or add cuBLAS." if own else ".")
            return Remedy(text=text, commands=("provision install --cuda --toolkit pypi", *own))
        return Remedy(text="Add cuBLAS to it.", commands=own, url=None if own else _DOWNLOADS)
    return _other_toolkit(host)


def _other_toolkit(host: Host) -> Remedy | None:
    if not cuda_gpus(host):
        return None
    if host.system.libc == "musl":
        return Remedy(
            text="Use a system or container with glibc; NVIDIA publishes nothing for musl.",
            commands=("docker run --gpus all -it ubuntu:24.04",),
        )
    ready = pypi_toolkits(host)
    if ready:
        return Remedy(
            text=f"CUDA {ready[0].name} suits this machine and can be assembled from PyPI without root.",
            commands=("provision install --cuda --toolkit pypi",),
        )
    fitting = fitting_toolkits(host)
    if fitting:
        names = ", ".join(facts.name for facts in fitting[:4])
        return Remedy(
            text=f"Install one of CUDA {names}: these suit GPU, driver and C library.",
            commands=_install_toolkit(host, fitting[0]),
            url=_DOWNLOADS,
        )
    return None


def _install_toolkit(host: Host, facts: ToolkitFacts) -> tuple[str, ...]:
    conda = f"conda install -c nvidia/label/cuda-{facts.name}.0 cuda-toolkit"
    return (*cuda_package_commands(host, f"cuda-toolkit-{facts.name.replace('.', '-')}", facts.version), conda)


def toolkit_name(toolkit: CudaToolkit) -> str:
    """`CUDA 12.4 in /usr/local/cuda-12.4`."""
    version = version_text(toolkit.version[:2]) if toolkit.version else "of unknown version"
    return f"CUDA {version} in {toolkit.root}"


def judge_parts(host: Host) -> list[Finding]:
    """What each toolkit lacks, said exactly: a toolkit without cuBLAS looks whole until the build is half done."""
    found = []
    for toolkit in host.toolkits:
        if toolkit.missing:
            parts = ", ".join(PART_NAMES.get(part, part) for part in toolkit.missing)
            found.append(info(f"{toolkit_name(toolkit)} lacks {parts}", detail="; ".join(toolkit.notes)))
    return found or [ok("no toolkit lacks a part") if host.toolkits else skipped("no CUDA toolkit")]


def judge_mixed(host: Host) -> list[Finding]:
    """nvcc of one toolkit and headers of another give errors nobody can read."""
    on_path = next((toolkit for toolkit in host.toolkits if "PATH" in toolkit.found_via), None)
    named = [
        (name, toolkit)
        for name in ("CUDA_HOME", "CUDA_PATH", "CUDACXX")
        for toolkit in host.toolkits
        if name in toolkit.found_via
    ]
    roots = {toolkit.root for _, toolkit in named} | ({on_path.root} if on_path else set())
    if len(roots) < 2:
        several = [toolkit for toolkit in host.toolkits if "PATH" in toolkit.found_via]
        if len(several) > 1:
            names = " and ".join(toolkit_name(toolkit) for toolkit in several)
            return [info(f"several nvcc on PATH: {names}; the first one is used")]
        return [ok("PATH and the variables agree on one toolkit") if host.toolkits else skipped("no CUDA toolkit")]
    who = [f"{name} says {toolkit.root}" for name, toolkit in named]
    if on_path is not None:
        who.append(f"nvcc on PATH is of {on_path.root}")
    best = next((verdict.toolkit for verdict in judge_toolkits(host) if verdict.usable), named[0][1] if named else None)
    root = quote(best.root if best else "/usr/local/cuda")
    remedy = Remedy(
        text="Make all of them name one toolkit; provision install passes one root everywhere.",
        commands=(f'export CUDA_HOME={root} CUDA_PATH={root} CUDACXX={root}/bin/nvcc PATH={root}/bin:"$PATH"',),
    )
    return [warning("two CUDA toolkits are mixed: " + ", ".join(who), remedy=remedy)]


def judge_match(host: Host) -> list[Finding]:
    """Whether there is a way to a CUDA build on this machine, and which."""
    gpus = cuda_gpus(host)
    if not gpus or working_driver(host) is None:
        return [skipped("no NVIDIA GPU that a program could use")]
    best = next((verdict for verdict in judge_toolkits(host) if verdict.usable), None)
    if best is not None:
        return [
            ok(f"{toolkit_name(best.toolkit)} matches driver, GPU, compiler and C library", detail="; ".join(best.adjustments))
        ]
    remedy = _other_toolkit(host)
    if host.system.libc == "musl":
        return [warning("NVIDIA's libraries need glibc and this system has musl: the GPU stays unused", remedy=remedy)]
    if pypi_toolkits(host):
        return [info("no installed CUDA toolkit is usable here; one from PyPI is", remedy=remedy)]
    tags = prebuilt_tags(host)
    if tags:
        commands = ("provision install --cuda --prebuilt", *(remedy.commands if remedy else ()))
        text = f"Take a prebuilt engine ({', '.join(tags[:3])}) if its index has one" + (
            ", or install a toolkit." if remedy else "."
        )
        return [warning("no CUDA toolkit here can build for this GPU", remedy=Remedy(text=text, commands=commands))]
    if remedy is None:
        archs = ", ".join(f"sm_{arch}" for arch in cuda_archs(host)) or "this GPU"
        serves = driver_serves(working_driver(host))
        words = f"no CUDA toolkit we know suits {archs}" + (
            f" under a driver for CUDA {version_text(serves)}" if serves else ""
        )
        newer = Remedy(text="A newer driver opens newer toolkits.", url="https://www.nvidia.com/drivers")
        return [warning(words, remedy=newer)]
    return [warning("no installed CUDA toolkit is usable here", remedy=remedy)]


CHECKS = (
    Check(
        id="cuda-toolkits",
        title="CUDA toolkits",
        about="Every toolkit of the machine, from PATH, variables, the usual folders, conda, wheels, HPC SDK and environment "
        "modules, with the verdict whether ggml's CUDA backend can be built with it and would run here.",
        judge=judge_all_toolkits,
    ),
    Check(
        id="cuda-parts",
        title="Parts of the toolkits",
        about="nvcc, cuBLAS, the runtime library, headers, nvvm and the driver stub: what each toolkit lacks. cuBLAS is often "
        "left out of small installations, and the build stops late.",
        judge=judge_parts,
    ),
    Check(
        id="cuda-mixed",
        title="One toolkit, not two",
        about="CMake takes headers and nvcc from different places. When PATH and the CUDA variables name different toolkits, "
        "it mixes them.",
        judge=judge_mixed,
    ),
    Check(
        id="cuda-match",
        title="A way to CUDA",
        about="Toolkit, driver, compute capability, host compiler and glibc compared by the tables in provision/data/cuda- "
        "tables.json.",
        judge=judge_match,
    ),
)
