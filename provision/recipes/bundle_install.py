"""Installing from a bundle: check every byte, place the model, then `sync --frozen` with the bundled wheels as only index."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from provision.errors import IntegrityError, MachineError
from provision.events import Progress, ProgressEnded, Reporter
from provision.fetch.disk import require_space
from provision.fetch.layout import cache_home, ref_file
from provision.fetch.placed import note_placed
from provision.fetch.store import point, write_text
from provision.fetch.types import FileHome
from provision.models.types import RepoFile
from provision.recipes.bundling import LOCK_PATH, MODEL, WHEELS
from provision.recipes.children.install import Bundle, BundleDamaged
from provision.recipes.deployment import hashes_of
from provision.recipes.entry import real_rooms
from provision.recipes.lockfile import Lock, LockedFile, parse_lock
from provision.recipes.observe import placed_model
from provision.recipes.syncing import Deployment, SyncReport
from provision.recipes.uses import note_deployment
from provision.settings import Settings
from provision.units import MIB

_CHUNK = MIB


def open_bundle(path: Path, *, reporter: Reporter) -> Bundle:
    """The bundle at `path`, every byte checked. IntegrityError `bundle-damaged` names the file."""
    if not path.exists():
        raise MachineError(
            f"there is no bundle {path}", code="no-bundle", hint="is the medium mounted? ls -l " + str(path.parent)
        )
    try:
        bundle = Bundle(path)
        bundle.verify(
            lambda name, done, total: reporter(Progress(task="verify", label=name, done=done, total=total, unit="bytes"))
        )
    except BundleDamaged as error:
        raise IntegrityError(str(error), code="bundle-damaged", hint="copy the bundle again from where it was made") from error
    finally:
        reporter(ProgressEnded(task="verify"))
    return bundle


def bundle_data(bundle: Bundle) -> dict[str, Any]:
    """`data` of `bundle verify`."""
    return {
        "path": str(bundle.path),
        "name": bundle.manifest["name"],
        "target": bundle.manifest["target"],
        "tree_sha256": bundle.manifest["tree_sha256"],
        "files": len(bundle.files),
        "size_bytes": sum(entry["size_bytes"] for entry in bundle.files),
    }


def install_bundle(path: Path, *, python: Path, settings: Settings, reporter: Reporter) -> SyncReport:
    """Engine and packages into the environment of `python`, the model into the cache; nothing is asked of the network."""
    bundle = open_bundle(path, reporter=reporter)
    lock = bundled_lock(bundle)
    _place_model(bundle, lock, settings=settings, reporter=reporter)
    with tempfile.TemporaryDirectory(prefix="provision-wheels-") as temporary:
        wheels = Path(temporary)
        for entry in bundle.files:
            if entry["path"].startswith(f"{WHEELS}/"):
                bundle.extract(entry["path"], wheels)
        report = Deployment(
            lock=lock,
            folder=path if path.is_dir() else path.parent,
            python=python,
            settings=settings,
            rooms=real_rooms(settings, python=python, reporter=reporter),
            reporter=reporter,
            frozen=True,
            links=wheels,
        ).sync()
    if report.error is None:
        note_deployment(settings, python=python, recipe=lock.recipe.name, sha256=hashes_of(lock))
    return report


def bundled_lock(bundle: Bundle) -> Lock:
    """The lock inside; its tree must be the one the manifest names."""
    with bundle.open(LOCK_PATH) as stream:
        lock = parse_lock(tomllib.loads(stream.read().decode("utf-8")), source=f"{bundle.path.name}: {LOCK_PATH}")
    if lock.tree_sha256 != bundle.manifest["tree_sha256"]:
        raise IntegrityError("the bundle's lock is not the one it was made from: tree_sha256 differs", code="bundle-damaged")
    return lock


def _place_model(bundle: Bundle, lock: Lock, *, settings: Settings, reporter: Reporter) -> None:
    if lock.model.source == "package":
        return
    total = sum(file.size_bytes for file in lock.model.files)
    done = 0
    for file in lock.model.files:
        home = _home(lock, file, settings)
        final = home.final if home is not None else placed_model(settings, file)
        if not (final.is_file() and final.stat().st_size == file.size_bytes):
            require_space(final.parent, file.size_bytes)
            _copy(bundle, f"{MODEL}/{file.path}", file, final, reporter=reporter, done=done, total=total)
            note_placed(settings, sha256=file.sha256, path=final)
        done += file.size_bytes
        if home is not None:
            point(home)
    _remember_revision(lock, settings)
    reporter(ProgressEnded(task="model"))


def _home(lock: Lock, file: LockedFile, settings: Settings) -> FileHome | None:
    """The file's place in the Hugging Face cache; None for a model of no repository."""
    model = lock.model
    if model.repo is None or model.commit is None:
        return None
    entry = RepoFile(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)
    return cache_home(settings.hf_hub_cache, model.repo, model.commit, entry)


def _remember_revision(lock: Lock, settings: Settings) -> None:
    """What `main` means, for programs that look models up by it; an older answer is left alone."""
    if lock.model.repo is None or lock.model.commit is None:
        return
    main = ref_file(settings.hf_hub_cache, lock.model.repo, "main")
    if main is not None and not main.exists():
        write_text(main, lock.model.commit)


def _copy(bundle: Bundle, name: str, file: LockedFile, final: Path, *, reporter: Reporter, done: int, total: int) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{os.getpid()}.incomplete")
    digest = hashlib.sha256()
    try:
        with bundle.open(name) as stream, part.open("xb") as out:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
                done += len(chunk)
                reporter(Progress(task="model", label=file.path, done=done, total=total, unit="bytes"))
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != file.sha256:
            raise IntegrityError(f"{name} is not what the lock says it is", code="bundle-damaged", hint="copy the bundle again")
        os.replace(part, final)
    except OSError as error:
        raise MachineError(f"cannot write {final}: {error.strerror}", code="cannot-write", hint="df -h") from error
    finally:
        part.unlink(missing_ok=True)
