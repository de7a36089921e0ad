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
    "llm.prediction.llama.cpuThreads": ("load", "n_threads"),
    "llm.load.contextLength": ("load", "n_ctx"),
    "llm.load.llama.flashAttention": ("load", "flash_attn"),
    "llm.load.llama.kCacheQuantizationType": ("load", "kv_type"),
    "llm.load.llama.acceleration.offloadRatio": ("load", "n_gpu_layers"),
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
    _take_defaults(data, notes, document.get("customFields"))
    if document.get("suggestions"):
        notes.append("suggestions are shown by LM Studio only and were left out")
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
    if target[1] == "n_gpu_layers":
        # A share of the layers; only all and none can be said without knowing how many there are.
        known = {"max": -1, 1: -1, "off": 0, 0: 0}
        if not isinstance(value, str | int | float) or value not in known:
            notes.append(f"{key} {value!r} has no counterpart and was left out")
            return
        value = known[value]
    if target[1] == "kv_type" and value not in ("f16", "q8_0", "q4_0"):
        notes.append(f"{key} {value!r} has no counterpart and was left out")
        return
    put(data, *target, value)


def _take_defaults(data: dict[str, Any], notes: list[str], fields: Any) -> None:
    """Buttons of LM Studio that set a variable of the template: their defaults hold where there is no button."""
    for field in fields if isinstance(fields, list) else []:
        if not isinstance(field, Mapping):
            continue
        effects = field.get("effects")
        names = [
            effect.get("variable")
            for effect in (effects if isinstance(effects, list) else [])
            if isinstance(effect, Mapping) and effect.get("type") == "setJinjaVariable"
        ]
        value = field.get("defaultValue")
        if not isinstance(value, bool | int | float | str) or not all(isinstance(name, str) for name in names):
            names = []
        for name in names:
            data.setdefault("chat", {}).setdefault("template_kwargs", {})[name] = value
        if not names:
            notes.append(f"customFields {field.get('key')} is a button of LM Studio and was left out")
