"""Doing what mends.py planned, and undoing it.

Every act is written to a journal before it begins, with what is needed to take it back, so a killed run can be undone too.
Undoing goes backwards through the journal and removes it, and the folders we made when nothing else is in them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from provision.engine.environment import inspect_environment
from provision.engine.frontend import Frontend, find_frontend
from provision.engine.locks import writable_home
from provision.engine.mends import Mend
from provision.engine.toolkit import ensure_toolkit
from provision.errors import BuildError, UsageError
from provision.events import Note, Reporter
from provision.processes import run
from provision.settings import CHOICES_FILE, Settings

JOURNAL = "mended.json"
Row = dict[str, Any]


def apply(mends: Sequence[Mend], *, python: Path, settings: Settings, reporter: Reporter) -> tuple[str, ...]:
    """Carry the mends out, one after the other; returns the titles of what was done. The first failure stops and is raised."""
    if not mends:
        return ()
    made = [str(folder) for folder in _absent(settings.provision_home)]
    done = []
    with writable_home(settings):
        journal = _Journal(settings.provision_home / JOURNAL)
        journal.remember_folders(made)
        for number, mend in enumerate(mends, 1):
            reporter(Note(level="info", message=f"plan {number}/{len(mends)}: {mend.title}, because {mend.because}"))
        for mend in mends:
            if mend.packages:
                _install(mend, journal, python=python, settings=settings)
            elif mend.toolkit is not None:
                _assemble(mend, journal, python=python, settings=settings, reporter=reporter)
            elif mend.links:
                _link(mend, journal)
            else:
                _choose_compiler(mend, journal, settings)
            done.append(mend.title)
    return tuple(done)


def undo(*, settings: Settings, reporter: Reporter) -> tuple[str, ...]:
    """Take back everything in the journal, newest first; returns what was taken back. What is already gone is no failure."""
    journal = _Journal(settings.provision_home / JOURNAL)
    titles = []
    for row in reversed(journal.rows):
        reporter(Note(level="info", message=f"undoing: {row.get('title', row.get('kind'))}"))
        _UNDO.get(str(row.get("kind")), _undo_nothing)(row, settings)
        journal.drop(row)
        titles.append(str(row.get("title", "")))
    journal.end()
    return tuple(titles)


class _Journal:
    """The rows done or begun, on disk after every change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows: list[Row] = []
        self.folders: list[str] = []
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            self.rows, self.folders = list(data["rows"]), list(data["folders"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"the record of what doctor --fix did cannot be read: {file}",
                code="bad-journal",
                hint=f"look at it, then: rm {file}",
            ) from error

    def remember_folders(self, folders: Sequence[str]) -> None:
        self.folders = list(dict.fromkeys([*self.folders, *folders]))
        self._write()

    def begin(self, row: Row) -> None:
        # What failed and is tried again is one act.
        if row not in self.rows:
            self.rows.append(row)
        self._write()

    def drop(self, row: Row) -> None:
        self.rows.remove(row)
        self._write()

    def end(self) -> None:
        """Remove the file, and the folders we made while they are empty."""
        self._file.unlink(missing_ok=True)
        for folder in sorted(self.folders, key=len, reverse=True):
            with suppress(OSError):
                Path(folder).rmdir()

    def _write(self) -> None:
        partial = self._file.with_name(f".{self._file.name}-{os.getpid()}")
        with partial.open("w", encoding="utf-8") as out:
            json.dump({"schema": 1, "rows": self.rows, "folders": self.folders}, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, self._file)


def _absent(folder: Path) -> list[Path]:
    """The folders that making `folder` would make."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _front_end(python: Path, environ: Mapping[str, str]) -> tuple[Frontend, dict[str, str]]:
    environment = inspect_environment(python, environ=environ)
    front_end = find_frontend(environ, python=str(python), python_has_pip=environment.has_pip)
    return front_end, dict(environment.installed)


def _install(mend: Mend, journal: _Journal, *, python: Path, settings: Settings) -> None:
    front_end, before = _front_end(python, settings.environ)
    names = [requirement.split(">")[0] for requirement in mend.packages]
    held = {name: before[name] for name in names if name in before}
    journal.begin({"kind": "packages", "title": mend.title, "python": str(python), "names": names, "before": held})
    _must(front_end.install(str(python), mend.packages), settings.environ)


def _undo_packages(row: Row, settings: Settings) -> None:
    """Uninstall what was not there before, and go back to the versions that were."""
    python, names, before = Path(str(row["python"])), list(row["names"]), dict(row["before"])
    if not python.exists():
        return
    front_end, now = _front_end(python, settings.environ)
    added = [name for name in names if name in now and name not in before]
    changed = [f"{name}=={before[name]}" for name in names if name in before and now.get(name) != before[name]]
    if added:
        _must(front_end.uninstall(str(python), added), settings.environ)
    if changed:
        _must(front_end.install(str(python), changed), settings.environ)


def _assemble(mend: Mend, journal: _Journal, *, python: Path, settings: Settings, reporter: Reporter) -> None:
    assert mend.toolkit is not None
    root = Path(mend.toolkit.root)
    if root.exists():
        return
    journal.remember_folders([str(folder) for folder in _absent(root.parent)])
    journal.begin({"kind": "toolkit", "title": mend.title, "root": str(root)})
    front_end, _ = _front_end(python, settings.environ)
    with tempfile.TemporaryDirectory(prefix="provision-mend-", ignore_cleanup_errors=True) as folder:
        environ = _quiet(settings.environ, Path(folder))
        ensure_toolkit(mend.toolkit, python=str(python), frontend=front_end, environ=environ, reporter=reporter)


def _undo_toolkit(row: Row, settings: Settings) -> None:
    root = Path(str(row["root"]))
    # The record is a file anyone could have changed: nothing outside our own folder is ever removed.
    if root.is_relative_to(settings.provision_home / "toolkits") and ".." not in root.parts:
        for leftover in (root, *root.parent.glob(f".{root.name}-*")):
            shutil.rmtree(leftover, ignore_errors=True)


def _link(mend: Mend, journal: _Journal) -> None:
    for folder, name in mend.links:
        plain = Path(folder) / f"{name}.so"
        versioned = sorted(Path(folder).glob(f"{name}.so.[0-9]*"), key=lambda path: len(path.name))
        if versioned and not plain.exists():
            row = {"kind": "link", "title": f"link {plain}", "path": str(plain), "target": versioned[0].name}
            journal.begin(row)
            plain.symlink_to(versioned[0].name)


def _undo_link(row: Row, settings: Settings) -> None:
    path = Path(str(row["path"]))
    if path.is_symlink() and os.readlink(path) == row["target"]:
        path.unlink()


def _choose_compiler(mend: Mend, journal: _Journal, settings: Settings) -> None:
    file = settings.provision_home / CHOICES_FILE
    before = file.read_text(encoding="utf-8") if file.exists() else None
    journal.begin({"kind": "choice", "title": mend.title, "before": before})
    partial = file.with_name(f".{file.name}-{os.getpid()}")
    partial.write_text(json.dumps(mend.compilers, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def _undo_choice(row: Row, settings: Settings) -> None:
    file = settings.provision_home / CHOICES_FILE
    if row.get("before") is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(str(row["before"]), encoding="utf-8")


def _undo_nothing(row: Row, settings: Settings) -> None:
    """A kind of a newer version: nothing we know how to take back."""


_UNDO: dict[str, Callable[[Row, Settings], None]] = {
    "packages": _undo_packages,
    "toolkit": _undo_toolkit,
    "link": _undo_link,
    "choice": _undo_choice,
}


def _quiet(environ: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    """pip asks rustc for its version, and rustup's stand-in for rustc writes settings into a home that has none."""
    return environ if environ.get("RUSTUP_HOME") else {**environ, "RUSTUP_HOME": str(folder)}


def _must(command: Sequence[str], environ: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="provision-mend-", ignore_cleanup_errors=True) as folder:
        done = run(command, timeout_s=1800, env=_quiet(environ, Path(folder)))
    if done.returncode != 0:
        raise BuildError(
            f"the packages could not be changed: {(done.stderr or done.stdout).strip()[-400:]}",
            code="mend-failed",
            hint=" ".join(command),
        )
