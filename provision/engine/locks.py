"""One installation at a time into an environment, and own state that can really be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provision.engine.environment import Environment
from provision.errors import MachineError
from provision.events import Note, Reporter
from provision.settings import Settings


@contextmanager
def writable_home(settings: Settings) -> Iterator[None]:
    """Own state can be written, and a disk that fills up meanwhile is named as such."""
    home = settings.provision_home
    elsewhere = "PROVISION_HOME=/path/you/can/write provision install"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".writable-{os.getpid()}"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise MachineError(f"{home} cannot be written: {error.strerror}", code="home-not-writable", hint=elsewhere) from error
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(f"the disk is full: {error}", code="no-disk", hint=elsewhere) from error
        raise


@contextmanager
def one_at_a_time(environment: Environment, reporter: Reporter) -> Iterator[None]:
    """Two installations into one environment wait for each other."""
    try:
        environment.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{environment.state_dir} cannot be made: {error.strerror}",
            code="environment-not-writable",
            hint="python3 -m venv .venv, then: provision install --python .venv/bin/python",
        ) from error
    waiting = "another installation into this environment is running; waiting for it"
    with alone(environment.state_dir / "lock", waiting=waiting, reporter=reporter):
        yield


@contextmanager
def alone(lock: Path, *, waiting: str, reporter: Reporter) -> Iterator[None]:
    """One at a time holds `lock`: a folder that is there, or a file that is made. Says `waiting` when it has to wait."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows, not tried
        yield
        return
    handle = os.open(lock, os.O_RDONLY if lock.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter(Note(level="info", message=waiting))
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
