"""What goes into a bundle: engine, packages, provision and what it needs, pip, the model, a lock per Python, the installer."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from provision.errors import IntegrityError, MachineError, NotFoundError
from provision.events import Note, Reporter
from provision.host.types import Version
from provision.recipes.bundle_engine import BundledEngine, Machines, engine_for
from provision.recipes.bundle_write import Item, left_behind, require_new, write_bundle
from provision.recipes.gathering import Index
from provision.recipes.lockfile import Lock, LockedPackage, write_lock
from provision.recipes.observe import model_files
from provision.recipes.pins import list_packages
from provision.recipes.retarget import how_to_build, with_packages
from provision.recipes.selfwheel import pack_provision
from provision.recipes.targets import glibc_of_wheels, parse_target
from provision.recipes.wheels import Wheel, installed_sha256, read_wheel
from provision.settings import Settings

RECIPE_FOLDER = "recipe"
WHEELS = "wheels"
BOOTSTRAP = "bootstrap"
MODEL = "model"
_INSTALLER = Path(__file__).parent / "children" / "install.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kit:
    """What one Python installs: its lock, and the wheels that bring provision itself."""

    python: str
    lock: Lock
    lock_path: str
    bootstrap: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """An entry of `pythons` in the manifest."""
        return {
            "python": self.python,
            "lock": self.lock_path,
            "tree_sha256": self.lock.tree_sha256,
            "bootstrap": [f"{BOOTSTRAP}/{name}" for name in self.bootstrap],
        }


def create_bundle(
    lock: Lock, destination: Path, *, folder: Path, machines: Machines, settings: Settings, reporter: Reporter
) -> dict[str, Any]:
    """Write the bundle of `lock` for `machines` and return its manifest. `folder` is where the lock lies.

    Needs the package index, the engine's wheel in the wheel cache and the model on this machine.
    """
    require_new(destination)
    for path in left_behind(destination):
        reporter(Note(level="warning", message=f"left by a run that was killed, unless one is under way: rm -r {path}"))
    model = _model_items(lock, folder=folder, settings=settings)
    engine = engine_for(lock, machines, settings)
    if engine.native:
        again = f"for others, a portable engine: {how_to_build(engine.target, ())}, then --target {engine.target}"
        reporter(Note(level="warning", message=f"the engine is compiled for this machine's CPU and runs on its like; {again}"))
    with _workplace(destination) as place:
        packer = _Packer(
            engine=engine, wheels=place / WHEELS, bootstrap=place / BOOTSTRAP, settings=settings, reporter=reporter
        )
        pythons = machines.pythons or (_python_here(),)
        kits = [packer.kit(python, first=python == pythons[0]) for python in pythons]
        items = [
            Item(path="install.py", source=_INSTALLER.read_bytes()),
            Item(path="README.txt", source=_readme(kits[0].lock, destination, pythons).encode()),
            *(Item(path=kit.lock_path, source=write_lock(kit.lock).encode()) for kit in kits),
            Item(path=f"{RECIPE_FOLDER}/{lock.recipe.name}.toml", source=lock.recipe.toml.encode()),
            *_folder_items(BOOTSTRAP, packer.bootstrap),
            *_folder_items(WHEELS, packer.wheels),
            _engine_item(engine),
            *model,
        ]
        about = {
            "name": lock.recipe.name,
            "target": str(engine.target),
            "needs": {"os": engine.target.os, "arch": engine.target.arch, "glibc": _glibc_needed(engine, items)},
            "pythons": [kit.to_data() for kit in kits],
        }
        reporter(Note(level="info", message=f"{len(items)} files for {engine.target}, Python {', '.join(pythons)}"))
        return write_bundle(destination, items, about, reporter=reporter)


def plan_bundle(lock: Lock, destination: Path, *, folder: Path, machines: Machines, settings: Settings) -> dict[str, Any]:
    """`data` of `bundle create --dry-run`: what would go in, and the sizes known without asking the index."""
    model = _model_items(lock, folder=folder, settings=settings)
    engine = engine_for(lock, machines, settings)
    pythons = machines.pythons or (_python_here(),)
    packages = [f"{package.name} {package.version}" for package in lock.packages]
    rows: list[tuple[str, int | None]] = [(f"provision, its requirements and pip, for Python {one}", None) for one in pythons]
    rows += [(f"{WHEELS}/{engine.wheel.name}", engine.wheel.stat().st_size)]
    rows += [(text, None) for text in (*engine.runtime_packages, *packages)]
    rows += [(item.path, item.size_bytes) for item in model]
    return {
        "path": str(destination),
        "target": str(engine.target),
        "plan": [{"what": what, "size_bytes": size} for what, size in rows],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packer:
    """Brings the wheels of one Python after the other into the two folders."""

    engine: BundledEngine
    wheels: Path
    bootstrap: Path
    settings: Settings
    reporter: Reporter

    def kit(self, python: str, *, first: bool) -> _Kit:
        here = python == _python_here() and not self.engine.foreign
        target = None if here else parse_target(str(self.engine.target))
        index = Index(settings=self.settings, reporter=self.reporter, python=python, target=target)
        lock = self._locked(index) if here else self._resolved(index)
        return _Kit(
            python=python,
            lock=lock,
            lock_path="provision.lock" if first else f"provision-{python}.lock",
            bootstrap=(*(wheel.path.name for wheel in self._ourselves(index)), self._own_wheel()),
        )

    def _locked(self, index: Index) -> Lock:
        lines = []
        for package in self.engine.lock.packages:
            if package.wheel_sha256 is None:
                raise NotFoundError(
                    f"the lock has no archive hash for {package.name}",
                    code="lock-incomplete",
                    hint=f"provision lock {self.engine.lock.recipe.name}",
                )
            lines.append(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}")
        index.download(lines, self.wheels, hashed=True)
        return self.engine.lock

    def _resolved(self, index: Index) -> Lock:
        """The engine's requirements for another machine or Python, in the locked versions where the lock has them."""
        pins = {package.name: package.version for package in self.engine.lock.packages}
        engine = read_wheel(self.engine.wheel)
        assert index.target is not None
        wanted = engine.wanted(frozenset(), index.target.markers(index.python))
        texts = [*(_without_marker(requirement) for requirement in wanted), *self.engine.runtime_packages]
        wheels = index.gather(texts, self.wheels, pins=pins)
        return with_packages(self.engine.lock, [_locked_package(wheel) for wheel in wheels], python=index.python)

    def _ourselves(self, index: Index) -> tuple[Wheel, ...]:
        """The wheels provision needs, in the versions that run here, and pip."""
        needed = list_packages(Path(sys.executable), ["provision"], env=self.settings.environ)
        pins = {package.name: package.version for package in needed}
        markers = index.markers()
        wanted = [Requirement(text) for text in metadata.requires("provision") or ()]
        holding = [one for one in wanted if one.marker is None or one.marker.evaluate({**markers, "extra": ""})]
        return index.gather([*(_without_marker(one) for one in holding), "pip"], self.bootstrap, pins=pins)

    def _own_wheel(self) -> str:
        name, content = pack_provision()
        (self.bootstrap / name).write_bytes(content)
        return name


