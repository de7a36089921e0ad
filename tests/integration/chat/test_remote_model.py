"""`provision chat ORG/REPO` in every form people write it: fetched through a Hub, then without one."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provision.smoke.demo import demo_model_path
from tests.support.commands import provision
from tests.support.hub import RunningHub, start_hub

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration

REPO = "team/demo-GGUF"
QUESTION = ("--prompt", "What is the capital of France?", "--temperature", "0", "--json")


@pytest.fixture
def hub(scripted_model: "ScriptedModel", tmp_path: Path) -> Iterator[RunningHub]:
    folder = tmp_path / "hub" / REPO
    (folder / "other").mkdir(parents=True)
    shutil.copy(demo_model_path(), folder / "demo-Q8_0.gguf")
    shutil.copy(scripted_model(["Not", " this"]), folder / "other" / "demo-Q4_0.gguf")
    shutil.copy(scripted_model(["Nor", " this"]), folder / "other" / "demo-Q4_1.gguf")
    with start_hub(tmp_path / "hub") as running:
        yield running


@pytest.mark.parametrize(
    "model",
    [f"{REPO}:*q8_0*.gguf", pytest.param(f"{REPO}:Q8_0", marks=pytest.mark.slow)],
)
def test_the_named_quant_is_fetched_once_and_answers_offline_the_second_time(
    model: str, hub: RunningHub, tmp_path: Path
) -> None:
    first = provision("chat", model, *QUESTION, home=tmp_path, HF_ENDPOINT=hub.url)
    assert first.exit_code == 0, first.stdout + first.stderr
    assert "Paris" in first.data["answer"]
    moved = hub.log.body_bytes()
    assert moved < 2 * demo_model_path().stat().st_size, "the other models were left alone"
    second = provision("chat", model, *QUESTION, "--offline", home=tmp_path, HF_ENDPOINT=hub.url)
    assert second.data["answer"] == first.data["answer"]
    assert hub.log.body_bytes() == moved, "nothing was asked of the server"


@pytest.mark.slow
def test_a_pattern_after_a_slash_and_a_file_in_a_folder(hub: RunningHub, tmp_path: Path) -> None:
    for model in (f"{REPO}/*Q4_0*", f"{REPO}:other/demo-Q4_0.gguf"):
        ran = provision("chat", model, *QUESTION, home=tmp_path, HF_ENDPOINT=hub.url)
        assert ran.exit_code == 0, ran.stdout + ran.stderr
        assert ran.data["answer"] == "Not this"


@pytest.mark.parametrize(
    ("model", "exit_code", "code", "hint"),
    [
        (f"{REPO}:*Q4*", 2, "quant-ambiguous", f"provision fetch {REPO} --file other/demo-Q4_0.gguf"),
        pytest.param(f"{REPO}:*q5_k_m*", 5, "file-not-found", "provision fetch", marks=pytest.mark.slow),
        pytest.param("team/demo-GGUF/demo-Q8_0.gguf", 5, "no-such-file", f"{REPO}:demo-Q8_0.gguf", marks=pytest.mark.slow),
    ],
)
def test_a_pattern_that_names_no_model_or_two_says_which_there_are(
    model: str, exit_code: int, code: str, hint: str, hub: RunningHub, tmp_path: Path
) -> None:
    ran = provision("chat", model, *QUESTION, home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code == exit_code
    (error,) = ran.envelope["errors"]
    assert error["code"] == code
    assert hint in error["hint"]
