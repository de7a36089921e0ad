"""Conversations as files of other programs write them: read strictly, told what was repaired, written back in any of the forms.

| format   | who                                  | shape                                                            |
|----------|--------------------------------------|------------------------------------------------------------------|
| list     | provision, many chat scripts         | `[{"role", "content"}]`                                          |
| openai   | OpenAI requests and fine-tuning JSONL | `{"messages": [{"role", "content"}]}`                            |
| sharegpt | ShareGPT data sets                   | `{"conversations": [{"from": "human"/"gpt", "value"}]}`          |
| llm      | `llm logs --json`                    | `[{"prompt", "response", "system"}]`                             |

Also read: transformers' `{"settings", "chat_history"}`, and the MESSAGE and SYSTEM lines of an Ollama Modelfile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from provision.chat.modelfile import looks_like_modelfile, modelfile_items
from provision.chat.reasoning import split_reasoning
from provision.chat.types import Message, Role
from provision.errors import UsageError
from provision.result import json_text

Format = Literal["list", "openai", "sharegpt", "llm"]
FORMATS: tuple[Format, ...] = get_args(Format)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}
_HINT = 'a transcript is a JSON list of {"role": "user" | "assistant" | "system", "content": "..."}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What a file held. `notes` says in sentences what had to be repaired."""

    messages: tuple[Message, ...]
    format: Format
    notes: tuple[str, ...] = ()


def parse_transcript(text: str, *, name: str = "the transcript") -> Transcript:
    """A transcript in any of the forms above; an empty text is an empty conversation. Raises UsageError (`bad-transcript`)."""
    if not text.strip():
        return Transcript(messages=(), format="list")
    if looks_like_modelfile(text):
        return _checked(modelfile_items(text), "list", name)
    data = _json(text, name)
    form, items = _recognise(data, name)
    return _checked(items, form, name)


def dump_transcript(messages: Sequence[Message], form: Format = "list") -> str:
    """The conversation as a file of that format, ending in a newline."""
    data: Any
    match form:
        case "list":
            data = [_item(message) for message in messages]
        case "openai":
            data = {"messages": [_item(message) for message in messages]}
        case "sharegpt":
            names = {"system": "system", "user": "human", "assistant": "gpt"}
            data = {"conversations": [{"from": names[message.role], "value": message.content} for message in messages]}
        case "llm":
            data = _exchanges(messages)
    return json_text(data, indent=2) + "\n"


def _item(message: Message) -> dict[str, str]:
    item = {"role": message.role, "content": message.content}
    # The key DeepSeek's API and llama-server use; programs that do not know it ignore it.
    return {**item, "reasoning_content": message.reasoning} if message.reasoning else item


def _exchanges(messages: Sequence[Message]) -> list[dict[str, Any]]:
    system = "\n\n".join(message.content for message in messages if message.role == "system") or None
    rows: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "user":
            rows.append({"prompt": message.content, "response": "", "system": None if rows else system})
        elif message.role == "assistant":
            if not rows or rows[-1]["response"]:
                rows.append({"prompt": "", "response": "", "system": None if rows else system})
            rows[-1]["response"] = message.content
    return rows


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise _bad(f"{name} is nested too deeply") from None
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and lines[0].lstrip().startswith("{"):
            return _json_lines(lines, name)
        raise _bad(f"{name} is not JSON: {error}") from None


def _json_lines(lines: Sequence[str], name: str) -> Any:
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise _bad(f"{name} is not JSON: line {number}: {error}") from None
    return rows


