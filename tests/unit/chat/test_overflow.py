from collections.abc import Sequence

import pytest

from provision.chat.overflow import ContextOverflow, Policy, answer_reserve, plan_turn, runs_low
from provision.chat.types import Message


def count(messages: Sequence[Message]) -> int:
    """One token per character and four per message."""
    return sum(len(message.content) + 4 for message in messages)


def talk(*sizes: int, system: int = 0) -> list[Message]:
    head = [Message(role="system", content="s" * system)] if system else []
    roles = ["user", "assistant"]
    return head + [Message(role=roles[index % 2], content="x" * size) for index, size in enumerate(sizes)]  # type: ignore[arg-type]


def plan(messages: list[Message], policy: Policy, *, n_ctx: int = 200, n_ctx_max: int = 4096, max_tokens: int | None = 20):
    return plan_turn(messages, count=count, n_ctx=n_ctx, n_ctx_max=n_ctx_max, max_tokens=max_tokens, policy=policy)


@pytest.mark.parametrize("policy", ["error", "drop-oldest", "grow"])
def test_what_fits_is_sent_whole(policy: Policy) -> None:
    messages = talk(30, 30, 30)
    decided = plan(messages, policy)
    assert decided.messages == tuple(messages)
    assert decided.prompt_tokens == count(messages)
    assert decided.dropped == ()
    assert decided.grow_to == ()


def test_error_names_the_numbers() -> None:
    with pytest.raises(ContextOverflow) as caught:
        plan(talk(100, 60, 30), "error")
    assert "202 tokens" in caught.value.message
    assert "holds 200" in caught.value.message
    assert "drop-oldest" in caught.value.hint


def test_drop_oldest_drops_whole_exchanges_and_as_few_as_needed() -> None:
    messages = talk(50, 50, 40, 40, 30, system=10)
    decided = plan(messages, "drop-oldest")
    assert decided.messages == (messages[0], *messages[3:])
    assert decided.dropped == tuple(messages[1:3])
    assert decided.prompt_tokens == count(decided.messages) <= 180


def test_drop_oldest_keeps_the_newest_question_or_says_that_it_cannot() -> None:
    with pytest.raises(ContextOverflow, match="alone does not fit"):
        plan(talk(10, 10, 300), "drop-oldest")


def test_grow_doubles_or_takes_what_the_turn_needs_in_whole_blocks_up_to_what_the_model_was_trained_for() -> None:
    assert plan(talk(100, 60, 30), "grow").grow_to == (512, 256)
    assert plan(talk(1000, 60, 30), "grow", n_ctx=512).grow_to == (1280,)
    assert plan(talk(100, 60, 30), "grow", n_ctx_max=300).grow_to == (300, 256)
    with pytest.raises(ContextOverflow, match="trained for 210"):
        plan(talk(100, 60, 30), "grow", n_ctx_max=210)


def test_the_reserve_never_eats_a_small_context() -> None:
    assert answer_reserve(4096, None) == 256
    assert answer_reserve(4096, 100) == 100
    assert answer_reserve(512, 4096) == 128
    assert answer_reserve(32, None) == 16


def test_the_warning_comes_before_the_end() -> None:
    assert not runs_low(640, 1000, 200)
    assert runs_low(641, 1000, 200)
    assert runs_low(615, 1024, None), "a turn is refused from 768 tokens on"
