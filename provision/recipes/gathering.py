"""Wheels from the package index with everything they require, for this machine or for one of another kind.

pip evaluates environment markers of the machine it runs on even when told to download for another, so requirements are followed
here: pip downloads without dependencies, the metadata of each wheel says what else is needed, until nothing is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from provision import processes
from provision.errors import NotFoundError, ProvisionError, TransferError
from provision.events import LogLine, Reporter
from provision.recipes.targets import Target
from provision.recipes.wheels import Wheel, read_wheel
from provision.settings import Settings

_PIP_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The package index as pip knows it, asked on behalf of one Python on one kind of machine."""

    settings: Settings
    reporter: Reporter
    python: str
    """`3.12`"""
    target: Target | None = None
    """None: this machine, with this very Python."""

    def gather(self, wanted: Iterable[str], folder: Path, *, pins: Mapping[str, str]) -> tuple[Wheel, ...]:
        """Download `wanted` and all they require into `folder`. A package in `pins` is taken in that version.

        NotFoundError `no-wheel-for-target` when the index has no such wheel, `conflicting-requirements` when a pin or an
        earlier choice does not satisfy a later requirement; TransferError when the index cannot be reached.
        """
        markers = self.markers()
        todo = [Requirement(text) for text in wanted]
        found: dict[str, Wheel] = {}
        seen: set[tuple[str, frozenset[str]]] = set()
        while todo:
            missing = {canonicalize_name(one.name): one for one in todo if canonicalize_name(one.name) not in found}
            if missing:
                lines = [_line(one, pins.get(name)) for name, one in sorted(missing.items())]
                found.update((wheel.name, wheel) for wheel in self.download(lines, folder))
            following: list[Requirement] = []
            for requirement in todo:
                wheel = found[canonicalize_name(requirement.name)]
                _require_fit(wheel, requirement)
                key = (wheel.name, frozenset(requirement.extras))
                if key not in seen:
                    seen.add(key)
                    following += wheel.wanted(key[1], markers)
            todo = following
        return tuple(found[name] for name in sorted(found))

    def markers(self) -> Mapping[str, str]:
        """Values of the environment markers on the machine the wheels are for."""
        return self.target.markers(self.python) if self.target else _markers_here()

    def download(self, lines: Sequence[str], folder: Path, *, hashed: bool = False) -> tuple[Wheel, ...]:
        """Download exactly the requirement `lines`, without dependencies, into `folder`; the wheels that came."""
        folder.mkdir(parents=True, exist_ok=True)
        if not lines:
            return ()
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder.parent) as temporary:
            requirements = Path(temporary) / "requirements.txt"
            requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
            came = Path(temporary) / "wheels"
            argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
            argv += ["--only-binary", ":all:", "--dest", str(came), "-r", str(requirements)]
            argv += ["--require-hashes"] if hashed else []
            self._pip([*argv, *self._tags()], lines)
            wheels = []
            for path in sorted(came.iterdir()):
                os.replace(path, folder / path.name)
                wheels.append(read_wheel(folder / path.name))
        return tuple(wheels)

    def _tags(self) -> list[str]:
        if self.target is None:
            return []
        platforms = [word for tag in self.target.pip_platforms() for word in ("--platform", tag)]
        return [*platforms, "--implementation", "cp", "--python-version", self.python]

    def _pip(self, argv: Sequence[str], lines: Sequence[str]) -> None:
        done = processes.run(
            argv,
            timeout_s=_PIP_TIMEOUT_S,
            env=self.settings.environ,
            on_line=lambda line: self.reporter(LogLine(source="pip", line=line)),
        )
        if done.returncode != 0:
            raise self._failure(done.stdout, lines)

    def _failure(self, output: str, lines: Sequence[str]) -> ProvisionError:
        if "No module named pip" in output:
            return NotFoundError(
                "this environment has no pip, which a bundle must carry", code="no-pip", hint=f"{sys.executable} -m ensurepip"
            )
        reasons = [line for line in output.splitlines() if line.startswith("ERROR")]
        offered = [line for line in reasons if "(from versions:" in line and "(from versions: none)" not in line]
        if offered:
            machine = self.target or "this machine"
            return NotFoundError(
                f"the package index has no wheel for {machine} with Python {self.python}: {offered[0].removeprefix('ERROR: ')}",
                code="no-wheel-for-target",
                hint="ask for a Python that all packages serve: --python-version 3.12",
            )
        reason = reasons[-1].removeprefix("ERROR: ") if reasons else "pip gave no reason"
        return TransferError(
            f"the package index did not give the wheels of {', '.join(line.split()[0] for line in lines[:3])}: {reason}",
            code="index-unreachable",
            hint="check the network and pip's index: python -m pip config list",
        )


def _line(requirement: Requirement, pin: str | None) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={pin}" if pin else f"{requirement.name}{extras}{requirement.specifier}"


def _require_fit(wheel: Wheel, requirement: Requirement) -> None:
    if not requirement.specifier.contains(wheel.version, prereleases=True):
        raise NotFoundError(
            f"{wheel.name} {wheel.version} is what this machine has, and another package wants {requirement}",
            code="conflicting-requirements",
            hint="python -m pip check",
        )


def _markers_here() -> dict[str, str]:
    return {name: str(value) for name, value in default_environment().items()}
