"""Makes other people's text harmless for a terminal: names from servers, archives and model files, and what a model says.

Either can hold escape sequences: clear the screen, set the clipboard (OSC 52), change the title, answer back as if typed.
Removed are ECMA-48 sequences in their 7-bit (ESC) and 8-bit (C1) forms with their contents, and every other control character
but newline and tab. Marks that turn the direction of writing let a name look like another one: they go from names, and stay in
what a model says, where right-to-left languages need them.
"""

from __future__ import annotations

import re

DIRECTION_MARKS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Unicode's bidirectional controls (UAX 9), as the inside of a character class. Joiners are none: scripts need them."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIRECTION = re.compile(f"[{DIRECTION_MARKS}]")
# A string sequence (OSC, DCS, APC, PM, SOS) that never ends must not swallow the rest of the answer.
_LONGEST_STRING = 512
_LONGEST_CSI = 64
_STRING_STARTS = {"]", "P", "X", "^", "_"}
_C1_STRING_STARTS = {"\x9d", "\x90", "\x98", "\x9e", "\x9f"}


class TerminalFilter:
    """Strips streamed text; a sequence may be cut anywhere between two pieces."""

    def __init__(self) -> None:
        self._state = "ground"
        self._length = 0

    def feed(self, text: str) -> str:
        """`text` without what a terminal would obey."""
        if self._state == "ground" and not _CONTROL.search(text):
            return text
        return "".join(char for char in text if self._passes(char))

    def _passes(self, char: str) -> bool:
        self._length += 1
        match self._state:
            case "escape":
                return self._after_escape(char)
            case "csi":
                return self._in_csi(char)
            case "string":
                return self._in_string(char)
        return self._on_ground(char)

    def _on_ground(self, char: str) -> bool:
        self._state, self._length = "ground", 0
        if char == "\x1b":
            self._state = "escape"
        elif char == "\x9b":
            self._state = "csi"
        elif char in _C1_STRING_STARTS:
            self._state = "string"
        return not _CONTROL.match(char)

    def _after_escape(self, char: str) -> bool:
        if char == "[":
            self._state = "csi"
        elif char in _STRING_STARTS:
            self._state = "string"
        elif " " <= char <= "/":
            pass  # intermediate bytes: the final one is still to come
        elif "0" <= char <= "~":
            self._state = "ground"
        else:
            return self._on_ground(char)
        return False

    def _in_csi(self, char: str) -> bool:
        if "@" <= char <= "~":
            self._state = "ground"
            return False
        if " " <= char <= "?" and self._length < _LONGEST_CSI:
            return False
        return self._on_ground(char)

    def _in_string(self, char: str) -> bool:
        if char in {"\x07", "\x9c"}:
            self._state = "ground"
            return False
        if char == "\x1b":
            self._state = "escape"  # ESC \ ends the string; any other sequence ends it as well
            return False
        if self._length >= _LONGEST_STRING:
            return self._on_ground(char)
        return False


def strip_terminal_escapes(text: str) -> str:
    """The whole text without what a terminal would obey."""
    return TerminalFilter().feed(text)


def harmless(text: str) -> str:
    """`text` for a screen: nothing in it is obeyed, and nothing reads in another order than it is written."""
    return _DIRECTION.sub("", strip_terminal_escapes(text))
