"""The table of commands. A command's module imports only typer and the words floor; its rooms are imported when it runs."""

from __future__ import annotations

from importlib import import_module

import typer

# Command to module, in the order people meet them.
_MODULE_OF = {
    "up": "up",
    "doctor": "doctor",
    "install": "install",
    "fit": "fit",
    "fetch": "fetch",
    "verify": "verify",
    "recipe": "recipe",
    "lock": "lock",
    "sync": "lock",
    "bundle": "bundle",
    "cache": "cache",
    "chat": "chat",
    "serve": "serve",
    "bench": "bench",
    "uninstall": "uninstall",
}


def register(app: typer.Typer, *, only: str = "") -> None:
    """Add every command to `app`; when `only` names one, its module's alone, for describing the others takes time too."""
    for name in [_MODULE_OF[only]] if only in _MODULE_OF else dict.fromkeys(_MODULE_OF.values()):
        module = import_module(f"provision.cli.{name}")
        if hasattr(module, "register"):
            module.register(app)
        else:
            app.command(name)(getattr(module, name))
