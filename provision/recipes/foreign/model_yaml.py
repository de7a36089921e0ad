"""LM Studio's model.yaml (lmstudio.ai/docs/app/modelyaml, a draft in 2026-11): which Hub repository, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from provision.recipes.foreign.imported import Imported, put, recipe_name, unreadable

# LM Studio's key -> (table, key) of a recipe.
_FIELDS = {
    "llm.prediction.temperature": ("sampling", "temperature"),
    "llm.prediction.topKSampling": ("sampling", "top_k"),
    "llm.prediction.topPSampling": ("sampling", "top_p"),
    "llm.prediction.minPSampling": ("sampling", "min_p"),
    "llm.prediction.repeatPenalty": ("sampling", "repeat_penalty"),
    "llm.prediction.maxPredictedTokens": ("sampling", "max_tokens"),
    "llm.prediction.stopStrings": ("sampling", "stop"),
    "llm.prediction.systemPrompt": ("chat", "system"),
    "llm.load.contextLength": ("load", "n_ctx"),
}
_REASONING = "llm.prediction.reasoning.parsing"


def read_model_yaml(text: str) -> Imported:
    """The recipe of a model.yaml: its first GGUF source on Hugging Face, with load and prediction settings."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise unreadable("model.yaml", f"it is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(document, Mapping) or not isinstance(document.get("model"), str):
        raise unreadable("model.yaml", "it has no `model: publisher/name`")
    notes: list[str] = []
    name = recipe_name(document["model"])
    data: dict[str, Any] = {"name": name, "title": document["model"], "model": {"repo": _repository(document, notes)}}
    config = document.get("config")
    for part in ("load", "operation"):
        section = config.get(part) if isinstance(config, Mapping) else None
        fields = section.get("fields") if isinstance(section, Mapping) else None
        for field in fields if isinstance(fields, list) else []:
            if isinstance(field, Mapping):
                _take(data, notes, str(field.get("key")), field.get("value"))
    if document.get("customFields"):
        notes.append("customFields are buttons of LM Studio and were left out")
    return Imported(data=data, notes=tuple(notes))


def _repository(document: Mapping[str, Any], notes: list[str]) -> str:
    base = document.get("base")
    if isinstance(base, str):
        return base
    repositories: list[str] = []
    for entry in base if isinstance(base, list) else []:
        sources = entry.get("sources") if isinstance(entry, Mapping) else None
        for source in sources if isinstance(sources, list) else []:
            if isinstance(source, Mapping) and source.get("type") == "huggingface":
                repositories.append(f"{source.get('user')}/{source.get('repo')}")
    gguf = [repo for repo in repositories if "gguf" in repo.lower()]
    if not gguf:
        raise unreadable("model.yaml", "none of its sources is a GGUF repository on Hugging Face")
    notes += [f"source {repo} was left out" for repo in repositories if repo != gguf[0]]
    return gguf[0]


def _take(data: dict[str, Any], notes: list[str], key: str, value: Any) -> None:
    if key == _REASONING and isinstance(value, Mapping):
        if value.get("enabled", True):
            put(data, "chat", "reasoning", {"open": value.get("startString"), "close": value.get("endString")})
        return
    target = _FIELDS.get(key)
    if target is None:
        notes.append(f"{key} has no counterpart and was left out")
        return
    if isinstance(value, Mapping):
        # Optional settings come as {checked: true, value: 0.95}.
        if not value.get("checked", True):
            return
        value = value.get("value")
    put(data, *target, value)
