"""`provision chat`: talk to a model, ask it one thing, or (--smoke) have it checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import ExitCode, UsageError
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from provision.chat.conversation import Conversation
    from provision.chat.storage import Keeper
    from provision.chat.types import Turn
    from provision.smoke.types import ProfileName

_CHAT = "Conversation"
_FILES = "Transcripts"
_MODEL = "Model"
_SAMPLING = "Sampling"


def chat(
    model: Annotated[str, typer.Argument(help="A local GGUF, ORG/REPO[:QUANT], or a recipe name.")],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Ask this, print the answer, leave.")] = None,
    input: Annotated[Path | None, typer.Option("-i", "--input", help="Go on from this transcript.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Save the conversation here after every turn.")] = None,
    history: Annotated[Path | None, typer.Option("--history", help="(or -io) Both: go on from it and save to it.")] = None,
    save_as: Annotated[
        str | None, typer.Option("--format", help="Saved as list, openai, sharegpt or llm; default: as it was read.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System message; replaces the transcript's.")] = None,
    think: Annotated[str, typer.Option("--think", help="Reasoning: show, fold or hide. It is never sent back.")] = "fold",
    overflow: Annotated[
        str, typer.Option("--overflow", help="When the context is full: error, drop-oldest or grow.")
    ] = "error",
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")] = False,
    json_lines: Annotated[bool, typer.Option("--json-lines", help="The answer as JSON lines while it comes.")] = False,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0, help="0 always takes the likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1)] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=0)] = None,
    min_p: Annotated[float | None, typer.Option("--min-p", min=0, max=1)] = None,
    repeat_penalty: Annotated[float | None, typer.Option("--repeat-penalty", min=0.01)] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 2, help="The same seed, the same answers.")] = None,
    ctx: Annotated[int | None, typer.Option("--ctx", min=1, help="n_ctx; default: what fits.")] = None,
    n_gpu_layers: Annotated[
        str, typer.Option("--n-gpu-layers", metavar="N|auto", help="Layers on the GPU; -1 is all of them.")
    ] = "auto",
    chat_format: Annotated[str | None, typer.Option("--chat-format", help="A named format, for example chatml.")] = None,
    template: Annotated[Path | None, typer.Option("--template", help="A Jinja file instead of the model's template.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Check the deployment and give a verdict.")] = False,
    profile: Annotated[str, typer.Option("--profile", help="How thoroughly --smoke checks: quick, full or deep.")] = "quick",
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="--smoke fails when no layer is on a GPU.")] = False,
    golden: Annotated[Path | None, typer.Option("--golden", help="--smoke compares with this fingerprint.")] = None,
    save_golden: Annotated[Path | None, typer.Option("--save-golden", help="--smoke stores its fingerprint here.")] = None,
    python: Annotated[Path | None, typer.Option("--python", help="Python whose environment holds the engine.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken | int:
    """Chat with a model; --prompt or a pipe asks one thing; --smoke gives a verdict on the deployment."""
    session = open_session(json=json or json_lines, progress=progress)
    wish = Wish(
        model=model, prompt=prompt, input=input, output=output, history=history, save_as=save_as, system=system,
        think=think, overflow=overflow, stream=not no_stream, chat_format=chat_format, template=template,
        ctx=ctx, n_gpu_layers=n_gpu_layers, python=python or Path(sys.executable), offline=offline,
        sampling={
            "temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p,
            "repeat_penalty": repeat_penalty, "max_tokens": max_tokens, "seed": seed,
        },
    )  # fmt: skip
    if smoke:
        return _smoke(wish, session, profile=profile, golden=golden, save_golden=save_golden, require_gpu=require_gpu)
    wish.check()
    if json_lines and json:
        raise UsageError("--json and --json-lines exclude each other", code="bad-option", hint="give one of them")
    if prompt is None and (json or json_lines or not sys.stdin.isatty() or not sys.stdout.isatty()):
        prompt = _prompt_from_stdin()
    if prompt is None:
        return _interactive(wish, session)
    return _once(wish, session, prompt, as_json=json, as_lines=json_lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options of a conversation as given."""

    model: str
    prompt: str | None
    input: Path | None
    output: Path | None
    history: Path | None
    save_as: str | None
    system: str | None
    think: str
    overflow: str
    stream: bool
    chat_format: str | None
    template: Path | None
    ctx: int | None
    n_gpu_layers: str
    python: Path
    offline: bool
    sampling: Mapping[str, Any]

    def check(self) -> None:
        """Raises UsageError (`bad-option`) for words that are none of the choices."""
        from provision.chat.overflow import POLICIES
        from provision.chat.slash import THINK_MODES
        from provision.chat.transcripts import FORMATS

        for flag, value, choices in (
            ("--think", self.think, THINK_MODES),
            ("--overflow", self.overflow, POLICIES),
            ("--format", self.save_as, FORMATS),
        ):
            if value is not None and value not in choices:
                raise UsageError(f"{flag} {value!r} is not one of {', '.join(choices)}", code="bad-option", hint="see --help")
        if self.history is not None and (self.input is not None or self.output is not None):
            raise UsageError("-io stands for -i and -o; give one or the other", code="bad-option", hint="see --help")
        if self.chat_format is not None and self.template is not None:
            raise UsageError("--chat-format and --template exclude each other", code="bad-option", hint="give one of them")
        if self.n_gpu_layers != "auto":
            self.layers()

    def layers(self) -> int | None:
        """`--n-gpu-layers` as a number, None for auto."""
        if self.n_gpu_layers == "auto":
            return None
        try:
            return max(-1, int(self.n_gpu_layers))
        except ValueError:
            raise UsageError(
                f"--n-gpu-layers takes a number or auto, not {self.n_gpu_layers!r}",
                code="bad-option",
                hint="leave it out for auto",
            ) from None


