"""`provision bundle`: a whole deployment in one folder or file, for machines without internet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import DryRunOption, JsonOption, ProgressOption, Spoken, open_session
from provision.errors import ExitCode
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from rich.console import Console

    from provision.recipes.bundle_engine import Machines
    from provision.recipes.rooms import Rooms

BundleArgument = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder or its .tar file.")]


def register(app: typer.Typer) -> None:
    """Add the group `bundle`."""
    group = typer.Typer(no_args_is_help=True, help="Pack a deployment for machines without internet.", rich_markup_mode=None)
    group.command("create")(create)
    group.command("verify")(verify)
    group.command("install")(install)
    app.add_typer(group, name="bundle")


def create(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|LOCK", help="A provision.lock, or a recipe to set up and lock first.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="A new folder, or a file ending in .tar.")],
    target: Annotated[
        str | None,
        typer.Option(metavar="PLATFORM", help="Another kind of machine than this: linux-x86_64-cuda, linux-aarch64-cpu, ..."),
    ] = None,
    cuda_arch: Annotated[
        list[str] | None, typer.Option("--cuda-arch", metavar="89", help="A GPU the engine must serve; may be repeated.")
    ] = None,
    python_version: Annotated[
        list[str] | None,
        typer.Option("--python-version", metavar="3.12", help="For this Python; may be repeated. Default: the one that runs."),
    ] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Pack engine, packages, model, lock and an installer that needs only Python."""
    from pathlib import Path

    from provision.recipes.bundling import create_bundle, plan_bundle
    from provision.recipes.lockfile import read_lock

    session = open_session(json=json, progress=progress)
    machines = _machines(target, cuda_arch or [], python_version or [])
    path = Path(source)
    if path.suffix == ".lock":
        lock, folder = read_lock(path), path.absolute().parent
    else:
        import sys

        from provision.recipes.deployment import lock_deployment
        from provision.recipes.entry import real_rooms
        from provision.recipes.target import understand

        python = Path(sys.executable)
        rooms = real_rooms(session.settings, python=python, reporter=session.reporter)
        if dry_run:
            # Nothing is locked yet, and locking would install: what can be told without changing anything is the plan of `up`.
            return _plan_of_up(source, output, rooms)
        report, made = lock_deployment(
            understand(source), rooms=rooms, python=python, settings=session.settings, reporter=session.reporter
        )
        if made is None:
            assert report.error is not None
            raise report.error
        lock = made
        folder = Path(report.model["path"]).parent if report.model else Path.cwd()
    if dry_run:
        plan = plan_bundle(lock, Path(output), folder=folder, machines=machines, settings=session.settings)
        return Spoken(result=Result(command="bundle", data=plan), render=_render_plan)
    manifest = create_bundle(
        lock, Path(output), folder=folder, machines=machines, settings=session.settings, reporter=session.reporter
    )
    size = sum(entry["size_bytes"] for entry in manifest["files"])
    data = {
        "path": output,
        "name": manifest["name"],
        "target": manifest["target"],
        "needs": manifest["needs"],
        "pythons": [kit["python"] for kit in manifest["pythons"]],
        "tree_sha256": manifest["pythons"][0]["tree_sha256"],
        "files": len(manifest["files"]),
        "size_bytes": size,
    }
    return Spoken(result=Result(command="bundle", data=data), render=_render_create)


def _machines(target: str | None, cuda_archs: list[str], pythons: list[str]) -> Machines:
    from provision.cli.install import check_archs
    from provision.recipes.bundle_engine import Machines
    from provision.recipes.targets import parse_python, parse_target

    return Machines(
        target=parse_target(target) if target is not None else None,
        cuda_archs=check_archs(cuda_archs),
        pythons=tuple(dict.fromkeys(parse_python(python) for python in pythons)),
    )


def _plan_of_up(source: str, output: str, rooms: Rooms) -> Spoken:
    from provision.recipes.target import understand
    from provision.recipes.up_plan import plan_up

    planned = plan_up(understand(source), rooms=rooms)["plan"]
    rows = [{"what": f"{step['name']}: {step['summary']}", "size_bytes": None} for step in planned]
    rows.append({"what": "then locked, and packed with provision, its requirements and pip", "size_bytes": None})
    data = {"path": output, "target": None, "plan": rows}
    return Spoken(result=Result(command="bundle", data=data), render=_render_plan)


