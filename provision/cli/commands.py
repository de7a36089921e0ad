"""The table of commands. A command's module imports only typer and the words floor; its rooms are imported when it runs."""

from __future__ import annotations

import typer

from provision.cli import bench, bundle, cache, chat, doctor, fetch, fit, install, lock, recipe, serve, uninstall, up, verify


def register(app: typer.Typer) -> None:
    """Add every command to `app`, in the order people meet them."""
    up.register(app)
    app.command("doctor")(doctor.doctor)
    app.command("install")(install.install)
    fit.register(app)
    fetch.register(app)
    verify.register(app)
    recipe.register(app)
    lock.register(app)
    bundle.register(app)
    cache.register(app)
    app.command("chat")(chat.chat)
    app.command("serve")(serve.serve)
    app.command("bench")(bench.bench)
    app.command("uninstall")(uninstall.uninstall)
