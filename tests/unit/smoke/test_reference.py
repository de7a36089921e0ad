"""Against the original tokenizer: found where it lies, compared token by token, and never mistaken for another model's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.gguf.header import GgufHeader
from provision.gguf.reader import read_header
from provision.gguf.source import FileSource
from provision.smoke.demo import demo_model_path
from provision.smoke.reference import find_reference, judge_reference
from provision.smoke.types import Check
from tests.support.demo_variants import demo_tokenizer_json, load_demo, write_demo

HEADER = read_header(FileSource(demo_model_path()))
NOWHERE = Path("/nonexistent")


def write_reference(folder: Path, tokenizer: dict[str, Any], config: dict[str, Any] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def judged(folder: Path, *, header: GgufHeader = HEADER, ids: list[list[int]] | None = None) -> dict[str, Check]:
    reference = find_reference(folder / "model.gguf", header, hub_cache=NOWHERE)
    return {check.id: check for check in judge_reference(reference, header, ["a"] * len(ids or []), ids)}


def test_the_same_vocabulary_passes(tmp_path: Path) -> None:
    write_reference(tmp_path, demo_tokenizer_json())
    assert judged(tmp_path)["D4-vocabulary"].status == "pass"


def _swap(tokenizer: dict[str, Any]) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["z"], vocabulary["q"] = vocabulary["q"], vocabulary["z"]


def _reverse(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["merges"].reverse()


def _rename_control(tokenizer: dict[str, Any]) -> None:
    tokenizer["added_tokens"][2]["content"] = "<|end|>"


def _one_piece_more(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["never"] = len(tokenizer["model"]["vocab"])


def _halve(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"] = dict(list(tokenizer["model"]["vocab"].items())[:256])


def _word_piece(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["type"] = "WordPiece"


def _unigram(tokenizer: dict[str, Any]) -> None:
    pieces = sorted(tokenizer["model"].pop("vocab").items(), key=lambda pair: pair[1])
    tokenizer["model"] = {"type": "Unigram", "vocab": [[text, 0.0] for text, _ in pieces]}


@pytest.mark.parametrize(
    ("bend", "status"),
    [
        (_swap, "fail"),
        (_reverse, "fail"),
        (_rename_control, "warn"),
        (_one_piece_more, "pass"),
        (_halve, "skip"),
        (_word_piece, "skip"),
        (_unigram, "pass"),
    ],
)
def test_what_differs_is_told(tmp_path: Path, bend: Callable[[dict[str, Any]], None], status: str) -> None:
    tokenizer = demo_tokenizer_json()
    bend(tokenizer)
    write_reference(tmp_path, tokenizer)
    check = judged(tmp_path)["D4-vocabulary"]
    assert check.status == status, check.summary
    assert (check.remedy is not None) == (status in ("warn", "fail"))


def test_token_ids_need_the_library_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reference(tmp_path, demo_tokenizer_json())
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    check = judged(tmp_path, ids=[[1]])["D4-token-ids"]
    assert check.status == "skip"
    assert "not installed" in check.summary
    assert check.remedy == "pip install tokenizers"


def test_token_ids_are_compared_with_the_library(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")
    write_reference(tmp_path, demo_tokenizer_json())
    original = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = list(original.encode("a", add_special_tokens=False).ids)
    assert judged(tmp_path, ids=[ids] * 4)["D4-token-ids"].status == "pass"
    assert judged(tmp_path, ids=[ids, ids, ids, [*ids, 7]])["D4-token-ids"].status == "warn"
    assert judged(tmp_path, ids=[[*ids, 7]] * 4)["D4-token-ids"].status == "fail"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": 7}', '{"model": {"vocab": 3}}'])
def test_a_file_that_is_no_tokenizer_is_no_verdict(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    assert judged(tmp_path, ids=[[1]])["D4-vocabulary"].status == "skip"


def test_nothing_at_hand_is_said(tmp_path: Path) -> None:
    check = judged(tmp_path)["D4-vocabulary"]
    assert check.status == "skip"
    assert "no tokenizer.json" in check.summary


def test_the_snapshot_and_the_original_s_snapshot_are_looked_into(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--tiny-GGUF" / "snapshots" / "abc"
    write_reference(snapshot, demo_tokenizer_json())
    found = find_reference(snapshot / "Q8_0" / "m.gguf", None, hub_cache=NOWHERE)
    assert found is not None
    assert found.folder == snapshot
    original = tmp_path / "models--maker--tiny" / "snapshots" / "def"
    write_reference(original, demo_tokenizer_json())
    assert find_reference(Path("/else/m.gguf"), _named("maker/tiny", tmp_path), hub_cache=tmp_path).folder == original  # type: ignore[union-attr]
    assert find_reference(Path("/else/m.gguf"), _named("../maker", tmp_path), hub_cache=tmp_path) is None


def _named(repository: str, folder: Path) -> GgufHeader:
    import gguf

    demo = load_demo()
    demo.metadata["general.source.huggingface.repository"] = (repository, gguf.GGUFValueType.STRING, None)
    return read_header(FileSource(write_demo(demo, folder / "named.gguf", "Q8_0")))


@pytest.mark.parametrize(
    ("config", "template", "words"),
    [
        ({"chat_template": "T", "bos_token": "<b>", "eos_token": {"content": "<e>"}}, "T", ("<b>", "<e>")),
        ({"chat_template": [{"name": "tool_use", "template": "X"}, {"name": "default", "template": "D"}]}, "D", ("", "")),
        ({"chat_template": 7, "bos_token": None}, None, ("", "")),
        ({}, None, ("", "")),
    ],
)
def test_templates_in_every_form_they_are_published_in(
    tmp_path: Path, config: dict[str, Any], template: str | None, words: tuple[str, str]
) -> None:
    write_reference(tmp_path, demo_tokenizer_json(), config)
    found = find_reference(tmp_path / "m.gguf", None, hub_cache=NOWHERE)
    assert found is not None
    assert (found.template, (found.bos, found.eos)) == (template, words)
    assert (found.template_data() is None) == (template is None)
    (tmp_path / "chat_template.jinja").write_text("J")
    newer = find_reference(tmp_path / "m.gguf", None, hub_cache=NOWHERE)
    assert newer is not None
    assert newer.template == "J"
