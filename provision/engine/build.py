"""Building one wheel in a private folder: resumable, with live progress, the whole log kept."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision.engine.frontend import refuse_full_disk
from provision.engine.ninja import NinjaProgress
from provision.engine.transaction import write_text
from provision.engine.types import BuildPlan
from provision.errors import BuildError
from provision.events import LogLine, Progress, ProgressEnded, Reporter
from provision.processes import run

_BUILD_LIMIT_S = 12 * 3600.0
_BUILD_DIR_VARIABLE = "SKBUILD_BUILD_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailure:
    """A build that did not make a wheel: a value, because a known failure may be tried again."""

    log: Path
    text: str
    """The log of the last try."""
    returncode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFolder:
    """`builds/KEY`: the unpacked source, the build tree ninja resumes in, the wheel and the log."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "src"

    @property
    def tree(self) -> Path:
        return self.root / "build"

    @property
    def wheel(self) -> Path:
        return self.root / "wheel"

    @property
    def log(self) -> Path:
        return self.root / "build.log"


def download_source(version: str, *, folder: Path, python: Path, environ: Mapping[str, str], reporter: Reporter) -> Path:
    """The sdist from the package index pip is set up for; kept, so a second build needs no network."""
    final = folder / f"llama_cpp_python-{version}.tar.gz"
    if final.exists():
        return final
    partial = folder / f".download-{os.getpid()}"
    partial.mkdir(parents=True, exist_ok=True)
    reporter(Progress(task="source", label="downloading the source", done=0, total=None, unit="bytes"))
    command = source_command(version, folder=partial, python=python)
    try:
        # Its own limits: the source is the same whatever the user's flags are, and metadata needs no compiler.
        env = {name: value for name, value in environ.items() if name not in ("CMAKE_ARGS", "SKBUILD_CMAKE_ARGS")}
        done = run(command, timeout_s=3600, env=env)
        refuse_full_disk(done, folder)
        found = next(iter(partial.glob("*.tar.gz")), None)
        if done.returncode != 0 or found is None:
            words = [line for line in (done.stderr + done.stdout).splitlines() if "ERROR" in line]
            missing = any("No matching distribution" in line or "Could not find a version" in line for line in words)
            raise BuildError(
                f"the source of llama-cpp-python {version} could not be downloaded: {(words or ['no reason given'])[-1]}",
                code="no-such-engine" if missing else "source-download",
                hint="python -m pip index versions llama-cpp-python" if missing else " ".join(command),
            )
        os.replace(found, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        reporter(ProgressEnded(task="source"))
    return final


def source_command(version: str, *, folder: Path | str, python: Path | str) -> list[str]:
    """The pip call that downloads the sdist and nothing else."""
    flags = [
        "--no-deps",
        "--no-build-isolation",
        "--no-binary",
        "llama-cpp-python",
        "--disable-pip-version-check",
        "--no-input",
    ]
    return [str(python), "-m", "pip", "download", *flags, "-d", str(folder), f"llama-cpp-python=={version}"]


def wheel_command(folder: BuildFolder, *, python: Path | str) -> list[str]:
    """The pip call that builds the wheel out of the unpacked source, in place."""
    flags = ["-v", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    return [str(python), "-m", "pip", "wheel", *flags, "-w", str(folder.wheel), str(folder.source)]


def build_environment(plan: BuildPlan, folder: BuildFolder, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the build: the user's, with the plan's on top and nothing of ours left to chance."""
    env = dict(environ)
    env.update({name: value for name, value in plan.env.items() if name != "PATH"})
    env["PATH"] = os.pathsep.join(filter(None, (plan.env.get("PATH"), environ.get("PATH"))))
    env[_BUILD_DIR_VARIABLE] = str(folder.tree)
    env["TMPDIR"] = str(folder.root / "tmp")
    env["PYTHONUNBUFFERED"] = "1"
    return env


def write_files(plan: BuildPlan) -> None:
    """The files that flags of the plan name."""
    for path, content in plan.files.items():
        write_text(Path(path), content)


def build_wheel(
    plan: BuildPlan,
    *,
    folder: BuildFolder,
    sdist: Path,
    python: Path,
    environ: Mapping[str, str],
    reporter: Reporter,
) -> Path | BuildFailure:
    """Unpack when needed, build, and return the wheel; or the failure with its log."""
    stop_leftover_builds(folder)
    for made in (folder.root, folder.root / "tmp"):
        made.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder.wheel, ignore_errors=True)
    if not folder.source.exists():
        unpack_source(sdist, folder.source)
    write_files(plan)
    env = build_environment(plan, folder, environ)
    env["PATH"] = os.pathsep.join((str(python.parent), env["PATH"]))
    progress = NinjaProgress(now=time.monotonic, label=f"compiling the {plan.backend} engine")
    kept: list[str] = []
    with folder.log.open("w", encoding="utf-8") as log:

        def on_line(line: str) -> None:
            log.write(line + "\n")
            log.flush()
            kept.append(line)
            state = progress.feed(line)
            reporter(state if state is not None else LogLine(source="build", line=line))

        done = run(wheel_command(folder, python=python), timeout_s=_BUILD_LIMIT_S, env=env, on_line=on_line)
    reporter(ProgressEnded(task="build"))
    wheel = next(iter(folder.wheel.glob("llama_cpp_python-*.whl")), None) if folder.wheel.is_dir() else None
    if done.returncode != 0 or wheel is None:
        return BuildFailure(log=folder.log, text="\n".join(kept), returncode=done.returncode)
    return wheel


def stop_leftover_builds(folder: BuildFolder) -> None:
    """Compilers a killed run left behind would write into the tree we resume in. They carry its path in their environment."""
    if sys.platform != "linux":  # pragma: no cover - elsewhere a leftover ends when its output pipe breaks
        return
    mark = f"{_BUILD_DIR_VARIABLE}={folder.tree}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError, ProcessLookupError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def plain_members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members of a source package, which has files and folders only; TarError for anything else or outside of it."""
    members = archive.getmembers()
    for member in members:
        if member.name.startswith("/") or ".." in member.name.split("/") or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is no file or folder inside the package")
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return members


def unpack_source(sdist: Path, target: Path) -> None:
    """The one folder inside `sdist`, as `target`, whole or not at all."""
    partial = target.with_name(f".unpack-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(sdist) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(partial, filter="data")
            else:
                # Python 3.11.0 to 3.11.3, Debian 12's own among them, has no filters yet.
                archive.extractall(partial, members=plain_members(archive))  # noqa: S202
        tops = list(partial.iterdir())
        if len(tops) != 1 or not tops[0].is_dir():
            raise BuildError(f"{sdist.name} is no source package", code="bad-source", hint=f"rm {sdist}")
        os.replace(tops[0], target)
    except (tarfile.TarError, EOFError) as error:
        raise BuildError(f"{sdist.name} cannot be unpacked: {error}", code="bad-source", hint=f"rm {sdist}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
