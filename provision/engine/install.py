"""Installing an engine: plan, find or build the wheel, lay it out aside, prove it, move it in. A failure changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from provision.engine import transaction
from provision.engine.build import BuildFolder
from provision.engine.elf_proof import prove_by_elf
from provision.engine.environment import Environment, check_environment, inspect_environment
from provision.engine.flags import parse_cmake_args
from provision.engine.foreign import find_foreign, note_adopted, prove_foreign, still_adopted, why_not_kept
from provision.engine.frontend import find_frontend
from provision.engine.index import read_index
from provision.engine.locks import alone, one_at_a_time, writable_home
from provision.engine.making import Builder, Made, Work, lack_of_disk, make_wheel
from provision.engine.plan import PlanFacts, build_plan, index_tags
from provision.engine.prebuilt import IndexPages, is_safe
from provision.engine.proof import prove
from provision.engine.provenance import Installed, intact, read_installed, write_provenance
from provision.engine.runpath import wanted_runpath
from provision.engine.shell import shell_lines
from provision.engine.staging import Stage, clean_leftovers, keep_as_previous, plan_moves, stage_engine
from provision.engine.types import Action, BuildPlan, InstallResult, InstallWish, Proof, Reason, WheelFile
from provision.engine.vulkan_probe import probe_vulkan
from provision.engine.wheelcache import cache_key
from provision.engine.wheelstore import describe_wheel, find_wheel, forget_wheel, source_of, store_wheel
from provision.errors import BuildError, IntegrityError, TransferError, UsageError
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
        pages, problem = (None, "offline") if settings.offline else _read_index(tags, settings)
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


def _read_index(tags: Sequence[str], settings: Settings) -> tuple[IndexPages | None, str]:
    if not is_safe(settings.wheel_index):
        said = "PROVISION_WHEEL_INDEX must be https, or http on this machine"
        raise UsageError(said, code="bad-wheel-index", hint="unset PROVISION_WHEEL_INDEX")
    return read_index(tags, environ=settings.environ, url=settings.wheel_index)


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
    """The plan and its shell lines, with the refusals a real run would end in; changes nothing."""
    environment = inspect_environment(wish.python or Path(sys.executable), environ=settings.environ)
    check_environment(environment, chosen=wish.python is not None)
    plan = make_plan(wish, host=host, settings=settings, python=environment.python)
    plan = _foreseen(plan, wish, environment, settings)
    return plan, shell_lines(plan, folder=BuildFolder(root=settings.provision_home / "builds" / cache_key(plan)))


def _foreseen(plan: BuildPlan, wish: InstallWish, environment: Environment, settings: Settings) -> BuildPlan:
    """The plan, saying what a real run would find: an engine to keep, a wheel to reuse, a disk that is too small."""
    key, present, foreign = cache_key(plan), read_installed(environment), find_foreign(environment)
    if present is not None and wish.use_cache and _still_good(present, key):
        reason = Reason(topic="kept", choice="the engine that is here", because="it is the one planned, and was proven")
        return replace(plan, reasons=(*plan.reasons, reason), estimated_s=None, disk_bytes=0)
    if present is None and foreign and not why_not_kept(foreign, wish, plan, cmake_args=settings.cmake_args):
        reason = Reason(topic="kept", choice=foreign.name, because="it is the one planned; if it proves right it stays")
        return replace(plan, reasons=(*plan.reasons, reason))
    if wish.use_cache and (wheel := find_wheel(settings.provision_home / "wheels", key)) is not None:
        reason = Reason(topic="wheel", choice=str(wheel.path), because="built before by the same plan; nothing is compiled")
        return replace(plan, reasons=(*plan.reasons, reason), estimated_s=None, disk_bytes=0)
    short = lack_of_disk(plan, settings.provision_home)
    return plan if short is None else replace(plan, warnings=(*plan.warnings, f"no-disk: {short}; a real run ends with exit 3"))


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
        tried = model or quantized_model()
        kept = _kept(wish, plan, key, environment, settings=settings, reporter=reporter, model=tried)
        action: Action
        if kept is not None:
            action = "kept"
            plan, wheel, proof = kept
        else:
            with writable_home(settings):
                frontend = find_frontend(settings.environ, python=python, python_has_pip=environment.has_pip)
                work = Work(plan=plan, key=key, settings=settings, frontend=frontend, reporter=reporter)
                plan, wheel, action, proof = _install_anew(work, environment, wish, host, builder or make_wheel, tried)
    return InstallResult(
        plan=plan,
        action=action,
        wheel=wheel,
        proof=proof,
        elapsed_s=time.monotonic() - started,
        shell_lines=shell_lines(plan, folder=BuildFolder(root=settings.provision_home / "builds" / cache_key(plan))),
    )


def _kept(
    wish: InstallWish,
    plan: BuildPlan,
    key: str,
    environment: Environment,
    *,
    settings: Settings,
    reporter: Reporter,
    model: Path | None,
) -> tuple[BuildPlan, WheelFile | None, Proof] | None:
    """What is here already, when it is what was asked for: ours and proven before, or somebody else's and proven now."""
    present = read_installed(environment)
    if present is not None:
        return (plan, present.wheel, present.proof) if wish.use_cache and _still_good(present, key) else None
    foreign = find_foreign(environment)
    if foreign is None:
        return None
    against = why_not_kept(foreign, wish, plan, cmake_args=settings.cmake_args)
    proof = None
    if against is None:
        proof = still_adopted(foreign, environment, key)
        when = "proven before, and the same since"
        if proof is None:
            when = "proven now"
            try:
                proof = prove_foreign(plan, environment, model=model, environ=settings.environ)
            except BuildError as error:
                against = error.message
    if proof is None:
        reporter(
            Note(level="warning", message=f"{foreign.name} is replaced: {against}; provision install --rollback undoes it")
        )
        return None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note_adopted(foreign, plan, environment, key=key, proof=proof, now=now)
    reason = Reason(topic="kept", choice=foreign.name, because=f"{when}; it is not ours, and provision uninstall leaves it")
    return replace(plan, reasons=(*plan.reasons, reason)), None, proof


