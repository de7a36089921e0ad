"""What goes into a bundle: the locked wheels, provision with all it needs, pip, the model, the lock and the installer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from provision import processes
from provision.errors import NotFoundError, TransferError, UsageError
from provision.events import LogLine, Note, Reporter
from provision.recipes.bundle_write import Item, write_bundle
from provision.recipes.lockfile import Lock, write_lock
from provision.recipes.observe import model_files
from provision.recipes.pins import list_packages
from provision.recipes.pip_install import find_wheel
from provision.recipes.selfwheel import pack_provision
from provision.settings import Settings

LOCK_PATH = "provision.lock"
RECIPE_FOLDER = "recipe"
WHEELS = "wheels"
BOOTSTRAP = "bootstrap"
MODEL = "model"
_INSTALLER = Path(__file__).parent / "children" / "install.py"
_PIP_TIMEOUT_S = 3600.0


def create_bundle(
    lock: Lock, destination: Path, *, folder: Path, target: str | None, settings: Settings, reporter: Reporter
) -> dict[str, Any]:
    """Write the bundle of `lock` and return its manifest. `folder` is where the lock lies.

    Needs the package index (for the locked archives), the engine's wheel in the wheel cache and the model on this machine.
    """
    platform = "-".join(lock.hardware.name.split("-")[:3])
    if target is not None and target != platform:
        raise UsageError(
            f"the lock is for {platform}, not for {target}: an engine must be proven on a machine like the one it will run on",
            code="other-target",
            hint=f"on a {target} machine: provision lock {lock.recipe.name}",
        )
    with tempfile.TemporaryDirectory(prefix="provision-bundle-") as temporary:
        wheels, bootstrap = Path(temporary) / WHEELS, Path(temporary) / BOOTSTRAP
        engine = _engine_wheel(lock, settings)
        _download_locked(lock, wheels, settings=settings, reporter=reporter)
        _download_ourselves(bootstrap, settings=settings, reporter=reporter)
        items = [
            Item(path="install.py", source=_INSTALLER.read_bytes()),
            Item(path="README.txt", source=_readme(lock, destination).encode()),
            Item(path=LOCK_PATH, source=write_lock(lock).encode()),
            Item(path=f"{RECIPE_FOLDER}/{lock.recipe.name}.toml", source=lock.recipe.toml.encode()),
            *_folder_items(BOOTSTRAP, bootstrap),
            *_folder_items(WHEELS, wheels),
            *(
                [Item(path=f"{WHEELS}/{engine.name}", source=engine, sha256=lock.engine.wheel.sha256)]
                if lock.engine.wheel
                else []
            ),
            *_model_items(lock, folder=folder, settings=settings),
        ]
        about = {
            "name": lock.recipe.name,
            "target": platform,
            "python": _python(),
            "tree_sha256": lock.tree_sha256,
            "bootstrap": [item.path for item in items if item.path.startswith(f"{BOOTSTRAP}/")],
        }
        reporter(Note(level="info", message=f"{len(items)} files for {platform}"))
        return write_bundle(destination, items, about, reporter=reporter)


def plan_bundle(lock: Lock, destination: Path, *, folder: Path, settings: Settings) -> dict[str, Any]:
    """`data` of `bundle create --dry-run`: what would go in, and the sizes known without asking the index."""
    model = [
        {"what": item.path, "size_bytes": item.size_bytes} for item in _model_items(lock, folder=folder, settings=settings)
    ]
    engine = _engine_wheel(lock, settings)
    wheels: list[dict[str, Any]] = [{"what": f"{WHEELS}/{engine.name}", "size_bytes": engine.stat().st_size}]
    wheels += [{"what": f"{package.name} {package.version}", "size_bytes": None} for package in lock.packages]
    ours = [{"what": "provision, its requirements and pip", "size_bytes": None}]
    platform = "-".join(lock.hardware.name.split("-")[:3])
    return {"path": str(destination), "target": platform, "plan": [*ours, *wheels, *model]}


def _engine_wheel(lock: Lock, settings: Settings) -> Path:
    wheel = find_wheel(lock.engine.wheel, [settings.provision_home / "wheels"]) if lock.engine.wheel else None
    if wheel is None:
        raise NotFoundError(
            f"the locked wheel of llama-cpp-python {lock.engine.version} is not in the wheel cache",
            code="locked-wheel-missing",
            hint=f"provision install --{lock.engine.backend} --from-source, then lock again: provision lock {lock.recipe.name}",
        )
    return wheel


def _download_locked(lock: Lock, folder: Path, *, settings: Settings, reporter: Reporter) -> None:
    pins = []
    for package in lock.packages:
        if package.wheel_sha256 is None:
            raise NotFoundError(
                f"the lock has no archive hash for {package.name}",
                code="lock-incomplete",
                hint=f"provision lock {lock.recipe.name}",
            )
        pins.append(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}")
    _pip_download(pins, folder, extra=("--require-hashes",), settings=settings, reporter=reporter)


def _download_ourselves(folder: Path, *, settings: Settings, reporter: Reporter) -> None:
    """provision's own wheel, the wheels it needs in the versions that run here, and pip."""
    needed = list_packages(Path(sys.executable), ["provision"], env=settings.environ)
    pins = [f"{package.name}=={package.version}" for package in needed if package.name != "provision"]
    pins.append(f"pip=={_pip_version(settings.environ)}")
    _pip_download(pins, folder, extra=(), settings=settings, reporter=reporter)
    name, content = pack_provision()
    (folder / name).write_bytes(content)


def _pip_version(environ: Mapping[str, str]) -> str:
    try:
        return metadata.version("pip")
    except metadata.PackageNotFoundError as error:
        raise NotFoundError(
            "this environment has no pip, which a bundle must carry", code="no-pip", hint=f"{sys.executable} -m ensurepip"
        ) from error


def _pip_download(pins: Sequence[str], folder: Path, *, extra: Sequence[str], settings: Settings, reporter: Reporter) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not pins:
        return
    requirements = folder.with_suffix(".txt")
    requirements.write_text("\n".join(pins) + "\n", encoding="utf-8")
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    argv += ["--only-binary", ":all:", "--dest", str(folder), "-r", str(requirements), *extra]
    done = processes.run(
        argv, timeout_s=_PIP_TIMEOUT_S, env=settings.environ, on_line=lambda line: reporter(LogLine(source="pip", line=line))
    )
    if done.returncode != 0:
        reasons = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        raise TransferError(
            f"the package index did not give the wheels: {reasons[-1] if reasons else 'pip gave no reason'}",
            code="index-unreachable",
            hint="check the network and pip's index: python -m pip config list",
        )


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


def _python() -> str:
    """Wheels with native code (numpy, pydantic-core) are for one minor version of Python: the one that made the bundle."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _readme(lock: Lock, destination: Path) -> str:
    how = (
        f"tar -xOf {destination.name} install.py | python3 - {destination.name}"
        if destination.suffix == ".tar"
        else "python3 install.py"
    )
    return (
        f"{lock.recipe.name}, proven on {lock.hardware.name}, smoke test: {lock.smoke.verdict}\n\n"
        f"Install it on a machine of that kind, without internet; only Python {_python()} is needed:\n\n    {how}\n\n"
        "Every byte is checked first. The licence of the model is the one its recipe names.\n"
    )
