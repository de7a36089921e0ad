"""Tokenizer, chat template and answers, as the engine really does them: measured through the very path a user's chat takes."""

from __future__ import annotations

import re
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as lib
from smoke_engine import clear

Message = dict[str, str]
_THINK = re.compile(r"<think>.*?</think>|\[THINK\].*?\[/THINK\]|<reasoning>.*?</reasoning>", re.DOTALL)
_OPENED = re.compile(r"<think>|\[THINK\]|<reasoning>")


class _Rendered(Exception):
    """Carries the prompt out of the engine's chat handler before anything is generated."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


def render(llm: llama_cpp.Llama, messages: Sequence[Message]) -> list[int]:
    """The exact token ids `create_chat_completion` would feed. Raises what the template raises (system role refused, ...)."""

    def intercept(prompt: Any, **_: Any) -> Any:
        raise _Rendered(list(prompt))

    original = llm.create_completion
    llm.create_completion = intercept
    try:
        llm.create_chat_completion(messages=list(messages))
    except _Rendered as rendered:
        return rendered.ids
    finally:
        llm.create_completion = original
    raise RuntimeError("the chat handler generated without a prompt")


def tokenizer_facts(llm: llama_cpp.Llama, strings: Sequence[str]) -> dict[str, Any]:
    """Round trips, control tokens read as one id, and what the file says about its pre-tokenizer."""
    broken = []
    read = [llm.tokenize(text.encode(), add_bos=False, special=False) for text in strings]
    for text, ids in zip(strings, read, strict=True):
        back = llm.detokenize(ids).decode("utf-8", "replace")
        if back.strip() != text.strip():
            broken.append(text)
    vocab = llm._model.vocab
    bos = lib.llama_vocab_bos(vocab)
    controls, split, ending = 0, [], []
    for token in range(llm.n_vocab()):
        if lib.llama_vocab_is_eog(vocab, token) and _is_ordinary(vocab, token):
            ending.append(lib.llama_vocab_get_text(vocab, token).decode("utf-8", "replace"))
        if lib.llama_vocab_is_control(vocab, token):
            text = lib.llama_vocab_get_text(vocab, token)
            controls += 1
            if controls <= 512 and text and llm.tokenize(text, add_bos=False, special=True) != [token]:
                split.append(text.decode("utf-8", "replace"))
    return {
        "round_trip_failures": broken,
        "round_trips": len(strings),
        "control_tokens": controls,
        "control_tokens_split": split[:8],
        "ordinary_endings": ending[:8],
        "bos_is_ordinary": bool(bos >= 0 and _is_ordinary(vocab, bos)),
        "ids": read,
        "model": llm.metadata.get("tokenizer.ggml.model"),
        "pre": llm.metadata.get("tokenizer.ggml.pre"),
        "add_bos": bool(lib.llama_vocab_get_add_bos(vocab)),
        "bos": bos,
        "eos": lib.llama_vocab_eos(vocab),
        "n_vocab": llm.n_vocab(),
    }


def _is_ordinary(vocab: Any, token: int) -> bool:
    """A piece of text to the file, though the engine gives it a special part."""
    return bool(lib.llama_vocab_get_attr(vocab, token) & lib.LLAMA_TOKEN_ATTR_NORMAL)


def answer(
    llm: llama_cpp.Llama, messages: Sequence[Message], *, max_tokens: int, limit_s: float, options: dict[str, Any]
) -> dict[str, Any]:
    """One greedy answer (repeat penalty 1), streamed so that `limit_s` after its first word can end it.

    Reasoning is cut out of `text`."""
    clear(llm)
    began = first = time.monotonic()
    pieces: list[str] = []
    finish: str | None = None
    chosen = {"temperature": 0.0, "repeat_penalty": 1.0, **options}
    stream: Any = llm.create_chat_completion(
        messages=list(messages),
        stream=True,
        max_tokens=max_tokens,
        **chosen,
    )
    for chunk in stream:
        choice = chunk["choices"][0]
        if not pieces:
            first = time.monotonic()
        pieces.append(choice["delta"].get("content") or "")
        finish = choice.get("finish_reason") or finish
        if time.monotonic() - first > limit_s:
            finish = "time"
            stream.close()
            break
    raw = "".join(pieces)
    text = _THINK.sub("", raw)
    # R1-style templates open the thinking in the prompt, so the answer holds only its end.
    text = text.rpartition("</think>")[2]
    thinking = bool(_OPENED.search(text)) or (finish != "stop" and "</think>" not in raw and _thinks(llm))
    return {
        "text": ("" if thinking else text).strip()[:2000],
        "finish": finish,
        "thinking": thinking,
        "seconds": time.monotonic() - began,
        "shape": shape(raw, llm.tokenize(raw.encode(), add_bos=False, special=False)),
    }


def _thinks(llm: llama_cpp.Llama) -> bool:
    template = str(llm.metadata.get("tokenizer.chat_template", ""))
    return any(mark in template for mark in ("<think>", "[THINK]", "<|channel|>", "<reasoning>"))


def thinks(llm: llama_cpp.Llama) -> dict[str, Any]:
    """Whether the template speaks of reasoning, and whether it lets one switch it off."""
    return {"reasoning": _thinks(llm), "switch": "enable_thinking" in str(llm.metadata.get("tokenizer.chat_template", ""))}


def shape(text: str, ids: Sequence[int]) -> dict[str, Any]:
    """Figures of degeneration: longest runs, share of distinct 4-grams, compressibility, share of the commonest token."""
    grams = [tuple(ids[index : index + 4]) for index in range(len(ids) - 3)]
    data = text.encode()
    return {
        "characters": len(text),
        "tokens": len(ids),
        "character_run": _longest_run(text),
        "token_run": _longest_run(list(ids)),
        "distinct_4": len(set(grams)) / len(grams) if grams else 1.0,
        "zlib_ratio": len(zlib.compress(data)) / len(data) if data else 1.0,
        "top_share": max(Counter(ids).values()) / len(ids) if ids else 0.0,
        "cjk_share": _cjk_share(text),
        "controls": _controls(text),
    }


def _longest_run(items: Sequence[Any]) -> int:
    longest = run = 0
    for index, item in enumerate(items):
        run = run + 1 if index and item == items[index - 1] else 1
        longest = max(longest, run)
    return longest


def _cjk_share(text: str) -> float:
    letters = [character for character in text if character.isalpha()]
    return sum("\u3400" <= c <= "\u9fff" for c in letters) / len(letters) if letters else 0.0


def _controls(text: str) -> list[str]:
    """Words of chat templates that must never reach a reader."""
    pattern = (
        r"<\|[a-z_ ]{1,24}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<｜[^｜]{1,24}｜>|^(?:user|assistant|system)$"
    )
    return sorted(set(re.findall(pattern, text, re.MULTILINE)))[:5]
