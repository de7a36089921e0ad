"""Every CUDA toolkit of a machine: where each was found, which version it is, whether nvcc runs and what it lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from provision.host.cuda_tables import parse_version
from provision.host.reader import Reader
from provision.host.side_by_side import for_each
from provision.host.types import CudaToolkit, Version

_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDAToolkit_ROOT", "CUDACXX")
_TARGETS = ("x86_64-linux", "sbsa-linux", "aarch64-linux")
_CONDA_FOLDERS = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")
# Debian and Ubuntu spread `nvidia-cuda-toolkit` over the system's own folders.
_DISTRIBUTION_ROOT = "/usr/lib/nvidia-cuda-toolkit"
_SYSTEM_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
_MOST = 40


def probe_toolkits(reader: Reader, *, site_folders: Sequence[str], own_folder: str, home: str) -> tuple[CudaToolkit, ...]:
    """All toolkits, in search order, each root once with every way that led to it.

    `site_folders` are those of the target Python, `own_folder` holds toolkits assembled by us, `home` is searched for conda.
    """
    ways: dict[str, list[str]] = {}
    searches = (
        _on_path(reader),
        _in_environment(reader),
        _in_usual_places(reader),
        _in_conda(reader, home),
        _in_site_packages(reader, site_folders),
        _in_modules(reader),
        ((f"{own_folder}/{name}", "provision") for name in reader.names(own_folder)),
    )
    for search in searches:
        for root, way in search:
            real = reader.real(root)
            if reader.is_dir(real) and len(ways) < _MOST:
                found = ways.setdefault(real, [])
                if way not in found:
                    found.append(way)
    toolkits = for_each(lambda item: read_toolkit(reader, item[0], tuple(item[1])), list(ways.items()))
    return tuple(toolkit for toolkit in toolkits if toolkit is not None)


def read_toolkit(reader: Reader, root: str, found_via: tuple[str, ...]) -> CudaToolkit | None:
    """The toolkit at `root`, or None when nothing there is CUDA."""
    nvcc = next((path for path in (f"{root}/bin/nvcc", f"{root}/bin/nvcc.exe") if reader.is_program(path)), None)
    works, version = _ask_nvcc(reader, nvcc) if nvcc else (None, None)
    version = version or _version_from_files(reader, root)
    missing, notes = _missing(reader, root, nvcc)
    if nvcc is None and version is None and {"headers", "cudart", "cublas"} <= set(missing) and not _has_parts(reader, root):
        return None
    if nvcc and not works:
        notes.append("nvcc does not answer --version")
    return CudaToolkit(
        root=root,
        version=version,
        found_via=found_via,
        nvcc=nvcc,
        nvcc_works=works,
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _missing(reader: Reader, root: str, nvcc: str | None) -> tuple[list[str], list[str]]:
    includes = [f"{root}/include", *(f"{root}/targets/{target}/include" for target in _TARGETS)]
    libraries = [f"{root}/lib64", f"{root}/lib", *(f"{root}/targets/{target}/lib" for target in _TARGETS), f"{root}/lib/x64"]
    if root == _DISTRIBUTION_ROOT:
        includes, libraries = [*includes, "/usr/include"], [*libraries, *_SYSTEM_LIBRARIES]
    missing, notes = [], []
    if nvcc is None:
        missing.append("nvcc")
    if not (
        _library(reader, libraries, "cublas")
        and _library(reader, libraries, "cublasLt")
        and _any(reader, includes, "cublas_v2.h")
    ):
        missing.append("cublas")
        notes.extend(_unlinked(reader, libraries, "cublas"))
    if not _library(reader, libraries, "cudart"):
        missing.append("cudart")
        notes.extend(_unlinked(reader, libraries, "cudart"))
    if not _any(reader, includes, "cuda_runtime.h"):
        missing.append("headers")
    compilers = (f"{root}/nvvm/bin", f"{root}/bin")
    if not (_any(reader, compilers, "cicc") or _any(reader, compilers, "cicc.exe")):
        missing.append("nvvm")
    stubs = [f"{folder}/stubs" for folder in libraries]
    if not _library(reader, [*stubs, *libraries, *_SYSTEM_LIBRARIES, "/usr/lib/wsl/lib"], "cuda"):
        missing.append("driver-stub")
    return missing, notes


def _library(reader: Reader, folders: Sequence[str], name: str) -> bool:
    """The name a linker asks for: `libX.so` (or the import library X.lib); `libX.so.13` alone links nothing."""
    return _any(reader, folders, f"lib{name}.so") or _any(reader, folders, f"{name}.lib")


def _unlinked(reader: Reader, folders: Sequence[str], name: str) -> list[str]:
    wanted = re.compile(rf"lib{name}\.so\.\d+")
    found = next((file for folder in folders for file in reader.names(folder) if wanted.fullmatch(file)), None)
    if found is None or _library(reader, folders, name):
        return []
    return [f"{found} is there, the link lib{name}.so that a build needs is not"]


def _any(reader: Reader, folders: Sequence[str], name: str) -> bool:
    return any(reader.exists(f"{folder}/{name}") for folder in folders)


def _has_parts(reader: Reader, root: str) -> bool:
    return reader.exists(f"{root}/bin/ptxas") or reader.exists(f"{root}/nvvm")


def _ask_nvcc(reader: Reader, nvcc: str) -> tuple[bool, Version | None]:
    done = reader.ask(nvcc, "--version")
    said = re.search(r"release (\d{1,3}\.\d{1,3}), V(\d{1,3}(?:\.\d{1,5})+)", done.stdout) if done else None
    if done is None or said is None:
        return False, None
    return done.returncode == 0, parse_version(said.group(2))


def _version_from_files(reader: Reader, root: str) -> Version | None:
    try:
        facts = json.loads(reader.text(f"{root}/version.json") or "null")
    except (ValueError, RecursionError):
        facts = None
    named = facts.get("cuda", {}) if isinstance(facts, dict) else None
    if isinstance(named, dict) and isinstance(named.get("version"), str):
        return parse_version(named["version"])
    for folder in (f"{root}/include", *(f"{root}/targets/{target}/include" for target in _TARGETS)):
        said = re.search(
            r"^#define CUDART_VERSION\s+(\d{4,6})", reader.text(f"{folder}/cuda_runtime_api.h") or "", re.MULTILINE
        )
        if said:
            number = int(said.group(1))
            return (number // 1000, number % 1000 // 10)
    return None


def _on_path(reader: Reader) -> Iterator[tuple[str, str]]:
    for nvcc in (*reader.which_all("nvcc"), *reader.which_all("nvcc.exe")):
        yield _root_of(reader, nvcc), "PATH"


def _root_of(reader: Reader, nvcc: str) -> str:
    """The root nvcc belongs to. A wrapper script tells by its own dry run, as CMake asks it (CMakeDetermineCUDACompiler)."""
    real = reader.real(nvcc)
    folder = real.rsplit("/", 2)[0]
    if reader.exists(f"{folder}/bin/nvcc.profile") or reader.is_dir(f"{folder}/nvvm"):
        return folder
    done = reader.ask(nvcc, "-v", "__provision_determine_cuda")
    said = re.search(r"^#\$ TOP=(\S.*?)\s*$", done.stderr + "\n" + done.stdout, re.MULTILINE) if done else None
    if said is None and real == "/usr/bin/nvcc":
        return _DISTRIBUTION_ROOT
    return said.group(1) if said else folder


def _in_environment(reader: Reader) -> Iterator[tuple[str, str]]:
    for name in _VARIABLES:
        value = reader.environ.get(name, "").strip()
        if not value.startswith("/") and ":\\" not in value:
            continue
        yield (_root_of(reader, value) if name == "CUDACXX" else value), name


def _in_usual_places(reader: Reader) -> Iterator[tuple[str, str]]:
    for folder, way in (("/usr/local", "/usr/local/cuda*"), ("/opt", "/opt/cuda*")):
        for name in reader.names(folder):
            if name.startswith("cuda"):
                yield f"{folder}/{name}", way
    for root in (_DISTRIBUTION_ROOT, "/usr/lib/cuda"):
        if reader.exists(f"{root}/bin/nvcc"):
            yield root, "distribution"
    sdk = "/opt/nvidia/hpc_sdk"
    for platform in reader.names(sdk):
        for release in reader.names(f"{sdk}/{platform}"):
            for version in reader.names(f"{sdk}/{platform}/{release}/cuda"):
                if re.fullmatch(r"\d+\.\d+", version):
                    yield f"{sdk}/{platform}/{release}/cuda/{version}", "HPC SDK"


def _in_conda(reader: Reader, home: str) -> Iterator[tuple[str, str]]:
    prefixes = [
        reader.environ.get("CONDA_PREFIX", "").strip(),
        reader.environ.get("MAMBA_ROOT_PREFIX", "").strip(),
        "/opt/conda",
    ]
    prefixes += [f"{home}/{name}" for name in _CONDA_FOLDERS]
    for prefix in [prefix for prefix in prefixes if prefix.startswith("/")]:
        for environment in (prefix, *(f"{prefix}/envs/{name}" for name in reader.names(f"{prefix}/envs"))):
            if reader.is_program(f"{environment}/bin/nvcc") or reader.exists(f"{environment}/targets"):
                yield environment, "conda"


def _in_site_packages(reader: Reader, folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for name in reader.names(f"{folder}/nvidia"):
            # cu13 is a whole root; before CUDA 13 the wheels were single parts, of which only the compiler's is telling.
            if re.fullmatch(r"cu\d{2}", name) or name == "cuda_nvcc":
                yield f"{folder}/nvidia/{name}", "nvidia wheels in site-packages"


def _in_modules(reader: Reader) -> Iterator[tuple[str, str]]:
    """Environment modules (Lmod and Tcl) of clusters: their files name the root in a PATH line."""
    for tree in [tree for tree in reader.environ.get("MODULEPATH", "").split(":") if tree.startswith("/")][:16]:
        for name in reader.names(tree):
            if not re.search(r"cuda|nvhpc", name, re.IGNORECASE):
                continue
            files = [f"{tree}/{name}/{version}" for version in reader.names(f"{tree}/{name}")] or [f"{tree}/{name}"]
            for file in files[:32]:
                text = reader.text(file) or ""
                for root in re.findall(r"""["'\s](/[^"'\s:]+?)/bin(?=["'\s)]|$)""", text, re.MULTILINE):
                    yield root, "environment module"
