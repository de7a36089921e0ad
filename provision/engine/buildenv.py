"""A private environment that holds the build tools: no isolation magic, resumable, and nothing of it in the user's own."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.engine.frontend import Frontend, refuse_full_disk
from provision.engine.locks import alone
from provision.errors import BuildError
from provision.events import Progress, ProgressEnded, Reporter
from provision.processes import run

_READY = ".ready"


def ensure_build_environment(
    requirements: Sequence[str], *, folder: Path, frontend: Frontend, environ: Mapping[str, str], reporter: Reporter
) -> Path:
    """The Python of an environment with pip and `requirements`; made once, reused while they stay the same."""
    wanted = ["pip", *requirements]
    digest = hashlib.sha256("\n".join([sys.executable, sys.version, *wanted]).encode()).hexdigest()[:12]
    home = folder / digest
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if _is_ready(home, python, environ):
        return python
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, waiting="another installation is preparing build tools; waiting for it", reporter=reporter):
        if not _is_ready(home, python, environ):
            _make(home, python, wanted, frontend=frontend, environ=environ, reporter=reporter)
    return python


def _is_ready(home: Path, python: Path, environ: Mapping[str, str]) -> bool:
    return (home / _READY).exists() and run([str(python), "-c", ""], timeout_s=60, env=environ).returncode == 0


def _make(
    home: Path, python: Path, wanted: Sequence[str], *, frontend: Frontend, environ: Mapping[str, str], reporter: Reporter
) -> None:
    shutil.rmtree(home, ignore_errors=True)
    reporter(Progress(task="build-env", label="preparing build tools", done=0, total=None, unit="steps"))
    # --without-pip: Debian ships ensurepip in a package of its own, and every front end can bring pip from outside.
    steps = [
        [sys.executable, "-m", "venv", "--without-pip", str(home)],
        frontend.install(str(python), wanted),
    ]
    for step in steps:
        done = run(step, timeout_s=1800, env=environ)
        refuse_full_disk(done, home.parent)
        if done.returncode != 0:
            raise BuildError(
                f"the build tools could not be installed: {(done.stderr or done.stdout).strip()[-400:]}",
                code="build-tools",
                hint=" ".join(step),
            )
    (home / _READY).write_text("\n".join(wanted) + "\n", encoding="utf-8")
    reporter(ProgressEnded(task="build-env"))
