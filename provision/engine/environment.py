"""The Python environment an engine goes into: what it is, whether we may touch it, and what is installed there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.errors import MachineError, UsageError
from provision.processes import run_child

_CHILD = Path(__file__).parent / "children" / "environment.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Folders and packages of one interpreter. Package names are normalised (`llama-cpp-python`)."""

    python: str
    version: tuple[int, ...]
    prefix: Path
    purelib: Path
    platlib: Path
    is_venv: bool
    externally_managed: bool
    owner: str | None
    installed: Mapping[str, str]
    requires: Mapping[str, tuple[str, ...]]
    """What each installed package requires, without extras."""

    @property
    def state_dir(self) -> Path:
        """Our own folder in it: staging, journal and the previous engine."""
        return self.prefix / ".provision"

    @property
    def has_pip(self) -> bool:
        return "pip" in self.installed

    def inside(self, prefix: Path) -> Path:
        """Where this environment's site-packages lie below another prefix of the same layout."""
        return prefix / self.platlib.relative_to(self.prefix)


def inspect_environment(python: Path, *, environ: Mapping[str, str]) -> Environment:
    """Ask `python` about itself in a child; UsageError (`bad-python`) when it cannot answer."""
    outcome = run_child(python, _CHILD, {}, timeout_s=60, env=environ)
    if outcome.kind != "ok":
        said = outcome.stderr_tail.strip().splitlines()
        raise UsageError(
            f"{python} does not work as a Python: {said[-1] if said else outcome.kind}",
            code="bad-python",
            hint="python3 -m venv .venv, then: provision install --python .venv/bin/python",
        )
    answer = outcome.answer
    return Environment(
        python=str(python),
        version=tuple(answer["version"]),
        prefix=Path(answer["prefix"]),
        purelib=Path(answer["purelib"]),
        platlib=Path(answer["platlib"]),
        is_venv=answer["is_venv"],
        externally_managed=answer["externally_managed"],
        owner=answer["owner"],
        installed=answer["installed"],
        requires={name: tuple(needs) for name, needs in answer["requires"].items()},
    )


def check_environment(environment: Environment, *, chosen: bool) -> None:
    """Raise MachineError when this environment is not ours to change. `chosen`: the user named it with --python."""
    make_one = "python3 -m venv .venv, then: provision install --python .venv/bin/python"
    if environment.externally_managed:
        raise MachineError(
            f"the Python in {environment.prefix} belongs to the distribution, which forbids installing into it (PEP 668)",
            code="externally-managed",
            hint=make_one,
        )
    if environment.owner is not None and not chosen:
        raise MachineError(
            f"provision runs in an environment of {environment.owner}, which other programs cannot use an engine from",
            code="tool-environment",
            hint=make_one,
        )
    if not environment.platlib.is_relative_to(environment.prefix):
        raise MachineError(
            f"{environment.platlib} does not lie below {environment.prefix}; such a layout is not handled",
            code="odd-environment",
            hint=make_one,
        )
    if not os.access(environment.platlib, os.W_OK):
        raise MachineError(f"no permission to write to {environment.platlib}", code="environment-not-writable", hint=make_one)
