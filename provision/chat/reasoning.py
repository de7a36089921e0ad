"""Takes a model's reasoning out of its answer while the answer is still arriving.

Marks met in the field: `<think>` (DeepSeek, Qwen), `[THINK]` (Magistral), `<|channel|>analysis` (gpt-oss), `<reasoning>`,
`<thinking>`, `<thought>`. A mark that opens reasoning counts only before the answer has begun, so that an answer
*about* `<think>` is not folded away; gpt-oss switches channels at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from provision.chat.types import Marker, Said

HARMONY = Marker(open="<|channel|>analysis<|message|>", close="<|end|>")
MARKERS: tuple[Marker, ...] = (
    Marker(open="<think>", close="</think>"),
    Marker(open="[THINK]", close="[/THINK]"),
    Marker(open="<reasoning>", close="</reasoning>"),
    Marker(open="<thinking>", close="</thinking>"),
    Marker(open="<thought>", close="</thought>"),
    HARMONY,
)
# What gpt-oss writes around the visible answer; says nothing to people.
_SILENT = ("<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>", "<|return|>")
CONTROL_MARKS: tuple[str, ...] = (
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
)
"""Marks that are control tokens in some vocabularies; the engine drops those from its text unless it is told to show them."""


def opened_by_prompt(prompt_tail: str, markers: Sequence[Marker] = MARKERS) -> Marker | None:
    """The marker that the chat template itself left open at the end of the prompt (DeepSeek-R1 does)."""
    tail = prompt_tail.rstrip()
    return next((marker for marker in markers if tail.endswith(marker.open)), None)


class ReasoningParser:
    """Feed it text as it comes; it returns what can be told apart so far and holds back what may become a mark.

    `text` and `reasoning` are the whole answer without marks, right after `end()`, whatever was shown while it streamed: when a
    closing mark comes without an opening one, everything before it turns out to have been reasoning.
    """

    def __init__(self, markers: Sequence[Marker] = MARKERS, *, inside: Marker | None = None) -> None:
        self._markers = tuple(markers)
        self._inside = inside
        self._held = ""
        self._fresh = True
        self._closed_once = inside is not None
        self._begun = False
        # Lists, because an answer of 30,000 tokens must not be copied 30,000 times.
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._look_for_marks()

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    def feed(self, text: str) -> list[Said]:
        """Pieces that are certain now."""
        self._held += text
        pieces: list[Said] = []
        if self._starts.isdisjoint(self._held):
            # Almost every token: nothing in it can begin a mark.
            self._emit(pieces, self._held)
            self._held = ""
            return pieces
        while self._held:
            found = self._first_mark()
            if found is None:
                keep = self._possible_mark_length()
                self._emit(pieces, self._held[: len(self._held) - keep])
                self._held = self._held[len(self._held) - keep :]
                break
            at, mark = found
            self._emit(pieces, self._held[:at])
            self._held = self._held[at + len(mark) :]
            self._switch(mark)
        return pieces

    def end(self) -> list[Said]:
        """What was held back, now that nothing can follow."""
        pieces: list[Said] = []
        self._emit(pieces, self._held)
        self._held = ""
        self._text = [self.text.strip()]
        self._reasoning = [self.reasoning.strip()]
        return pieces

    def _look_for_marks(self) -> None:
        """Notes the marks that mean something now, and whether each counts only before the answer has begun."""
        if self._inside is not None:
            marks = [(self._inside.close, False)]
        else:
            marks = [(mark, False) for mark in (HARMONY.open, *_SILENT)] if HARMONY in self._markers else []
            if not self._begun:
                marks += [(marker.open, True) for marker in self._markers if marker != HARMONY]
            if not self._closed_once:
                marks += [(marker.close, False) for marker in self._markers if marker != HARMONY]
        self._marks = marks
        self._starts = frozenset(mark[0] for mark, _ in marks)

    def _first_mark(self) -> tuple[int, str] | None:
        found = []
        for mark, leading in self._marks:
            at = self._held.find(mark)
            if at >= 0 and not (leading and self._held[:at].strip()):
                found.append((at, -len(mark), mark))
        if not found:
            return None
        at, _, mark = min(found)
        return at, mark

    def _possible_mark_length(self) -> int:
        best = 0
        for mark, _ in self._marks:
            for length in range(min(len(mark) - 1, len(self._held)), best, -1):
                if self._held.endswith(mark[:length]):
                    best = length
                    break
        return best

    def _switch(self, mark: str) -> None:
        self._fresh = True
        opened = next((marker for marker in self._markers if marker.open == mark), None)
        if self._inside is not None:
            self._inside = None
            self._closed_once = True
        elif opened is not None:
            self._inside = opened
            if not self._begun:
                self._text = []
        elif any(marker.close == mark for marker in self._markers) and mark not in _SILENT:
            self._reasoning += self._text
            self._text, self._begun = [], False
            self._closed_once = True
        self._look_for_marks()

    def _emit(self, pieces: list[Said], text: str) -> None:
        if self._fresh:
            text = text.lstrip()
            if not text:
                return
            self._fresh = False
        if not text:
            return
        if self._inside is not None:
            self._reasoning.append(text)
            pieces.append(Said(kind="reasoning", text=text))
            return
        self._text.append(text)
        pieces.append(Said(kind="text", text=text))
        if not self._begun and text.strip():
            self._begun = True
            self._look_for_marks()


def split_reasoning(text: str, markers: Sequence[Marker] = MARKERS) -> tuple[str, str]:
    """(reasoning, answer) of a whole message, for transcripts of programs that keep both in one string.

    A text without any mark comes back as it is, white space included.
    """
    if not any(marker.open in text or marker.close in text for marker in markers):
        return "", text
    parser = ReasoningParser(markers)
    parser.feed(text)
    parser.end()
    return parser.reasoning, parser.text
