"""`provision install`: the engine, built for this machine and proven, or a named reason and an untouched environment."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.screen import tell
from provision.cli.session import DryRunOption, JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import UsageError
from provision.result import Result

if TYPE_CHECKING:
    from rich.console import Console

    from provision.engine.types import InstallWish

_BACKENDS = ("cpu", "cuda", "vulkan", "metal", "rocm")


def install(
    auto: Annotated[bool, typer.Option("--auto", help="Pick the best backend for this machine (the default).")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="No GPU.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="NVIDIA GPUs; never ends in a CPU build.")] = False,
    vulkan: Annotated[bool, typer.Option("--vulkan", help="AMD, Intel and other GPUs by Vulkan.")] = False,
    metal: Annotated[bool, typer.Option("--metal", help="Apple GPUs (not tried on a real Mac).")] = False,
    rocm: Annotated[bool, typer.Option("--rocm", help="AMD GPUs by ROCm (not tried on a real card).")] = False,
    toolkit: Annotated[str, typer.Option("--toolkit", metavar="auto|system|pypi|PATH", help="Which CUDA toolkit.")] = "auto",
    cuda_arch: Annotated[
        list[str] | None, typer.Option("--cuda-arch", metavar="89", help="Build for this architecture; may be repeated.")
    ] = None,
    engine_version: Annotated[
        str | None, typer.Option("--engine-version", metavar="V", help="llama-cpp-python version.")
    ] = None,
    python: Annotated[Path | None, typer.Option("--python", metavar="PATH", help="Install for this Python.")] = None,
    from_source: Annotated[bool, typer.Option("--from-source", help="Build, even where a prebuilt wheel would do.")] = False,
    prebuilt: Annotated[bool, typer.Option("--prebuilt", help="Only a wheel of the maintainer's index.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build again, whatever was kept or is installed.")] = False,
    no_gpu_check: Annotated[
        bool, typer.Option("--no-gpu-check", help="Building for another machine: prove by the binary alone.")
    ] = False,
    explain: Annotated[
        Path | None, typer.Option("--explain", metavar="LOG", help="Say what a build log means; changes nothing.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Bring the previous engine back.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Install llama-cpp-python so that it really uses this machine, proven before anything is replaced."""
    from provision.engine.types import ENGINE_VERSION, InstallWish

    session = open_session(json=json, progress=progress)
    chosen = [name for name, on in zip(_BACKENDS, (cpu, cuda, vulkan, metal, rocm), strict=True) if on]
    options = (cuda_arch, engine_version, from_source, prebuilt, no_cache, no_gpu_check, dry_run, toolkit != "auto")
    if (explain is not None) + rollback + bool(chosen or auto or any(options)) > 1:
        alone = "--explain" if explain is not None else "--rollback"
        raise UsageError(f"{alone} stands alone", code="bad-option", hint=f"provision install {alone}")
    if explain is not None:
        return _explain(explain)
    if rollback:
        return _rollback(session, python)
    backends = [f"--{name}" for name in (*chosen, *(["auto"] if auto else []))]
    _refuse_contradictions(backends, cuda_arch=bool(cuda_arch), toolkit=toolkit != "auto", no_gpu_check=no_gpu_check)
    if from_source and prebuilt:
        raise UsageError("--from-source contradicts --prebuilt", code="bad-option", hint="leave one out")
    wish = InstallWish(
        backend=chosen[0] if chosen else "auto",  # type: ignore[arg-type]
        toolkit=toolkit if toolkit in ("auto", "system", "pypi") else str(Path(toolkit).absolute()),
        cuda_archs=check_archs(cuda_arch or ()),
        engine_version=check_version(engine_version or ENGINE_VERSION),
        python=python.absolute() if python is not None else None,
        source="build" if from_source else "prebuilt" if prebuilt else "any",
        use_cache=not no_cache,
        gpu_check=not no_gpu_check,
    )
    return _install(session, wish, dry_run=dry_run)


def _refuse_contradictions(backends: Sequence[str], *, cuda_arch: bool, toolkit: bool, no_gpu_check: bool) -> None:
    """UsageError for more than one backend, and for options of CUDA with another one."""
    if len(backends) > 1:
        raise UsageError(f"choose one of {', '.join(backends)}", code="bad-option", hint="provision install --auto")
    if no_gpu_check and not (backends == ["--cuda"] and cuda_arch):
        raise UsageError(
            "--no-gpu-check needs --cuda and --cuda-arch",
            code="bad-option",
            hint="provision install --cuda --cuda-arch 89 --no-gpu-check",
        )
    other = next((backend for backend in backends if backend not in ("--cuda", "--auto")), None)
    for option, given in (("--cuda-arch", cuda_arch), ("--toolkit", toolkit)):
        if given and other:
            raise UsageError(f"{option} says nothing about {other}", code="bad-option", hint="provision install --cuda")


def check_archs(given: Sequence[str]) -> tuple[str, ...]:
    """Architectures, oldest first and each once; several may stand in one word: `89,120`."""
    archs = {check_arch(word) for text in given for word in re.split("[,;]", text)}
    return tuple(sorted(archs, key=int))


