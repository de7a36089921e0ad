"""Making the wheel of a plan: toolkit, source, build with announced retries, RUNPATH; or the download of a prebuilt one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provision.engine.build import BuildFailure, BuildFolder, build_wheel, download_source
from provision.engine.buildenv import ensure_build_environment
from provision.engine.explain import Explanation, explain
from provision.engine.flags import parse_cmake_args
from provision.engine.frontend import Frontend
from provision.engine.index import download_prebuilt
from provision.engine.retry import MOST_RETRIES, next_try
from provision.engine.runpath import TOOLS, set_runpath, wanted_runpath
from provision.engine.toolkit import ensure_toolkit, make_stub
from provision.engine.types import BuildPlan, PrebuiltChoice
from provision.engine.wheelstore import sha256_of
from provision.errors import BuildError, MachineError
from provision.events import Note, Reporter, StepEnded, StepStarted
from provision.settings import Settings
from provision.units import format_bytes

_MACHINE_LACKS = frozenset({"disk-full", "no-c-compiler", "vulkan-missing"})
"""Known build failures that are the machine's (exit 3) rather than the build's (exit 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A wheel that was built or downloaded, by which plan in the end (retries change it), and from what."""

    wheel: Path
    plan: BuildPlan
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one installation works with."""

    plan: BuildPlan
    key: str
    settings: Settings
    frontend: Frontend
    reporter: Reporter

    @property
    def home(self) -> Path:
        return self.settings.provision_home

    @property
    def folder(self) -> BuildFolder:
        return BuildFolder(root=self.home / "builds" / self.key)


Builder = Callable[[Work], Made]


def make_wheel(work: Work) -> Made:
    """Build the wheel of the plan, or download the prebuilt one. Known-safe retries are announced and happen at most twice."""
    plan, reporter = work.plan, work.reporter
    _check_disk(work)
    if plan.prebuilt is not None:
        return _fetch_prebuilt(work, plan.prebuilt)
    environ = work.settings.environ
    started = time.monotonic()
    reporter(StepStarted(step="build", title=f"building the {plan.backend} engine, {plan.jobs} at a time"))
    _prepare_toolkit(work)
    sdist: Path | None = None
    tools = TOOLS if wanted_runpath(plan) else ()
    for tries_left in range(MOST_RETRIES, -1, -1):
        python = ensure_build_environment(
            (*plan.build_requires, *tools),
            folder=work.home / "build-envs",
            frontend=work.frontend,
            environ=environ,
            reporter=reporter,
        )
        sdist = sdist or download_source(
            plan.engine_version, folder=work.home / "sdists", python=python, environ=environ, reporter=reporter
        )
        made = build_wheel(plan, folder=work.folder, sdist=sdist, python=python, environ=environ, reporter=reporter)
        elapsed = time.monotonic() - started
        if not isinstance(made, BuildFailure):
            reporter(StepEnded(step="build", status="done", summary=f"built {made.name}", elapsed_s=elapsed))
            wheel = _with_runpath(work, made, python)
            return Made(wheel=wheel, plan=plan, source=f"{sdist.name} sha256 {sha256_of(sdist)}")
        found = explain(made.text)
        again = next_try(plan, found) if tries_left else None
        if again is None:
            reporter(StepEnded(step="build", status="failed", summary="the build failed", elapsed_s=elapsed))
            raise _failure(made, found, work)
        reporter(Note(level="warning", message=again.say))
        plan = again.plan
        if again.fresh:
            shutil.rmtree(work.folder.tree, ignore_errors=True)
    raise AssertionError("the last try either returns or raises")


def _prepare_toolkit(work: Work) -> None:
    plan, environ = work.plan, work.settings.environ
    if plan.toolkit is None:
        return
    if plan.toolkit.kind == "pypi":
        python = ensure_build_environment(
            (), folder=work.home / "build-envs", frontend=work.frontend, environ=environ, reporter=work.reporter
        )
        ensure_toolkit(plan.toolkit, python=str(python), frontend=work.frontend, environ=environ, reporter=work.reporter)
        return
    stub = parse_cmake_args(plan.env.get("CMAKE_ARGS", "")).defines.get("CUDA_cuda_driver_LIBRARY")
    if stub is not None and Path(stub).is_relative_to(work.home) and not Path(stub).exists():
        make_stub(Path(stub), environ=environ)


def _with_runpath(work: Work, wheel: Path, python: Path) -> Path:
    runpath = wanted_runpath(work.plan)
    if runpath is None:
        return wheel
    return set_runpath(wheel, runpath, python=python, folder=work.folder.root / "final", environ=work.settings.environ)


def _fetch_prebuilt(work: Work, choice: PrebuiltChoice) -> Made:
    environ = work.settings.environ
    wheel = download_prebuilt(choice, folder=work.folder.root, environ=environ, reporter=work.reporter)
    if wanted_runpath(work.plan) is not None:
        python = ensure_build_environment(
            TOOLS, folder=work.home / "build-envs", frontend=work.frontend, environ=environ, reporter=work.reporter
        )
        wheel = _with_runpath(work, wheel, python)
    return Made(wheel=wheel, plan=work.plan, source=choice.url)


def _failure(made: BuildFailure, found: tuple[Explanation, ...], work: Work) -> MachineError | BuildError:
    """One error with cause, evidence and remedy; the log is moved where the next build does not overwrite it."""
    kept = work.home / "logs" / f"{work.key}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made.log, kept)
    if not found:
        message = f"the build failed for a reason not in the table: {_last_error(made.text)}; the log is {kept}"
        return BuildError(message, code="build-failed", hint=f"less {kept}")
    first = found[0]
    message = f"the build failed: {first.signature.cause} Line {first.line} of {kept}: {first.evidence}"
    kind = MachineError if first.signature.id in _MACHINE_LACKS else BuildError
    return kind(message, code=f"build-{first.signature.id}", hint=first.signature.remedy)


def lack_of_disk(plan: BuildPlan, home: Path) -> str | None:
    """What a build needs in `home` against what is free there, when it is too little."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free >= plan.disk_bytes:
        return None
    return f"a build needs about {format_bytes(plan.disk_bytes)} in {home}, and {format_bytes(free)} are free"


def _check_disk(work: Work) -> None:
    if (short := lack_of_disk(work.plan, work.home)) is not None:
        raise MachineError(short, code="no-disk", hint="PROVISION_HOME=/path/on/a/larger/disk provision install")


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and not line.startswith(("[", "--"))]
    return (errors or lines or ["no output"])[-1][:300]
