"""Ollama Modelfiles, both ways (ollama/ollama parser/parser.go and docs/modelfile.md, version 0.12).

A Modelfile that builds on a name of Ollama's own library (`FROM llama3.2`) names no GGUF, so it cannot become a recipe.
Its TEMPLATE is Go text/template, which nothing here can run: the template inside the GGUF is used, and a note says so.
Values in quotes, one or three, may span lines and know no escapes: what is between the quotes is the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.errors import UsageError
from provision.recipes.foreign.imported import Imported, hub_model, is_path, put, recipe_name, unreadable
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
_NO_LONGER = {"use_mlock"}
"""Parameters Ollama only warns about today."""
CARRIED = {f"{table}.{key}" for name, (table, key, _) in _PARAMETERS.items() if name not in _NO_LONGER} | {
    "sampling.stop",
    "chat.system",
}
"""Settings of a recipe that a written Modelfile holds."""
_AT_LEAST = {"num_ctx": 1, "num_thread": 1, "num_batch": 1, "num_gpu": 0, "num_predict": 1, "seed": 0}
"""Below that, Ollama means its default, as a recipe does by leaving the key out."""
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
    for word, name, value in _instructions(text):
        match word:
            case "FROM":
                origin = value
            case "SYSTEM":
                put(data, "chat", "system", value)
            case "LICENSE":
                first = next((line for line in value.splitlines() if line.strip()), "empty LICENSE")
                data["license"] = " ".join(first.split())[:120]
            case "PARAMETER":
                _take_parameter(data, notes, name, value)
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
        if value is not None and value != "auto" and parameter not in _NO_LONGER:
            lines.append(f"PARAMETER {parameter} {str(value).lower() if isinstance(value, bool) else value}")
    lines += [_written("PARAMETER stop", stop) for stop in recipe.sampling.stop]
    if recipe.chat.system is not None:
        lines.append(_written("SYSTEM", recipe.chat.system))
    return "\n".join(lines) + "\n"


def _written(head: str, value: str) -> str:
    """`head` and `value` in the quotes it needs. UsageError when no quotes can carry it."""
    plain = value == value.strip() and "\n" not in value and value != "" and not value.startswith('"')
    candidates = [value] if plain else [f'"{value}"', f"{_QUOTES}{value}{_QUOTES}"]
    for candidate in candidates:
        try:
            read = [found for _, _, found in _instructions(f"{head} {candidate}")]
        except UsageError:
            continue
        if read == [value]:
            return f"{head} {candidate}"
    raise UsageError(f"{head} {value[:40]!r} cannot be written in a Modelfile, which knows no escapes", code="bad-export")


def _origin_tables(origin: str) -> dict[str, Any]:
    for host in _HUB_HOSTS:
        stripped = origin.removeprefix("https://")
        if stripped.startswith(host):
            return hub_model(stripped.removeprefix(host))
    if is_path(origin):
        return {"model": {"path": origin}}
    raise unreadable(
        "Modelfile",
        f"FROM {origin} is a name of Ollama's own library, which is no GGUF repository",
        hint="name the GGUF repository instead: FROM hf.co/org/name-GGUF:Q4_K_M",
    )


def _take_parameter(data: dict[str, Any], notes: list[str], name: str, value: str) -> None:
    name = name.lower()
    if name == "stop":
        data.setdefault("sampling", {}).setdefault("stop", []).append(value)
        return
    known = _PARAMETERS.get(name)
    if known is None:
        notes.append(f"PARAMETER {name} has no counterpart and was left out")
        return
    table, key, kind = known
    # Ollama itself refuses `0.2  # why`, which people write all the same.
    number = value.partition("#")[0].strip()
    try:
        converted = number.lower() in {"true", "1", "t"} if kind is bool else kind(number)
    except ValueError as error:
        raise unreadable("Modelfile", f"PARAMETER {name} {value!r} is not a number") from error
    if name in _AT_LEAST and converted < _AT_LEAST[name]:
        notes.append(f"PARAMETER {name} {converted} means the default, which is the default here too")
        return
    put(data, table, key, converted)


def _instructions(text: str) -> Iterator[tuple[str, str, str]]:
    """(INSTRUCTION, name, value): `name` is the parameter's or the role of a message, else empty."""
    lines = iter(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        word, rest = _cut(stripped)
        name, value = _cut(rest) if word.upper() in {"PARAMETER", "MESSAGE"} else ("", rest)
        while _open(value.strip()):
            try:
                value += "\n" + next(lines)
            except StopIteration:
                raise unreadable("Modelfile", f"the quotes after {word.upper()} never close") from None
        yield word.upper(), name, _unquoted(value.strip())


def _cut(text: str) -> tuple[str, str]:
    parts = text.split(None, 1)
    return parts[0] if parts else "", parts[1] if len(parts) > 1 else ""


def _open(value: str) -> bool:
    """Whether a quoted value goes on: it ends where a line ends in the quotes it began with."""
    if value.startswith(_QUOTES):
        return not (len(value) >= 2 * len(_QUOTES) and value.endswith(_QUOTES))
    return value.startswith('"') and not (len(value) >= 2 and value.endswith('"'))


def _unquoted(value: str) -> str:
    if value.startswith(_QUOTES):
        return value[len(_QUOTES) : -len(_QUOTES)]
    return value[1:-1] if value.startswith('"') else value
