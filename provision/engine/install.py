"""Installing an engine: plan, find or build the wheel, lay it out aside, prove it, move it in. A failure changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from provision.engine import transaction
from provision.engine.build import BuildFolder
from provision.engine.elf_proof import prove_by_elf
from provision.engine.environment import Environment, check_environment, inspect_environment
from provision.engine.flags import parse_cmake_args
from provision.engine.frontend import find_frontend
from provision.engine.index import read_index
from provision.engine.locks import one_at_a_time, writable_home
from provision.engine.making import Builder, Made, Work, make_wheel
from provision.engine.plan import PlanFacts, build_plan, index_tags
from provision.engine.proof import prove
from provision.engine.provenance import Installed, intact, read_installed, write_provenance
from provision.engine.runpath import wanted_runpath
from provision.engine.shell import shell_lines
from provision.engine.staging import Stage, clean_leftovers, keep_as_previous, plan_moves, stage_engine
from provision.engine.types import Action, BuildPlan, InstallResult, InstallWish, Proof, WheelFile
from provision.engine.vulkan_probe import probe_vulkan
from provision.engine.wheelcache import cache_key
from provision.engine.wheelstore import describe_wheel, find_wheel, store_wheel
from provision.errors import BuildError, IntegrityError, TransferError
from provision.events import Note, Reporter, StepEnded, silent
from provision.host.probe_engine import quantized_model
from provision.host.probe_toolkits import read_toolkit
from provision.host.reader import Reader
from provision.host.types import Host
from provision.settings import Settings


def make_plan(wish: InstallWish, *, host: Host, settings: Settings, python: str) -> BuildPlan:
    """The plan for this machine and these settings; reads what the pure plan needs."""
    defines = parse_cmake_args(settings.cmake_args).defines
    wish, host = _with_named_toolkit(wish, host, settings)
    tags = index_tags(host, wish)
    pages, problem = (None, "")
    if tags:
        pages, problem = (None, "offline") if settings.offline else read_index(tags, environ=settings.environ)
    facts = PlanFacts(
        provision_home=str(settings.provision_home),
        python=python,
        cmake_args=settings.cmake_args,
        environ=settings.environ,
        vulkan=probe_vulkan(settings.environ, defines) if wish.backend in ("auto", "vulkan") else None,
        index=pages,
        index_problem=problem,
    )
    return build_plan(host, wish, facts)


def _with_named_toolkit(wish: InstallWish, host: Host, settings: Settings) -> tuple[InstallWish, Host]:
    """A root the user names is looked at even where no search would find it, and under its real path."""
    if wish.toolkit in ("auto", "system", "pypi"):
        return wish, host
    root = os.path.realpath(wish.toolkit)
    if not any(toolkit.root == root for toolkit in host.toolkits):
        found = read_toolkit(Reader(environ=settings.environ), root, ("--toolkit",))
        host = replace(host, toolkits=(*host.toolkits, *([found] if found else [])))
    return replace(wish, toolkit=root), host


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
        clean_leftovers(environment)
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
                make = builder or make_wheel
                tried = model or quantized_model()
                try:
                    wheel, action, proof = _obtain_and_place(work, environment, wish, make, tried)
                except (BuildError, IntegrityError, TransferError) as error:
                    if plan.source != "prebuilt" or wish.source != "any":
                        raise
                    reporter(Note(level="warning", message=f"the prebuilt wheel is no use here ({error.message}); building"))
                    plan = make_plan(replace(wish, source="build"), host=host, settings=settings, python=python)
                    work = replace(work, plan=plan, key=cache_key(plan))
                    wheel, action, proof = _obtain_and_place(work, environment, wish, make, tried)
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
    proven = present.proof.quantized_inference is True or bool(present.proof.device_archs)
    return present.key == key and proven and intact(present)


def _obtain_and_place(
    work: Work, environment: Environment, wish: InstallWish, builder: Builder, model: Path | None
) -> tuple[WheelFile, Action, Proof]:
    wheel, action, made = _obtain(work, use_cache=wish.use_cache, builder=builder)
    return wheel, action, _place(work, environment, wheel, action, made, model=model)


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


def _place(work: Work, environment: Environment, wheel: WheelFile, action: Action, made: Made, *, model: Path | None) -> Proof:
    started = time.monotonic()
    stage = stage_engine(
        wheel.path,
        environment,
        work.frontend,
        runtime_packages=work.plan.runtime_packages,
        environ=work.settings.environ,
    )
    try:
        proof = _prove(work, made.plan, environment, stage, model)
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


def _prove(work: Work, plan: BuildPlan, environment: Environment, stage: Stage, model: Path | None) -> Proof:
    environ = work.settings.environ
    if not plan.gpu_check:
        return prove_by_elf(plan, stage.libraries, runpath=wanted_runpath(plan), environ=environ)
    return prove(environment.python, plan.backend, model=model, environ=environ, site_packages=stage.site_packages)


def _move_in(stage: Stage, environment: Environment) -> None:
    coming = environment.state_dir / f"previous-{os.getpid()}"
    transaction.remove_tree(coming)
    moves = plan_moves(stage, environment, backup=coming)
    coming.mkdir(parents=True)
    transaction.apply(moves, state_dir=environment.state_dir)
    keep_as_previous(coming, environment)
