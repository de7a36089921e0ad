"""What is here now, in the words of a lock: to write one, and to compare with one. Changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from provision import processes
from provision.engine.elf_proof import DRIVER_LIBRARY, missing_libraries
from provision.errors import IntegrityError, NotFoundError
from provision.recipes.lockfile import Lock, LockedFile, LockedHardware, LockedModel
from provision.recipes.pins import ENGINE_PACKAGE, Installed, Origin, tree_sha256
from provision.settings import Settings

_HASHERS = 4


def hash_files(pairs: Iterable[tuple[str, Path]]) -> tuple[LockedFile, ...]:
    """(name, file) pairs as they lie on disk, several at a time. NotFoundError `model-missing` for a file that is gone."""
    wanted = list(pairs)
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        return tuple(pool.map(lambda pair: _hash_file(*pair), wanted))


def model_files(lock_model: LockedModel, *, settings: Settings, folder: Path) -> list[tuple[str, Path]]:
    """Where each file of the locked model lies on this machine; nothing is asked of the network.

    A local model is looked for beside the lock (`folder`) and among the models provision placed.
    """
    return [(file.path, _find(lock_model, file, settings=settings, folder=folder)) for file in lock_model.files]


def placed_model(settings: Settings, file: LockedFile) -> Path:
    """Where provision puts a model that belongs to no repository."""
    return settings.provision_home / "models" / file.sha256 / file.path.rsplit("/", 1)[-1]


def observed(
    lock: Lock,
    *,
    packages: Iterable[Installed],
    files: Iterable[LockedFile],
    origin: Origin,
    hardware: LockedHardware | None = None,
) -> dict[str, Any]:
    """`lock` with everything that can be seen replaced by what is seen: package files, model files, Python, the tree.

    `hardware` None: the class of the machine is not compared.
    """
    data = lock.to_data()
    if lock.hardware.python is not None:
        data["hardware"]["python"] = origin.python
    if hardware is not None:
        data["hardware"]["name"] = hardware.name
    by_name = {package.name: package for package in packages}
    engine = by_name.pop(ENGINE_PACKAGE)
    here_files = list(files)
    if engine.files_sha256 != lock.engine.files_sha256 and lock.engine.sdist is not None and origin.sdist is not None:
        # Another build: was it at least of the same source?
        data["engine"]["sdist"] = {"filename": origin.sdist.filename, "sha256": origin.sdist.sha256}
    data["engine"] |= {"version": engine.version, "files_sha256": engine.files_sha256}
    data["packages"] = [_package_data(locked, by_name.get(locked["name"])) for locked in data["packages"]]
    data["model"] = {**data["model"], "files": [file.model_dump(mode="json") for file in here_files]}
    pairs = [(locked.name, by_name[locked.name].files_sha256) for locked in lock.packages if locked.name in by_name]
    data["tree_sha256"] = tree_sha256(
        engine=engine.files_sha256, packages=pairs, model=[(file.path, file.sha256) for file in here_files]
    )
    return data


def unlinked_libraries(python: Path, *, env: Mapping[str, str]) -> tuple[str, ...]:
    """Libraries that the engine in the environment of `python` asks for and the loader does not find, the driver's left out."""
    site = processes.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['platlib'])"], timeout_s=60, env=env
    ).stdout.strip()
    files = sorted((Path(site) / "llama_cpp" / "lib").glob("*.so*"))
    return tuple(sorted({name for path in files for name in missing_libraries(path, env)} - {DRIVER_LIBRARY}))


def _package_data(locked: dict[str, Any], here: Installed | None) -> dict[str, Any]:
    if here is None:
        return {"name": locked["name"], "version": "not installed"}
    return {**locked, "version": here.version, "files_sha256": here.files_sha256}


def _hash_file(name: str, path: Path) -> LockedFile:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except OSError as error:
        raise NotFoundError(
            f"{name} is not here: {error.strerror} ({path})", code="model-missing", hint="provision sync provision.lock"
        ) from error
    return LockedFile(path=name, size_bytes=size, sha256=digest)


def _find(model: LockedModel, file: LockedFile, *, settings: Settings, folder: Path) -> Path:
    if model.source == "package":
        from provision.smoke.demo import demo_model_path

        return demo_model_path()
    if model.repo is not None and model.commit is not None:
        if model.repo.count("/") != 1:
            raise IntegrityError(f"the lock names the repository {model.repo!r}", code="bad-lock")
        snapshots = settings.hf_hub_cache / f"models--{model.repo.replace('/', '--')}" / "snapshots"
        return snapshots / model.commit / file.path
    beside = folder / file.path
    return beside if beside.is_file() else placed_model(settings, file)
