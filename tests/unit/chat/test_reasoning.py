import pytest

from provision.chat.reasoning import HARMONY, MARKERS, ReasoningParser, opened_by_prompt, split_reasoning
from provision.chat.types import Marker

CASES = [
    ("<think>\nadd them\n</think>\n\nIt is 4.", "add them", "It is 4."),
    ("[THINK]add[/THINK]4", "add", "4"),
    ("<reasoning>a</reasoning> b", "a", "b"),
    ("<|channel|>analysis<|message|>We add.<|end|><|start|>assistant<|channel|>final<|message|>4", "We add.", "4"),
    ("<think></think>\n\nplain", "", "plain"),
    ("no marks at all", "", "no marks at all"),
    ("Write <think> to open a block.", "", "Write <think> to open a block."),
    ("thought without an opening</think>answer", "thought without an opening", "answer"),
    ("<think>never closed", "never closed", ""),
    ("a < b and c <th d", "", "a < b and c <th d"),
]


@pytest.mark.parametrize(("raw", "reasoning", "answer"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_same_split_however_the_text_arrives(raw: str, reasoning: str, answer: str, size: int) -> None:
    parser = ReasoningParser()
    for at in range(0, len(raw), size):
        parser.feed(raw[at : at + size])
    parser.end()
    assert (parser.reasoning, parser.text) == (reasoning, answer)


def test_pieces_are_shown_as_soon_as_they_cannot_be_a_mark() -> None:
    parser = ReasoningParser()
    assert [(p.kind, p.text) for p in parser.feed("<think>first ")] == [("reasoning", "first ")]
    assert [(p.kind, p.text) for p in parser.feed("second</thi")] == [("reasoning", "second")]
    assert parser.feed("nk>") == []
    assert [(p.kind, p.text) for p in parser.feed("\n\nanswer")] == [("text", "answer")]
    assert parser.end() == []


def test_what_looked_like_a_mark_comes_out_at_the_end() -> None:
    parser = ReasoningParser()
    assert [p.text for p in parser.feed("x <thi")] == ["x "] or parser.text == "x <thi"
    parser.end()
    assert parser.text == "x <thi"


def test_a_template_that_opens_the_reasoning_itself() -> None:
    inside = opened_by_prompt("<|Assistant|><think>\n")
    assert inside == MARKERS[0]
    parser = ReasoningParser(inside=inside)
    assert [p.kind for p in parser.feed("hm</think>yes")] == ["reasoning", "text"]
    parser.end()
    assert (parser.reasoning, parser.text) == ("hm", "yes")
    assert opened_by_prompt("<|im_start|>assistant\n<think>\n\n</think>\n\n") is None


def test_a_recipe_may_bring_its_own_marks() -> None:
    own = Marker(open="<<", close=">>")
    assert split_reasoning("<<why>>because", (own,)) == ("why", "because")
    assert split_reasoning("<think>kept</think>x", (own,)) == ("", "<think>kept</think>x")


def test_text_without_marks_keeps_its_white_space() -> None:
    assert split_reasoning("  indented\n") == ("", "  indented\n")


def test_gpt_oss_may_think_again_after_it_has_spoken() -> None:
    raw = (
        f"{HARMONY.open}one<|end|><|start|>assistant<|channel|>commentary<|message|>Looking.<|start|>assistant"
        f"{HARMONY.open}two<|end|><|start|>assistant<|channel|>final<|message|>Done."
    )
    reasoning, text = split_reasoning(raw)
    assert text == "Looking.Done."
    assert reasoning == "onetwo"
