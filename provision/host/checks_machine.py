"""Checks of the machine itself: system, processor, memory, disk, Python."""

from __future__ import annotations

from provision.host.cuda_tables import version_text
from provision.host.findings import Check, Finding, Remedy, error, info, ok, skipped, warning
from provision.host.packages import venv_command
from provision.host.types import Disk, Host
from provision.units import GIB, MIB, format_bytes

MEMORY_ENOUGH_BYTES = 2 * GIB
"""Below this a parallel build of the engine can run out of memory; unslothai/unsloth's rule is 2 GiB per compiler job."""
MEMORY_LEAST_BYTES = 512 * MIB
DISK_LEAST_BYTES = {"provision-home": 256 * MIB, "model-cache": 64 * MIB, "temporary": 1 * GIB, "environment": 256 * MIB}
"""What an installation for the CPU and the demo model need at least; the build's own folder is in `temporary`."""
DISK_ENOUGH_BYTES = 5 * GIB
_PURPOSES = {
    "provision-home": "wheels and toolkits",
    "model-cache": "models",
    "temporary": "building",
    "environment": "the Python environment",
}


def builds_needed(host: Host) -> bool:
    """Whether the engine still has to be built: then a compiler and room to build are needed, otherwise not."""
    engine = host.engine
    return engine is None or engine.version is None or engine.problem is not None or engine.quantized_inference is False


def judge_probes(host: Host) -> list[Finding]:
    if not host.notes:
        return [ok("every probe answered")]
    return [warning("a probe could not answer; what it would have said is unknown", detail="\n".join(host.notes))]


def judge_system(host: Host) -> list[Finding]:
    system = host.system
    libc = f", {system.libc} {version_text(system.libc_version)}" if system.libc and system.libc_version else ""
    words = f"{system.distribution or system.os} on {system.arch}{libc}"
    if system.os == "linux" and system.libc == "musl":
        return [info(f"{words}: builds from source; NVIDIA's libraries need glibc, so no CUDA")]
    if system.os == "linux":
        return [ok(words)]
    if system.os in ("darwin", "windows"):
        return [info(f"{words}: supported as far as we know, and not tried by us")]
    return [warning(f"{words}: not a system we know")]


def judge_surroundings(host: Host) -> list[Finding]:
    found = []
    if host.system.wsl:
        found.append(info("Windows Subsystem for Linux: the GPU driver is the one of Windows; none may be installed inside"))
    if host.system.container:
        found.append(info(f"inside a container ({host.system.container})"))
    return found or [ok("no container, no WSL")]


def translated_by_rosetta(host: Host) -> bool:
    """An x86_64 program on an Apple processor."""
    return host.system.os == "darwin" and host.system.arch == "x86_64" and "Apple" in (host.cpu.model or "")


def judge_cpu(host: Host) -> list[Finding]:
    cpu = host.cpu
    words = f"{cpu.model or 'unknown processor'}, {cpu.cores or '?'} cores to use"
    arch = host.system.arch.lower()
    if translated_by_rosetta(host):
        remedy = Remedy(
            text="Use a Python built for arm64, for example from Homebrew in /opt/homebrew.", commands=("brew install python",)
        )
        return [warning(f"{words}: this Python runs translated by Rosetta, so engine and GPU are out of reach", remedy=remedy)]
    if arch in ("x86_64", "amd64") and cpu.flags and "avx2" not in cpu.flags:
        return [
            warning(
                f"{words}: no AVX2, so generation will be slow", detail="prebuilt engines for other CPUs will not start here"
            )
        ]
    return [ok(words)]


def judge_amx(host: Host) -> list[Finding]:
    verdict = host.cpu.amx_compiler
    if verdict == "not-needed" or ("amx_tile" not in host.cpu.flags and verdict == "untested"):
        return [skipped("this CPU has no AMX")]
    if verdict == "trusted":
        return [ok("the C++ compiler gets AMX right")]
    remedy = Remedy(
        text="provision install adds these flags by itself; for a build by hand:",
        commands=(
            'export CFLAGS="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" CXXFLAGS="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"',
        ),
        url="https://github.com/ggml-org/llama.cpp/issues/20824",
    )
    if verdict == "miscompiles" and not builds_needed(host):
        return [
            info("the C++ compiler gets AMX wrong; the installed engine is not concerned, the next build is", remedy=remedy)
        ]
    if verdict == "miscompiles":
        return [
            warning(
                "the C++ compiler gets AMX wrong: an engine built as usual dies at the first quantized model",
                detail="a small AMX program compiled here died or gave a wrong product (GCC 12 drops the tile configuration)",
                remedy=remedy,
            )
        ]
    return [info("this CPU has AMX and no compiler was tried with it: the engine is built without AMX", remedy=remedy)]


