"""`provision fit`: does this model fit this machine, with which quant, and what does `Llama()` have to be told?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.fit.types import FitWish
    from provision.host.types import Host

_CHOICES = {
    "kv-type": ("f16", "q8_0", "q4_0"),
    "policy": ("quality", "balanced", "speed"),
    "estimator": ("auto", "engine", "analytic"),
}


def register(app: typer.Typer) -> None:
    app.command("fit")(fit)


def fit(
    target: Annotated[str, typer.Argument(help="A GGUF file, the https URL of one, org/repo[:QUANT], or a recipe.")],
    quant: Annotated[str | None, typer.Option(help="Take this quant instead of the recommended one.")] = None,
    ctx: Annotated[int | None, typer.Option(min=1, help="Tokens of context; chosen when left out.")] = None,
    vram: Annotated[
        str | None,
        typer.Option(metavar="SIZE[,SIZE...]", help="Free memory of each GPU instead of this machine's; `none`: no GPU."),
    ] = None,
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="Main memory instead of this machine's.")] = None,
    kv_type: Annotated[str | None, typer.Option(metavar="f16|q8_0|q4_0", help="Type of the KV cache.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Sequences at a time, each with the whole context.")] = 1,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="quality|balanced|speed", help="What a better quant is; default: as the recipe says, or balanced."
        ),
    ] = None,
    mmproj: Annotated[
        str | None,
        typer.Option(metavar="FILE|auto", help="Count this multimodal projector too; `auto`: the one beside the model."),
    ] = None,
    estimator: Annotated[
        str, typer.Option(metavar="auto|engine|analytic", help="Ask the installed engine, or compute in pure Python.")
    ] = "auto",
    explain: Annotated[bool, typer.Option("--explain", help="Print every reason.")] = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Plan the memory of a model before it is downloaded, and print the exact Llama() arguments."""
    for name, value in (("kv-type", kv_type), ("policy", policy), ("estimator", estimator)):
        _check(name, value)
    session = open_session(json=json, progress=progress)
    wish = _wish(quant, ctx, vram, ram, kv_type, parallel, policy, estimator, mmproj)
    return _run(session, target, wish, policy_given=policy is not None, explain=explain)


def _run(session: Session, target: str, wish: FitWish, *, policy_given: bool, explain: bool) -> Spoken:
    import sys
    from functools import partial
    from pathlib import Path

    from provision.cli.fit_view import render
    from provision.errors import DoesNotFitError
    from provision.recipes.fitting import fit_target
    from provision.result import ErrorItem, Result

    host = _host(session, wish)
    found = fit_target(
        target,
        wish,
        policy_given=policy_given,
        host=host,
        settings=session.settings,
        reporter=session.reporter,
        python=Path(sys.executable),
    )
    data = found.to_data()
    if found.chosen is None:
        item = ErrorItem(code="does-not-fit", message=found.refusal, hint=found.way_out)
        result = Result(command="fit", data=data, status="error", exit_code=DoesNotFitError.exit_code, errors=(item,))
    else:
        result = Result(command="fit", data=data)
    return Spoken(result=result, render=partial(render, explain=explain))


def _host(session: Session, wish: FitWish) -> Host | None:
    """This machine, unless everything about it was given."""
    if wish.vram is not None and wish.ram is not None:
        return None
    from provision.host.probe import probe_host

    return probe_host(session.settings, reporter=session.reporter)


def _wish(quant: str | None, ctx: int | None, vram: str | None, ram: str | None, *rest: Any) -> FitWish:
    from provision.fit.types import FitWish
    from provision.units import parse_size

    sizes = None
    if vram is not None:
        sizes = () if vram.strip().lower() in ("none", "0") else tuple(parse_size(part) for part in vram.split(","))
    kv_type, parallel, policy, estimator, mmproj = rest
    return FitWish(
        quant=quant,
        n_ctx=ctx,
        vram=sizes,
        ram=parse_size(ram) if ram is not None else None,
        kv_type=kv_type,
        parallel=parallel,
        policy=policy or "balanced",
        estimator=estimator,
        mmproj=mmproj,
    )


def _check(name: str, value: str | None) -> None:
    if value is not None and value not in _CHOICES[name]:
        raise UsageError(
            f"--{name} {value!r} is not one of {', '.join(_CHOICES[name])}", code="bad-option", hint="see: provision fit --help"
        )