def check_arch(text: str) -> str:
    """`89` from `89`, `8.9` or `sm_89`; UsageError for anything else."""
    match = re.fullmatch(r"(?:sm_|compute_)?(\d{1,2})\.?(\d)", text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a CUDA architecture", code="bad-cuda-arch", hint="provision doctor; or: --cuda-arch 89"
        )
    return match[1] + match[2]


def check_version(text: str) -> str:
    """A version of llama-cpp-python as pip takes it after `==`; UsageError for anything else."""
    if re.fullmatch(r"\d+(\.\d+){1,3}((a|b|rc|\.post|\.dev)\d+)?", text.strip()) is None:
        hint = "provision install --engine-version 0.3.36"
        raise UsageError(f"{text!r} is not a version of llama-cpp-python", code="bad-version", hint=hint)
    return text.strip()


def _install(session: Session, wish: InstallWish, *, dry_run: bool) -> Spoken:
    from provision.engine.install import dry_run as plan_only
    from provision.engine.install import install as run
    from provision.engine.types import plan_to_data
    from provision.host.probe import probe_host
    from provision.recipes.uses import note_deployment

    host = probe_host(session.settings, python=wish.python, reporter=session.reporter)
    if dry_run:
        plan, lines = plan_only(wish, host=host, settings=session.settings)
        data: dict[str, Any] = {
            "backend": plan.backend,
            "engine_version": plan.engine_version,
            "action": None,
            "plan": plan_to_data(plan, lines),
            "wheel": None,
            "proof": None,
            "elapsed_s": None,
        }
        return Spoken(result=Result(command="install", data=data), render=_render_plan)
    result = run(wish, host=host, settings=session.settings, reporter=session.reporter)
    if result.wheel is not None:
        environment = wish.python or Path(sys.executable)
        note_deployment(session.settings, python=environment, recipe="the engine", sha256=[result.wheel.sha256])
    return Spoken(result=Result(command="install", data=result.to_data()), render=_render)


def _explain(log: Path) -> Spoken:
    from provision.engine.explain import explain_log

    return Spoken(result=Result(command="install", data=explain_log(log)), render=_render_explain)


def _rollback(session: Session, python: Path | None) -> Spoken:
    from provision.engine.rollback import rollback

    data = rollback(python, settings=session.settings)
    return Spoken(result=Result(command="install", data=data), render=_render_rollback)


def _render_plan(console: Console, data: Mapping[str, Any]) -> None:
    from provision.units import format_bytes, format_seconds

    plan = data["plan"]
    console.print(f"would install llama-cpp-python {data['engine_version']} for {data['backend']}", markup=False)
    for reason in plan["reasons"]:
        console.print(f"  {reason}", markup=False)
    for warning in plan["warnings"]:
        console.print(f"  warning: {warning}", markup=False)
    if plan["estimated_s"] is not None:
        needs = format_bytes(plan["disk_bytes"])
        console.print(f"takes about {format_seconds(plan['estimated_s'])} and up to {needs} while it builds", markup=False)
    console.print("\nby hand this would be:", markup=False)
    for line in plan["argv"]:
        # Not through rich: a wrapped command cannot be copied.
        tell(console.file, f"  {line}")


_ACTIONS = {
    "kept": "already here and proven",
    "reused": "installed from the wheel built before",
    "prebuilt": "installed from the maintainer's wheel",
    "built": "built and installed",
}


def _render(console: Console, data: Mapping[str, Any]) -> None:
    from provision.units import format_bytes, format_seconds

    console.print(
        f"llama-cpp-python {data['engine_version']} for {data['backend']}: {_ACTIONS[data['action']]}"
        f" ({format_seconds(data['elapsed_s'])})",
        markup=False,
    )
    for reason in data["plan"]["reasons"]:
        if reason.startswith("kept:"):
            console.print(f"  {reason}", markup=False)
    for device in data["proof"]["devices"]:
        memory = f", {format_bytes(device['memory_total_bytes'])}" if device["memory_total_bytes"] else ""
        console.print(f"  device {device['name']}: {device['description']}{memory}", markup=False)
    proof = data["proof"]
    if proof["quantized_inference"]:
        console.print("  a quantized model answered", markup=False)
    if proof["offloaded_layers"]:
        done, total = proof["offloaded_layers"]
        console.print(f"  {done} of {total} layers on the GPU, and the CPU gives the same answer", markup=False)
    if proof["device_archs"]:
        console.print(f"  machine code for {', '.join(proof['device_archs'])}", markup=False)
    for note in proof["notes"]:
        console.print(f"  {note}", markup=False)
    if data["wheel"]:
        # A path that is wrapped cannot be copied.
        size = format_bytes(data["wheel"]["size_bytes"])
        console.print(f"  wheel {size}: {data['wheel']['path']}", markup=False, soft_wrap=True)


def _render_explain(console: Console, data: Mapping[str, Any]) -> None:
    for row in data["findings"]:
        console.print(f"{row['cause']}", markup=False)
        console.print(f"  line {row['line']}: {row['evidence']}", markup=False)
        console.print(f"  → {row['remedy']}", markup=False)
    if not data["findings"]:
        console.print(f"none of the {data['signatures']} known failures is in this log", markup=False)


def _render_rollback(console: Console, data: Mapping[str, Any]) -> None:
    console.print(f"back to {data['now']} (was {data['before']})", markup=False)
