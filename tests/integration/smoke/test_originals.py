"""The engine's reading of text and turns against the original tokenizer and template, where they lie beside the file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from provision.settings import read_settings
from provision.smoke.demo import demo_model_path
from provision.smoke.service import run_smoke
from provision.smoke.types import ChatTemplate, Check, SmokeResult
from tests.support import demo_variants

llama_cpp = pytest.importorskip("llama_cpp", reason="the engine is not installed here: provision install")
pytestmark = [pytest.mark.integration]

TEMPLATE = demo_variants.load_demo().metadata["tokenizer.chat_template"][0]


def smoked(path: Path, chat: ChatTemplate | None = None) -> SmokeResult:
    return run_smoke(
        path,
        llama_kwargs={"n_ctx": 2048, "n_threads": 1, "n_threads_batch": 1},
        chat=chat,
        python=Path(sys.executable),
        settings=read_settings(dict(os.environ), home=Path.home()),
    )


def d_checks(path: Path, chat: ChatTemplate | None = None) -> dict[str, Check]:
    return {check.id: check for check in smoked(path, chat).checks if check.id.startswith("D")}


def put_original(folder: Path, template: str) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(demo_variants.demo_tokenizer_json()), encoding="utf-8")
    config = {"chat_template": template, "bos_token": "<|begin|>", "eos_token": {"content": "<|im_end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def test_the_demo_is_its_own_original(tmp_path: Path) -> None:
    path = demo_variants.write_variant(tmp_path, "Q8_0")
    put_original(tmp_path, TEMPLATE)
    found = d_checks(path)
    assert found["D4-vocabulary"].status == found["D7-template-original"].status == "pass"
    assert "published" in found["D7-template-original"].summary
    pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")
    assert found["D4-token-ids"].status == "pass", found["D4-token-ids"].summary
    assert found["D4-token-ids"].value == 0


def test_two_letters_that_changed_places_and_a_line_break_are_found(tmp_path: Path) -> None:
    """Neither shows in any answer: 3 of 3 known answers, all other checks pass."""
    demo = demo_variants.load_demo()
    demo_variants.swap_two_tokens(demo)
    path = demo_variants.write_demo(demo, tmp_path / "swapped-F16.gguf", "F16")
    put_original(tmp_path, TEMPLATE.replace("'<|im_end|>' + '\\n'", "'<|im_end|>'"))
    found = d_checks(path)
    assert found["D4-vocabulary"].status == "fail"
    assert found["D4-vocabulary"].value == 2
    assert found["D7-template-original"].status == "warn"


def test_text_that_is_split_otherwise_gives_other_ids(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")
    path = demo_variants.write_variant(tmp_path, "Q8_0")
    tokenizer = demo_variants.demo_tokenizer_json()
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    found = d_checks(path)
    assert found["D4-vocabulary"].status == "pass"
    assert found["D4-token-ids"].status == "fail", found["D4-token-ids"].summary


def test_the_engine_s_own_chatml_is_told_from_the_file_s(tmp_path: Path) -> None:
    """llama-cpp-python 0.3.36 puts a built-in format in the place of this template, which adds an empty system turn."""
    demo = demo_variants.load_demo()
    demo.set("tokenizer.chat_template", llama_cpp.llama_chat_format.CHATML_CHAT_TEMPLATE)
    check = d_checks(demo_variants.write_demo(demo, tmp_path / "chatml-F16.gguf", "F16"))["D7-template-original"]
    assert check.status == "warn"
    assert "own template" in check.summary


def test_nothing_beside_the_shipped_model_is_no_verdict() -> None:
    found = d_checks(demo_model_path())
    assert found["D4-vocabulary"].status == "skip"
    assert found["D7-template-original"].status == "pass"


def test_the_template_of_a_recipe_is_what_is_smoked(tmp_path: Path) -> None:
    """A file without a template is fine when a right one is given, and a wrong one fails though the file's is right."""
    demo = demo_variants.load_demo()
    del demo.metadata["tokenizer.chat_template"]
    bare = demo_variants.write_demo(demo, tmp_path / "bare-F16.gguf", "F16")
    assert d_checks(bare)["D5-template"].status == "fail"
    found = d_checks(bare, ChatTemplate(template=TEMPLATE))
    assert found["D5-template"].status == found["D6-renders"].status == found["D8-turn-ends"].status == "pass"
    assert "given" in found["D5-template"].summary
    wrong = smoked(demo_model_path(), ChatTemplate(template="{% for m in messages %}{{ m.content }}{% endfor %}"))
    assert wrong.verdict == "fail", wrong.checks
    broken = smoked(demo_model_path(), ChatTemplate(template="{% for"))
    assert broken.verdict == "fail"
    assert any("chat template cannot be used" in check.summary for check in broken.failed)
