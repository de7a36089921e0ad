"""Ollama Modelfiles, both ways (ollama/ollama docs/modelfile.md, version 0.12).

A Modelfile that builds on a name of Ollama's own library (`FROM llama3.2`) names no GGUF, so it cannot become a recipe.
Its TEMPLATE is Go text/template, which nothing here can run: the template inside the GGUF is used, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from provision.errors import UsageError
from provision.recipes.foreign.imported import Imported, hub_model, put, recipe_name, unreadable
from provision.recipes.schema import Recipe

_HUB_HOSTS = ("hf.co/", "huggingface.co/")
_QUOTES = '"""'
# Modelfile parameter -> (table, key, type) of a recipe.
_PARAMETERS: dict[str, tuple[str, str, type]] = {
    "num_ctx": ("load", "n_ctx", int),
    "num_gpu": ("load", "n_gpu_layers", int),
    "num_thread": ("load", "n_threads", int),
    "num_batch": ("load", "n_batch", int),
    "use_mmap": ("load", "use_mmap", bool),
    "use_mlock": ("load", "use_mlock", bool),
    "temperature": ("sampling", "temperature", float),
    "top_k": ("sampling", "top_k", int),
    "top_p": ("sampling", "top_p", float),
    "min_p": ("sampling", "min_p", float),
    "repeat_penalty": ("sampling", "repeat_penalty", float),
    "presence_penalty": ("sampling", "presence_penalty", float),
    "frequency_penalty": ("sampling", "frequency_penalty", float),
    "num_predict": ("sampling", "max_tokens", int),
    "seed": ("sampling", "seed", int),
}
_IGNORED = {
    "TEMPLATE": "TEMPLATE is Go text/template; the template inside the GGUF is used instead",
    "MESSAGE": "MESSAGE lines are a conversation, not a setting: give them to `provision chat -i`",
    "ADAPTER": "ADAPTER (LoRA) has no place in a recipe yet",
    "RENDERER": "RENDERER is built into Ollama",
    "PARSER": "PARSER is built into Ollama",
    "REQUIRES": "REQUIRES speaks of Ollama's version",
}


def read_modelfile(text: str) -> Imported:
    """The recipe a Modelfile describes. UsageError `bad-import` when it names no GGUF or breaks the syntax."""
    data: dict[str, Any] = {}
    notes: list[str] = []
    origin: str | None = None
    for word, rest in _instructions(text):
        match word:
            case "FROM":
                origin = rest
            case "SYSTEM":
                put(data, "chat", "system", rest)
            case "LICENSE":
                data["license"] = rest.strip().splitlines()[0][:120] if rest.strip() else "empty LICENSE"
            case "PARAMETER":
                _take_parameter(data, notes, rest)
            case _ if word in _IGNORED:
                if _IGNORED[word] not in notes:
                    notes.append(_IGNORED[word])
            case _:
                raise unreadable("Modelfile", f"it has no instruction {word!r}")
    if not origin:
        raise unreadable("Modelfile", "it has no FROM line")
    data.update(_origin_tables(origin))
    name = recipe_name(origin)
    return Imported(data={"name": name, "title": name, **data}, notes=tuple(notes))


def write_modelfile(recipe: Recipe, *, model: str) -> str:
    """A Modelfile for `recipe`; `model` is what FROM names: a GGUF path or `hf.co/org/name:QUANT`."""
    lines = [f"# {recipe.title}; written by provision from recipe {recipe.name}", f"FROM {model}"]
    tables: dict[str, dict[str, Any]] = {"load": recipe.load.model_dump(), "sampling": recipe.sampling.model_dump()}
    for parameter, (table, key, _) in _PARAMETERS.items():
        value = tables[table][key]
        if value is not None and value != "auto":
            lines.append(f"PARAMETER {parameter} {str(value).lower() if isinstance(value, bool) else value}")
    lines += [f'PARAMETER stop "{_escaped(stop)}"' for stop in recipe.sampling.stop]
    if recipe.chat.system is not None:
        if _QUOTES in recipe.chat.system:
            raise UsageError('the system prompt holds """, which a Modelfile cannot carry', code="bad-export")
        lines.append(f"SYSTEM {_QUOTES}{recipe.chat.system}{_QUOTES}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _origin_tables(origin: str) -> dict[str, Any]:
    for host in _HUB_HOSTS:
        stripped = origin.removeprefix("https://")
        if stripped.startswith(host):
            return hub_model(stripped.removeprefix(host))
    if origin.endswith(".gguf") or origin.startswith((".", "/", "~")):
        return {"model": {"path": origin}}
    raise unreadable(
        "Modelfile",
        f"FROM {origin} is a name of Ollama's own library, which is no GGUF repository",
        hint="name the GGUF repository instead: FROM hf.co/org/name-GGUF:Q4_K_M",
    )


def _take_parameter(data: dict[str, Any], notes: list[str], rest: str) -> None:
    name, _, value = rest.strip().partition(" ")
    value = _unquoted(value.strip())
    if name == "stop":
        data.setdefault("sampling", {}).setdefault("stop", []).append(value)
        return
    known = _PARAMETERS.get(name)
    if known is None:
        notes.append(f"PARAMETER {name} has no counterpart and was left out")
        return
    table, key, kind = known
    try:
        converted = value.lower() in {"true", "1"} if kind is bool else kind(value)
    except ValueError as error:
        raise unreadable("Modelfile", f"PARAMETER {name} {value!r} is not a number") from error
    if name == "num_gpu" and converted < 0:
        return
    if name == "num_predict" and converted < 0:
        notes.append("num_predict below 0 means no limit, which is the default here")
        return
    put(data, table, key, converted)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, argument) pairs; arguments in triple quotes may span lines."""
    lines = iter(text.splitlines())
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        word, _, rest = stripped.partition(" ")
        rest = rest.strip()
        opening = re.search(_QUOTES, rest)
        if opening is None:
            yield word.upper(), _unquoted(rest) if word.upper() in {"SYSTEM", "FROM"} else rest
            continue
        body = rest[opening.end() :]
        while _QUOTES not in body:
            try:
                body += "\n" + next(lines)
            except StopIteration:
                raise unreadable("Modelfile", f"the quotes after {word.upper()} never close") from None
        yield word.upper(), body[: body.index(_QUOTES)]


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
    return value
