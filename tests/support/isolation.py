"""Keeps unit and property tests away from the network, from processes and from the real home, by accident or otherwise."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest


class TouchedTheMachine(BaseException):
    """A pure test reached for the machine. Not an Exception, so that no code under test can swallow it."""


def isolate(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def refuse(what: str) -> Any:
        def refusal(*args: Any, **kwargs: Any) -> Any:
            raise TouchedTheMachine(f"a unit test tried to {what}: {args!r}")

        return refusal

    monkeypatch.setattr(socket.socket, "connect", refuse("connect"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("resolve a name"))
    monkeypatch.setattr(subprocess, "Popen", refuse("start a process"))
    monkeypatch.setattr(os, "system", refuse("start a process"))
    monkeypatch.setenv("HOME", str(home))
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "XDG_", "CUDA", "PROVISION_", "CMAKE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
