"""Turns without an engine: what is sent, what is kept, what is said when something goes wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from provision.chat.conversation import Conversation
from provision.chat.overflow import ContextOverflow
from provision.chat.types import Began, Message, Notice, RawEnd, RawEvent, RawText, Sampling, Turn, TurnEvent
from provision.cli.chat_voice import HumanVoice, JsonLinesVoice, speak
from provision.errors import DoesNotFitError, ProvisionError


class FakeEngine:
    """Says `pieces`, then ends with `finish`; or dies after them."""

    def __init__(
        self, pieces: Sequence[str], *, finish: str = "stop", tail: str = "<|a|>", dies: bool = False, n_ctx: int = 1000
    ):
        self.pieces, self.finish, self.tail, self.dies = pieces, finish, tail, dies
        self.loaded = SimpleNamespace(n_ctx=n_ctx, n_ctx_train=4000)
        self.alive = True
        self.sent: list[list[tuple[str, str]]] = []
        self.seeds: list[int] = []

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content) + 4 for message in messages)

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[RawEvent]:
        self.sent.append([(message.role, message.content) for message in messages])
        self.seeds.append(sampling.seed)
        yield Began(prompt_tokens=self.count(messages), prompt_tail=self.tail)
        for piece in self.pieces:
            yield RawText(text=piece)
        if self.dies:
            self.alive = False
            raise ProvisionError("the engine crashed", code="engine-crashed")
        count = len(self.pieces)
        yield RawEnd(
            finish_reason=self.finish,  # type: ignore[arg-type]
            prompt_tokens=self.count(messages),
            reused_tokens=0,
            completion_tokens=count,
            prompt_s=0.1,
            generation_s=0.2,
        )

    def close(self) -> None:
        self.alive = False


def open_talk(engine: FakeEngine, **options: Any) -> tuple[Conversation, list[list[Message]]]:
    saved: list[list[Message]] = []
    options.setdefault("sampling", Sampling())
    talk = Conversation(start=lambda n_ctx: engine, save=lambda messages: saved.append(list(messages)), **options)  # type: ignore[arg-type,return-value]
    return talk, saved


def run(events: Iterator[TurnEvent]) -> Turn:
    turn = [event for event in events if isinstance(event, Turn)]
    assert len(turn) == 1
    return turn[0]


def test_reasoning_is_kept_for_people_and_never_sent_back() -> None:
    engine = FakeEngine(["<think>", "secret plan", "</think>", "4"])
    talk, saved = open_talk(engine)
    assert run(talk.ask("2+2?")).message == Message(role="assistant", content="4", reasoning="secret plan")
    run(talk.ask("sure?"))
    assert "secret" not in json.dumps(engine.sent)
    assert saved[0][1].reasoning == "secret plan"


def test_a_template_that_opens_the_reasoning_is_understood() -> None:
    talk, _ = open_talk(FakeEngine(["plan", "</think>", "4"], tail="<|assistant|><think>\n"))
    assert run(talk.ask("2+2?")).message == Message(role="assistant", content="4", reasoning="plan")


def test_every_turn_is_saved_when_it_ends() -> None:
    talk, saved = open_talk(FakeEngine(["ok"]))
    for number in (1, 2):
        run(talk.ask("x"))
        assert len(saved) == number
        assert len(saved[-1]) == 2 * number


def test_a_death_before_the_first_word_leaves_no_question_behind() -> None:
    talk, saved = open_talk(FakeEngine([], dies=True))
    with pytest.raises(ProvisionError, match="crashed"):
        list(talk.ask("x"))
    assert talk.messages == ()
    assert saved == []


def test_a_death_in_the_middle_keeps_what_was_said() -> None:
    talk, saved = open_talk(FakeEngine(["half an"], dies=True))
    with pytest.raises(ProvisionError, match="crashed"):
        list(talk.ask("x"))
    assert [message.content for message in saved[-1]] == ["x", "half an"]


def test_a_reader_that_goes_away_loses_nothing() -> None:
    talk, saved = open_talk(FakeEngine(["half", " more"]))
    events = talk.ask("x")
    for event in events:
        if getattr(event, "text", "") == "half":
            break
    events.close()  # type: ignore[attr-defined]
    assert saved[-1][-1].content == "half"


def test_stopped_before_the_first_word_asks_nothing() -> None:
    talk, saved = open_talk(FakeEngine([], finish="interrupted"))
    assert run(talk.ask("x")).finish_reason == "interrupted"
    assert talk.messages == ()
    assert saved == []


@pytest.mark.parametrize(("max_tokens", "reason"), [(2, "length"), (None, "context"), (3, "context")])
def test_why_an_answer_was_cut(max_tokens: int | None, reason: str) -> None:
    talk, _ = open_talk(FakeEngine(["a", "b"], finish="length"), sampling=Sampling(max_tokens=max_tokens))
    assert run(talk.ask("x")).finish_reason == reason


def test_regenerate_takes_the_next_seed_and_replaces_the_answer() -> None:
    engine = FakeEngine(["ok"])
    talk, _ = open_talk(engine, sampling=Sampling(seed=7))
    run(talk.ask("x"))
    run(talk.regenerate())
    assert engine.seeds == [7, 8]
    assert engine.sent[0] == engine.sent[1]
    assert len(talk.messages) == 2
    with pytest.raises(ProvisionError, match="no question"):
        list(open_talk(FakeEngine([]))[0].regenerate())


def test_undo_clear_and_system() -> None:
    talk, saved = open_talk(FakeEngine(["ok"]))
    talk.set_system("Be short.")
    run(talk.ask("one"))
    run(talk.ask("two"))
    assert talk.undo() == "two"
    assert [message.content for message in talk.messages] == ["Be short.", "one", "ok"]
    talk.clear()
    assert talk.messages == (Message(role="system", content="Be short."),)
    assert talk.undo() is None
    talk.set_system("")
    assert talk.messages == ()
    assert saved[-1] == []


def test_dropping_says_what_and_keeps_it_in_the_transcript() -> None:
    engine = FakeEngine(["ok"], n_ctx=300)
    talk, saved = open_talk(engine, policy="drop-oldest", sampling=Sampling(max_tokens=20))
    run(talk.ask("first " + "x" * 130))
    events = list(talk.ask("second " + "y" * 130))
    told = [event.message for event in events if isinstance(event, Notice)]
    assert "2 oldest messages" in told[0]
    assert "first" in told[0]
    assert [role for role, _ in engine.sent[-1]] == ["user"]
    assert len(saved[-1]) == 4
    turn = next(event for event in events if isinstance(event, Turn))
    assert len(turn.dropped) == 2


def test_overflow_refuses_before_anything_is_sent() -> None:
    engine = FakeEngine(["ok"], n_ctx=100)
    talk, saved = open_talk(engine)
    with pytest.raises(ContextOverflow):
        list(talk.ask("x" * 200))
    assert engine.sent == []
    assert saved == []


def test_when_growing_fails_the_old_context_comes_back() -> None:
    started: list[int | None] = []

    def start(n_ctx: int | None) -> Any:
        started.append(n_ctx)
        if n_ctx == 512:
            raise ProvisionError("out of memory", code="out-of-memory")
        return FakeEngine(["ok"], n_ctx=n_ctx or 200)

    talk = Conversation(start=start, policy="grow", sampling=Sampling(max_tokens=20))
    with pytest.raises(ProvisionError, match="out of memory"):
        list(talk.ask("x" * 250))
    assert started == [None, 512, 200]
    assert talk.engine.loaded.n_ctx == 200
    assert talk.messages == ()
    assert run(talk.ask("x")).finish_reason == "stop"


def growing(most: int) -> tuple[Conversation, list[int | None]]:
    """A conversation with an n_ctx of 1024, on a machine where no more than `most` fits."""
    started: list[int | None] = []

    def start(n_ctx: int | None) -> Any:
        started.append(n_ctx)
        if n_ctx is not None and n_ctx > most:
            raise DoesNotFitError("main memory needs 3 GiB, 2 GiB may be used", code="does-not-fit")
        return FakeEngine(["ok"], n_ctx=n_ctx or 1024)

    return Conversation(start=start, policy="grow", sampling=Sampling(max_tokens=20)), started


def test_growing_takes_twice_as_much_or_else_what_the_turn_needs() -> None:
    talk, started = growing(most=1500)
    told = [event.message for event in talk.ask("x" * 1100) if isinstance(event, Notice)]
    assert started == [None, 2048, 1280]
    assert told[1] == "n_ctx is 1280 now"
    talk, started = growing(most=4096)
    run(talk.ask("x" * 1100))
    assert started == [None, 2048]


def test_growing_beyond_the_memory_is_refused_with_the_reason_and_loses_nothing() -> None:
    talk, started = growing(most=1024)
    run(talk.ask("short"))
    with pytest.raises(ContextOverflow, match=r"n_ctx of 1280.*stays at 1024: main memory needs 3 GiB") as caught:
        list(talk.ask("x" * 1100))
    assert "drop-oldest" in caught.value.hint
    assert started == [None, 2048, 1280, 1024]
    assert len(talk.messages) == 2
    assert run(talk.ask("short again")).finish_reason == "stop"


def test_json_lines() -> None:
    talk, _ = open_talk(FakeEngine(["<think>", "hm", "</think>", "4\x9b2J"]))
    out = io.StringIO()
    speak(talk.ask("2+2?"), JsonLinesVoice(out=out, model="m", seed=3))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["start", "reasoning", "delta", "end"]
    assert events[-1]["timings"]["generation_tokens_per_s"] == pytest.approx(15.0)
    assert "\x9b" not in out.getvalue()


def test_a_pipe_gets_the_answer_alone_and_reasoning_goes_aside() -> None:
    for think, aside_says in (("show", "hm\n\n"), ("fold", ""), ("hide", "")):
        talk, _ = open_talk(FakeEngine(["<think>", "hm", "</think>", "4"]))
        out, aside = io.StringIO(), io.StringIO()
        speak(talk.ask("2+2?"), HumanVoice(out=out, aside=aside, think=think, color=True))
        assert (out.getvalue(), aside.getvalue()) == ("4\n", aside_says)


def test_a_command_line_that_is_not_utf8_does_not_break_the_request() -> None:
    engine = FakeEngine(["ok"])
    talk, _ = open_talk(engine)
    run(talk.ask("caf\udce9"))
    assert engine.sent[0][0][1] == "caf\ufffd"
