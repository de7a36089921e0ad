"""The file that holds a server's key: alone on one line, readable by its owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from provision.errors import UsageError


def read_or_create_key(path: Path) -> tuple[str, bool]:
    """(key, whether it was made just now). Raises UsageError (`bad-key-file`) when others can read it or it holds no key."""
    try:
        return read_key(path), False
    except FileNotFoundError:
        pass
    key = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return read_key(path), False  # another server made it in this very moment
    except OSError as error:
        raise _bad(path, f"cannot be written: {error.strerror}", "name another: --api-key-file FILE") from None
    return key, True


def read_key(path: Path) -> str:
    """The key in `path`. Raises FileNotFoundError, and UsageError (`bad-key-file`) when it cannot be trusted."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError:
        raise _bad(path, "holds more than plain characters", "a key is one line of ASCII") from None
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}", "name another: --api-key-file FILE") from None
    if os.name == "posix" and mode & 0o077:
        raise _bad(path, f"can be read by others (mode {mode:04o})", f"chmod 600 {path}")
    key = text.strip()
    if not key or any(char.isspace() or not char.isprintable() for char in key):
        raise _bad(path, "does not hold a key alone on one line", f"delete it, and a new key is made: rm {path}")
    return key


def _bad(path: Path, what: str, hint: str) -> UsageError:
    return UsageError(f"the key file {path} {what}", code="bad-key-file", hint=hint)
