"""Runs `provision` as a user does: a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command line ended with."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def envelope(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.stdout)
        return answer

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.envelope["data"]
        return found


def private_environ(home: Path, **more: str) -> dict[str, str]:
    """The environment of a fresh user in `home`: no settings, caches or tokens of the machine the tests run on."""
    kept = {
        key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
    }
    return {**kept, "HOME": str(home), "PROVISION_HOME": str(home / "provision"), "PYTHONWARNINGS": "default", **more}


def provision(*words: str | Path, home: Path, stdin: str | None = "", timeout_s: float = 60, **environ: str) -> Ran:
    """Run one command line to its end; `stdin` is a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "provision", *map(str, words)],
        input=(stdin or "").encode(),
        capture_output=True,
        env=private_environ(home, **environ),
        timeout=timeout_s,
        check=False,
    )
    return Ran(exit_code=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode())
