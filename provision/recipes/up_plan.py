"""`provision up --plan`: what each step would do, found out without changing anything."""

from __future__ import annotations

from typing import Any

from provision.recipes.rooms import Rooms
from provision.recipes.target import Wanted
from provision.recipes.up import choose, fit_line, machine_line
from provision.units import format_bytes


def plan_up(wanted: Wanted, *, rooms: Rooms) -> dict[str, Any]:
    """`data` of `up --plan`. The machine is probed and the hub is asked; a step that would fail raises its own error."""
    recipe = wanted.recipe
    looked = rooms.doctor()
    install = rooms.install(recipe, looked.host, True)
    chosen = choose(wanted, rooms=rooms, host=looked.host)
    questions = len(recipe.verify.questions)
    asked = f"{questions} question{'s' if questions != 1 else ''} of the recipe" if questions else "known answers"
    steps = [
        _step("doctor", machine_line(looked.host), [*looked.errors, *looked.warnings]),
        _step("install", f"llama-cpp-python {install['engine_version']} for {install['backend']}", _install_details(install)),
        _step("fit", fit_line(chosen), [str(reason) for reason in chosen.get("reasons", [])]),
        _fetch_step(wanted, rooms=rooms, quant=chosen.get("quant")),
        _step("smoke", f"profile {recipe.verify.profile}: {asked}, EOS, finite logits, speed", []),
    ]
    return {"recipe": wanted.text, "plan": steps, "steps": [], "verdict": None, "answer": None, "smoke": None}


def _fetch_step(wanted: Wanted, *, rooms: Rooms, quant: str | None) -> dict[str, Any]:
    if wanted.local_path is not None:
        return _step("fetch", f"nothing: {wanted.local_path.name} is here", [])
    data = rooms.fetch(wanted.recipe, quant, True)
    sizes = [file["size_bytes"] or 0 for file in data["files"]]
    missing = sum(file["size_bytes"] or 0 for file in data["files"] if file["action"] not in ("keep", "check", "copy", "kept"))
    summary = f"{format_bytes(sum(sizes))} from {data['repo_id']}, {format_bytes(missing)} still to transfer"
    return _step("fetch", summary, [file["path"] for file in data["files"]])


def _install_details(install: Any) -> list[str]:
    plan = install.get("plan") or {}
    reasons = [reason if isinstance(reason, str) else str(reason.get("why", reason)) for reason in plan.get("reasons", [])]
    arguments = plan.get("cmake_args") or []
    return reasons + ([f"CMAKE_ARGS {' '.join(arguments)}"] if arguments else [])


def _step(name: str, summary: str, details: list[str]) -> dict[str, Any]:
    return {"name": name, "summary": summary, "details": details}
