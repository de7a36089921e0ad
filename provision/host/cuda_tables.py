"""What fits what in CUDA: toolkit, driver, GPU architecture, host compiler and C library, from provision/data/cuda-tables.json.

Pure lookups. Versions are tuples, `(12, 8)`; a CUDA architecture is nvcc's number as text, `89` for compute capability 8.9.
A toolkit the tables do not know yet gives None: unknown, which is neither yes nor no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from provision.host.types import Version

DriverVerdict = Literal["runs", "native-only", "too-old", "unknown"]
Platform = Literal["linux", "windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolkitFacts:
    """One minor version of the CUDA toolkit. None means the table has no measured value."""

    version: Version
    archs: tuple[str, ...] | None
    """Every architecture its ptxas accepts: `50` ... `90`, `90a`, `120a`."""
    gcc_max: int | None
    clang_max: int | None
    msvc_min: int | None
    msvc_below: int | None
    """Half-open range of `_MSC_VER` its headers accept: msvc_min <= version < msvc_below."""
    glibc_2_41_ok: bool
    glibc_2_42_ok: bool
    min_driver_linux: Version
    min_driver_windows: Version
    """The oldest driver that runs anything this major version built (minor version compatibility)."""
    bundled_driver_linux: Version | None
    """The driver that came with its first release; as old as that, PTX of this toolkit still compiles."""
    fatbin_compression: bool
    """nvcc knows `-compress-mode`; ggml uses it from this version on."""
    compression_driver_floor: Version | None
    """Below this Linux driver, ggml's default compressed kernels do not load: pass GGML_CUDA_COMPRESSION_MODE=speed."""
    pypi_toolkit_version: str | None
    pypi_packages: Mapping[str, str]
    """Distribution name to version specifier, for a toolkit assembled from PyPI."""
    pypi_build_ready: Mapping[str, str]
    """Per platform tag (`linux_x86_64`): what is known about building with the PyPI parts."""

    @property
    def name(self) -> str:
        """`12.8`."""
        return version_text(self.version)

    def knows_arch(self, arch: str) -> bool | None:
        """Whether nvcc of this version compiles for `arch`."""
        return None if self.archs is None else arch in self.archs

    def glibc_ok(self, libc_version: Version) -> bool:
        """Whether its headers compile against this glibc (rsqrt, sinpi and cospi clash from glibc 2.41 and 2.42 on)."""
        if libc_version >= (2, 42):
            return self.glibc_2_42_ok
        return self.glibc_2_41_ok if libc_version >= (2, 41) else True

    def min_driver(self, platform: Platform) -> Version:
        """The oldest driver of `platform` for this major version."""
        return self.min_driver_windows if platform == "windows" else self.min_driver_linux

    def builds_from_pypi(self, os: str, arch: str) -> bool:
        """Whether NVIDIA's wheels make a working compiler on this platform (with the layout fix-ups)."""
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(arch.lower(), arch.lower())
        return self.pypi_build_ready.get(f"{os}_{machine}", "").startswith("yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDefect:
    """A toolkit that compiles and is wrong, or needs help to compile."""

    versions: tuple[Version, ...]
    archs: tuple[str, ...]
    """Only on these architectures; empty means on all."""
    layout: str | None
    """Only for a toolkit laid out like this (`pypi`); None means for every layout."""
    effect: str
    workaround: str
    sources: tuple[str, ...]
    evidence: str


def parse_version(text: str) -> Version | None:
    """`550.54.14` to (550, 54, 14); None when `text` holds no number."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    # int() refuses numbers of more than 4300 digits; no version has more than nine.
    if match is None or any(len(part) > 9 for part in match.group().split(".")):
        return None
    return tuple(int(part) for part in match.group().split("."))


def version_text(version: Version) -> str:
    """(12, 8) to `12.8`."""
    return ".".join(str(part) for part in version)


def driver_text(version: Version) -> str:
    """(535, 54, 3) to `535.54.03`, as NVIDIA writes it."""
    return ".".join(f"{part:02d}" for part in version)


@cache
def all_toolkits() -> tuple[ToolkitFacts, ...]:
    """Every known minor version, oldest first."""
    found = [_toolkit(name, row) for name, row in _tables()["toolkits"].items()]
    return tuple(sorted(found, key=lambda facts: facts.version))


def toolkit_facts(version: Version) -> ToolkitFacts | None:
    """Facts of the toolkit with this major and minor version."""
    return next((facts for facts in all_toolkits() if facts.version == version[:2]), None)


def driver_cuda_version(driver: Version) -> Version | None:
    """The newest CUDA a Linux driver branch serves: 550.x to (12, 4). Between two known branches the older one counts."""
    branches = {int(branch): parse_version(cuda) for branch, cuda in _tables()["driver_branch_to_cuda_umd"].items()}
    known = [branch for branch in branches if branch <= (driver or (0,))[0]]
    return branches[max(known)] if known else None


def driver_verdict(toolkit: Version, *, driver: Version | None, driver_cuda: Version | None) -> DriverVerdict:
    """Whether programs of `toolkit` run under a driver.

    `native-only`: machine code for the exact GPU runs, PTX does not (driver of the same major, older minor), so build `NN-real`
    only. `driver_cuda` is what the driver itself reports and wins over the table of branches.
    """
    serves = driver_cuda or (driver_cuda_version(driver) if driver else None)
    if not serves or not toolkit:
        return "unknown"
    if serves[0] < toolkit[0]:
        return "too-old"
    return "runs" if serves[:2] >= toolkit[:2] else "native-only"


def arch_toolkit_range(arch: str) -> tuple[Version, Version] | None:
    """First and last known toolkit that compiles for `arch`, both inclusive; None when no known one does."""
    versions = [facts.version for facts in all_toolkits() if facts.knows_arch(arch)]
    return (versions[0], versions[-1]) if versions else None


def arch_family(arch: str) -> str | None:
    """`Ada RTX 40 / L4 / L40` for `89`."""
    family = _tables()["sm_families"].get(arch.rstrip("af"))
    return family if isinstance(family, str) else None


def toolkits_for(
    archs: tuple[str, ...], *, driver: Version | None, driver_cuda: Version | None, glibc: Version | None = None
) -> tuple[ToolkitFacts, ...]:
    """Known toolkits that compile for every one of `archs` and whose programs the driver runs, newest first."""
    return tuple(
        facts
        for facts in reversed(all_toolkits())
        if all(facts.knows_arch(arch) for arch in archs)
        and driver_verdict(facts.version, driver=driver, driver_cuda=driver_cuda) in ("runs", "native-only", "unknown")
        and (glibc is None or facts.glibc_ok(glibc))
    )


def known_defects(version: Version) -> tuple[KnownDefect, ...]:
    """Defects recorded for this minor version of the toolkit."""
    return tuple(defect for defect in _defects() if version[:2] in defect.versions)


def prebuilt_cuda_tags(os: str, arch: str) -> tuple[str, ...]:
    """The CUDA tags (`cu124`) for which the maintainer of llama-cpp-python publishes wheels on this platform."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(arch.lower(), arch.lower())
    name = {"linux": f"linux_{machine}", "windows": f"win_{'amd64' if machine == 'x86_64' else machine}"}.get(os, "")
    return tuple(_tables()["prebuilt_llama_cpp_python_0_3_36"]["cuda_platforms"].get(name, ()))


def prebuilt_archs(tag: str) -> tuple[str, ...]:
    """The architectures a prebuilt wheel of that tag holds machine code for."""
    digits = tag.removeprefix("cu")
    return tuple(_tables()["prebuilt_llama_cpp_python_0_3_36"]["cuda_archs"].get(digits[:2], ()))


def tag_version(tag: str) -> Version:
    """`cu124` to (12, 4)."""
    digits = tag.removeprefix("cu")
    return int(digits[:2]), int(digits[2:])


@cache
def _tables() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((files("provision") / "data" / "cuda-tables.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _defects() -> tuple[KnownDefect, ...]:
    return tuple(
        KnownDefect(
            versions=tuple(tuple(version) for version in row["versions"]),
            archs=tuple(row.get("archs", ())),
            layout=row.get("layout"),
            effect=row["effect"],
            workaround=row["workaround"],
            sources=tuple(row["sources"]),
            evidence=row["evidence"],
        )
        for row in _tables()["known_defects"]
    )


def _toolkit(name: str, row: Mapping[str, Any]) -> ToolkitFacts:
    floor = (row["driver_floor_with_ggml_default_compress_size"] or {}).get("linux")
    drivers = [version for text in row["bundled_driver_linux"].values() if (version := parse_version(text))]
    sm = row["sm"]
    return ToolkitFacts(
        version=_version(name),
        archs=tuple(arch.removeprefix("sm_") for arch in sm) if sm is not None else None,
        gcc_max=row["gcc_max"],
        clang_max=row["clang_max"],
        msvc_min=row["msvc_min_inclusive"],
        msvc_below=row["msvc_max_exclusive"],
        glibc_2_41_ok=row["glibc_ge_2_41_ok"],
        glibc_2_42_ok=row["glibc_ge_2_42_ok"],
        min_driver_linux=_version(row["min_driver_minor_compat"]["linux"]),
        min_driver_windows=_version(row["min_driver_minor_compat"]["windows"]),
        bundled_driver_linux=min(drivers, default=None),
        fatbin_compression=row["fatbin_compress_flag"],
        compression_driver_floor=_version(floor) if floor else None,
        pypi_toolkit_version=row.get("pypi_cuda_toolkit_version"),
        pypi_packages=row.get("pypi_packages", {}),
        pypi_build_ready=row["pypi_build_ready"],
    )


def _version(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ValueError(f"cuda-tables.json: not a version: {text!r}")
    return version
