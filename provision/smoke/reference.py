"""The tokenizer and the chat template as their author published them, when they are at hand: beside the file or in the Hub's
cache. Nothing is downloaded."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.gguf.header import GgufError, GgufHeader, StringArray
from provision.smoke.types import Check

_REPOSITORY_KEYS = ("general.source.huggingface.repository", "general.base_model.0.repo_url", "general.source.repo_url")
_REPOSITORY = re.compile(r"(?:https://huggingface\.co/)?([\w.-]+)/([\w.-]+)/?")
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_MAX_BYTES = 64 * 1024 * 1024
_TOLERATED = 2  # texts; more than that is another tokenizer
_SAME_FAMILY = 0.05
REMEDY = "take another conversion of the model; compare its files first: provision verify MODEL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What was found in `folder`: parsed JSON, the chat template and the words it needs."""

    folder: Path
    tokenizer: Mapping[str, Any] | None
    template: str | None
    bos: str
    eos: str

    def template_data(self) -> dict[str, str] | None:
        """The part the measuring child needs to render conversations; None without a template."""
        if self.template is None:
            return None
        return {"template": self.template, "bos": self.bos, "eos": self.eos}


def find_reference(model: Path, header: GgufHeader | None, *, hub_cache: Path) -> Reference | None:
    """From the first folder that holds a tokenizer: the model's own, its snapshot, its original's in the Hub's cache."""
    for folder in _folders(model, header, hub_cache):
        if any((folder / name).is_file() for name in _FILES):
            config = _read(folder / "tokenizer_config.json") or {}
            return Reference(
                folder=folder,
                tokenizer=_read(folder / "tokenizer.json"),
                template=_template(folder, config),
                bos=_word(config.get("bos_token")),
                eos=_word(config.get("eos_token")),
            )
    return None


def _folders(model: Path, header: GgufHeader | None, hub_cache: Path) -> Iterator[Path]:
    yield model.parent
    for parent in model.parents:
        if parent.parent.name == "snapshots":
            yield parent
    for key in _REPOSITORY_KEYS if header else ():
        named = _REPOSITORY.fullmatch((header.text(key) or "") if header else "")
        # Names from a file are not to be trusted: no folder above the cache is ever looked into.
        if named and ".." not in (named[1], named[2]):
            yield from sorted((hub_cache / f"models--{named[1]}--{named[2]}" / "snapshots").glob("*"))


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        pass
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _word(token: Any) -> str:
    """A special token's text: a string, or an object with its `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def judge_reference(
    reference: Reference | None, header: GgufHeader | None, texts: Sequence[str], ids: Sequence[Sequence[int]] | None
) -> list[Check]:
    """D4: the file's vocabulary and merges are those of tokenizer.json, and the engine reads text as the original does.

    `ids` are the engine's for each of `texts`, without BOS and control tokens. The second half needs the `tokenizers` library.
    """
    if reference is None or reference.tokenizer is None or header is None:
        why = "no tokenizer.json beside the file or in the Hub's cache"
        return [Check(id="D4-vocabulary", status="skip", summary=f"not checked against the original: {why}")]
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    vocabulary, added = _vocabulary(reference.tokenizer)
    if not isinstance(tokens, StringArray) or not vocabulary:
        return [
            Check(id="D4-vocabulary", status="skip", summary="not checked: this kind of tokenizer is converted, not copied")
        ]
    if abs(len(vocabulary) - len(tokens)) > _SAME_FAMILY * len(tokens):
        summary = f"not checked: tokenizer.json in {reference.folder.name}/ is of another model ({len(vocabulary)} tokens)"
        return [Check(id="D4-vocabulary", status="skip", summary=summary, value=len(tokens), threshold=len(vocabulary))]
    checks = [_vocabulary_check(tokens, vocabulary, added, _merges_differ(header, reference.tokenizer))]
    checks.append(_ids_check(reference.folder / "tokenizer.json", texts, ids))
    return checks


def _vocabulary(tokenizer: Mapping[str, Any]) -> tuple[dict[int, str], set[int]]:
    """Text of every id, and which ids are added tokens; empty for kinds whose pieces a conversion rewrites (WordPiece)."""
    model = tokenizer.get("model")
    pieces = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(model, dict) and model.get("type") == "WordPiece":
        return {}, set()
    found: dict[int, str] = {}
    if isinstance(pieces, dict):
        found = {index: text for text, index in pieces.items() if isinstance(index, int)}
    elif isinstance(pieces, list):
        found = {index: str(pair[0]) for index, pair in enumerate(pieces) if isinstance(pair, list) and pair}
    listed = tokenizer.get("added_tokens")
    added = {
        one["id"]: one["content"]
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and isinstance(one.get("id"), int) and isinstance(one.get("content"), str)
    }
    return found | added, set(added)


def _merges_differ(header: GgufHeader, tokenizer: Mapping[str, Any]) -> bool:
    model = tokenizer.get("model")
    theirs = model.get("merges") if isinstance(model, dict) else None
    ours = header.metadata.get("tokenizer.ggml.merges")
    if not isinstance(theirs, list) or not isinstance(ours, StringArray):
        return False
    wanted = [" ".join(map(str, merge)) if isinstance(merge, list) else str(merge) for merge in theirs]
    return list(ours) != wanted


def _vocabulary_check(tokens: StringArray, vocabulary: Mapping[int, str], added: set[int], merges_differ: bool) -> Check:
    try:
        differing = [index for index, text in enumerate(tokens) if vocabulary.get(index, text) != text]
    except GgufError:
        differing = []  # tokens that are no UTF-8: the engine has its own word on that
    ordinary = [index for index in differing if index not in added]
    bad = bool(ordinary) or merges_differ
    what = f"{len(differing)} tokens differ from tokenizer.json" + (f", first: id {differing[0]}" if differing else "")
    if merges_differ:
        what = "the merges differ from tokenizer.json" + (f", and {what}" if differing else "")
    return Check(
        id="D4-vocabulary",
        status="fail" if bad else "warn" if differing else "pass",
        summary=what if differing or merges_differ else f"{len(vocabulary)} tokens as in tokenizer.json",
        value=len(differing),
        threshold=0,
        remedy=REMEDY if differing or merges_differ else None,
    )


def _ids_check(path: Path, texts: Sequence[str], ids: Sequence[Sequence[int]] | None) -> Check:
    if ids is None:
        return Check(id="D4-token-ids", status="skip", summary="not checked: the engine tokenized nothing")
    try:
        library: Any = importlib.import_module("tokenizers")
    except ImportError:
        summary = "not checked: the tokenizers library is not installed"
        return Check(id="D4-token-ids", status="skip", summary=summary, remedy="pip install tokenizers")
    try:
        original = library.Tokenizer.from_file(str(path))
        wanted = [list(original.encode(text, add_special_tokens=False).ids) for text in texts]
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a file it cannot read
        return Check(id="D4-token-ids", status="skip", summary=f"not checked: tokenizer.json cannot be read: {error}"[:200])
    lost = [text for text, ours, theirs in zip(texts, ids, wanted, strict=True) if list(ours) != theirs]
    return Check(
        id="D4-token-ids",
        status="fail" if len(lost) > _TOLERATED else "warn" if lost else "pass",
        summary=f"{len(texts) - len(lost)}/{len(texts)} texts give the ids of tokenizer.json"
        + (f"; first that does not: {lost[0]!r}" if lost else ""),
        value=len(lost),
        threshold=0,
        remedy=REMEDY if lost else None,
    )
