"""`provision chat` asked one thing: the real command line, the real engine, a model that says what the test wrote."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provision.chat.engine import ModelProcess
from provision.chat.types import Load, Message, RawText, Sampling
from provision.errors import IntegrityError
from tests.support.commands import provision

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration

GREETING: list[str | list[str]] = ["Hello", ", ", "world", "!"]
THINKING: list[str | list[str]] = ["<think>", "Two and", " two", "</think>", "\n\n", "It is", " 4."]


def test_the_answer_and_nothing_else_on_stdout(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    ran = provision("chat", scripted_model(GREETING), "--prompt", "hi", home=tmp_path)
    assert (ran.exit_code, ran.stdout) == (0, "Hello, world!\n")
    assert ran.stderr == ""


def test_a_pipe_is_the_prompt(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    ran = provision("chat", scripted_model(GREETING), "--json", stdin="what\nis this?\n", home=tmp_path)
    assert ran.data["messages"][0] == {"role": "user", "content": "what\nis this?"}
    assert ran.data["answer"] == "Hello, world!"
    assert ran.data["finish_reason"] == "stop"
    assert ran.data["usage"]["completion_tokens"] == 4


@pytest.mark.slow
def test_streamed_or_not_the_text_is_the_same(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    ran = provision("chat", scripted_model(GREETING), "--prompt", "hi", "--no-stream", home=tmp_path)
    assert ran.stdout == "Hello, world!\n"


def test_json_lines_tell_the_whole_turn(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    ran = provision("chat", scripted_model(THINKING), "--prompt", "2+2?", "--json-lines", "--seed", "7", home=tmp_path)
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert events[0]["event"] == "start"
    assert events[0]["seed"] == 7
    assert "".join(event["text"] for event in events if event["event"] == "delta") == "It is 4."
    assert "".join(event["text"] for event in events if event["event"] == "reasoning") == "Two and two"
    assert events[-1]["event"] == "end"
    assert events[-1]["usage"]["completion_tokens"] == 7
    assert events[-1]["timings"]["generation_tokens_per_s"] > 0


def test_json_lines_end_in_an_error_line(tmp_path: Path) -> None:
    ran = provision("chat", tmp_path / "none.gguf", "--prompt", "x", "--json-lines", home=tmp_path)
    event = json.loads(ran.stdout.splitlines()[-1])
    assert event["event"] == "error"
    assert ran.exit_code != 0


@pytest.mark.slow
@pytest.mark.parametrize("control", [(), ("<think>", "</think>")])
def test_reasoning_is_told_apart_even_when_its_marks_are_control_tokens(
    control: tuple[str, ...], scripted_model: "ScriptedModel", tmp_path: Path
) -> None:
    ran = provision("chat", scripted_model(THINKING, control=control), "--prompt", "2+2?", "--json", home=tmp_path)
    assert (ran.data["reasoning"], ran.data["answer"]) == ("Two and two", "It is 4.")


def test_hostile_output_is_harmless_in_every_voice(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    model = scripted_model(["safe", "\x1b]52;c;ZXZpbA==\x07", "\x9b2J", " and", "\x1b[31m", " sound"])
    plain = provision("chat", model, "--prompt", "x", home=tmp_path)
    assert plain.stdout == "safe and sound\n"
    ran = provision("chat", model, "--prompt", "x", "--json", home=tmp_path)
    assert not any(char in ran.stdout for char in "\x1b\x07\x9b")
    assert ran.data["answer"].startswith("safe\x1b]52;c;ZXZpbA==\x07\x9b2J"), "programs get what the model wrote"


def test_a_model_without_a_template_is_refused_unless_a_format_is_named(
    scripted_model: "ScriptedModel", tmp_path: Path
) -> None:
    model = scripted_model(GREETING, template=None)
    refused = provision("chat", model, "--prompt", "x", "--json", home=tmp_path)
    assert refused.exit_code == 2
    assert refused.envelope["errors"][0]["code"] == "no-chat-template"
    named = provision("chat", model, "--prompt", "x", "--chat-format", "chatml", "--max-tokens", "4", "--json", home=tmp_path)
    assert named.exit_code == 0
    unknown = provision("chat", model, "--prompt", "x", "--chat-format", "nonsense", "--json", home=tmp_path)
    assert unknown.envelope["errors"][0]["code"] == "bad-template"


def test_a_damaged_file_says_why_it_does_not_load(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    whole = scripted_model(GREETING).read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError) as caught:
        ModelProcess.start(Load(model_path=cut), python=sys.executable, environ=os.environ)
    assert caught.value.code == "model-damaged"
    assert "bounds" in caught.value.message
    ran = provision("chat", cut, "--prompt", "x", "--json", home=tmp_path)
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (8, "gguf-truncated")


@pytest.mark.parametrize("place", ["none/talk.json", "."])
def test_a_place_that_cannot_be_saved_to_is_refused_before_the_model_is_loaded(
    place: str, scripted_model: "ScriptedModel", tmp_path: Path
) -> None:
    ran = provision("chat", scripted_model(GREETING), "-o", tmp_path / place, "--prompt", "hi", "--json", home=tmp_path)
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (2, "not-saved")
    assert ran.data == {}


def test_history_in_and_out(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    model, file = scripted_model(GREETING), tmp_path / "talk.json"
    for question in ("one", "two"):
        ran = provision("chat", model, "-io", file, "--prompt", question, home=tmp_path)
        assert ran.exit_code == 0
    roles = [(row["role"], row["content"]) for row in json.loads(file.read_text())]
    assert roles == [("user", "one"), ("assistant", "Hello, world!"), ("user", "two"), ("assistant", "Hello, world!")]
    other = tmp_path / "other.json"
    provision("chat", model, "-i", file, "-o", other, "--format", "sharegpt", "--prompt", "three", home=tmp_path)
    assert len(json.loads(other.read_text())["conversations"]) == 6
    assert len(json.loads(file.read_text())) == 4


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(scripted_model: "ScriptedModel") -> None:
    coins: list[str | list[str]] = [[f"{letter}{index} " for letter in "abcdefgh"] for index in range(8)]
    load = Load(model_path=scripted_model(coins), llama_kwargs={"n_ctx": 512})

    def answers(*seeds: int) -> list[str]:
        engine = ModelProcess.start(load, python=sys.executable, environ=os.environ)
        try:
            return [_answer(engine, Sampling(seed=seed, temperature=1.0, min_p=0.0)) for seed in seeds]
        finally:
            engine.close()

    first = answers(1, 2, 3, 1)
    assert first[0] == first[3]
    assert len(set(first[:3])) > 1
    assert answers(1)[0] == first[0]


def _answer(engine: ModelProcess, sampling: Sampling) -> str:
    events = engine.answer([Message(role="user", content="x")], sampling)
    return "".join(event.text for event in events if isinstance(event, RawText))