def verify(path: BundleArgument, json: JsonOption = False, progress: ProgressOption = "auto") -> Spoken:
    """Check every byte of a bundle."""
    from pathlib import Path

    from provision.recipes.bundle_install import bundle_data, check_locks, open_bundle

    session = open_session(json=json, progress=progress)
    bundle = open_bundle(Path(path), reporter=session.reporter)
    check_locks(bundle)
    return Spoken(result=Result(command="bundle", data=bundle_data(bundle)), render=_render_verify)


def install(
    path: BundleArgument,
    python: Annotated[str | None, typer.Option(help="The Python whose environment gets the engine; default: this one.")] = None,
    no_gpu_check: Annotated[
        bool, typer.Option("--no-gpu-check", help="For an image: the GPU is elsewhere, and so is the smoke test.")
    ] = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Install from a bundle without internet, smoke test included."""
    import sys
    from pathlib import Path

    from provision.recipes.bundle_install import install_bundle

    session = open_session(json=json, progress=progress)
    report = install_bundle(
        Path(path),
        python=Path(python or sys.executable),
        gpu_check=not no_gpu_check,
        settings=session.settings,
        reporter=session.reporter,
    )
    error = report.error
    result = Result(
        command="bundle",
        data=report.to_data(),
        status="error" if error else "ok",
        exit_code=error.exit_code if error else ExitCode.OK,
        errors=(ErrorItem.of(error),) if error else (),
    )
    return Spoken(result=result, render=_render_install)


def _render_create(console: Console, data: Mapping[str, Any]) -> None:
    from provision.units import format_bytes

    console.print(
        f"wrote {data['path']}: {data['files']} files, {format_bytes(data['size_bytes'])}, {_kind(data)}",
        markup=False,
        soft_wrap=True,
    )
    console.print("\nnext, on a machine without internet:", markup=False)
    if data["path"].endswith(".tar"):
        console.print(f"  tar -xOf {data['path']} install.py | python3 - {data['path']}", markup=False, soft_wrap=True)
    else:
        console.print(f"  python3 {data['path']}/install.py", markup=False, soft_wrap=True)


def _kind(data: Mapping[str, Any]) -> str:
    """`linux-x86_64-cuda, Python 3.11 and 3.12, glibc 2.34`."""
    glibc = data["needs"]["glibc"]
    return f"{data['target']}, Python {' and '.join(data['pythons'])}" + (f", glibc {glibc}" if glibc else "")


def _render_plan(console: Console, data: Mapping[str, Any]) -> None:
    from provision.units import format_bytes

    console.print(f"plan for {data['path']}; nothing was changed", markup=False)
    for row in data["plan"]:
        size = format_bytes(row["size_bytes"]) if row["size_bytes"] is not None else ""
        console.print(f"  {row['what']:<44} {size}".rstrip(), markup=False, soft_wrap=True)


def _render_verify(console: Console, data: Mapping[str, Any]) -> None:
    from provision.units import format_bytes

    console.print(
        f"✓ {data['path']}: {data['name']} for {_kind(data)}, {data['files']} files, {format_bytes(data['size_bytes'])}, "
        f"every byte as it was written",
        markup=False,
        soft_wrap=True,
    )


def _render_install(console: Console, data: Mapping[str, Any]) -> None:
    if data["tree_sha256"] is None or data["differences"]:
        return
    tree = f"{data['recipe']} · tree {data['tree_sha256'][:16]}"
    if data["verdict"] in ("pass", "warn"):
        console.print(f"EQUAL  {tree} · smoke {data['verdict']}", markup=False)
        console.print(f"\nnext: provision chat {data['model']}", markup=False, soft_wrap=True)
    elif data["verdict"] is None and all(step["status"] != "failed" for step in data["steps"]):
        console.print(f"PLACED  {tree} · not run: the GPU is elsewhere", markup=False)
        console.print(
            f"\nnext, where it is: provision chat {data['model']} --smoke --require-gpu", markup=False, soft_wrap=True
        )
