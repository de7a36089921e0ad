"""Where `provision` and `python -m provision` begin: Ctrl-C is heeded before anything else is imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def run() -> None:
    """Console-script entry."""
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        # An exception amid an import ends in a traceback. The import takes a moment, and then there is a voice to say it with.
        nonlocal pressed
        if pressed:
            os._exit(_INTERRUPTED)
        pressed = True

    # Whoever starts us with Ctrl-C ignored (nohup, a job in the background) means that.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, remember)
    from provision.cli.main import run as run_command

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command(interrupted=pressed)


if __name__ == "__main__":
    run()
