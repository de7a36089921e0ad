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
_LARGEST_TEMPLATE_BYTES = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Saves a conversation after every turn, once it knows where, and never over what somebody else wrote there meanwhile."""

    path: Path | None = None
    format: Format = "list"
    _seen: tuple[int, ...] | None = None
    """Identity of the file as we last read or wrote it; None when it was not there."""

    def keep_in(self, path: Path | None) -> None:
        """Save to `path` from now on. Raises UsageError, before anything is touched, when that cannot or must not be."""
        if path is not None:
            _check_target(path)
        self.path = path
        self._seen = _identity(path) if path is not None else None

    def __call__(self, messages: Sequence[Message]) -> None:
        if self.path is None:
            return
        here = _identity(self.path)
        if here is not None and here != self._seen:
            raise UsageError(
                f"{self.path} was changed by another program; this conversation was not saved over it",
                code="not-saved",
                hint="/save OTHER-FILE keeps it",
            )
        save_transcript(self.path, messages, self.format)
        self._seen = _identity(self.path)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _check_target(path: Path) -> None:
    """Raises UsageError where no transcript can or must go: no folder, a device, a file that is something else."""
    target = Path(os.path.realpath(path))
    hint = "name another file"
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} for {path}", code="not-saved", hint=f"mkdir -p {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {target.parent} takes no new files from you", code="not-saved", hint=hint)
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(f"{path} is no plain file", code="not-saved", hint=hint)
    try:
        load_transcript(path)
    except UsageError as error:
        raise UsageError(
            f"{path} is there and holds no transcript, so it is left alone: {error.message}", code="not-saved", hint=hint
        ) from error


def load_transcript(path: Path, *, missing_ok: bool = False) -> Transcript:
    """The conversation in `path`. Raises UsageError when it is not there, cannot be read, or is not a transcript."""
    try:
        data = read_at_most(path, _LARGEST_BYTES)
        if data is None:
            raise UsageError(f"{path} is larger than any transcript", code="bad-transcript", hint="give a transcript file")
        text = data.decode("utf-8-sig")
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
    if target.exists() and not target.is_file():
        # A rename would put a file in the place of the device or pipe.
        raise UsageError(f"cannot save to {path}: it is no plain file", code="not-saved", hint="/save OTHER-FILE")
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
        data = read_at_most(path.expanduser(), _LARGEST_TEMPLATE_BYTES)
        why, text = ("it is larger than any template", "") if data is None else ("", data.decode())
    except OSError as error:
        why, text = error.strerror or str(error), ""
    except UnicodeDecodeError:
        why, text = "it is not UTF-8 text", ""
    if why:
        raise UsageError(f"cannot read the template {path}: {why}", code="bad-template", hint="give a Jinja file")
    return text


def read_at_most(path: Path, most_bytes: int) -> bytes | None:
    """What is in the file, None when that is more. The size is not asked for: devices and pipes say 0 and go on for ever."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    return data if len(data) <= most_bytes else None


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
