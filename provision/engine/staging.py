"""An engine laid out beside the environment it is meant for: installed, proven there, then moved in by renames."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from provision.engine.environment import Environment
from provision.engine.frontend import Frontend, refuse_full_disk
from provision.engine.transaction import Move, plan_move
from provision.errors import BuildError
from provision.processes import Finished, run

PACKAGE = "llama_cpp"
DISTRIBUTION = "llama-cpp-python"
INSTALLER = "provision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A folder with the layout of the environment's prefix."""

    root: Path
    site_packages: Path
    dist_info: Path
    dependencies: tuple[str, ...]
    """`name version` of the packages that came along because the environment lacked them."""

    @property
    def libraries(self) -> Path:
        return self.site_packages / PACKAGE / "lib"


def open_stage(environment: Environment) -> Path:
    """A fresh folder on the environment's own file system."""
    environment.state_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="stage-", dir=environment.state_dir))


def clean_leftovers(environment: Environment) -> None:
    """Remove what killed runs left of ours; a backup whose move was complete becomes the previous engine."""
    for left in environment.state_dir.glob("stage-*"):
        shutil.rmtree(left, ignore_errors=True)
    relative = environment.platlib.relative_to(environment.prefix)
    for left in environment.state_dir.glob("previous-*"):
        if (left / relative / PACKAGE).is_dir():
            keep_as_previous(left, environment)
        else:
            shutil.rmtree(left, ignore_errors=True)


def keep_as_previous(backup: Path, environment: Environment) -> None:
    """What a finished move put aside, where `--rollback` looks for it."""
    previous = environment.state_dir / "previous"
    shutil.rmtree(previous, ignore_errors=True)
    os.rename(backup, previous)


def wheel_requirements(wheel: Path) -> tuple[str, ...]:
    """The `Requires-Dist` lines of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1)
        message = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    return tuple(message.get_all("Requires-Dist") or ())


def missing_requirements(requirements: Sequence[str], environment: Environment) -> tuple[str, ...]:
    """Those of `requirements` (extras left out) that the environment does not satisfy."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    markers = {"extra": "", "python_version": ".".join(map(str, environment.version[:2]))}
    markers["python_full_version"] = ".".join(map(str, environment.version))
    missing = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate(markers):
            continue
        have = environment.installed.get(canonicalize_name(requirement.name))
        if have is None or not requirement.specifier.contains(have, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier}")
    return tuple(missing)


def stage_engine(
    wheel: Path,
    environment: Environment,
    frontend: Frontend,
    *,
    runtime_packages: Sequence[str],
    environ: Mapping[str, str],
) -> Stage:
    """Install `wheel` and what it needs into a fresh stage. BuildError (`staging-failed`) with the installer's words."""
    root = open_stage(environment)
    try:
        return _fill(root, wheel, environment, frontend, runtime_packages=runtime_packages, environ=environ)
    except BaseException:
        # Most of all when the disk is full: what did not fit must not stay.
        shutil.rmtree(root, ignore_errors=True)
        raise


def _fill(
    root: Path,
    wheel: Path,
    environment: Environment,
    frontend: Frontend,
    *,
    runtime_packages: Sequence[str],
    environ: Mapping[str, str],
) -> Stage:
    missing = missing_requirements((*wheel_requirements(wheel), *runtime_packages), environment)
    _install(frontend, environment, [str(wheel)], root, ("--no-deps",), environ)
    site = environment.inside(root)
    # Some schemes keep pure Python elsewhere; the wheel is a platform wheel, so everything of it is in platlib.
    dist_info = next(iter(site.glob("llama_cpp_python-*.dist-info")), None)
    if dist_info is None or not (site / PACKAGE).is_dir():
        raise BuildError(f"{wheel.name} does not hold the engine", code="bad-wheel", hint="provision install --no-cache")
    before = {path.name for path in site.glob("*.dist-info")}
    if missing:
        # Versions the environment already has stay as they are: what is missing must fit them.
        kept = {name: version for name, version in environment.installed.items() if not _named(name, missing)}
        constraints = root / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()), encoding="utf-8")
        _install(frontend, environment, missing, root, ("--constraint", str(constraints)), environ)
        constraints.unlink()
        _drop_present(root, site, environment)
    _sign(dist_info)
    came = sorted(_name_version(path) for path in site.glob("*.dist-info") if path.name not in before)
    return Stage(root=root, site_packages=site, dist_info=dist_info, dependencies=tuple(came))


def plan_moves(stage: Stage, environment: Environment, *, backup: Path) -> tuple[Move, ...]:
    """Every rename that turns the environment's engine into the staged one; dependencies first, the engine last."""
    moves = []
    for top in _entries(stage.root, environment.prefix):
        relative = top.relative_to(stage.root)
        moves.append(plan_move(environment.prefix / relative, staged=top, backup=backup / relative))
    staged_finals = {move.final for move in moves}
    for old in engine_entries(environment):
        if str(old) not in staged_finals:
            moves.append(plan_move(old, staged=None, backup=backup / old.relative_to(environment.prefix)))
    last = {str(environment.platlib / PACKAGE): 1, str(environment.platlib / stage.dist_info.name): 2}
    return tuple(sorted(moves, key=lambda move: (last.get(move.final, 0), move.staged is None)))


