"""The chat template as the engine really applies it: how conversations render, what closes a turn, how the original renders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as lib
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from smoke_text import Message, render

_SENTINEL = "zebra crossing"


def template_facts(llm: llama_cpp.Llama, reference: dict[str, str] | None) -> dict[str, Any]:
    """Which template is used, how three conversations render, and which token closes an assistant's turn.

    `reference` is the template as its author published it, with its BOS and EOS words; without one, the file's own."""
    user, system = {"role": "user", "content": "Hello"}, {"role": "system", "content": "Be brief."}
    assistant, again = {"role": "assistant", "content": _SENTINEL}, {"role": "user", "content": "Goodbye"}
    conversations = {"u": [user], "su": [system, user], "uau": [user, assistant, again]}
    facts: dict[str, Any] = {"in_file": "tokenizer.chat_template" in llm.metadata, "format": llm.chat_format, "renders": {}}
    vocab = llm._model.vocab
    bos = lib.llama_vocab_bos(vocab)
    for name, messages in conversations.items():
        try:
            ids = render(llm, messages)
        except Exception as error:
            facts["renders"][name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            continue
        text = llm.detokenize(ids, special=True).decode("utf-8", "replace")
        leading = 0
        while leading < len(ids) and ids[leading] == bos:
            leading += 1
        facts["renders"][name] = {
            "tokens": len(ids),
            "bos": ids.count(bos) if bos >= 0 else 0,
            "leading_bos": leading,
            "missing": [one["content"] for one in messages if one["content"] not in text],
            "tail": text[-80:],
        }
        if name == "uau":
            facts["closing"] = _closing(llm, ids)
            facts["header_missing"] = _header_missing(str(facts["renders"]["u"].get("tail", "")), text)
    facts["compared"] = _compared(llm, conversations, reference)
    return facts


def _compared(
    llm: llama_cpp.Llama, conversations: dict[str, list[Message]], reference: dict[str, str] | None
) -> dict[str, Any] | None:
    """Each conversation as the engine renders it against Jinja's rendering of the reference template, as token ids after the
    leading BOS. None when neither a reference nor a template of the file's own is there."""
    own = llm.metadata.get("tokenizer.chat_template")
    if reference is None and own is None:
        return None
    vocab = llm._model.vocab
    bos = lib.llama_vocab_bos(vocab)
    words = {"template": own, "bos": _token_text(vocab, bos), "eos": _token_text(vocab, lib.llama_vocab_eos(vocab))}
    words |= {name: text for name, text in (reference or {}).items() if text}
    differs = []
    for name, messages in conversations.items():
        got, wanted = _engine_ids(llm, messages), _reference_ids(llm, messages, words)
        if got is None or wanted is None:
            if got is not wanted:
                verdicts = {True: "refused", False: "rendered"}
                differs.append({"name": name, "got": verdicts[got is None], "wanted": verdicts[wanted is None]})
            continue
        got, wanted = _without_bos(got, bos), _without_bos(wanted, bos)
        if got != wanted:
            differs.append({"name": name, **_first_difference(llm, got, wanted)})
    return {"against": "original" if reference else "own", "differs": differs}


def _token_text(vocab: Any, token: int) -> str:
    return str(lib.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")) if token >= 0 else ""


def _engine_ids(llm: llama_cpp.Llama, messages: Sequence[Message]) -> list[int] | None:
    """None where the template refuses the conversation."""
    try:
        return list(render(llm, messages))
    except Exception:
        return None


def _reference_ids(llm: llama_cpp.Llama, messages: Sequence[Message], words: dict[str, Any]) -> list[int] | None:
    """Jinja as Transformers sets it up (llama-cpp-python 0.3.36 keeps to that), tokenized as the template path does."""
    try:
        formatter = Jinja2ChatFormatter(words["template"], words["eos"], words["bos"])
        prompt = formatter(messages=list(messages)).prompt
    except Exception:
        return None
    return list(llm.tokenize(prompt.encode(), add_bos=False, special=True))


def _without_bos(ids: list[int], bos: int) -> list[int]:
    start = next((index for index, token in enumerate(ids) if token != bos), len(ids))
    return ids[start:]


def _first_difference(llm: llama_cpp.Llama, got: list[int], wanted: list[int]) -> dict[str, str]:
    """Twelve tokens of both from the first that differs on."""
    at = next((i for i, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other), min(len(got), len(wanted)))
    return {
        name: llm.detokenize(ids[at : at + 12], special=True).decode("utf-8", "replace")
        for name, ids in (("got", got), ("wanted", wanted))
    }


def _header_missing(tail: str, conversation: str) -> str | None:
    """What stands between a question and its answer in a finished conversation, but not at the end of an open one: the
    header that hands the turn to the assistant. None when all of it is there."""
    between = conversation.partition("Hello")[2].partition(_SENTINEL)[0].strip()
    ends_with = tail.rpartition("Hello")[2].strip()
    rest = between.removeprefix(ends_with).strip()
    return rest if between.startswith(ends_with) and rest and "think" not in rest else None


def _closing(llm: llama_cpp.Llama, ids: Sequence[int]) -> dict[str, Any] | None:
    """The first token after the assistant's words that is not blank, and whether the engine ends generation on it."""
    said = ""
    for index, token in enumerate(ids):
        said += llm.detokenize([token], special=True).decode("utf-8", "replace")
        if _SENTINEL in said:
            for after in ids[index + 1 :]:
                piece = llm.detokenize([after], special=True).decode("utf-8", "replace")
                if piece.strip():
                    return {"text": piece, "is_eog": bool(lib.llama_vocab_is_eog(llm._model.vocab, after))}
    return None
