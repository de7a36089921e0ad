"""Transcripts and templates on disk. A file is there whole or as it was before, whatever kills us while it is written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.chat.transcripts import Format, Transcript, dump_transcript, parse_transcript
from provision.chat.types import Message
from provision.errors import UsageError

_LARGEST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Saves a conversation after every turn, once it knows where."""

    path: Path | None = None
    format: Format = "list"

    def __call__(self, messages: Sequence[Message]) -> None:
        if self.path is not None:
            save_transcript(self.path, messages, self.format)


def load_transcript(path: Path, *, missing_ok: bool = False) -> Transcript:
    """The conversation in `path`. Raises UsageError when it is not there, cannot be read, or is not a transcript."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UsageError(f"{path} is larger than any transcript", code="bad-transcript", hint="give a transcript file")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if missing_ok:
            return Transcript(messages=(), format="list")
        raise UsageError(f"{path} does not exist", code="no-transcript", hint=f"to start a new one there: -io {path}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error}", code="bad-transcript", hint="save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="no-transcript", hint="look at the path") from None
    return parse_transcript(text, name=str(path))


def save_transcript(path: Path, messages: Sequence[Message], form: Format = "list") -> None:
    """Write the conversation to `path`. A new file is for its owner alone (0600); an existing one keeps its mode.

    A symbolic link is written through, not replaced. Raises UsageError when the folder does not take it.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        write_atomically(target, dump_transcript(messages, form).encode(), mode=mode)
    except OSError as error:
        raise UsageError(f"cannot save to {path}: {error.strerror}", code="not-saved", hint="/save OTHER-FILE") from error


def read_template(path: Path | None) -> str | None:
    """The Jinja text in `path`, None for no path. Raises UsageError (`bad-template`) for a file that cannot be read as text."""
    if path is None:
        return None
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the template {path}: {error}", code="bad-template", hint="give a Jinja file") from None


def keep_template(text: str, folder: Path) -> Path:
    """A file in `folder` that holds `text`, readable by everybody: a container's user need not be the one that writes it."""
    data = text.encode()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.jinja"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data, mode=0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", code="not-saved", hint=f"ls -ld {folder}") from error
    return path


def write_atomically(target: Path, data: bytes, *, mode: int) -> None:
    """`data` under the name `target`, whole or not at all, and on the disk when this returns."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
