"""`provision lock`: run `up` (which keeps what is there), hash what lies on disk, write it down."""

from __future__ import annotations

import os
from pathlib import Path

from provision.errors import MachineError
from provision.events import Note, Reporter
from provision.gguf.reader import read_header
from provision.gguf.source import FileSource
from provision.recipes.lockfile import Lock
from provision.recipes.locking import make_lock, model_of
from provision.recipes.observe import hash_files
from provision.recipes.pins import ENGINE_PACKAGE, archives, engine_origin, installed_packages
from provision.recipes.rooms import Rooms
from provision.recipes.target import Wanted
from provision.recipes.up import UpReport, run_up
from provision.recipes.uses import note_deployment
from provision.settings import Settings

_TEMPLATE_KEY = "tokenizer.chat_template"


def lock_deployment(
    wanted: Wanted, *, rooms: Rooms, python: Path, settings: Settings, reporter: Reporter
) -> tuple[UpReport, Lock | None]:
    """The report of `up`, and the lock when it passed. TransferError when the package index cannot name the hashes."""
    report = run_up(wanted, rooms=rooms, reporter=reporter)
    if report.error is not None or report.model is None:
        return report, None
    packages = installed_packages(python, env=settings.environ)
    pins = [(package.name, package.version) for package in packages if package.name != ENGINE_PACKAGE]
    path = Path(report.model["path"])
    files = hash_files(_model_paths(report, path))
    model = model_of(wanted.recipe, report, files=files, template=_template(path))
    pinned = archives(python, pins, env=settings.environ)
    if not (report.install or {}).get("wheel"):
        said = "the engine was not installed by provision: the lock names no wheel, and other machines cannot sync its bytes"
        reporter(Note(level="warning", message=said))
    origin = engine_origin(python, env=settings.environ, home=settings.provision_home)
    return report, make_lock(wanted.recipe, report, model=model, packages=packages, archives=pinned, origin=origin)


def note_report(report: UpReport, *, python: Path, settings: Settings) -> None:
    """Leave a note that `python`'s environment now needs this model and this wheel."""
    hashes = [file["sha256"] for file in (report.fetched or {}).get("files", ()) if file["sha256"]]
    wheel = (report.install or {}).get("wheel")
    if wheel:
        hashes.append(wheel["sha256"])
    note_deployment(settings, python=python, recipe=report.recipe, sha256=hashes)


def hashes_of(lock: Lock) -> list[str]:
    """sha256 of every file the lock names that a cache may hold."""
    wheel = [lock.engine.wheel.sha256] if lock.engine.wheel else []
    return [*(file.sha256 for file in lock.model.files), *wheel]


def write_lock_file(path: Path, text: str) -> None:
    """Replace the lock at `path`, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise MachineError(
            f"cannot write {path}: {error.strerror}", code="cannot-write", hint=f"ls -ld {path.parent}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _model_paths(report: UpReport, path: Path) -> list[tuple[str, Path]]:
    if report.fetched is None:
        return [(path.name, path)]
    files = [(str(file["path"]), Path(file["local_path"])) for file in report.fetched["files"]]
    # The file llama.cpp opens comes first; the rest in the order of their names.
    return sorted(files, key=lambda pair: (pair[1] != path, pair[0]))


def _template(path: Path) -> str | None:
    return read_header(FileSource(path)).text(_TEMPLATE_KEY)
