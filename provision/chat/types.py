"""What a conversation is made of, as frozen data. Token counts are the engine's own; times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "context", "interrupted", "crashed"]
"""Why an answer ended: by itself, at max_tokens, because the context is full, by the person, or by the death of the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. `reasoning` is what the model thought first; it is kept for people and never sent back."""

    role: Role
    content: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The pair of strings around a model's reasoning."""

    open: str
    close: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Which model to load and how its turns become a prompt."""

    model_path: Path
    llama_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `llama_cpp.Llama`, as `fit` chose them."""
    chat_format: str | None = None
    """A named format of llama-cpp-python; None uses the template inside the GGUF."""
    template: str | None = None
    """Jinja text that replaces the template of the GGUF."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    markers: tuple[Marker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """What the engine says of the model it holds."""

    n_ctx: int
    n_ctx_train: int
    engine_version: str
    chat_format: str
    has_template: bool
    """False: llama-cpp-python would quietly render turns for `llama-2`, whatever the model was trained on."""
    name: str | None
    placement: tuple[str, ...]
    """The log's own lines on devices and offloaded layers; none in a CPU build."""
    load_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling arguments of `create_chat_completion`. `max_tokens` None: as long as the context lasts."""

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """Keyword arguments for the engine."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repeat_penalty": self.repeat_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": list(self.stop),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The prompt is rendered. `prompt_tail` is its end with special tokens shown; some templates open the reasoning there."""

    prompt_tokens: int
    prompt_tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRead:
    """A long prompt is being read: `done` of `total` tokens."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawText:
    """Text as the model produced it, reasoning marks and all."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEnd:
    """The engine's account of one answer. `reused_tokens` of the prompt were still in memory from the turn before."""

    finish_reason: Literal["stop", "length", "interrupted"]
    prompt_tokens: int
    reused_tokens: int
    completion_tokens: int
    prompt_s: float
    generation_s: float
    """From the first token to the last of the answer: `completion_tokens - 1` steps."""


RawEvent = Began | PromptRead | RawText | RawEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A piece of the answer or of the reasoning, in order, without the marks."""

    kind: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One sentence the person must see about this turn: what was dropped, that the context grew or runs low."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted:
    """The prompt of this turn is decided."""

    prompt_tokens: int
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One finished turn."""

    message: Message
    finish_reason: Finish
    prompt_tokens: int
    reused_tokens: int
    completion_tokens: int
    prompt_s: float
    generation_s: float
    n_ctx: int
    dropped: tuple[Message, ...] = ()
    """Messages of the transcript that were left out of this turn's prompt."""

    @property
    def context_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens_per_s(self) -> float | None:
        """Generation speed between the first and the last token; None below two tokens."""
        if self.completion_tokens < 2 or self.generation_s <= 0:
            return None
        return (self.completion_tokens - 1) / self.generation_s

    @property
    def prompt_tokens_per_s(self) -> float | None:
        """Reading speed over the tokens that were really read."""
        read = self.prompt_tokens - self.reused_tokens
        return read / self.prompt_s if read > 0 and self.prompt_s > 0 else None


TurnEvent = TurnStarted | PromptRead | Said | Notice | Turn
