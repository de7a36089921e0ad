"""How a loaded model's conversations become prompts: the same for chat, serve and the smoke test.

Runs where `provision` may not be installed: standard library and llama_cpp only (0.3.36, llama_chat_format.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

OWN = "own template"


def choose(
    llama: Any,
    *,
    template: str | None = None,
    chat_format: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Let Jinja `template` or the named `chat_format` build every prompt, instead of the template inside the GGUF;
    `template_kwargs` are further variables for it. Raises what Jinja raises on a bad template, LookupError for an unknown
    format."""
    from llama_cpp import llama_chat_format as formats

    if template is not None:
        eos, bos = llama.token_eos(), llama.token_bos()
        formatter = formats.Jinja2ChatFormatter(
            template=template, eos_token=_text(llama, eos), bos_token=_text(llama, bos), stop_token_ids=[eos]
        )
        llama.chat_handler, llama.chat_format = formatter.to_chat_handler(), OWN
    elif chat_format is not None:
        formats.get_chat_completion_handler(chat_format)
        llama.chat_format = chat_format
    if template_kwargs:
        base: Callable[..., Any] = (
            llama.chat_handler
            or llama._chat_handlers.get(llama.chat_format)
            or formats.get_chat_completion_handler(llama.chat_format)
        )
        extra = dict(template_kwargs)
        llama.chat_handler = lambda **options: base(**{**extra, **options})


def _text(llama: Any, token: int) -> str:
    return str(llama._model.token_get_text(token)) if token != -1 else ""