def _still_good(present: Installed, key: str) -> bool:
    """Built for this very plan, proven then, and not touched since."""
    proven = present.proof.quantized_inference is True or bool(present.proof.device_archs)
    return present.key == key and proven and intact(present)


def _install_anew(
    work: Work, environment: Environment, wish: InstallWish, host: Host, make: Builder, model: Path | None
) -> tuple[BuildPlan, WheelFile, Action, Proof]:
    """From the cache, the index or the compiler; where a prebuilt wheel is no use, a build."""
    try:
        return (work.plan, *_obtain_and_place(work, environment, wish, make, model))
    except (BuildError, IntegrityError, TransferError) as error:
        if work.plan.source != "prebuilt" or wish.source != "any":
            raise
        work.reporter(Note(level="warning", message=f"the prebuilt wheel is no use here ({error.message}); building"))
    plan = make_plan(replace(wish, source="build"), host=host, settings=work.settings, python=work.plan.python)
    work = replace(work, plan=plan, key=cache_key(plan))
    return (plan, *_obtain_and_place(work, environment, wish, make, model))


def _obtain_and_place(
    work: Work, environment: Environment, wish: InstallWish, builder: Builder, model: Path | None
) -> tuple[WheelFile, Action, Proof]:
    locks = work.home / "locks"
    locks.mkdir(exist_ok=True)
    # Two builds in one folder would stop each other's compilers; who waited finds the wheel of the other.
    waiting = "another installation is making this very engine; waiting for it"
    with alone(locks / work.key, waiting=waiting, reporter=work.reporter):
        wheel, action, made = _obtain(work, use_cache=wish.use_cache, builder=builder)
        return wheel, action, _place(work, environment, wheel, action, made, model=model)


def _obtain(work: Work, *, use_cache: bool, builder: Builder) -> tuple[WheelFile, Action, Made]:
    store = work.home / "wheels"
    kept = find_wheel(store, work.key) if use_cache else None
    if kept is not None:
        source = source_of(store, work.key) or f"wheel cache, {work.key}"
        return kept, "reused", Made(wheel=kept.path, plan=work.plan, source=source)
    made = builder(work)
    try:
        wheel = store_wheel(made.wheel, store, work.key, source=made.source, plan=made.plan)
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
        proof = _proven(work, made.plan, environment, stage, model)
        write_provenance(
            stage,
            made.plan,
            key=work.key,
            action=action,
            wheel=wheel,
            proof=proof,
            now=datetime.now(UTC).isoformat(timespec="seconds"),
            source=made.source,
            before=read_installed(environment),
        )
        _move_in(stage, environment)
    finally:
        shutil.rmtree(stage.root, ignore_errors=True)
    if action != "reused":
        # The tree is what a killed build resumes in; a proven wheel needs it no more.
        shutil.rmtree(work.folder.root, ignore_errors=True)
    work.reporter(StepEnded(step="prove", status="done", summary="proven and installed", elapsed_s=time.monotonic() - started))
    return proof


def _proven(work: Work, plan: BuildPlan, environment: Environment, stage: Stage, model: Path | None) -> Proof:
    try:
        return _prove(work, plan, environment, stage, model)
    except BuildError:
        # What did not prove right must not be handed out the next time.
        forget_wheel(work.home / "wheels", work.key)
        raise


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
