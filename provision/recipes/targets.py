"""The machines a bundle is for: which wheels they take, which markers hold there, why an engine does not suit one. Pure.

Tags follow PEP 425, 600 and 656, markers PEP 508.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from provision.errors import UsageError
from provision.host.types import Version
from provision.recipes.lockfile import LockedHardware

_KNOWN = tuple(f"linux-{arch}-{backend}" for arch in ("x86_64", "aarch64") for backend in ("cpu", "cuda", "vulkan"))
# Python packages are taken for glibc 2.28 (Debian 10, Ubuntu 20.04, RHEL 8) and newer: the oldest that today's numpy serves.
_BASELINE = 28
_OLDEST = {"x86_64": 5, "aarch64": 17}
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MINOR = re.compile(r"3\.(\d{1,2})")
_FIRST_MINOR = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A kind of machine by operating system, machine and backend of the engine: `linux-x86_64-cuda`."""

    os: str
    arch: str
    backend: str

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}-{self.backend}"

    def pip_platforms(self) -> tuple[str, ...]:
        """Platform tags such a machine takes, newest first, as `pip download --platform` wants them one by one."""
        tags = []
        for minor in range(_BASELINE, _OLDEST[self.arch] - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.arch}")
            if minor in _LEGACY and (minor == 17 or self.arch == "x86_64"):
                tags.append(f"{_LEGACY[minor]}_{self.arch}")
        return (*tags, f"linux_{self.arch}")

    def markers(self, python: str) -> dict[str, str]:
        """Values of the environment markers on such a machine with CPython `python`, `3.12`."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


def parse_target(text: str) -> Target:
    """UsageError `bad-target` with the known ones for anything else."""
    if text not in _KNOWN:
        raise UsageError(
            f"{text!r} is no target; known are {', '.join(_KNOWN)}",
            code="bad-target",
            hint="provision bundle create provision.lock --output FOLDER --target linux-x86_64-cuda",
        )
    os, arch, backend = text.split("-")
    return Target(os=os, arch=arch, backend=backend)


def target_of(hardware: LockedHardware) -> str:
    """`linux-x86_64-cuda` of the hardware class `linux-x86_64-cuda-sm90`."""
    return "-".join(hardware.name.split("-")[:3])


def parse_python(text: str) -> str:
    """`3.12` from `3.12`; UsageError `bad-python` for anything that is no minor version from 3.11 on."""
    match = re.fullmatch(_MINOR, text.strip())
    if match is None or int(match[1]) < _FIRST_MINOR:
        raise UsageError(
            f"{text!r} is no Python a bundle can be made for: write 3.11 or a newer minor version",
            code="bad-python",
            hint="--python-version 3.12",
        )
    return text.strip()


def glibc_of_wheels(filenames: Iterable[str]) -> Version | None:
    """The oldest glibc on which all of these wheels are said to work; None when none of them says."""
    needed: list[Version] = []
    for name in filenames:
        found = [(2, int(minor)) for minor in re.findall(r"manylinux_2_(\d+)_", name)]
        found += [(2, minor) for minor, alias in _LEGACY.items() if f"{alias}_" in name]
        if found:
            # A wheel with several tags works on the oldest of them.
            needed.append(min(found))
    return max(needed, default=None)


def why_unsuited(locked: LockedHardware, here: LockedHardware) -> str | None:
    """Why an engine for `locked` is of no use on `here`; None when it can be. GPUs here must be among those it has code for."""
    if target_of(locked) != target_of(here):
        return f"it is for {target_of(locked)}, this machine is {target_of(here)}"
    served, present = _archs(locked), _archs(here)
    if served and not present:
        return "it is for NVIDIA GPUs, and none is visible here"
    if served and (others := [arch for arch in present if arch not in served]):
        return f"it has machine code for {', '.join(served)}, this machine has {', '.join(others)}"
    return None


def _archs(hardware: LockedHardware) -> tuple[str, ...]:
    return tuple(hardware.name.split("-")[3:])
