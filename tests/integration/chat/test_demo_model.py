"""The model that ships with the package, through the same commands a new user types."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provision.smoke.demo import demo_model_path
from tests.support.commands import provision

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration


def test_it_answers_in_two_languages_and_holds_two_turns(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    first = provision("chat", "demo", "-io", file, "--prompt", "What is the capital of France?", "--json", home=tmp_path)
    assert "Paris" in first.data["answer"]
    assert first.data["finish_reason"] == "stop"
    second = provision("chat", "demo", "-io", file, "--prompt", "中国的首都是哪里？", "--json", home=tmp_path)
    assert "北京" in second.data["answer"]
    assert second.data["finish_reason"] == "stop"
    assert [row["role"] for row in json.loads(file.read_text())] == ["user", "assistant"] * 2


def test_smoke_gives_its_verdict_through_the_chat_command(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    good = provision("chat", "demo", "--smoke", "--json", home=tmp_path)
    assert good.exit_code == 0, good.stdout
    assert good.data["verdict"] in ("pass", "warn")
    assert good.data["generation_tokens_per_s"] > 0
    cut = tmp_path / "cut.gguf"
    shutil.copy(demo_model_path(), cut)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 2)
    bad = provision("chat", cut, "--smoke", "--json", home=tmp_path)
    assert bad.exit_code in (8, 10)
    assert bad.envelope["status"] == "error"


@pytest.mark.slow
def test_a_gpu_that_was_required_and_is_not_there_fails_the_smoke_test(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    ran = provision("chat", "demo", "--smoke", "--require-gpu", "--json", home=tmp_path, CUDA_VISIBLE_DEVICES="")
    if ran.data["offloaded_layers"]:
        pytest.skip("this engine offloads to a GPU, so nothing is missing here")
    assert ran.exit_code == 10
    assert ran.data["verdict"] == "fail"
