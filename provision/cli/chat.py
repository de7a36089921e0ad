"""`provision chat`: talk to a model, ask it one thing, or (--smoke) have it checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from provision.cli import chat_options as options
from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import ExitCode, UsageError
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from provision.chat.conversation import Conversation
    from provision.chat.storage import Keeper
    from provision.chat.types import Turn
    from provision.smoke.types import ProfileName


def chat(
    model: options.Model,
    prompt: options.Prompt = None,
    input: options.Input = None,
    output: options.Output = None,
    history: options.History = None,
    save_as: options.SaveAs = None,
    system: options.System = None,
    think: options.Think = "fold",
    overflow: options.Overflow = "error",
    no_stream: options.NoStream = False,
    json_lines: options.JsonLines = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    seed: options.Seed = None,
    ctx: options.Ctx = None,
    n_gpu_layers: options.NGpuLayers = "auto",
    chat_format: options.ChatFormat = None,
    template: options.Template = None,
    smoke: options.Smoke = False,
    profile: options.Profile = "quick",
    require_gpu: options.RequireGpu = False,
    golden: options.Golden = None,
    save_golden: options.SaveGolden = None,
    python: options.Python = None,
    offline: options.Offline = False,
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
        return _smoke(wish, session, profile, golden=golden, save_golden=save_golden, require_gpu=require_gpu)
    return _talk(wish, session, as_json=json, as_lines=json_lines)


def _talk(wish: Wish, session: Session, *, as_json: bool, as_lines: bool) -> Spoken | int:
    wish.check()
    if as_lines and as_json:
        raise UsageError("--json and --json-lines exclude each other", code="bad-option", hint="give one of them")
    prompt = wish.prompt
    if prompt is None and (as_json or as_lines or not sys.stdin.isatty() or not sys.stdout.isatty()):
        prompt = _prompt_from_stdin()
    if prompt is None:
        return _interactive(wish, session)
    if not prompt.strip():
        raise UsageError("the prompt is empty", code="no-prompt", hint="give --prompt TEXT, or leave it out to talk")
    return _once(wish, session, prompt, as_json=as_json, as_lines=as_lines)


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
        try:
            with interrupts_stop(lambda: talk.engine.stop(), lambda: talk.engine.kill()) as seen:
                turn = speak(talk.ask(prompt), _Quiet(notices) if as_json else voice)
        finally:
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
    wish: Wish, session: Session, profile: str, *, golden: Path | None, save_golden: Path | None, require_gpu: bool
) -> Spoken:
    from provision.cli.chat_open import chat_template, resolve
    from provision.cli.smoke_view import render_smoke
    from provision.smoke.service import run_smoke

    if profile not in ("quick", "full", "deep"):
        raise UsageError(f"--profile {profile!r} is not one of quick, full, deep", code="bad-option", hint="see --help")
    target = resolve(wish, session)
    result = run_smoke(
        target.path,
        llama_kwargs=target.llama_kwargs,
        chat=chat_template(wish, target.recipe),
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
