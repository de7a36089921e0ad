"""Installing an engine: plan, find or build the wheel, lay it out aside, prove it, move it in. A failure changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provision.engine import transaction
from provision.engine.build import BuildFailure, BuildFolder, build_wheel, download_source
from provision.engine.buildenv import ensure_build_environment
from provision.engine.environment import Environment, check_environment, inspect_environment
from provision.engine.explain import Explanation, explain
from provision.engine.frontend import Frontend, find_frontend
from provision.engine.locks import one_at_a_time, writable_home
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.proof import prove
from provision.engine.provenance import Installed, intact, read_installed, write_provenance
from provision.engine.retry import MOST_RETRIES, next_try
from provision.engine.shell import shell_lines
from provision.engine.staging import Stage, clean_stages, plan_moves, stage_engine
from provision.engine.types import Action, BuildPlan, InstallResult, InstallWish, Proof, WheelFile
from provision.engine.wheelcache import cache_key
from provision.engine.wheelstore import describe_wheel, find_wheel, sha256_of, store_wheel
from provision.errors import BuildError, MachineError
from provision.events import Note, Reporter, StepEnded, StepStarted, silent
from provision.host.probe_engine import quantized_model
from provision.host.types import Host
from provision.settings import Settings
from provision.units import format_bytes

Builder = Callable[["Work"], "Made"]
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


def make_plan(wish: InstallWish, *, host: Host, settings: Settings, python: str) -> BuildPlan:
    """The plan for this machine and these settings; reads what the pure plan needs."""
    facts = PlanFacts(
        provision_home=str(settings.provision_home), python=python, cmake_args=settings.cmake_args, environ=settings.environ
    )
    return build_plan(host, wish, facts)


def dry_run(wish: InstallWish, *, host: Host, settings: Settings) -> tuple[BuildPlan, tuple[str, ...]]:
    """The plan and its shell lines; changes nothing."""
    plan = make_plan(wish, host=host, settings=settings, python=str(wish.python or sys.executable))
    return plan, shell_lines(plan, folder=BuildFolder(root=settings.provision_home / "builds" / cache_key(plan)))


def install(
    wish: InstallWish,
    *,
    host: Host,
    settings: Settings,
    reporter: Reporter = silent,
    model: Path | None = None,
    builder: Builder | None = None,
) -> InstallResult:
    """Install llama-cpp-python as wished into `wish.python`, proven, or raise and leave the environment as it was.

    `model` is the quantized model of the proof, by default the one that comes with provision. `builder` makes the wheel of a
    plan and is there for tests. Raises MachineError (exit 3), BuildError (exit 4), UsageError (exit 2).
    """
    started = time.monotonic()
    python = str(wish.python or sys.executable)
    environment = inspect_environment(Path(python), environ=settings.environ)
    check_environment(environment, chosen=wish.python is not None)
    with one_at_a_time(environment, reporter):
        if transaction.recover(environment.state_dir):
            message = "an earlier installation was killed while it changed this environment; undone"
            reporter(Note(level="warning", message=message))
            environment = inspect_environment(Path(python), environ=settings.environ)
        plan = make_plan(wish, host=host, settings=settings, python=python)
        key = cache_key(plan)
        for warning in plan.warnings:
            reporter(Note(level="warning", message=warning))
        present = read_installed(environment)
        action: Action
        wheel: WheelFile | None
        if wish.use_cache and present is not None and _still_good(present, key):
            action, wheel, proof = "kept", present.wheel, present.proof
        else:
            with writable_home(settings):
                frontend = find_frontend(settings.environ, python=python, python_has_pip=environment.has_pip)
                work = Work(plan=plan, key=key, settings=settings, frontend=frontend, reporter=reporter)
                wheel, action, made = _obtain(work, use_cache=wish.use_cache, builder=builder or _build)
                proof = _place(work, environment, wheel, action, made, model=model or quantized_model())
    return InstallResult(
        plan=plan,
        action=action,
        wheel=wheel,
        proof=proof,
        elapsed_s=time.monotonic() - started,
        shell_lines=shell_lines(plan, folder=BuildFolder(root=settings.provision_home / "builds" / key)),
    )


def _still_good(present: Installed, key: str) -> bool:
    """Built for this very plan, proven then, and not touched since."""
    return present.key == key and present.proof.quantized_inference is True and intact(present)


def _obtain(work: Work, *, use_cache: bool, builder: Builder) -> tuple[WheelFile, Action, Made]:
    store = work.home / "wheels"
    kept = find_wheel(store, work.key) if use_cache else None
    if kept is not None:
        return kept, "reused", Made(wheel=kept.path, plan=work.plan, source=f"wheel cache, {work.key}")
    made = builder(work)
    try:
        wheel = store_wheel(made.wheel, store, work.key)
    except OSError as error:
        work.reporter(Note(level="warning", message=f"the wheel could not be kept for next time: {error}"))
        wheel = describe_wheel(made.wheel)
    return wheel, "prebuilt" if work.plan.source == "prebuilt" else "built", made


def _build(work: Work) -> Made:
    plan, reporter = work.plan, work.reporter
    _check_disk(work)
    environ = work.settings.environ
    started = time.monotonic()
    reporter(StepStarted(step="build", title=f"building the {plan.backend} engine, {plan.jobs} at a time"))
    sdist: Path | None = None
    for tries_left in range(MOST_RETRIES, -1, -1):
        python = ensure_build_environment(
            plan.build_requires, folder=work.home / "build-envs", frontend=work.frontend, environ=environ, reporter=reporter
        )
        sdist = sdist or download_source(
            plan.engine_version, folder=work.home / "sdists", python=python, environ=environ, reporter=reporter
        )
        made = build_wheel(plan, folder=work.folder, sdist=sdist, python=python, environ=environ, reporter=reporter)
        elapsed = time.monotonic() - started
        if not isinstance(made, BuildFailure):
            reporter(StepEnded(step="build", status="done", summary=f"built {made.name}", elapsed_s=elapsed))
            return Made(wheel=made, plan=plan, source=f"{sdist.name} sha256 {sha256_of(sdist)}")
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


def _place(work: Work, environment: Environment, wheel: WheelFile, action: Action, made: Made, *, model: Path | None) -> Proof:
    clean_stages(environment)
    started = time.monotonic()
    stage = stage_engine(
        wheel.path,
        environment,
        work.frontend,
        runtime_packages=work.plan.runtime_packages,
        environ=work.settings.environ,
    )
    try:
        proof = prove(
            environment.python,
            work.plan.backend,
            model=model,
            environ=work.settings.environ,
            site_packages=stage.site_packages,
        )
        write_provenance(
            stage,
            made.plan,
            key=work.key,
            action=action,
            wheel=wheel,
            proof=proof,
            now=datetime.now(UTC).isoformat(timespec="seconds"),
            source=made.source,
        )
        _move_in(stage, environment)
    finally:
        shutil.rmtree(stage.root, ignore_errors=True)
    if action != "reused":
        # The tree is what a killed build resumes in; a proven wheel needs it no more.
        shutil.rmtree(work.folder.root, ignore_errors=True)
    work.reporter(StepEnded(step="prove", status="done", summary="proven and installed", elapsed_s=time.monotonic() - started))
    return proof


def _move_in(stage: Stage, environment: Environment) -> None:
    coming = environment.state_dir / f"previous-{os.getpid()}"
    transaction.remove_tree(coming)
    moves = plan_moves(stage, environment, backup=coming)
    coming.mkdir(parents=True)
    transaction.apply(moves, state_dir=environment.state_dir)
    previous = environment.state_dir / "previous"
    transaction.remove_tree(previous)
    os.rename(coming, previous)


def _check_disk(work: Work) -> None:
    free = shutil.disk_usage(work.home).free
    if free < work.plan.disk_bytes:
        raise MachineError(
            f"a build needs about {format_bytes(work.plan.disk_bytes)} in {work.home}, and {format_bytes(free)} are free",
            code="no-disk",
            hint="PROVISION_HOME=/path/on/a/larger/disk provision install",
        )


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and not line.startswith(("[", "--"))]
    return (errors or lines or ["no output"])[-1][:300]
