"""A conversation: its messages, one turn after the other, and the promise that no finished turn is ever lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from provision.chat.engine import ModelProcess
from provision.chat.overflow import ContextOverflow, Policy, TurnPlan, plan_turn, runs_low
from provision.chat.reasoning import MARKERS, ReasoningParser, opened_by_prompt
from provision.chat.transcripts import whole_characters
from provision.chat.types import (
    Began,
    Finish,
    Marker,
    Message,
    Notice,
    PromptRead,
    RawEnd,
    RawText,
    Sampling,
    Turn,
    TurnEvent,
    TurnStarted,
)
from provision.errors import DoesNotFitError, ProvisionError

StartEngine = Callable[[int | None], ModelProcess]
"""Starts the model, with another `n_ctx` when one is given."""
Save = Callable[[Sequence[Message]], None]


class Conversation:
    """Owns the messages and the model. `save` is called after every change that a person would miss."""

    def __init__(
        self,
        *,
        start: StartEngine,
        messages: Sequence[Message] = (),
        sampling: Sampling,
        policy: Policy = "error",
        markers: Sequence[Marker] = MARKERS,
        save: Save = lambda messages: None,
    ) -> None:
        self._start = start
        self._save = save
        self._markers = tuple(markers)
        self.messages: tuple[Message, ...] = tuple(messages)
        self.sampling = sampling
        self.policy: Policy = policy
        self.last_turn: Turn | None = None
        self.engine = start(None)

    @property
    def context_tokens(self) -> int | None:
        """Tokens the transcript takes now; None when the engine has gone or the template refuses to render it so far."""
        if not self.messages:
            return 0
        try:
            return self.engine.count(self.messages)
        except ProvisionError:
            return None

    def ask(self, text: str) -> Iterator[TurnEvent]:
        """One turn: the events of the answer, ending with Turn.

        Raises ContextOverflow before anything is sent, and ProvisionError when the engine refuses or dies; what it had said by
        then is kept, an unanswered question is not.
        """
        yield from self._turn((*self.messages, Message(role="user", content=whole_characters(text))))

    def regenerate(self) -> Iterator[TurnEvent]:
        """Answer the last question once more, with the next seed, in place of the answer it had."""
        kept = self.messages[:-1] if self.messages and self.messages[-1].role == "assistant" else self.messages
        if not kept or kept[-1].role != "user":
            raise ProvisionError(
                "there is no question to answer again", code="nothing-to-regenerate", hint="ask something first"
            )
        self.sampling = replace(self.sampling, seed=self.sampling.seed + 1)
        yield from self._turn(kept)

    def undo(self) -> str | None:
        """Take back the last question and its answer; returns the question."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].role == "user":
                question = self.messages[index].content
                self._keep(self.messages[:index])
                return question
        return None

    def clear(self) -> None:
        """Forget every message but the system message."""
        self._keep(tuple(message for message in self.messages[:1] if message.role == "system"))

    def set_system(self, text: str) -> None:
        """Put `text` in place of the system message; an empty text removes it."""
        rest = self.messages[1:] if self.messages and self.messages[0].role == "system" else self.messages
        self._keep((Message(role="system", content=whole_characters(text)), *rest) if text else rest)

    def replace_messages(self, messages: Sequence[Message]) -> None:
        """Go on from another transcript."""
        self._keep(tuple(messages))

    def resize(self, n_ctx: int) -> None:
        """Load the model again with another context; the old one comes back when that fails."""
        self._reload((n_ctx,))

    def _reload(self, sizes: Sequence[int]) -> None:
        """Load the model with the first `n_ctx` that fits, or as it was. What fits is only known without a loaded model."""
        before = self.engine.loaded.n_ctx
        self.engine.close()
        try:
            for n_ctx in sizes[:-1]:
                with contextlib.suppress(DoesNotFitError):
                    self.engine = self._start(n_ctx)
                    return
            self.engine = self._start(sizes[-1])
        except BaseException:
            self.engine = self._start(before)
            raise

    def close(self) -> None:
        """Let the model go."""
        self.engine.close()

    def _keep(self, messages: tuple[Message, ...]) -> None:
        self.messages = messages
        self._save(messages)

    def _turn(self, wanted: tuple[Message, ...]) -> Iterator[TurnEvent]:
        if not self.engine.alive:
            yield Notice(message="the engine had ended and is started again")
            self.engine = self._start(None)
        plan = plan_turn(
            wanted,
            count=self.engine.count,
            n_ctx=self.engine.loaded.n_ctx,
            n_ctx_max=max(self.engine.loaded.n_ctx_train, self.engine.loaded.n_ctx),
            max_tokens=self.sampling.max_tokens,
            policy=self.policy,
        )
        if plan.grow_to:
            yield Notice(message="the context is full: looking how far it can grow and loading the model again")
            self._grow(plan)
            yield Notice(message=f"n_ctx is {self.engine.loaded.n_ctx} now")
        if plan.dropped:
            yield Notice(message=_what_was_dropped(plan.dropped))
        yield TurnStarted(prompt_tokens=plan.prompt_tokens, n_ctx=self.engine.loaded.n_ctx)
        answer = _Answer(self._markers)
        ended: RawEnd | None = None
        try:
            for event in self.engine.answer(plan.messages, self.sampling):
                match event:
                    case Began():
                        answer.begin(event)
                    case PromptRead():
                        yield event
                    case RawText():
                        yield from answer.parser.feed(event.text)
                    case RawEnd():
                        ended = event
            yield from answer.parser.end()
        finally:
            # Reached as well when the engine dies or the reader of these events goes away: what was said is kept.
            turn = self._finish(wanted, answer, ended, plan.dropped)
        yield turn
        if runs_low(turn.context_tokens, turn.n_ctx, self.sampling.max_tokens):
            yield Notice(message=_how_full(turn, self.policy))

    def _grow(self, plan: TurnPlan) -> None:
        n_ctx = self.engine.loaded.n_ctx
        try:
            self._reload(plan.grow_to)
        except DoesNotFitError as error:
            raise ContextOverflow(
                f"this turn needs an n_ctx of {plan.grow_to[-1]}, and the context stays at {n_ctx}: {error.message}",
                code="context-overflow",
                hint="/set overflow drop-oldest, or start again with /clear",
            ) from error

    def _finish(self, wanted: tuple[Message, ...], answer: _Answer, ended: RawEnd | None, dropped: tuple[Message, ...]) -> Turn:
        answer.parser.end()
        message = Message(role="assistant", content=answer.parser.text, reasoning=answer.parser.reasoning)
        n_ctx = self.engine.loaded.n_ctx
        turn = Turn(
            message=message,
            finish_reason=_finish_reason(ended, n_ctx, self.sampling.max_tokens),
            prompt_tokens=ended.prompt_tokens if ended else answer.prompt_tokens,
            reused_tokens=ended.reused_tokens if ended else 0,
            completion_tokens=ended.completion_tokens if ended else 0,
            prompt_s=ended.prompt_s if ended else 0.0,
            generation_s=ended.generation_s if ended else 0.0,
            n_ctx=n_ctx,
            dropped=dropped,
        )
        answered = message.content or message.reasoning or (ended is not None and ended.finish_reason != "interrupted")
        if answered:
            self.last_turn = turn
            self._keep((*wanted, message))
        return turn