def _without_marker(requirement: Requirement) -> str:
    return str(requirement).partition(";")[0].strip()


def _locked_package(wheel: Wheel) -> LockedPackage:
    with wheel.path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return LockedPackage(
        name=wheel.name,
        version=wheel.version,
        files_sha256=installed_sha256(wheel.path),
        wheel=wheel.path.name,
        wheel_sha256=digest,
    )


@contextmanager
def _workplace(destination: Path) -> Iterator[Path]:
    """A folder beside the destination, whose disk must have room anyway; /tmp may be memory."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{destination.name}-wheels-", dir=destination.parent))
    except OSError as error:
        raise MachineError(
            f"cannot write {destination}: {error.strerror or error}",
            code="cannot-write",
            hint=f"ls -ld {destination.parent}",
        ) from error
    try:
        (place / WHEELS).mkdir()
        (place / BOOTSTRAP).mkdir()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _engine_item(engine: BundledEngine) -> Item:
    if engine.lock.engine.wheel is None:
        raise IntegrityError("the lock names no wheel of the engine", code="lock-incomplete", hint="provision lock RECIPE")
    return Item(path=f"{WHEELS}/{engine.wheel.name}", source=engine.wheel, sha256=engine.lock.engine.wheel.sha256)


def _glibc_needed(engine: BundledEngine, items: Sequence[Item]) -> str | None:
    """The oldest glibc on which everything in the bundle works: by the engine's symbols and the other wheels' tags."""
    names = [item.path.rsplit("/", 1)[-1] for item in items if item.path.endswith(".whl")]
    known: list[Version] = [version for version in (engine.glibc, glibc_of_wheels(names)) if version is not None]
    return ".".join(map(str, max(known))) if known else None


def _folder_items(name: str, folder: Path) -> list[Item]:
    return [Item(path=f"{name}/{path.name}", source=path) for path in sorted(folder.iterdir())]


def _model_items(lock: Lock, *, folder: Path, settings: Settings) -> list[Item]:
    if lock.model.source == "package":
        return []  # it is inside provision's own wheel
    hashes = {file.path: file.sha256 for file in lock.model.files}
    pairs = model_files(lock.model, settings=settings, folder=folder)
    for name, path in pairs:
        if not path.is_file():
            raise NotFoundError(f"{name} is not on this machine", code="model-missing", hint="provision sync provision.lock")
    return [Item(path=f"{MODEL}/{name}", source=path, sha256=hashes[name]) for name, path in pairs]


def _python_here() -> str:
    """Wheels with native code (numpy, pydantic-core) are for one minor version of Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _readme(lock: Lock, destination: Path, pythons: Sequence[str]) -> str:
    how = (
        f"tar -xOf {destination.name} install.py | python3 - {destination.name}"
        if destination.suffix == ".tar"
        else "python3 install.py"
    )
    proven = (
        f"made for {lock.hardware.name}; proven by its smoke test when it is installed"
        if lock.smoke.verdict == "unproven"
        else f"proven on {lock.hardware.name}, smoke test: {lock.smoke.verdict}"
    )
    needed = f"Python {' or '.join(pythons)}"
    return (
        f"{lock.recipe.name}, {proven}\n\n"
        f"Install it on a machine of that kind, without internet; only {needed} is needed:\n\n    {how}\n\n"
        "Every byte is checked first. The licence of the model is the one its recipe names.\n"
    )
