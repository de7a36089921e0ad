"""Installing from a bundle: check every byte, place the model, then `sync --frozen` with the bundled wheels as only index."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provision import processes
from provision.errors import IntegrityError, MachineError
from provision.events import Progress, ProgressEnded, Reporter
from provision.fetch.disk import require_space
from provision.fetch.layout import cache_home, ref_file
from provision.fetch.placed import note_placed
from provision.fetch.store import point, write_text
from provision.fetch.types import FileHome
from provision.models.types import RepoFile
from provision.recipes.bundling import MODEL, WHEELS
from provision.recipes.children.install import Bundle, BundleDamaged, kit_for, other_python, why_unsuited
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
        with _damage_named():
            bundle = Bundle(path)
            bundle.verify(
                lambda name, done, total: reporter(Progress(task="verify", label=name, done=done, total=total, unit="bytes"))
            )
    finally:
        reporter(ProgressEnded(task="verify"))
    return bundle


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except BundleDamaged as error:
        raise IntegrityError(str(error), code="bundle-damaged", hint="copy the bundle again from where it was made") from error


def bundle_data(bundle: Bundle) -> dict[str, Any]:
    """`data` of `bundle verify`."""
    kits = bundle.manifest["pythons"]
    return {
        "path": str(bundle.path),
        "name": bundle.manifest["name"],
        "target": bundle.manifest["target"],
        "needs": dict(bundle.manifest["needs"]),
        "pythons": [kit["python"] for kit in kits],
        "tree_sha256": kits[0]["tree_sha256"],
        "files": len(bundle.files),
        "size_bytes": sum(entry["size_bytes"] for entry in bundle.files),
    }


def install_bundle(path: Path, *, python: Path, gpu_check: bool, settings: Settings, reporter: Reporter) -> SyncReport:
    """Engine and packages into the environment of `python`, the model into the cache; nothing is asked of the network.

    Without `gpu_check` nothing is run on a GPU: the machine may be one that only makes an image.
    """
    bundle = open_bundle(path, reporter=reporter)
    if unsuited := why_unsuited(bundle.manifest):
        raise MachineError(unsuited[0], code="other-hardware", hint=unsuited[1])
    minor = _minor_version(python, settings)
    kit = kit_for(bundle.manifest, minor)
    if kit is None:
        message, _ = other_python(bundle.manifest, minor)
        served = bundle.manifest["pythons"][0]["python"]
        raise MachineError(message, code="other-python", hint=f"provision bundle install {path} --python python{served}")
    lock = bundled_lock(bundle, kit)
    with _damage_named():
        _place_model(bundle, lock, settings=settings, reporter=reporter)
    with _wheels_of(bundle, settings) as wheels:
        report = Deployment(
            lock=lock,
            folder=wheels,
            python=python,
            settings=settings,
            rooms=real_rooms(settings, python=python, reporter=reporter),
            reporter=reporter,
            frozen=True,
            links=wheels,
            gpu_check=gpu_check,
        ).sync()
    if report.error is None:
        note_deployment(settings, python=python, recipe=lock.recipe.name, sha256=hashes_of(lock))
    return report


def check_locks(bundle: Bundle) -> None:
    """Every lock inside can be read and is the one the manifest names; IntegrityError otherwise."""
    for kit in bundle.manifest["pythons"]:
        bundled_lock(bundle, kit)


def bundled_lock(bundle: Bundle, kit: dict[str, Any]) -> Lock:
    """The lock of one Python; its tree must be the one the manifest names."""
    source = f"{bundle.path.name}: {kit['lock']}"
    with bundle.open(kit["lock"]) as stream:
        try:
            data = tomllib.loads(stream.read().decode("utf-8"))
        except ValueError as error:
            raise IntegrityError(f"{source} is no lock: {error}", code="bundle-damaged") from error
    lock = parse_lock(data, source=source)
    if lock.tree_sha256 != kit["tree_sha256"]:
        raise IntegrityError(f"{source} is not the lock it was made from: tree_sha256 differs", code="bundle-damaged")
    return lock


@contextmanager
def _wheels_of(bundle: Bundle, settings: Settings) -> Iterator[Path]:
    """A folder with the bundle's wheels: its own when it is a folder, else unpacked for as long as it is needed."""
    if not bundle.is_tar:
        yield bundle.path / WHEELS
        return
    names = [entry["path"] for entry in bundle.files if entry["path"].startswith(f"{WHEELS}/")]
    # Not in /tmp, which may be memory: CUDA's libraries alone are half a gigabyte.
    home = settings.provision_home
    require_space(home, sum(entry["size_bytes"] for entry in bundle.files if entry["path"] in names))
    try:
        home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bundle-wheels-", dir=home))
    except OSError as error:
        raise MachineError(
            f"cannot write {home}: {error.strerror}", code="cannot-write", hint="PROVISION_HOME=/path/you/can/write"
        ) from error
    try:
        with _damage_named():
            for name in names:
                bundle.extract(name, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _minor_version(python: Path, settings: Settings) -> str:
    if python == Path(sys.executable):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        done = processes.run(
            [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], timeout_s=60, env=settings.environ
        )
    except OSError as error:
        raise MachineError(
            f"cannot run {python}: {error.strerror}", code="no-python", hint="name another: --python PATH"
        ) from error
    return done.stdout.strip()


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
