"""How a turn is spoken: text as it comes, reasoning shown, folded or hidden, notices on stderr, or JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, Protocol, TextIO

from provision.chat.types import Notice, PromptRead, Said, Turn, TurnEvent, TurnStarted
from provision.errors import ProvisionError
from provision.result import json_text
from provision.terminal import TerminalFilter, strip_terminal_escapes

_DIM, _PLAIN, _YELLOW = "\x1b[2m", "\x1b[0m", "\x1b[33m"


class Voice(Protocol):
    """Speaks one turn after the other."""

    def __call__(self, event: TurnEvent) -> None: ...


def speak(events: Iterable[TurnEvent], voice: Voice) -> Turn | None:
    """Let `voice` say every event; returns the finished turn."""
    turn = None
    for event in events:
        voice(event)
        if isinstance(event, Turn):
            turn = event
    return turn


class HumanVoice:
    """The answer on `out`, everything else on `aside`. With `stream` off the answer comes in one piece at its end."""

    def __init__(self, *, out: TextIO, aside: TextIO, think: str, color: bool, stream: bool = True) -> None:
        self.think = think
        self._out, self._aside = out, aside
        self._color = color and out.isatty()
        self._stream = stream
        self._status_shown = False
        self._reset()

    def __call__(self, event: TurnEvent) -> None:
        match event:
            case TurnStarted():
                self._reset()
            case Said(kind="reasoning"):
                self._reason(event.text)
            case Said():
                self._say(event.text)
            case PromptRead():
                self._status(f"reading the prompt: {100 * event.done // max(1, event.total)} %")
            case Notice():
                self.notice(event.message)
            case Turn():
                self._end(event)

    def notice(self, message: str) -> None:
        """One sentence beside the conversation."""
        self._clear_status()
        mark, end = (_YELLOW, _PLAIN) if self._color and self._aside.isatty() else ("", "")
        self._aside.write(f"{mark}· {strip_terminal_escapes(message)}{end}\n")
        self._aside.flush()

    def _status(self, text: str) -> None:
        """A line that goes away again, on a terminal only."""
        if self._aside.isatty():
            self._aside.write(f"\r{text}\x1b[K")
            self._aside.flush()
            self._status_shown = True

    def _clear_status(self) -> None:
        if self._status_shown:
            self._aside.write("\r\x1b[K")
            self._aside.flush()
            self._status_shown = False

    def _reset(self) -> None:
        self._status_shown = False
        self._filter = TerminalFilter()
        self._thinking_since: float | None = None
        self._whole: list[str] = []
        self._last = ""

    def _reason(self, text: str) -> None:
        if self._thinking_since is None:
            self._thinking_since = time.monotonic()
            if self.think == "fold":
                self._status("thinking …")
        if self.think == "show":
            self._write(text, target=self._out if self._out.isatty() else self._aside, dim=True)

    def _say(self, text: str) -> None:
        self._stop_thinking()
        if self._stream:
            self._write(text, target=self._out)
        else:
            self._whole.append(text)

    def _stop_thinking(self) -> None:
        if self._thinking_since is None:
            return
        seconds = time.monotonic() - self._thinking_since
        self._thinking_since = None
        if self.think == "show":
            self._write("\n\n", target=self._out if self._out.isatty() else self._aside)
            self._filter = TerminalFilter()
        elif self.think == "fold" and self._aside.isatty():
            self._clear_status()
            self._aside.write(f"thought for {seconds:.1f} s (/think show shows it)\n")
            self._aside.flush()

    def _end(self, turn: Turn) -> None:
        self._stop_thinking()
        if self._whole:
            self._write("".join(self._whole), target=self._out)
        if not self._last.endswith("\n"):
            self._write("\n", target=self._out)
        if turn.finish_reason == "context":
            self.notice(f"cut: the context of {turn.n_ctx} tokens is full")
        elif turn.finish_reason == "length":
            self.notice("cut at --max-tokens")
        elif turn.finish_reason == "interrupted":
            said = turn.message.content or turn.message.reasoning
            self.notice("stopped; what was said is kept" if said else "stopped before anything was said")

    def _write(self, text: str, *, target: TextIO, dim: bool = False) -> None:
        clean = self._filter.feed(text)
        if not clean:
            return
        self._last = clean
        self._clear_status()
        target.write(f"{_DIM}{clean}{_PLAIN}" if dim and self._color else clean)
        target.flush()


class JsonLinesVoice:
    """One JSON object per line on stdout: start, delta, reasoning, notice, end; `error` instead of end when a turn fails."""

    def __init__(self, *, out: TextIO, model: str, seed: int) -> None:
        self._out, self._model, self._seed = out, model, seed

    def __call__(self, event: TurnEvent) -> None:
        match event:
            case TurnStarted():
                self._line("start", model=self._model, prompt_tokens=event.prompt_tokens, n_ctx=event.n_ctx, seed=self._seed)
            case Said(kind="reasoning"):
                self._line("reasoning", text=event.text)
            case Said():
                self._line("delta", text=event.text)
            case Notice():
                self._line("notice", message=event.message)
            case Turn():
                self._line("end", **turn_data(event))
            case PromptRead():
                pass

    def error(self, error: ProvisionError) -> None:
        """The line of a turn that failed."""
        self._line("error", code=error.code, message=error.message, hint=error.hint)

    def _line(self, event: str, **fields: Any) -> None:
        self._out.write(json_text({"event": event, **fields}) + "\n")
        self._out.flush()


def turn_data(turn: Turn) -> dict[str, Any]:
    """One turn as plain JSON values; speeds are None when there was nothing to measure."""
    return {
        "answer": turn.message.content,
        "reasoning": turn.message.reasoning or None,
        "finish_reason": turn.finish_reason,
        "usage": {
            "prompt_tokens": turn.prompt_tokens,
            "reused_tokens": turn.reused_tokens,
            "completion_tokens": turn.completion_tokens,
            "total_tokens": turn.context_tokens,
            "n_ctx": turn.n_ctx,
        },
        "timings": {
            "prompt_s": turn.prompt_s,
            "generation_s": turn.generation_s,
            "prompt_tokens_per_s": turn.prompt_tokens_per_s,
            "generation_tokens_per_s": turn.tokens_per_s,
        },
        "dropped_messages": len(turn.dropped),
    }


def human_voice(*, think: str, color: bool, stream: bool = True) -> HumanVoice:
    """The voice on this process's own stdout and stderr."""
    return HumanVoice(out=sys.stdout, aside=sys.stderr, think=think, color=color, stream=stream)
