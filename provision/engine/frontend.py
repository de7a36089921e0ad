"""The program that puts packages into environments: uv when present, else pip. Both leave the index to their own settings."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from provision.errors import MachineError
from provision.processes import Finished, run

_DISK_FULL = ("No space left on device", "Disk quota exceeded", "[Errno 28]", "os error 28")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """How to call it; `python` is the interpreter whose environment is meant, in every command below."""

    kind: Literal["uv", "pip"]
    program: tuple[str, ...]
    home: str = ""
    """Interpreter pip itself runs under; empty for uv."""

    def install(
        self, python: str, requirements: Sequence[str], *, prefix: Path | None = None, extra: Sequence[str] = ()
    ) -> list[str]:
        """Command that installs `requirements` for `python`, or below `prefix` with the same layout."""
        command = [*self._head(python), "install"]
        if self.kind == "uv":
            command += ["--python", python]
        if prefix is not None:
            command += ["--prefix", str(prefix)]
            # uv looks only at the prefix; pip would call what the environment already has "satisfied" and leave it out.
            command += ["--ignore-installed"] if self.kind == "pip" else []
        if self.kind == "pip":
            command += ["--disable-pip-version-check", "--no-input", "--no-warn-script-location", "--progress-bar", "off"]
            # Compiling every module costs more than it saves: Python does it when a module is first imported.
            command += ["--no-compile"]
        return [*command, *extra, *requirements]

    def install_to(self, python: str, requirements: Sequence[str], *, target: Path) -> list[str]:
        """Command that unpacks exactly `requirements`, wheels only, into the folder `target`."""
        extra = ["--no-deps", "--only-binary", ":all:", "--target", str(target)]
        return self.install(python, requirements, extra=extra)

    def uninstall(self, python: str, names: Sequence[str]) -> list[str]:
        """Command that uninstalls packages from the environment of `python`."""
        if self.kind == "uv":
            return [*self.program, "uninstall", "--python", python, *names]
        return [*self._head(python), "uninstall", "--yes", "--disable-pip-version-check", *names]

    def _head(self, python: str) -> list[str]:
        if self.kind == "pip" and python != self.home:
            return [*self.program, "--python", python]
        return list(self.program)


def find_frontend(environ: Mapping[str, str], *, python: str, python_has_pip: bool) -> Frontend:
    """uv on PATH, else pip of the target, else our own pip. MachineError (`no-pip`) when there is none."""
    uv = shutil.which("uv", path=environ.get("PATH"))
    if uv is not None and run([uv, "--version"], timeout_s=20, env=environ).returncode == 0:
        return Frontend(kind="uv", program=(uv, "pip"))
    for candidate in [python] if python_has_pip else []:
        return Frontend(kind="pip", program=(candidate, "-m", "pip"), home=candidate)
    if importlib.util.find_spec("pip") is not None:
        return Frontend(kind="pip", program=(sys.executable, "-m", "pip"), home=sys.executable)
    raise MachineError("neither uv nor pip was found", code="no-pip", hint=f"{python} -m ensurepip")


def refuse_full_disk(done: Finished, folder: Path) -> None:
    """MachineError (`no-disk`) when a program that wrote below `folder` says that the disk is full."""
    if done.returncode != 0 and any(words in done.stdout + done.stderr for words in _DISK_FULL):
        raise MachineError(
            f"the disk of {folder} is full", code="no-disk", hint=f"df -h {folder}; or: export PROVISION_HOME=/a/larger/disk"
        )
