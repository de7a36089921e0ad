import json

import pytest

from provision.chat.transcripts import FORMATS, Format, dump_transcript, parse_transcript
from provision.chat.types import Message
from provision.errors import UsageError

SYSTEM = Message(role="system", content="Be short.")
USER = Message(role="user", content="你好")
ASSISTANT = Message(role="assistant", content="你好！")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_comes_back_as_it_was_written(form: Format) -> None:
    messages = (SYSTEM, USER, ASSISTANT, Message(role="user", content="again"), Message(role="assistant", content="yes"))
    read = parse_transcript(dump_transcript(messages, form))
    assert read.messages == messages
    assert read.format == form
    assert read.notes == ()


def test_foreign_files() -> None:
    pair = (Message(role="user", content="a"), Message(role="assistant", content="b"))
    texts = [
        '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
        '{"settings": {}, "chat_history": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]}\n',
        '[{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]',
        '[{"id": 1, "prompt": "a", "response": "b", "system": null, "model": "m"}]',
        'FROM demo\nMESSAGE user a\nMESSAGE assistant """b"""\n',
    ]
    for text in texts:
        assert parse_transcript(text).messages == pair, text


def test_reasoning_of_other_programs_is_kept_apart() -> None:
    text = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}])
    message = parse_transcript(text).messages[1]
    assert (message.reasoning, message.content) == ("hm", "b")
    again = parse_transcript(dump_transcript([message], "list")).messages[0]
    assert again == message


def test_repairs_are_told() -> None:
    rows = [("user", "a"), ("user", "b"), ("assistant", ""), ("assistant", "c"), ("user", "d")]
    read = parse_transcript(json.dumps([{"role": role, "content": content} for role, content in rows]))
    assert [message.content for message in read.messages] == ["a\n\nb", "c", "d"]
    assert len(read.notes) == 3
    assert "no answer" in read.notes[-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('"text"', "holds text"),
        ("3", "holds a number"),
        ("{}", "without messages"),
        ("[3]", "message 1: a number"),
        ('[{"content": "x"}]', "no 'role'"),
        ('[{"role": "user"}]', "no 'content'"),
        ('[{"role": "pirate", "content": "x"}]', "'pirate'"),
        ('[{"role": "user", "content": 3}]', "a number"),
        ('[{"role": "user", "content": [{"type": "image_url"}]}]', "text only"),
        ('{"messages": []}\n{"messages": []}', "2 conversations"),
        ('{"messages": []}\n{oops', "line 2"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_transcript_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_transcript(text, name="chat.json")
    assert caught.value.code == "bad-transcript"
    assert says in caught.value.message


def test_half_a_surrogate_pair_does_not_reach_the_tokenizer() -> None:
    message = parse_transcript('[{"role": "user", "content": "a\\ud800b"}]').messages[0]
    message.content.encode()
    assert message.content == "a\ufffdb"


def test_an_empty_file_is_an_empty_conversation() -> None:
    assert parse_transcript(" \n").messages == ()


def test_control_characters_of_a_model_are_escaped_in_files() -> None:
    written = dump_transcript([Message(role="assistant", content="a\x1b[2J\x9b2J")])
    assert "\x1b" not in written
    assert "\x9b" not in written
    assert json.loads(written)[0]["content"] == "a\x1b[2J\x9b2J"
