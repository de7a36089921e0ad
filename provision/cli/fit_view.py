"""How a fit looks to people: a bar per memory, the candidates, and the arguments to copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from provision.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

_BAR = 40
_PARTS = (("model_bytes", "█", "model"), ("context_bytes", "▓", "context"), ("compute_bytes", "▒", "compute"))


def render(console: Console, data: Mapping[str, Any], *, explain: bool = False) -> None:
    say = _printer(console)
    trained = data["n_ctx_train"] or "?"
    say(f"{data['target']}: {data['architecture']}, {data['n_layers']} layers, trained for {trained} tokens")
    if len(data["candidates"]) > 1 or data["chosen"] is None:
        _candidates(console, data)
    chosen = data["chosen"]
    if chosen is None:
        return
    say("")
    for memory in (*chosen["devices"], chosen["host"]):
        _bar(console, memory)
    say("  █ model  ▓ context  ▒ compute  ░ left of what may be used")
    say("")
    total = data["n_layers"] + 1
    say(f"n_gpu_layers {chosen['n_gpu_layers']} of {total} · n_ctx {chosen['n_ctx']} · figures from the {_source(chosen)}")
    speed = chosen["tokens_per_s"]
    if speed:
        say(f"about {_rate(speed['low'])} to {_rate(speed['high'])} tokens/s ({speed['basis']})")
    if chosen.get("measured"):
        say(chosen["measured"])
    if explain:
        say("")
        for reason in chosen["reasons"]:
            say(f"- {reason}")
    arguments = ", ".join(f"{key}={value!r}" for key, value in chosen["llama_kwargs"].items())
    say("")
    say(f"Llama(model_path=..., {arguments})")


def _printer(console: Console) -> Any:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    return say


def _rate(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _source(chosen: Mapping[str, Any]) -> str:
    return "installed engine itself" if chosen["estimator"] == "engine" else "analytic estimate"


def _bar(console: Console, memory: Mapping[str, Any]) -> None:
    whole = max(memory["budget_bytes"], sum(memory[key] for key, _, _ in _PARTS), 1)
    bar, words, used = "", [], 0
    for key, mark, word in _PARTS:
        used += memory[key]
        bar += mark * (round(_BAR * used / whole) - len(bar))
        words.append(f"{word} {format_bytes(memory[key])}")
    bar += "░" * (_BAR - len(bar))
    console.print(f"{memory['name']}", markup=False, highlight=False)
    console.print(f"  {bar} {format_bytes(used)} of {format_bytes(memory['budget_bytes'])}", markup=False, highlight=False)
    console.print("  " + " · ".join(words), markup=False, highlight=False)


def _candidates(console: Console, data: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    chosen = data["chosen"]["quant"] if data["chosen"] else None
    table = Table(box=SIMPLE, pad_edge=False)
    for title in ("", "quant", "size", "bits/weight", "mean KLD", "verdict", "why"):
        table.add_column(title, overflow="fold")
    for item in data["candidates"]:
        quality = item["quality"]
        table.add_row(
            "→" if item["quant"] is not None and item["quant"] == chosen else "",
            item["quant"] or "?",
            format_bytes(item["size_bytes"]),
            f"{item['bits_per_weight']:.2f}" if item["bits_per_weight"] else "?",
            f"{quality['mean_kld']:.4f}" if quality else "?",
            item["verdict"],
            item["reason"],
        )
    console.print(table)
