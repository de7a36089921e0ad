"""The one door through which probes look at a machine: files below a root, programs on PATH, the environment.

Nothing here raises for what the machine holds: a file that is missing, secret, endless or not text reads as None or as what
could be decoded; a program that is missing or hangs answers None. Tests open the door onto a folder and scripted programs.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provision.processes import Finished, run

_TEXT_LIMIT = 4 * 1024 * 1024
Runner = Callable[[Sequence[str], float, Mapping[str, str]], Finished]


def run_program(argv: Sequence[str], timeout_s: float, env: Mapping[str, str]) -> Finished:
    """The runner of the real machine."""
    return run(argv, timeout_s=timeout_s, env=env)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """`root` stands for `/`; paths given and returned never contain it."""

    environ: Mapping[str, str]
    root: Path = Path("/")
    runner: Runner = run_program
    os_name: str = field(default_factory=lambda: sys.platform)
    machine: str = field(default_factory=platform.machine)

    def text(self, path: str) -> str | None:
        """The file as text, undecodable bytes replaced; None when it cannot be read."""
        try:
            with self.at(path).open("rb") as file:
                return file.read(_TEXT_LIMIT).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    def line(self, path: str) -> str | None:
        """The file's first line, stripped; None when there is none or it is blank."""
        text = self.text(path)
        first = text.strip().splitlines()[:1] if text else []
        return first[0].strip("\0 \t") or None if first else None

    def number(self, path: str) -> int | None:
        """The file's content as a decimal integer."""
        text = self.line(path)
        return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 20 else None

    def exists(self, path: str) -> bool:
        try:
            return self.at(path).exists()
        except (OSError, ValueError):
            return False

    def is_dir(self, path: str) -> bool:
        try:
            return self.at(path).is_dir()
        except (OSError, ValueError):
            return False

    def names(self, folder: str) -> tuple[str, ...]:
        """The sorted names in `folder`; empty when it cannot be listed."""
        try:
            return tuple(sorted(entry.name for entry in os.scandir(self.at(folder))))
        except (OSError, ValueError):
            return ()

    def real(self, path: str) -> str:
        """`path` with symbolic links followed, as far as that is possible below `root`."""
        if self.root == Path("/"):
            try:
                return os.path.realpath(path)
            except (OSError, ValueError):
                return path
        try:
            resolved = self.at(path).resolve()
            return (
                "/" + str(resolved.relative_to(self.root.resolve())) if resolved.is_relative_to(self.root.resolve()) else path
            )
        except (OSError, ValueError, RuntimeError):
            return path

    def path_folders(self) -> tuple[str, ...]:
        """The folders of PATH, in order, once each."""
        folders = (folder for folder in self.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder))
        return tuple(dict.fromkeys(folders))

    def which(self, name: str) -> str | None:
        """The first executable of that name on PATH."""
        return next(iter(self.which_all(name)), None)

    def which_all(self, name: str) -> tuple[str, ...]:
        """Every executable of that name on PATH, in order."""
        found = (f"{folder.rstrip('/')}/{name}" for folder in self.path_folders())
        return tuple(path for path in found if self.is_program(path))

    def is_program(self, path: str) -> bool:
        try:
            at = self.at(path)
            return at.is_file() and os.access(at, os.X_OK)
        except (OSError, ValueError):
            return False

    def ask(self, *argv: str, timeout_s: float = 5.0) -> Finished | None:
        """Run a program that is quick and has no effects; None when it cannot be started or hangs."""
        try:
            # Tools translate their answers; the C locale keeps them readable for us.
            done = self.runner(argv, timeout_s, {**self.environ, "LC_ALL": "C", "LANGUAGE": "C"})
        except (OSError, ValueError):
            return None
        return None if done.timed_out else done

    def at(self, path: str) -> Path:
        """Where `path` really is."""
        return Path(path) if self.root == Path("/") else self.root / path.lstrip("/")
