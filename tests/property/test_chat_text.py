"""Laws of everything that reads what a model, or a stranger's file, may say."""

import json

from hypothesis import given
from hypothesis import strategies as st

from provision.chat.reasoning import MARKERS, ReasoningParser, split_reasoning
from provision.chat.transcripts import FORMATS, Format, dump_transcript, parse_transcript
from provision.chat.types import Message
from provision.errors import UsageError
from provision.result import json_text
from provision.terminal import TerminalFilter, strip_terminal_escapes

_MARKS = [text for marker in MARKERS for text in (marker.open, marker.close)]
_ANSWERS = st.lists(
    st.sampled_from([*_MARKS, "<|start|>assistant", "<|channel|>final<|message|>", "a", " ", "\n", "<", "th", "中"])
)
_HOSTILE = st.lists(
    st.sampled_from(["\x1b", "[", "]", "2J", "0;t", "\x07", "\x1b\\", "\x9b", "\x9d", "\x9c", "m", "x", "\n", "中", "\r"])
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "messages", "from", "value", "conversations", "prompt", "response", "type", "text"]
            ),
            inner | st.sampled_from(["user", "assistant", "system", "human", "gpt"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


def _pieces(text: str, cuts: list[int]) -> list[str]:
    marks = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]


@given(_ANSWERS, st.lists(st.integers(0, 200), max_size=8))
def test_reasoning_does_not_depend_on_how_the_text_arrives(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole = ReasoningParser()
    whole.feed(text)
    whole.end()
    cut = ReasoningParser()
    for piece in _pieces(text, cuts):
        cut.feed(piece)
    cut.end()
    assert (cut.reasoning, cut.text) == (whole.reasoning, whole.text)


@given(st.text(alphabet=st.characters(exclude_characters="<[", exclude_categories=["Cs"])))
def test_text_without_marks_is_nothing_but_answer(text: str) -> None:
    parser = ReasoningParser()
    shown = [*parser.feed(text), *parser.end()]
    assert parser.reasoning == ""
    assert "".join(piece.text for piece in shown) == text.lstrip()
    assert split_reasoning(text) == ("", text)


@given(_HOSTILE, st.lists(st.integers(0, 60), max_size=6))
def test_no_control_character_gets_through_however_it_is_cut(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    terminal = TerminalFilter()
    clean = "".join(terminal.feed(piece) for piece in _pieces(text, cuts))
    assert clean == strip_terminal_escapes(text)
    assert not any(char != "\n" and (ord(char) < 32 or 127 <= ord(char) < 160) for char in clean)


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"])))
def test_harmless_text_is_left_alone(text: str) -> None:
    assert strip_terminal_escapes(text) == text


def _refusal(text: str) -> str | None:
    """The code of the UsageError, or None when it is a transcript whose text every program can write down."""
    try:
        parsed = parse_transcript(text)
    except UsageError as error:
        return error.code
    for message in parsed.messages:
        message.content.encode()
    return None


@given(_JSON)
def test_any_json_is_a_transcript_or_a_usage_error(value: object) -> None:
    assert _refusal(json.dumps(value)) in (None, "bad-transcript")


@given(st.text())
def test_any_text_is_a_transcript_or_a_usage_error(text: str) -> None:
    assert _refusal(text) in (None, "bad-transcript")


@given(
    st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5).filter(
        lambda turns: all(a.strip() and b.strip() for a, b in turns)
    ),
    st.sampled_from(FORMATS),
)
def test_what_is_written_is_read_back(turns: list[tuple[str, str]], form: Format) -> None:
    clean = [
        (question.encode("utf-8", "replace").decode(), answer.encode("utf-8", "replace").decode()) for question, answer in turns
    ]
    clean = [(question, answer) for question, answer in clean if split_reasoning(answer)[1] == answer]
    messages = [
        message
        for question, answer in clean
        for message in (Message(role="user", content=question), Message(role="assistant", content=answer))
    ]
    assert list(parse_transcript(dump_transcript(messages, form)).messages) == messages


@given(_JSON)
def test_printed_json_means_the_same_and_moves_no_terminal(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert not any(127 <= ord(char) < 160 or ord(char) < 32 for char in text)