def judge_memory(host: Host) -> list[Finding]:
    memory = host.memory
    if memory.available_bytes is None:
        return [warning("how much memory is available is unknown")]
    words = f"{format_bytes(memory.available_bytes)} of memory available"
    if memory.total_bytes is not None:
        words += f" of {format_bytes(memory.total_bytes)}"
    swap = (
        f", {format_bytes(memory.swap_total_bytes)} swap"
        if memory.swap_total_bytes
        else ", no swap"
        if memory.swap_total_bytes == 0
        else ""
    )
    if memory.available_bytes < MEMORY_LEAST_BYTES:
        # BusyBox's ps knows no --sort; macOS's sorts by -m.
        top = "ps aux -m | head" if host.system.os == "darwin" else "ps -eo rss,comm | sort -rn | head"
        remedy = Remedy(text="End what uses the memory, or give this container more.", commands=(top,))
        return [error(f"{words}{swap}: too little to build or run anything", remedy=remedy)]
    if memory.available_bytes < MEMORY_ENOUGH_BYTES:
        return [warning(f"{words}{swap}: small models only, and the engine is built with one job at a time")]
    return [ok(words + swap)]


def judge_memory_limit(host: Host) -> list[Finding]:
    memory = host.memory
    if memory.limit_bytes is None:
        return [ok("no memory limit below the machine's own")]
    words = f"a control group limits memory to {format_bytes(memory.limit_bytes)}"
    if memory.total_bytes:
        words += f" on a machine of {format_bytes(memory.total_bytes)}"
    remedy = Remedy(text="Raise it where the container is started (docker run --memory=16g) or in the scheduler's request.")
    tight = memory.limit_bytes < 8 * GIB and memory.limit_bytes < (memory.total_bytes or memory.limit_bytes) // 2
    detail = f"{memory.limit_source}; free and llama.cpp's own fit see the whole machine, we count with the limit"
    return [warning(words, detail=detail, remedy=remedy) if tight else info(words, detail=detail)]


def judge_disk(host: Host) -> list[Finding]:
    if not host.disks:
        return [warning("free disk space is unknown")]
    return [_judge_disk(disk, building=builds_needed(host)) for disk in host.disks]


def _judge_disk(disk: Disk, *, building: bool) -> Finding:
    what = _PURPOSES[disk.purpose]
    variable = {"provision-home": "PROVISION_HOME", "model-cache": "HF_HOME", "temporary": "TMPDIR"}.get(disk.purpose)
    needed = building or disk.purpose == "model-cache"
    move = (f"export {variable}=/path/with/space",) if variable else ("python3 -m venv /path/with/space/venv",)
    if disk.writable is False:
        remedy = Remedy(text="Name a folder you may write to.", commands=move)
        summary = f"the folder for {what} is not writable: {disk.path}"
        return error(summary, remedy=remedy) if needed else warning(summary, remedy=remedy)
    if disk.free_bytes is None:
        return info(f"free space for {what} is unknown: {disk.path}")
    words = f"{format_bytes(disk.free_bytes)} free for {what} ({disk.path})"
    remedy = Remedy(text="Free space, or name a folder with more.", commands=("df -h", *move))
    if disk.free_bytes < DISK_LEAST_BYTES[disk.purpose]:
        return (error if needed else warning)(f"{words}: too little", remedy=remedy)
    if disk.free_bytes < DISK_ENOUGH_BYTES and disk.purpose in ("model-cache", "temporary"):
        return warning(f"{words}: enough for the demo, little for more", remedy=remedy)
    return ok(words)


