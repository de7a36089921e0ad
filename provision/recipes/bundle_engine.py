"""The engine of a bundle: the locked one for machines like this, or a wheel of the cache that was built for others."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from provision.engine.elf import glibc_needed
from provision.engine.wheelstore import Stored, stored_wheels
from provision.errors import IntegrityError, NotFoundError
from provision.host.types import Version
from provision.recipes.lockfile import Lock
from provision.recipes.pip_install import find_wheel
from provision.recipes.retarget import choose_engine, for_target
from provision.recipes.targets import Target, parse_target, target_of
from provision.recipes.wheels import installed_sha256
from provision.settings import Settings

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Which machines a bundle is for. Without a target: machines of the kind the lock was proven on."""

    target: Target | None = None
    cuda_archs: tuple[str, ...] = ()
    """GPUs the engine must have machine code for; empty: whatever the wheel in the cache serves."""
    pythons: tuple[str, ...] = ()
    """Minor versions, `3.12`; empty: the one that runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledEngine:
    """The engine's wheel, and the lock with it in; its packages are still those of the machine that was locked."""

    wheel: Path
    lock: Lock
    glibc: Version | None
    """The oldest its libraries load with."""
    runtime_packages: tuple[str, ...] = ()
    """CUDA's libraries as PyPI names them, when the wheel looks for them beside itself."""
    native: bool = False
    """Compiled for the CPU of this machine; one that lacks a feature of it cannot run it."""
    foreign: bool = False
    """Chosen for another kind of machine than the lock was proven on."""

    @property
    def target(self) -> Target:
        """The kind of machine it is for, which may be one that nothing can be downloaded for from elsewhere."""
        system, arch, backend = target_of(self.lock.hardware).split("-")
        return Target(os=system, arch=arch, backend=backend)


def engine_for(lock: Lock, machines: Machines, settings: Settings) -> BundledEngine:
    """NotFoundError when the wheel cache has no such wheel: `locked-wheel-missing`, `no-engine-for-target`."""
    folder = settings.provision_home / "wheels"
    here = target_of(lock.hardware)
    wheels = tuple(stored_wheels(folder))
    native = any(stored.native and lock.engine.wheel and stored.wheel.sha256 == lock.engine.wheel.sha256 for stored in wheels)
    if not machines.cuda_archs and (machines.target is None or (str(machines.target) == here and not native)):
        return _locked_engine(lock, folder, native=native)
    target = machines.target or parse_target(here)
    stored = choose_engine(wheels, target, version=lock.engine.version, cuda_archs=machines.cuda_archs)
    _require_intact(stored)
    path = stored.wheel.path
    glibc = glibc_of(path)
    return BundledEngine(
        wheel=path,
        lock=for_target(lock, target, stored, files_sha256=installed_sha256(path), glibc=glibc),
        glibc=glibc,
        runtime_packages=stored.runtime_packages,
        foreign=True,
    )


def glibc_of(wheel: Path) -> Version | None:
    """The newest glibc the libraries of a wheel ask for; each is unpacked on disk and mapped, as CUDA's are large."""
    found: list[Version] = []
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if ".so" not in entry.filename.rsplit("/", 1)[-1] or entry.file_size == 0:
                continue
            with archive.open(entry) as packed, tempfile.TemporaryFile(dir=wheel.parent) as file:
                while chunk := packed.read(_CHUNK):
                    file.write(chunk)
                file.flush()
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    needed = glibc_needed(mapped)
            if needed is not None:
                found.append(needed)
    return max(found, default=None)


def _locked_engine(lock: Lock, folder: Path, *, native: bool) -> BundledEngine:
    wheel = find_wheel(lock.engine.wheel, [folder]) if lock.engine.wheel else None
    if wheel is None:
        raise NotFoundError(
            f"the locked wheel of llama-cpp-python {lock.engine.version} is not in the wheel cache",
            code="locked-wheel-missing",
            hint=f"provision install --{lock.engine.backend} --from-source, then lock again: provision lock {lock.recipe.name}",
        )
    return BundledEngine(wheel=wheel, lock=lock, glibc=glibc_of(wheel), native=native)


def _require_intact(stored: Stored) -> None:
    with stored.wheel.path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != stored.wheel.sha256:
        raise IntegrityError(
            f"{stored.wheel.path} is not the wheel that was built: its sha256 differs",
            code="damaged-at-rest",
            hint=f"rm -r {stored.wheel.path.parent}, and build it again",
        )