class _Answer:
    """The reasoning parser of one answer, which may only start when the end of the prompt is known."""

    def __init__(self, markers: tuple[Marker, ...]) -> None:
        self._markers = markers
        self.parser = ReasoningParser(markers)
        self.prompt_tokens = 0

    def begin(self, event: Began) -> None:
        self.prompt_tokens = event.prompt_tokens
        self.parser = ReasoningParser(self._markers, inside=opened_by_prompt(event.prompt_tail, self._markers))


def _finish_reason(ended: RawEnd | None, n_ctx: int, max_tokens: int | None) -> Finish:
    if ended is None:
        return "crashed"
    if ended.finish_reason != "length":
        return ended.finish_reason
    return "length" if max_tokens is not None and ended.completion_tokens >= max_tokens else "context"


def _what_was_dropped(dropped: Sequence[Message]) -> str:
    first = " ".join(dropped[0].content.split())
    shown = first if len(first) <= 40 else first[:39] + "…"
    plural = "s" if len(dropped) > 1 else ""
    return f"left out of the prompt, kept in the transcript: the {len(dropped)} oldest message{plural}, from “{shown}” on"


def _how_full(turn: Turn, policy: Policy) -> str:
    what = {
        "error": "a turn that does not fit is refused; /clear, /ctx N or /set overflow drop-oldest make room",
        "drop-oldest": "the oldest messages will be left out next",
        "grow": "the model will be loaded again with a larger context next",
    }[policy]
    share = 100 * turn.context_tokens // turn.n_ctx
    return f"the context is {share} % full ({turn.context_tokens} of {turn.n_ctx} tokens): {what}"
