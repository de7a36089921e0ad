"""What `provision doctor --fix` would do: what needs no root, lies in our own folders or the environment, and can be undone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from provision.engine.cuda_plan import CudaPlan, plan_cuda
from provision.engine.types import InstallWish, ToolkitChoice
from provision.errors import ProvisionError
from provision.host.compilers import cxx_of
from provision.host.cuda_tables import version_text
from provision.host.match import cuda_gpus, judge_toolkits, working_driver
from provision.host.types import CudaToolkit, Host, Tool

_CMAKE_MIN, _NINJA_MIN = (3, 21), (1, 10)
_LIBRARIES = {"cudart": ("libcudart",), "cublas": ("libcublas", "libcublasLt")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One act. Exactly one of the fields below `because` says what is done."""

    id: str
    title: str
    because: str
    checks: tuple[str, ...] = ()
    """The checks of doctor that complain of what this mends."""
    packages: tuple[str, ...] = ()
    """PyPI requirements for the target environment."""
    toolkit: ToolkitChoice | None = None
    """A toolkit to assemble in our own folder."""
    links: tuple[tuple[str, str], ...] = ()
    """(folder, `libX`): link `libX.so` to the versioned library beside it."""
    compilers: dict[str, str] = field(default_factory=dict)
    """CC and CXX to use from now on."""

    def to_data(self) -> dict[str, Any]:
        return {"id": self.id, "title": self.title, "because": self.because}


def plan_mends(host: Host, *, toolkits_dir: str, path_folders: Collection[str]) -> tuple[Mend, ...]:
    """Everything that can be mended here, in the order it is done. Pure; empty when nothing can."""
    found = (_compiler(host), _build_tools(host, path_folders), *_links(host, toolkits_dir), _toolkit(host, toolkits_dir))
    return tuple(mend for mend in found if mend is not None)


def _compiler(host: Host) -> Mend | None:
    """Another compiler, where the one a build would take is broken."""
    default = cxx_of(host.tools)
    if default is None or default.works is not False:
        return None
    paths = {tool.path for tool in host.tools}
    others = [tool for tool in host.tools if _is_other(tool, default) and _c_path(tool.path) in paths]
    if not others:
        return None
    return Mend(
        id="host-compiler",
        checks=("compiler",),
        title=f"build with {others[0].path} from now on",
        because=f"{default.path} does not compile a small program",
        compilers={"CC": _c_path(others[0].path), "CXX": others[0].path},
    )


def _is_other(tool: Tool, default: Tool) -> bool:
    """Another version, too: the same one under another name (c++, g++) would lack the same."""
    return "++" in tool.name and tool.works is True and tool.version is not None and tool.version != default.version


def _c_path(path: str) -> str:
    """`/usr/bin/g++-13` to `/usr/bin/gcc-13`, `clang++` to `clang`."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.replace('clang++', 'clang').replace('g++', 'gcc')}"


def _build_tools(host: Host, path_folders: Collection[str]) -> Mend | None:
    """cmake and ninja for the environment, where that makes a difference: its folder of programs is on PATH."""
    python = host.python
    if python is None or not python.is_venv or python.externally_managed or python.managed_by in ("pipx", "uv-tool"):
        return None
    if str(PurePosixPath(python.executable).parent) not in path_folders:
        return None
    wanted, why = [], []
    for name, least in (("cmake", _CMAKE_MIN), ("ninja", _NINJA_MIN)):
        tool = host.tool(name)
        if tool is None or tool.works is False or (tool.version is not None and tool.version < least):
            wanted.append(f"{name}>={version_text(least)}")
            why.append(f"no {name}" if tool is None else f"{tool.path} is too old or broken")
    if not wanted:
        return None
    return Mend(
        id="build-tools",
        checks=("build-tools",),
        title=f"install {' and '.join(wanted)} from PyPI into the environment",
        because=", ".join(why),
        packages=tuple(wanted),
    )


def _links(host: Host, toolkits_dir: str) -> list[Mend]:
    """Unversioned names of libraries in toolkits of our own, for which the linker asks."""
    found = []
    for toolkit in host.toolkits:
        parts = [part for part in ("cudart", "cublas") if part in toolkit.missing and _has_unlinked(toolkit, part)]
        if toolkit.root.startswith(f"{toolkits_dir}/") and parts:
            names = [name for part in parts for name in _LIBRARIES[part]]
            found.append(
                Mend(
                    id="toolkit-links",
                    checks=("cuda-parts", "cuda-toolkits"),
                    title=f"link {', '.join(f'{name}.so' for name in names)} in {toolkit.root}",
                    because="the versioned libraries are there, the names a build links against are not",
                    links=tuple((f"{toolkit.root}/lib", name) for name in names),
                )
            )
    return found


def _has_unlinked(toolkit: CudaToolkit, part: str) -> bool:
    return any(f"the link lib{part}.so" in note for note in toolkit.notes)


def _toolkit(host: Host, toolkits_dir: str) -> Mend | None:
    """A CUDA toolkit from PyPI, where the GPU and its driver work and no toolkit of the machine does."""
    if not cuda_gpus(host) or working_driver(host) is None or any(verdict.usable for verdict in judge_toolkits(host)):
        return None
    try:
        plan = plan_cuda(host, InstallWish(backend="cuda", toolkit="pypi"), toolkits_dir=toolkits_dir)
    except ProvisionError:
        # No architecture to build for, or nothing that suits: doctor's findings say so.
        return None
    if not isinstance(plan, CudaPlan) or plan.toolkit.kind != "pypi":
        return None
    return Mend(
        id="cuda-toolkit",
        checks=("cuda-toolkits", "cuda-match"),
        title=f"assemble CUDA {version_text(plan.toolkit.version)} from NVIDIA's packages in {plan.toolkit.root}",
        because="no CUDA toolkit of this machine is usable here",
        toolkit=plan.toolkit,
    )
