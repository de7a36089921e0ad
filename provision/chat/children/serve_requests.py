"""What a request of an OpenAI client must look like before llama_cpp.server sees it, and how it is brought into that shape.

Standard library only; what needs the engine is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

LARGEST_GRAMMAR = 64 * 1024
DEEPEST_GRAMMAR = 200
"""Parentheses in parentheses. llama.cpp reads them by recursion: 20,000 end it with SIGSEGV (0.5.0-dev)."""


class Refused(Exception):
    """A request answered by the guard with an error in OpenAI's shape."""

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        kind = "authentication_error" if status == 401 else "invalid_request_error"
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON", code="invalid_json") from None
    if not isinstance(data, dict):
        raise Refused(400, "the body is not a JSON object", code="invalid_json")
    return data


def settled(data: dict[str, Any], defaults: dict[str, Any], alias: str) -> dict[str, Any]:
    """A request for text in the words llama_cpp.server knows, with the defaults filled in.

    OpenAI's clients say null for "not set", max_completion_tokens for max_tokens, developer for system, a list of parts for a
    text, and json_schema where llama_cpp.server wants json_object with a schema.
    """
    said = {name: value for name, value in data.items() if value is not None}
    if "max_completion_tokens" in said:
        said.setdefault("max_tokens", said.pop("max_completion_tokens"))
    for name in ("n", "best_of"):
        if said.get(name, 1) != 1:
            raise Refused(400, f"{name} must be 1: this server gives one answer at a time", code="unsupported", param=name)
    if isinstance(said.get("messages"), list):
        said["messages"] = [_message(message) for message in said["messages"]]
    wanted = said.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        inner = wanted.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, dict) else None
        said["response_format"] = {"type": "json_object", **({"schema": schema} if isinstance(schema, dict) else {})}
    # Without a name llama_cpp.server answers with the path of the file.
    return {**defaults, **said, "model": alias}


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    shaped = dict(message)
    if shaped.get("role") == "developer":
        shaped["role"] = "system"
    content = shaped.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise Refused(400, "this server takes text only", code="invalid_messages", param="messages")
        shaped["content"] = "".join(part for part in parts if part)
    elif content is None and shaped.get("role") == "assistant":
        shaped["content"] = ""
    return shaped


def check_grammar(data: dict[str, Any], *, from_schema: Callable[[str], str], parses: Callable[[str], bool]) -> None:
    """Refuse a grammar that llama.cpp cannot read: it would be used all the same, and end the server with SIGSEGV."""
    wanted = data.get("response_format")
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    grammar, param = data.get("grammar"), "grammar"
    if isinstance(schema, dict):
        param = "response_format"
        try:
            grammar = from_schema(json.dumps(schema))
        except Exception as error:
            raise Refused(400, f"the schema cannot be used: {error}", code="invalid_schema", param=param) from None
    if not isinstance(grammar, str):
        return
    if len(grammar) > LARGEST_GRAMMAR or _depth(grammar) > DEEPEST_GRAMMAR or not parses(grammar):
        raise Refused(400, "the grammar cannot be read", code="invalid_grammar", param=param)


def _depth(grammar: str) -> int:
    depth = deepest = 0
    for char in grammar:
        depth = max(0, depth + {"(": 1, ")": -1}.get(char, 0))
        deepest = max(deepest, depth)
    return deepest
