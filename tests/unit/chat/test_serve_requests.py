"""What the guard makes of a request, without a server: the script's own functions, which need the standard library only."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import provision.chat.server


def script() -> Any:
    path = Path(provision.chat.server.__file__).parent / "children" / "serve_requests.py"
    spec = importlib.util.spec_from_file_location("serve_requests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REQUESTS = script()


def settled(data: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    found: dict[str, Any] = REQUESTS.settled(data, defaults, "tale")
    return found


def refusal(work: Any) -> Any:
    with pytest.raises(REQUESTS.Refused) as caught:
        work()
    return caught.value


def test_a_request_overrides_defaults_and_null_means_unset() -> None:
    assert settled({}, temperature=0.6) == {"temperature": 0.6, "model": "tale"}
    asked = {"temperature": None, "max_completion_tokens": 5, "seed": None}
    assert settled(asked, temperature=0.6, max_tokens=100) == {"temperature": 0.6, "max_tokens": 5, "model": "tale"}
    assert settled({"max_tokens": 7, "max_completion_tokens": 5})["max_tokens"] == 7


def test_the_words_of_newer_clients_are_understood() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "Be short."}, {"role": "user", "content": parts}, {"role": "assistant"}]
    assert settled({"messages": messages})["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "one two"},
        {"role": "assistant", "content": ""},
    ]
    assert messages[1]["content"] is parts, "the request itself is left as it was"
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert settled({"response_format": wanted})["response_format"] == {"type": "json_object", "schema": schema}


def test_what_cannot_be_done_is_refused() -> None:
    image = [{"type": "image_url", "image_url": {"url": "http://x"}}]
    assert refusal(lambda: settled({"messages": [{"role": "user", "content": image}]})).status == 400
    assert "n must be 1" in str(refusal(lambda: settled({"n": 2})))
    assert settled({"n": 1, "best_of": None})["n"] == 1
    for body in (b"{", b"[]", b"[" * 100_000, b"\xff"):
        assert refusal(lambda body=body: REQUESTS.parse_body(body)).body["error"]["code"] == "invalid_json"


def test_a_grammar_the_engine_would_die_of_never_reaches_it() -> None:
    asked: list[str] = []

    def parses(text: str) -> bool:
        asked.append(text)
        return text != "broken"

    def check(data: dict[str, Any]) -> None:
        REQUESTS.check_grammar(data, from_schema=lambda schema: schema, parses=parses)

    check({"grammar": 'root ::= "yes"'})
    check({"response_format": {"type": "json_object"}})
    assert refusal(lambda: check({"grammar": "broken"})).body["error"]["code"] == "invalid_grammar"
    asked.clear()
    for grammar in ("(" * 201 + ")" * 201, "x" * (REQUESTS.LARGEST_GRAMMAR + 1)):
        refusal(lambda grammar=grammar: check({"grammar": grammar}))
    assert asked == [], "too deep or too long is not even tried"
    check({"response_format": {"type": "json_object", "schema": {"type": "object"}}})
    assert asked == ['{"type": "object"}']
