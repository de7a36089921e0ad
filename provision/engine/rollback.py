"""Back to the engine before the last installation: the same renames the other way round."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from provision.engine import transaction
from provision.engine.environment import Environment, check_environment, inspect_environment
from provision.engine.locks import one_at_a_time
from provision.engine.staging import DISTRIBUTION, PACKAGE, clean_leftovers, engine_entries, keep_as_previous
from provision.engine.transaction import Move, plan_move
from provision.errors import ProvisionError
from provision.events import Reporter, silent
from provision.settings import Settings


def rollback(python: Path | None, *, settings: Settings, reporter: Reporter = silent) -> dict[str, Any]:
    """Swap the engine for the previous one; doing it twice brings the newer one back. Returns what was and what is."""
    environment = inspect_environment(Path(python or sys.executable), environ=settings.environ)
    check_environment(environment, chosen=python is not None)
    with one_at_a_time(environment, reporter):
        transaction.recover(environment.state_dir)
        clean_leftovers(environment)
        previous = environment.state_dir / "previous"
        before = _version(environment)
        site = previous / environment.platlib.relative_to(environment.prefix)
        if not (site / PACKAGE).is_dir():
            raise ProvisionError(
                f"there is no previous engine for {environment.python}", code="no-previous-engine", hint="provision install"
            )
        coming = environment.state_dir / f"previous-{os.getpid()}"
        transaction.remove_tree(coming)
        transaction.apply(_moves(previous, environment, coming), state_dir=environment.state_dir)
        keep_as_previous(coming, environment)
    now = _version(inspect_environment(Path(environment.python), environ=settings.environ))
    return {"before": before, "now": now, "python": environment.python}


def _moves(previous: Path, environment: Environment, backup: Path) -> tuple[Move, ...]:
    moves = []
    returning = [path for path in _wholes(previous) if _is_engine(path, environment, previous)]
    for path in returning:
        relative = path.relative_to(previous)
        moves.append(plan_move(environment.prefix / relative, staged=path, backup=backup / relative))
    finals = {move.final for move in moves}
    for old in engine_entries(environment):
        if str(old) not in finals:
            moves.append(plan_move(old, staged=None, backup=backup / old.relative_to(environment.prefix)))
    return tuple(sorted(moves, key=lambda move: move.staged is None))


def _wholes(folder: Path) -> list[Path]:
    """What the backup holds: package folder and dist-info as wholes, other files one by one."""
    found: list[Path] = []
    for child in sorted(folder.iterdir()):
        whole = child.name == PACKAGE or child.name.endswith(".dist-info")
        if child.is_dir() and not child.is_symlink() and not whole:
            found += _wholes(child)
        else:
            found.append(child)
    return found


def _is_engine(path: Path, environment: Environment, previous: Path) -> bool:
    """Everything in a backup is the engine's, except dist-infos of packages that were replaced along with it."""
    return not path.name.endswith(".dist-info") or path.name.startswith("llama_cpp_python-")


def _version(environment: Environment) -> str:
    return f"{DISTRIBUTION} {environment.installed.get(DISTRIBUTION, '(none)')}"
