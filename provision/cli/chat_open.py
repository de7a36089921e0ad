"""From the options of `provision chat` to an open conversation: the model resolved, the transcript read, the engine started."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from provision.chat.conversation import Conversation
from provision.chat.engine import ModelProcess
from provision.chat.overflow import Policy
from provision.chat.reasoning import MARKERS
from provision.chat.storage import Keeper, load_transcript, read_template
from provision.chat.transcripts import Format, Transcript, whole_characters
from provision.chat.types import Load, Marker, Message, Sampling
from provision.cli.session import Session
from provision.errors import UsageError
from provision.smoke.types import ChatTemplate

if TYPE_CHECKING:
    from provision.cli.chat import Wish
    from provision.recipes.schema import Recipe
    from provision.recipes.target import ModelTarget


def resolve(wish: Wish, session: Session) -> ModelTarget:
    """The model file behind what was typed, fetched when it is not here, with the arguments that fit this machine."""
    from provision.recipes.target import resolve_model

    settings = replace(session.settings, offline=session.settings.offline or wish.offline)
    found = resolve_model(wish.model, settings=settings, reporter=session.reporter, python=wish.python, n_ctx=wish.ctx)
    layers = wish.layers()
    return found if layers is None else replace(found, llama_kwargs={**found.llama_kwargs, "n_gpu_layers": layers}, plan=None)


def open_conversation(wish: Wish, session: Session) -> tuple[Conversation, Keeper, tuple[str, ...]]:
    """The conversation, where it is saved, and what the person should know about the transcript that was read."""
    # First of all, because its libraries take as long to read as everything below takes to find out.
    engine = ModelProcess.spawn(python=wish.python, environ=session.settings.environ)
    try:
        return _open(wish, session, engine)
    except BaseException:
        engine.discard()
        raise


def chat_template(wish: Wish, recipe: Recipe | None) -> ChatTemplate:
    """How turns become prompts: what the command line says, else the recipe, else the file's own template."""
    template = read_template(wish.template)
    chat = recipe.chat if recipe is not None else None
    return ChatTemplate(
        template=template or (chat.template if chat and wish.chat_format is None else None),
        chat_format=wish.chat_format or (chat.chat_format if chat and template is None else None),
        template_kwargs=dict(chat.template_kwargs) if chat else {},
    )


def _open(wish: Wish, session: Session, spawned: ModelProcess) -> tuple[Conversation, Keeper, tuple[str, ...]]:
    transcript = _read_transcript(wish)
    keeper = Keeper(format=cast("Format", wish.save_as or transcript.format))
    if wish.history is None and wish.save_as is None:
        keeper.format = "list"
    keeper.keep_in(wish.history or wish.output)
    target = resolve(wish, session)
    chat = target.recipe.chat if target.recipe is not None else None
    own = (Marker(open=chat.reasoning.open, close=chat.reasoning.close),) if chat and chat.reasoning else ()
    markers = (*own, *(marker for marker in MARKERS if marker not in own))
    given = chat_template(wish, target.recipe)
    load = Load(
        model_path=target.path,
        llama_kwargs=target.llama_kwargs,
        chat_format=given.chat_format,
        template=given.template,
        template_kwargs=given.template_kwargs,
        markers=markers,
    )

    waiting = [spawned]

    def start(n_ctx: int | None) -> ModelProcess:
        wanted = load if n_ctx is None else replace(load, llama_kwargs=_kwargs_for(n_ctx, target, wish, session))
        engine = waiting.pop() if waiting else ModelProcess.spawn(python=wish.python, environ=session.settings.environ)
        engine.load(wanted, reporter=session.reporter)
        return _with_template(engine)

    talk = Conversation(
        start=start,
        messages=_with_system(transcript.messages, wish.system if wish.system is not None else (chat.system if chat else None)),
        sampling=_sampling(wish, target.recipe),
        policy=cast("Policy", wish.overflow),
        markers=markers,
        save=keeper,
    )
    return talk, keeper, transcript.notes


def _kwargs_for(n_ctx: int, target: ModelTarget, wish: Wish, session: Session) -> Mapping[str, Any]:
    """What `fit` says of the same file with another context, asked while no model is loaded. DoesNotFitError when too much."""
    from provision.recipes.target import refit

    found = refit(target, n_ctx=n_ctx, settings=session.settings, reporter=session.reporter, python=wish.python)
    layers = wish.layers()
    return found.llama_kwargs if layers is None else {**found.llama_kwargs, "n_gpu_layers": layers}


def _with_template(engine: ModelProcess) -> ModelProcess:
    """Refuse the format llama-cpp-python falls back to in silence: its answers look like a broken model."""
    if engine.loaded.has_template:
        return engine
    engine.close()
    raise UsageError(
        "the model has no chat template, and llama-cpp-python would quietly use that of Llama 2",
        code="no-chat-template",
        hint="name the right one: --chat-format chatml (or llama-3, mistral-instruct, gemma ...), or --template FILE",
    )


def _with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    if system is None:
        return messages
    rest = messages[1:] if messages and messages[0].role == "system" else messages
    return (Message(role="system", content=whole_characters(system)), *rest) if system else rest


def _sampling(wish: Wish, recipe: Recipe | None) -> Sampling:
    """Defaults, then the recipe's, then the flags. Without a seed one is drawn, so that every answer can be had again."""
    values: dict[str, Any] = {"seed": secrets.randbelow(2**31)}
    if recipe is not None:
        values.update({name: value for name, value in recipe.sampling.model_dump().items() if value not in (None, ())})
    values.update({name: value for name, value in wish.sampling.items() if value is not None})
    return Sampling(**values)


def _read_transcript(wish: Wish) -> Transcript:
    if wish.history is not None:
        return load_transcript(wish.history, missing_ok=True)
    if wish.input is not None:
        return load_transcript(wish.input)
    return Transcript(messages=(), format="list")
