"""pip, told exactly what to take: by hash from the index, or from wheels that lie here."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from provision import processes
from provision.errors import BuildError, IntegrityError, MachineError
from provision.events import LogLine, Reporter
from provision.recipes.lockfile import LockedPackage, LockedWheel

_TIMEOUT_S = 3600.0


def install_wheels(python: Path, wheels: Sequence[Path], *, env: Mapping[str, str], reporter: Reporter) -> None:
    """Install these very files over whatever is there; no index is asked and no dependency followed."""
    _pip(python, ["--no-index", "--no-deps", "--force-reinstall", *map(str, wheels)], env=env, reporter=reporter)


def install_pinned(
    python: Path, packages: Sequence[LockedPackage], *, links: Path | None, env: Mapping[str, str], reporter: Reporter
) -> None:
    """Install pinned packages by hash, from the index or, with `links`, from the wheels in that folder alone."""
    lines = []
    for package in packages:
        pin = f"{package.name}=={package.version}"
        lines.append(f"{pin} --hash=sha256:{package.wheel_sha256}" if package.wheel_sha256 else pin)
    with tempfile.TemporaryDirectory(prefix="provision-pins-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        arguments = ["--no-deps", "--force-reinstall", "-r", str(requirements)]
        # pip asks for hashes of everything as soon as one line has one; a lock without any is installed by version.
        if all(package.wheel_sha256 for package in packages):
            arguments.append("--require-hashes")
        if links is not None:
            arguments += ["--no-index", "--find-links", str(links)]
        _pip(python, arguments, env=env, reporter=reporter)


def find_wheel(wanted: LockedWheel, folders: Sequence[Path]) -> Path | None:
    """The file with exactly the locked bytes somewhere below `folders`; names prove nothing, the hash does."""
    for path in _of_that_name(wanted, folders):
        if path.stat().st_size == wanted.size_bytes and _sha256_of(path) == wanted.sha256:
            return path
    return None


def damaged_wheel(wanted: LockedWheel, folders: Sequence[Path]) -> Path | None:
    """A file that is said to be the locked wheel (by the note beside it, or by lying beside the lock) and is not any more.

    Every build of one version has the same name, so another build in the wheel cache is no damage.
    """
    for path in _of_that_name(wanted, folders):
        noted = path.with_name("wheel.json")
        try:
            said = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else {"sha256": wanted.sha256}
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and said.get("sha256") == wanted.sha256:
            return path
    return None


def _of_that_name(wanted: LockedWheel, folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        # KEY/NAME in the wheel cache, NAME beside a lock or among the wheels of a bundle.
        for pattern in (wanted.filename, f"*/{wanted.filename}"):
            yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pip(python: Path, arguments: Sequence[str], *, env: Mapping[str, str], reporter: Reporter) -> None:
    argv = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", *arguments]
    try:
        done = processes.run(
            argv, timeout_s=_TIMEOUT_S, env=env, on_line=lambda line: reporter(LogLine(source="pip", line=line))
        )
    except OSError as error:
        raise MachineError(
            f"cannot run {python}: {error.strerror}", code="no-python", hint="name another: --python PATH"
        ) from error
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stdout:
        names = [line.strip() for line in done.stdout.splitlines() if " from " in line and "hash" not in line.lower()]
        raise IntegrityError(
            f"packages: what the index serves is not what was locked: {names[0] if names else 'see --progress plain'}",
            code="package-hash",
            hint="use the index the lock was made with, or a bundle: provision bundle create provision.lock --output FOLDER",
        )
    reasons = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    raise BuildError(
        f"pip failed: {reasons[-1] if reasons else done.stdout.strip().splitlines()[-1:] or 'no reason given'}",
        code="pip-failed",
        hint="run again with --progress plain to see pip's own words",
    )
