"""Operating system, C library, processor and surroundings."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Literal

from provision.host.cgroups import cpu_quota
from provision.host.cuda_tables import parse_version
from provision.host.reader import Reader
from provision.host.types import Cpu, System

OsName = Literal["linux", "darwin", "windows", "other"]
_OS_NAMES: dict[str, OsName] = {"linux": "linux", "darwin": "darwin", "win32": "windows"}


def probe_system(reader: Reader) -> System:
    """What runs here and what surrounds it."""
    name = _OS_NAMES.get(reader.os_name, "other")
    system = System(os=name, arch=reader.machine)
    if name == "linux":
        kernel = reader.line("/proc/sys/kernel/osrelease")
        if kernel is None and str(reader.root) == "/":
            kernel = os.uname().release
        distribution, like = _distribution(reader)
        system = replace(system, distribution=distribution, distribution_like=like)
        system = replace(system, kernel=kernel, container=_container(reader))
        # WSL 1 and 2 carry Microsoft's name in the kernel release; a Docker container on WSL does too, which is right here.
        system = replace(system, wsl="microsoft" in (kernel or "").lower())
        return _with_libc(system, reader)
    if name == "darwin":
        done = reader.ask("sw_vers", "-productVersion")
        return replace(system, distribution=f"macos {done.stdout.strip()}" if done and done.returncode == 0 else "macos")
    return system


def probe_cpu(reader: Reader) -> Cpu:
    """Model, flags and the cores this process may use. The AMX verdict is added by whoever ran the compiler."""
    if reader.os_name == "darwin":
        return _darwin_cpu(reader)
    text = reader.text("/proc/cpuinfo") or ""
    # x86 says `model name`, 64-bit ARM says nothing but part numbers, some ARM boards say `Model` at the end.
    model = _field(text, "model name") or _field(text, "Model") or _field(text, "cpu model")
    if model is None:
        model = (reader.line("/proc/device-tree/model") or "").rstrip("\0") or _arm_part(text)
    flags = tuple((_field(text, "flags") or _field(text, "Features") or "").split())
    return Cpu(model=model, cores=_cores(reader, text), flags=flags)


def _cores(reader: Reader, cpuinfo: str) -> int | None:
    try:
        cores: int | None = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cores = os.cpu_count()
    if str(reader.root) != "/":
        # Somebody else's file system: our own affinity says nothing about it.
        cores = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or None
    quota = cpu_quota(reader)
    if cores is None or quota is None:
        return cores
    return max(1, min(cores, int(quota + 0.5)))


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{re.escape(name)}[ \t]*:[ \t]*(\S.*)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None


def _arm_part(text: str) -> str | None:
    implementer, part = _field(text, "CPU implementer"), _field(text, "CPU part")
    return f"ARM implementer {implementer} part {part}" if implementer and part else None


def _darwin_cpu(reader: Reader) -> Cpu:
    brand = reader.ask("sysctl", "-n", "machdep.cpu.brand_string")
    features = reader.ask("sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    return Cpu(
        model=(brand.stdout.strip() or None) if brand and brand.returncode == 0 else None,
        cores=os.cpu_count(),
        flags=tuple(features.stdout.lower().split()) if features and features.returncode == 0 else (),
        amx_compiler="not-needed",
    )


def _distribution(reader: Reader) -> tuple[str | None, tuple[str, ...]]:
    """Name with version, and the names of those it is like."""
    text = reader.text("/etc/os-release") or reader.text("/usr/lib/os-release") or ""
    fields = dict(re.findall(r"""^(ID|VERSION_ID|ID_LIKE)=["']?([^"'\n]*)""", text, re.MULTILINE))
    name = f"{fields.get('ID', '')} {fields.get('VERSION_ID', '')}".strip()
    return name or None, tuple(fields.get("ID_LIKE", "").split())[:8]


def _container(reader: Reader) -> str | None:
    if reader.exists("/.dockerenv"):
        return "docker"
    if reader.exists("/run/.containerenv"):
        return "podman"
    # systemd-nspawn, podman and lxc set this for their first process.
    announced = reader.line("/run/systemd/container") or reader.environ.get("container", "").strip()
    if announced:
        return announced[:40]
    if reader.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    groups = reader.text("/proc/1/cgroup") or ""
    marks = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "containerd": "containerd", "/lxc/": "lxc"}
    return next((name for mark, name in marks.items() if mark in groups), None)


def _with_libc(system: System, reader: Reader) -> System:
    musl = [name for name in reader.names("/lib") if re.fullmatch(r"ld-musl-[\w.-]+\.so\.1", name)]
    # Alpine has the musl loader only; Debian with the package `musl` has both, and then glibc is what programs use.
    glibc = _glibc_version(reader)
    if glibc is not None:
        return replace(system, libc="glibc", libc_version=parse_version(glibc))
    if musl:
        done = reader.ask(f"/lib/{musl[0]}")
        said = re.search(r"Version (\S+)", done.stderr + done.stdout) if done else None
        return replace(system, libc="musl", libc_version=parse_version(said.group(1)) if said else None)
    return system


def _glibc_version(reader: Reader) -> str | None:
    if str(reader.root) == "/":
        try:
            text = os.confstr("CS_GNU_LIBC_VERSION")
        except (AttributeError, ValueError, OSError):
            text = None
        if text and text.startswith("glibc"):
            return text
    done = reader.ask("getconf", "GNU_LIBC_VERSION")
    return done.stdout if done and done.returncode == 0 and done.stdout.startswith("glibc") else None