def _prompt_from_stdin() -> str:
    if sys.stdin.isatty():
        raise UsageError("there is nothing to ask", code="no-prompt", hint="give --prompt TEXT, or pipe the prompt in")
    text = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("the prompt on stdin is empty", code="no-prompt", hint="give --prompt TEXT")
    return text


def _open(wish: Wish, session: Session) -> tuple[Conversation, Keeper, tuple[str, ...]]:
    from provision.cli.chat_open import open_conversation

    return open_conversation(wish, session)


def _once(wish: Wish, session: Session, prompt: str, *, as_json: bool, as_lines: bool) -> Spoken | int:
    """One question, one answer."""
    from provision.chat.interrupts import interrupts_stop
    from provision.cli.chat_voice import JsonLinesVoice, human_voice, speak
    from provision.errors import ProvisionError
    from provision.events import Note

    lines = JsonLinesVoice(out=sys.stdout, model=wish.model, seed=0)
    try:
        talk, keeper, notes = _open(wish, session)
        for note in notes:
            session.reporter(Note(level="warning", message=note))
        lines = JsonLinesVoice(out=sys.stdout, model=wish.model, seed=talk.sampling.seed)
        voice = lines if as_lines else human_voice(think=wish.think, color=not session.settings.no_color, stream=wish.stream)
        notices: list[str] = []
        with interrupts_stop(lambda: talk.engine.stop(), lambda: talk.engine.kill()) as seen:
            turn = speak(talk.ask(prompt), _Quiet(notices) if as_json else voice)
        talk.close()
    except ProvisionError as error:
        if as_lines:
            lines.error(error)
        raise
    assert turn is not None
    code = ExitCode.INTERRUPTED if seen.count else ExitCode.OK
    if as_json:
        data = _data(wish, talk, turn, [*notes, *notices], keeper)
        result = Result(command="chat", data=data, exit_code=code, status="partial" if seen.count else "ok")
        return Spoken(result=result, render=lambda console, data: None)
    return int(code)


class _Quiet:
    """Collects what JSON's reader should know and says nothing."""

    def __init__(self, notices: list[str]) -> None:
        self._notices = notices

    def __call__(self, event: object) -> None:
        from provision.chat.types import Notice

        if isinstance(event, Notice):
            self._notices.append(event.message)


def _data(wish: Wish, talk: Conversation, turn: Turn, notes: list[str], keeper: Keeper) -> dict[str, Any]:
    from provision.cli.chat_voice import turn_data

    return {
        "model": wish.model,
        **turn_data(turn),
        "messages": [{"role": message.role, "content": message.content} for message in talk.messages],
        "seed": talk.sampling.seed,
        "saved_to": str(keeper.path) if keeper.path else None,
        "notes": notes,
    }


def _interactive(wish: Wish, session: Session) -> int:
    from provision.chat.commands import Desk
    from provision.cli.chat_loop import converse
    from provision.cli.chat_voice import human_voice

    talk, keeper, notes = _open(wish, session)
    voice = human_voice(think=wish.think, color=not session.settings.no_color, stream=wish.stream)
    for note in notes:
        voice.notice(note)
    try:
        desk = Desk(conversation=talk, model=wish.model, think=wish.think, keeper=keeper)
        converse(desk, voice, history_file=session.settings.provision_home / "chat-history")
    finally:
        talk.close()
    return ExitCode.OK


def _smoke(
    wish: Wish, session: Session, *, profile: str, golden: Path | None, save_golden: Path | None, require_gpu: bool
) -> Spoken:
    from provision.cli.chat_open import resolve
    from provision.cli.smoke_view import render_smoke
    from provision.smoke.service import run_smoke

    if profile not in ("quick", "full", "deep"):
        raise UsageError(f"--profile {profile!r} is not one of quick, full, deep", code="bad-option", hint="see --help")
    target = resolve(wish, session)
    result = run_smoke(
        target.path,
        llama_kwargs=target.llama_kwargs,
        plan=target.plan,
        profile=cast("ProfileName", profile),
        require_gpu=require_gpu,
        golden=golden,
        save_golden=save_golden,
        python=wish.python,
        settings=session.settings,
        reporter=session.reporter,
    )
    data = result.to_data()
    bad = data["verdict"] == "fail"
    code = ExitCode.SMOKE if bad else ExitCode.OK
    errors = [ErrorItem(code=check.id, message=check.summary, hint=check.remedy or "") for check in result.failed]
    return Spoken(
        result=Result(command="chat", data=data, exit_code=code, status="error" if bad else "ok", errors=errors),
        render=render_smoke,
    )
