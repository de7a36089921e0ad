"""A person at a terminal: a command on a pseudo-terminal, typed to and read from."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

_DRAWING = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|\x1b[=>78]|\x08|\r")


class PtySession:
    """Runs `argv` on a terminal of `columns`. Use as a context manager; leaving it ends the command."""

    def __init__(self, argv: Sequence[str], *, environ: Mapping[str, str], columns: int = 120) -> None:
        self._seen = 0
        self.raw = ""
        self.exit_code: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            # Asking where the cursor is needs a terminal that answers; this one does not.
            os.execvpe(argv[0], list(argv), {"TERM": "xterm", **environ, "PROMPT_TOOLKIT_NO_CPR": "1"})
        self.resize(columns)

    def __enter__(self) -> PtySession:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    @property
    def text(self) -> str:
        """All that was printed, without what moves the cursor; an unfinished sequence at the end does not count yet."""
        return _DRAWING.sub("", self.raw).split("\x1b")[0]

    def resize(self, columns: int) -> None:
        """Make the window wider or narrower."""
        import fcntl
        import termios

        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def send(self, text: str) -> None:
        """Type `text`; Enter is a carriage return."""
        os.write(self._fd, text.encode())

    def line(self, text: str) -> None:
        """Type `text` and Enter."""
        self.send(text + "\r")

    def signal(self, number: int) -> None:
        """Send a signal to the command itself."""
        os.kill(self.pid, number)

    def expect(self, pattern: str, *, timeout_s: float = 20) -> str:
        """Wait until `pattern` appears in what came since the last match; returns the text up to it and with it."""
        deadline = time.monotonic() + timeout_s
        while True:
            fresh = self.text[self._seen :]
            match = re.search(pattern, fresh)
            if match is not None:
                self._seen += match.end()
                return fresh[: match.end()]
            if time.monotonic() > deadline or not self._pump(0.2):
                raise AssertionError(f"{pattern!r} did not appear; the screen says:\n{self.text[-2000:]}")

    def end(self, *, timeout_s: float = 30) -> int:
        """Wait for the command to leave by itself; its exit code, negative for a signal."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._pump(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
                return self.exit_code
        raise AssertionError(f"the command did not leave; the screen says:\n{self.text[-2000:]}")

    def _pump(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if ready:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.raw += data.decode("utf-8", "replace")
        return True
