"""Taking the engine out again: only what provision placed, and of the packages that came along only what nobody else needs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provision.engine import transaction
from provision.engine.environment import Environment, check_environment, inspect_environment
from provision.engine.foreign import FILE as ADOPTED
from provision.engine.foreign import find_foreign
from provision.engine.frontend import find_frontend
from provision.engine.locks import one_at_a_time
from provision.engine.provenance import read_installed
from provision.engine.staging import DISTRIBUTION
from provision.errors import BuildError, ProvisionError
from provision.events import Reporter, silent
from provision.processes import run
from provision.settings import Settings


def uninstall(python: Path | None, *, settings: Settings, reporter: Reporter = silent) -> dict[str, Any]:
    """Remove the engine from the environment of `python`, and our own folder in it.

    An engine that somebody else installed and provision only proved stays: it is under `left`. ProvisionError (`not-ours`) for
    one that provision has nothing to do with.
    """
    environment = inspect_environment(Path(python or sys.executable), environ=settings.environ)
    check_environment(environment, chosen=python is not None)
    with one_at_a_time(environment, reporter):
        transaction.recover(environment.state_dir)
        installed = read_installed(environment)
        foreign = find_foreign(environment) if installed is None else None
        if foreign is not None and (environment.state_dir / ADOPTED).exists():
            shutil.rmtree(environment.state_dir, ignore_errors=True)
            return {"removed": [], "kept": [], "left": foreign.name, "python": environment.python}
        if installed is None:
            there = environment.installed.get(DISTRIBUTION)
            raise ProvisionError(
                f"the engine in {environment.prefix} was not placed by provision"
                if there
                else f"no engine is installed in {environment.prefix}",
                code="not-ours",
                hint=f"{environment.python} -m pip uninstall llama-cpp-python" if there else "provision install",
            )
        came = [entry.partition(" ")[0] for entry in installed.dependencies]
        removable = removable_dependencies(came, environment)
        names = [DISTRIBUTION, *removable]
        _remove(names, environment, settings.environ)
    shutil.rmtree(environment.state_dir, ignore_errors=True)
    return {
        "removed": [f"{name} {environment.installed.get(name, '')}".strip() for name in names],
        "kept": sorted(set(came) - set(removable)),
        "left": None,
        "python": environment.python,
    }


def removable_dependencies(came: list[str], environment: Environment) -> tuple[str, ...]:
    """Of the packages that came with the engine, those nothing that stays requires."""
    removable = {name for name in came if name in environment.installed}
    while True:
        staying = set(environment.installed) - removable - {DISTRIBUTION}
        needed = {required for name in staying for required in environment.requires.get(name, ())}
        if not needed & removable:
            return tuple(sorted(removable))
        removable -= needed


def _remove(names: list[str], environment: Environment, environ: Mapping[str, str]) -> None:
    frontend = find_frontend(environ, python=environment.python, python_has_pip=environment.has_pip)
    command = frontend.uninstall(environment.python, names)
    done = run(command, timeout_s=600, env=environ)
    if done.returncode != 0:
        raise BuildError(
            f"{frontend.kind} could not uninstall: {(done.stderr or done.stdout).strip()[-300:]}",
            code="uninstall-failed",
            hint=" ".join(command),
        )