def engine_entries(environment: Environment) -> Iterator[Path]:
    """What belongs to the engine installed in the environment: its package, its dist-info, and strays its RECORD names."""
    site = environment.platlib
    if (site / PACKAGE).exists():
        yield site / PACKAGE
    for dist_info in sorted(site.glob("llama_cpp_python-*.dist-info")):
        yield dist_info
        yield from _strays(dist_info, environment)


def _strays(dist_info: Path, environment: Environment) -> Iterator[Path]:
    """Files of a plain pip install outside its package (`lib/`, `include/`), one by one: the folders may be shared."""
    site = environment.platlib
    try:
        rows = list(csv.reader(io.StringIO((dist_info / "RECORD").read_text(encoding="utf-8"))))
    except (OSError, ValueError, csv.Error):
        return
    for row in rows:
        if not row or row[0].startswith((f"{PACKAGE}/", f"{dist_info.name}/")):
            continue
        path = Path(os.path.normpath(site / row[0]))
        # A RECORD is a file anybody may have written: it must not make us move things outside the environment.
        if path.is_relative_to(environment.prefix) and path.is_file() and "__pycache__" not in path.parts:
            yield path


def _entries(root: Path, prefix: Path) -> Iterator[Path]:
    """The fewest paths below `root` that can be renamed as wholes: folders the environment lacks, else files."""
    for path in sorted(root.iterdir()):
        final = prefix / path.relative_to(root)
        if path.is_dir() and not path.is_symlink() and final.is_dir() and path.name != PACKAGE:
            yield from _descend(path, root, prefix)
        else:
            yield path


def _descend(path: Path, root: Path, prefix: Path) -> Iterator[Path]:
    for child in sorted(path.iterdir()):
        final = prefix / child.relative_to(root)
        whole = child.name == PACKAGE or child.name.endswith(".dist-info")
        if child.is_dir() and not child.is_symlink() and final.is_dir() and not whole:
            yield from _descend(child, root, prefix)
        else:
            yield child


def _drop_present(root: Path, site: Path, environment: Environment) -> None:
    """Forget staged packages the environment already has at the same version (constraints saw to that)."""
    for dist_info in site.glob("*.dist-info"):
        name, _, version = _name_version(dist_info).partition(" ")
        if name == DISTRIBUTION or environment.installed.get(name) != version:
            continue
        for row in csv.reader(io.StringIO((dist_info / "RECORD").read_text(encoding="utf-8"))):
            path = Path(os.path.normpath(site / row[0]))
            if path.is_relative_to(root):
                path.unlink(missing_ok=True)
        shutil.rmtree(dist_info, ignore_errors=True)
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _sign(dist_info: Path) -> None:
    """Say in INSTALLER who placed it (PEP 627), and keep RECORD true."""
    (dist_info / "INSTALLER").write_text(f"{INSTALLER}\n", encoding="utf-8")
    record_file(dist_info, "INSTALLER")


def record_file(dist_info: Path, name: str) -> None:
    """Enter a file of the dist-info, with its hash and size, into RECORD."""
    content = (dist_info / name).read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    path = f"{dist_info.name}/{name}"
    record = dist_info / "RECORD"
    rows = [row for row in csv.reader(io.StringIO(record.read_text(encoding="utf-8"))) if row and row[0] != path]
    rows.insert(0, [path, f"sha256={digest}", str(len(content))])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    record.write_text(text.getvalue(), encoding="utf-8")


def _install(
    frontend: Frontend,
    environment: Environment,
    requirements: Sequence[str],
    root: Path,
    extra: Sequence[str],
    environ: Mapping[str, str],
) -> None:
    command = frontend.install(environment.python, requirements, prefix=root, extra=extra)
    done = run(command, timeout_s=1800, env=environ)
    refuse_full_disk(done, environment.prefix)
    if done.returncode != 0:
        raise BuildError(
            f"{frontend.kind} could not prepare {', '.join(Path(item).name for item in requirements)}: {_last_words(done)}",
            code="staging-failed",
            hint=" ".join(command),
        )


def _last_words(done: Finished) -> str:
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip() and not line.startswith("WARNING")]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"exit code {done.returncode}"])[-1].strip()


def _named(name: str, requirements: Sequence[str]) -> bool:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return any(canonicalize_name(Requirement(text).name) == name for text in requirements)


def _name_version(dist_info: Path) -> str:
    name, _, version = dist_info.name.removesuffix(".dist-info").rpartition("-")
    return f"{name.lower().replace('_', '-').replace('.', '-')} {version}"