def _recognise(data: Any, name: str) -> tuple[Format, list[tuple[str, Any, Any]]]:
    """The format and the (place, role, content) of each message."""
    if isinstance(data, list) and len(data) > 1 and all(isinstance(row, dict) and _is_wrapped(row) for row in data):
        raise _bad(f"{name} holds {len(data)} conversations; give a file with one")
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and _is_wrapped(data[0]):
        data = data[0]
    if isinstance(data, dict):
        if isinstance(data.get("messages"), list):
            return "openai", _role_items(data["messages"], name)
        if isinstance(data.get("conversations"), list):
            return "sharegpt", _role_items(data["conversations"], name, role="from", content="value")
        if isinstance(data.get("chat_history"), list):
            return "list", _role_items(data["chat_history"], name)
        raise _bad(f"{name} is a JSON object without messages")
    if not isinstance(data, list):
        raise _bad(f"{name} holds {_kind(data)}, not a list of messages")
    if data and all(isinstance(row, dict) and "prompt" in row and "response" in row for row in data):
        return "llm", _llm_items(data)
    if data and all(isinstance(row, dict) and "from" in row and "role" not in row for row in data):
        return "sharegpt", _role_items(data, name, role="from", content="value")
    return "list", _role_items(data, name)


def _is_wrapped(row: Mapping[str, Any]) -> bool:
    return any(isinstance(row.get(key), list) for key in ("messages", "conversations", "chat_history"))


def _role_items(rows: Sequence[Any], name: str, *, role: str = "role", content: str = "content") -> list[tuple[str, Any, Any]]:
    items = []
    for number, row in enumerate(rows, start=1):
        place = f"{name}, message {number}"
        if not isinstance(row, dict):
            raise _bad(f"{place}: {_kind(row)} instead of an object")
        if role not in row:
            raise _bad(f"{place}: no {role!r}")
        if content not in row:
            raise _bad(f"{place}: no {content!r}")
        text = row[content]
        if isinstance(row.get("reasoning_content"), str) and isinstance(text, str):
            text = (row["reasoning_content"], text)
        items.append((place, row[role], text))
    return items


def _llm_items(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any, Any]]:
    items: list[tuple[str, Any, Any]] = []
    for number, row in enumerate(rows, start=1):
        place = f"exchange {number}"
        if number == 1 and row.get("system"):
            items.append((place, "system", row["system"]))
        items += [(place, "user", row["prompt"] or ""), (place, "assistant", row["response"] or "")]
    return items


def _checked(items: Sequence[tuple[str, Any, Any]], form: Format, name: str) -> Transcript:
    messages: list[Message] = []
    notes: list[str] = []
    for place, role, content in items:
        message = _message(place, role, content)
        if not (message.content.strip() or message.reasoning):
            notes.append(f"{place}: empty, left out")
        elif messages and message.role != "system" and messages[-1].role == message.role:
            last = messages.pop()
            joined = replace(
                last,
                content=f"{last.content}\n\n{message.content}".strip(),
                reasoning=f"{last.reasoning}\n\n{message.reasoning}".strip(),
            )
            messages.append(joined)
            notes.append(f"{place}: a second message of {message.role} in a row, joined to the one before")
        else:
            messages.append(message)
    if messages and messages[-1].role == "user":
        notes.append(f"{name} ends with a question that has no answer; /regen answers it")
    return Transcript(messages=tuple(messages), format=form, notes=tuple(notes))


def _message(place: str, role: Any, content: Any) -> Message:
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise _bad(f"{place}: role {role!r} is not one of system, user, assistant")
    known = _ROLES[role.lower()]
    if isinstance(content, tuple):
        return Message(role=known, content=whole_characters(content[1]), reasoning=whole_characters(content[0]))
    if isinstance(content, list):
        content = _text_parts(place, content)
    if not isinstance(content, str):
        raise _bad(f"{place}: the content is {_kind(content)}, not text")
    reasoning, text = split_reasoning(whole_characters(content)) if known == "assistant" else ("", whole_characters(content))
    return Message(role=known, content=text, reasoning=reasoning)


def _text_parts(place: str, parts: Sequence[Any]) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") not in {"text", "input_text", "output_text"}:
            kind = part.get("type") if isinstance(part, dict) else _kind(part)
            raise _bad(f"{place}: a part of type {kind!r}; this chat takes text only")
        texts.append(str(part.get("text", "")))
    return "".join(texts)


def whole_characters(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON and command lines may carry and no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _bad(message: str) -> UsageError:
    return UsageError(message, code="bad-transcript", hint=_HINT)
