"""Decides what of a conversation fits the context, before the engine is asked, and says what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from provision.chat.types import Message
from provision.errors import UsageError

Policy = Literal["error", "drop-oldest", "grow"]
POLICIES: tuple[Policy, ...] = ("error", "drop-oldest", "grow")
_ANSWER_TOKENS = 256
_LOW_CONTEXT = 0.8
_CELLS = 256  # llama.cpp pads n_ctx to 256 cells (src/llama-context.cpp, llama.cpp 0.5.0-dev)


class ContextOverflow(UsageError):
    """The conversation does not fit the context; nothing was sent and nothing was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """What to send. `grow_to` asks for the model to be loaded again first, with the first `n_ctx` of these that fits."""

    messages: tuple[Message, ...]
    prompt_tokens: int
    dropped: tuple[Message, ...] = ()
    grow_to: tuple[int, ...] = ()


def answer_reserve(n_ctx: int, max_tokens: int | None) -> int:
    """Tokens to keep free for the answer: `max_tokens`, or 256, but never more than a quarter of the context."""
    return min(max_tokens or _ANSWER_TOKENS, max(16, n_ctx // 4))


def runs_low(used_tokens: int, n_ctx: int, max_tokens: int | None) -> bool:
    """Whether it is time to say that the next long turn may not fit."""
    return used_tokens > _LOW_CONTEXT * (n_ctx - answer_reserve(n_ctx, max_tokens))


def plan_turn(
    messages: Sequence[Message],
    *,
    count: Callable[[Sequence[Message]], int],
    n_ctx: int,
    n_ctx_max: int,
    max_tokens: int | None,
    policy: Policy,
) -> TurnPlan:
    """The plan for a turn whose last message is the person's. `count` renders and counts tokens with the model's own template.

    `n_ctx_max` bounds `grow`: what the model was trained for. Raises ContextOverflow when the policy finds no way.
    """
    reserve = answer_reserve(n_ctx, max_tokens)
    tokens = count(messages)
    if tokens + reserve <= n_ctx:
        return TurnPlan(messages=tuple(messages), prompt_tokens=tokens)
    if policy == "drop-oldest":
        return _drop_oldest(messages, count=count, room=n_ctx - reserve, n_ctx=n_ctx)
    if policy == "grow" and tokens + reserve <= n_ctx_max:
        # Twice as much, so that it does not grow with every turn; no more than this turn needs, where memory is short.
        sizes = (
            min(-(-wanted // _CELLS) * _CELLS, n_ctx_max) for wanted in (max(tokens + reserve, 2 * n_ctx), tokens + reserve)
        )
        return TurnPlan(messages=tuple(messages), prompt_tokens=tokens, grow_to=tuple(dict.fromkeys(sizes)))
    raise ContextOverflow(
        f"this turn needs {tokens} tokens and {reserve} for the answer, and the context holds {n_ctx}"
        + (f"; the model was trained for {n_ctx_max}, so it cannot grow that far" if policy == "grow" else ""),
        code="context-overflow",
        hint="give --overflow drop-oldest or --overflow grow, a larger --ctx, or start again with /clear",
    )


def _drop_oldest(messages: Sequence[Message], *, count: Callable[[Sequence[Message]], int], room: int, n_ctx: int) -> TurnPlan:
    """Leave out whole exchanges from the oldest on; the system message and the newest question always stay."""
    system = [message for message in messages[:1] if message.role == "system"]
    rest = list(messages[len(system) :])
    # A prompt may only start again at a question, or the model would answer an answer.
    cuts = [index for index, message in enumerate(rest) if message.role == "user" and index > 0]
    low, high = 0, len(cuts)
    best: TurnPlan | None = None
    while low < high:
        middle = (low + high) // 2
        kept = [*system, *rest[cuts[middle] :]]
        tokens = count(kept)
        if tokens <= room:
            best = TurnPlan(messages=tuple(kept), prompt_tokens=tokens, dropped=tuple(rest[: cuts[middle]]))
            high = middle
        else:
            low = middle + 1
    if best is not None:
        return best
    raise ContextOverflow(
        f"the newest message alone does not fit: the context holds {n_ctx} tokens, {n_ctx - room} of them kept for the answer",
        code="context-overflow",
        hint="shorten the message, or give a larger --ctx",
    )