def judge_python(host: Host) -> list[Finding]:
    python = host.python
    if python is None:
        remedy = Remedy(text="Make a fresh environment.", commands=(venv_command(host),))
        return [error("the Python to install into does not answer", detail="\n".join(host.notes), remedy=remedy)]
    words = f"{python.implementation} {version_text(python.version)}"
    # llama-cpp-python 0.3.36 declares Requires-Python >= 3.8; 3.9 is the oldest with which its dependencies still install.
    if python.version < (3, 9):
        remedy = Remedy(text="Use a newer Python.", commands=("python3.12 -m venv .venv",))
        return [error(f"{words} is too old for the engine", remedy=remedy)]
    venv = Remedy(
        text="Install into a virtual environment of your own.",
        commands=(venv_command(host), "provision install --auto --python .venv/bin/python"),
    )
    if python.externally_managed:
        summary = f"{words} belongs to the distribution (PEP 668): packages must not be installed into it"
        return [error(summary, remedy=venv) if builds_needed(host) else warning(summary, remedy=venv)]
    if python.managed_by in ("pipx", "uv-tool"):
        return [warning(f"{words} belongs to {python.managed_by}: an upgrade there removes the engine", remedy=venv)]
    where = "a virtual environment" if python.is_venv else python.managed_by or "the system's own"
    return [ok(f"{words} in {where}")]


def judge_network_not_asked(host: Host) -> list[Finding]:
    """The network is not part of a Host; `--network` puts an answer in this one's place."""
    return [skipped("asked only with --network")]


def judge_installer(host: Host) -> list[Finding]:
    uv = host.tool("uv")
    if host.python is not None and host.python.pip_version is not None:
        also = f", uv {version_text(uv.version)}" if uv is not None and uv.version else ""
        return [ok(f"pip {version_text(host.python.pip_version)}{also}")]
    if uv is not None:
        return [ok(f"uv {version_text(uv.version or ())}, no pip in the environment")]
    remedy = Remedy(text="Add pip to the environment.", commands=("python -m ensurepip --upgrade",))
    summary = "neither pip nor uv: nothing can be installed"
    return [error(summary, remedy=remedy) if builds_needed(host) else info(summary, remedy=remedy)]


CHECKS = (
    Check(
        id="probes",
        title="Everything could be looked at",
        about="Each probe runs by itself with a time limit. One that failed or hung is named here; the facts it would have "
        "given are unknown.",
        judge=judge_probes,
    ),
    Check(
        id="system",
        title="Operating system",
        about="Linux with glibc is where everything is tried. With musl the engine builds for the CPU. macOS and Windows are "
        "not tried.",
        judge=judge_system,
    ),
    Check(
        id="surroundings",
        title="Container or WSL",
        about="A container sees only the GPUs and the memory it was given; WSL takes its GPU driver from Windows.",
        judge=judge_surroundings,
    ),
    Check(
        id="cpu",
        title="Processor",
        about="Model and usable cores (affinity and cgroup quota counted). Without AVX2 generation is slow. A Python "
        "translated by Rosetta cannot use the GPU of an Apple machine.",
        judge=judge_cpu,
    ),
    Check(
        id="amx",
        title="AMX and the compiler",
        about="On a CPU with AMX a few lines are compiled and run. Some compilers (GCC 12) drop the tile configuration, and "
        "an engine built with them dies at the first quantized model. The answer is remembered per compiler and CPU.",
        judge=judge_amx,
    ),
    Check(
        id="memory",
        title="Memory",
        about="Available memory, cgroup limit counted. Under 512 MiB is an error, under 2 GiB a warning.",
        judge=judge_memory,
    ),
    Check(
        id="memory-limit",
        title="Memory limit of a control group",
        about="Containers and schedulers limit memory below the machine's; programs that read /proc/meminfo do not see it and "
        "are killed.",
        judge=judge_memory_limit,
    ),
    Check(
        id="disk",
        title="Disk space",
        about="Every folder that is written to: own state, models, temporary files of the build, the environment. An error "
        "where even the demo and a CPU build do not fit or the folder is not writable, a warning under 5 GiB.",
        judge=judge_disk,
    ),
    Check(
        id="python",
        title="Target Python",
        about="The interpreter the engine is installed into: a virtual environment, best of all. Distribution-managed ones "
        "(PEP 668) are left alone.",
        judge=judge_python,
    ),
    Check(
        id="network",
        title="Hub and mirrors",
        about="Only with `--network`: the configured endpoint and ModelScope list one public repository and serve a few "
        "MiB of one file: latency, speed, where the bytes come from. What an endpoint does not do as the Hub does (sha256 in "
        "the listing, exact ranges, X-Repo-Commit, X-Linked-ETag, HEAD, uncompressed bytes, its own origin) is a finding each.",
        judge=judge_network_not_asked,
    ),
    Check(id="installer", title="pip or uv", about="One of them installs packages.", judge=judge_installer),
)
