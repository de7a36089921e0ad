"""`provision serve`: an OpenAI-compatible server with safe settings, its service files, and the checks of a running one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli import chat_options as options
from provision.cli.screen import tell
from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import ExitCode, UsageError
from provision.result import Result, json_text

if TYPE_CHECKING:
    from rich.console import Console

    from provision.chat.serving import ServerPlan, ServeWish
    from provision.recipes.target import ModelTarget


def serve(
    model: Annotated[str | None, typer.Argument(help=options.MODEL_HELP)] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="URL", help="Check a running server.")] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="systemd|compose|quadlet", help="Print a hardened service file.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0 takes a free one.", show_default="8000")
    ] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="The model's name for clients.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="Key alone on one line, mode 0600; made when absent.")
    ] = None,
    ctx: options.Ctx = None,
    n_gpu_layers: Annotated[int | None, typer.Option("--n-gpu-layers", min=-1, help="Default: what fits.")] = None,
    chat_format: options.ChatFormat = None,
    template: options.Template = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Serve embeddings as well.")] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="One line on stderr per request.")] = False,
    python: options.Python = None,
    offline: options.Offline = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken | int:
    """Serve a model to OpenAI clients; --test checks a running server, --unit prints a service file."""
    from provision.chat.serving import plan_server
    from provision.chat.storage import read_template

    session = open_session(json=json, progress=progress)
    if test is not None:
        return _test(test, session, api_key_file)
    if model is None:
        raise UsageError("nothing to serve", code="usage", hint="provision serve MODEL, or provision serve --test URL")
    if offline:
        session = replace(session, settings=replace(session.settings, offline=True))
    interpreter = python or Path(sys.executable)
    target = _resolve(model, session, python=interpreter, n_ctx=ctx, n_gpu_layers=n_gpu_layers)
    wish = _wish(
        target, host=host, port=port, alias=alias, api_key_file=api_key_file, chat_format=chat_format,
        template=read_template(template), embeddings=embeddings, access_log=access_log,
    )  # fmt: skip
    plan = plan_server(wish, default_key_file=session.settings.provision_home / "serve.key")
    if unit is not None:
        flags = _flags(ctx=plan.settings.get("n_ctx"), n_gpu_layers=n_gpu_layers, chat_format=chat_format, template=template)
        flags += ["--embeddings"] if embeddings else []
        return _unit(unit, plan, session, model=model, python=interpreter, flags=flags)
    return _serve(plan, session, python=interpreter, as_json=json)


def _resolve(model: str, session: Session, *, python: Path, n_ctx: int | None, n_gpu_layers: int | None) -> ModelTarget:
    from provision.recipes.target import resolve_model

    found = resolve_model(model, settings=session.settings, reporter=session.reporter, python=python, n_ctx=n_ctx)
    if n_gpu_layers is None:
        return found
    return replace(found, llama_kwargs={**found.llama_kwargs, "n_gpu_layers": n_gpu_layers})


def _wish(
    target: ModelTarget,
    *,
    host: str | None,
    port: int | None,
    alias: str | None,
    api_key_file: Path | None,
    chat_format: str | None,
    template: str | None,
    embeddings: bool,
    access_log: bool,
) -> ServeWish:
    """Flags first, then the recipe, then the defaults."""
    from provision.chat.serving import ServeWish

    if chat_format is not None and template is not None:
        raise UsageError("--chat-format and --template exclude each other", code="bad-option", hint="give one of them")
    recipe = target.recipe
    said = recipe.serve if recipe is not None else None
    if recipe is not None and chat_format is None and template is None:
        chat_format, template = recipe.chat.chat_format, recipe.chat.template
    return ServeWish(
        model=target.path.absolute(),
        llama_kwargs=target.llama_kwargs,
        host=host or (said.host if said else "127.0.0.1"),
        port=port if port is not None else (said.port if said else 8000),
        alias=alias or (said.alias if said else None) or (recipe.name if recipe else None),
        api_key_file=api_key_file.expanduser().absolute() if api_key_file else None,
        chat_format=chat_format,
        template=template,
        template_kwargs=recipe.chat.template_kwargs if recipe else {},
        sampling=recipe.sampling.model_dump() if recipe else {},
        embeddings=embeddings,
        access_log=access_log,
    )


def _flags(*, ctx: int | None, n_gpu_layers: int | None, chat_format: str | None, template: Path | None) -> list[str]:
    """What was asked for on this command line, for the one that a unit runs."""
    given: dict[str, object] = {
        "--ctx": ctx or None,
        "--n-gpu-layers": n_gpu_layers,
        "--chat-format": chat_format,
        "--template": template.expanduser().absolute() if template else None,
    }
    return [word for flag, value in given.items() if value is not None for word in (flag, str(value))]


def _serve(plan: ServerPlan, session: Session, *, python: Path, as_json: bool) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from provision.chat.keys import read_or_create_key
    from provision.chat.server import RunningServer, tell_supervisor, wait_for_signal
    from provision.chat.snippets import snippets
    from provision.events import Event, LogLine, Note

    def report(event: Event) -> None:
        if plan.access_log and isinstance(event, LogLine) and " - " in event.line:
            tell(sys.stderr, event.line)
        session.reporter(event)

    key, made = read_or_create_key(plan.api_key_file) if plan.api_key_file else (None, False)
    if made:
        session.reporter(Note(level="info", message=f"a new key lies in {plan.api_key_file}"))
    environ = session.settings.environ
    server = RunningServer.start(plan, key=key, python=python, environ=environ, reporter=report)
    try:
        shown = snippets(url=server.url, alias=plan.alias, api_key_file=plan.api_key_file)
        data = {
            "url": server.url,
            "model": str(plan.model),
            "alias": plan.alias,
            "n_ctx": server.n_ctx,
            "chat_format": server.chat_format,
            "api_key_file": str(plan.api_key_file) if plan.api_key_file else None,
            "reasons": list(plan.reasons),
            "snippets": shown,
        }

        def announce() -> None:
            _announce(data, as_json=as_json)
            tell_supervisor(environ, "READY=1")

        wait_for_signal(server, announce=announce)
        failure = server.failure()
        if failure is not None:
            raise failure
    finally:
        server.close()
    return ExitCode.OK


def _announce(data: Mapping[str, Any], *, as_json: bool) -> None:
    """The server is ready. With --json this is the one object of stdout, at once, because its reader waits for the address."""
    if as_json:
        sys.stdout.write(json_text(Result(command="serve", data=data).envelope()) + "\n")
    else:
        shown = data["snippets"]
        lines = [
            f"{data['alias']} is served at {data['url']} with n_ctx {data['n_ctx']}; Ctrl-C ends it",
            *(f"  {reason}" for reason in data["reasons"]),
            *(f"\n{name}:\n{text}" for name, text in shown.items()),
        ]
        tell(sys.stdout, "\n".join(lines))
    sys.stdout.flush()


def _unit(kind: str, plan: ServerPlan, session: Session, *, model: str, python: Path, flags: list[str]) -> Spoken:
    from provision.chat.keys import read_or_create_key
    from provision.chat.storage import keep_template
    from provision.chat.units import UnitPlan, model_files, unit_text

    local = Path(model).expanduser()
    command = [str(python), "-m", "provision", "serve", str(local.absolute()) if local.is_file() else model, "--offline"]
    command += ["--host", plan.host, "--port", str(plan.port), "--alias", plan.alias, *flags]
    if plan.api_key_file is not None:
        read_or_create_key(plan.api_key_file)
        command += ["--api-key-file", str(plan.api_key_file)]
    files = model_files(plan.model, [file.name for file in plan.model.parent.iterdir()])
    state = session.settings.provision_home
    kept = keep_template(plan.template, state / "templates") if plan.template is not None and kind != "systemd" else None
    text = unit_text(kind, UnitPlan(server=plan, command=tuple(command), state=state, files=files, template_file=kept))
    data = {"unit": kind, "text": text, "api_key_file": str(plan.api_key_file) if plan.api_key_file else None}
    return Spoken(result=Result(command="serve", data=data), render=_render_unit)


def _render_unit(console: Console, data: Mapping[str, Any]) -> None:
    # Written as it is: a console would fold long lines, and a folded unit means something else.
    console.file.write(data["text"])


def _test(url: str, session: Session, api_key_file: Path | None) -> Spoken:
    from provision.chat.keys import read_key
    from provision.chat.server_checks import check_server

    key = None
    if api_key_file is not None:
        try:
            key = read_key(api_key_file.expanduser())
        except FileNotFoundError:
            raise UsageError(
                f"there is no key file {api_key_file}", code="bad-key-file", hint="name the file the server was started with"
            ) from None
    report = check_server(url, key=key, reporter=session.reporter)
    bad = report.verdict == "fail"
    result = Result(
        command="serve",
        data=report.to_data(),
        exit_code=ExitCode.SMOKE if bad else ExitCode.OK,
        status="error" if bad else "ok",
    )
    return Spoken(result=result, render=_render_test)


_MARKS = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "-"}


def _render_test(console: Console, data: Mapping[str, Any]) -> None:
    for check in data["checks"]:
        console.print(f"{_MARKS[check['status']]} {check['id']}  {check['summary']}", markup=False)
        if check["remedy"] and check["status"] in ("warn", "fail"):
            console.print(f"  → {check['remedy']}", markup=False)
    counts = ", ".join(
        f"{number} {status}"
        for status in ("pass", "warn", "fail", "skip")
        if (number := sum(check["status"] == status for check in data["checks"]))
    )
    name = data["model"] or "no model"
    console.print(f"{data['verdict'].upper()}  {name} at {data['url']}: {counts}", markup=False)
