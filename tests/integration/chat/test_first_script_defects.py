"""The defects of the chat script this project grew out of, each shown to be gone.

Numbered as in that list. Elsewhere: 4 and 5 in tests/unit/chat/test_conversation.py, 6 in test_interactive.py, 14 in
tests/unit/chat/test_transcripts.py, 2 with repository references. Without a counterpart here, because only GGUF is loaded and
nothing of a repository is executed: 7 (trust_remote_code), 8 to 10 and 12 (GPTQ and AWQ through transformers).
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provision.chat.engine import ModelProcess
from provision.chat.types import Began, Load, Message, Sampling
from provision.processes import run
from tests.support.commands import private_environ, provision

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration

GREETING: list[str | list[str]] = ["Hello", ", ", "world", "!"]


def test_1_13_16_any_name_any_folder_and_a_context_worth_having(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where" / "MODEL.GGUF"
    elsewhere.parent.mkdir()
    shutil.copy(scripted_model(GREETING), elsewhere)
    done = run(
        [sys.executable, "-m", "provision", "chat", "MODEL.GGUF", "--prompt", "hi", "--json"],
        cwd=elsewhere.parent,
        env=private_environ(tmp_path),
        timeout_s=60,
    )
    data = json.loads(done.stdout)["data"]
    assert data["answer"] == "Hello, world!"
    assert data["usage"]["n_ctx"] > 512


def test_3_no_torch_is_asked_for(tmp_path: Path) -> None:
    shown = "print(*(name in sys.modules for name in ('torch', 'llama_cpp')))"
    probe = f"import sys, provision.cli.chat_open, provision.cli.chat_loop; {shown}"
    done = run([sys.executable, "-c", probe], env=private_environ(tmp_path), timeout_s=60)
    assert done.stdout.split() == ["False", "False"]


def test_11_the_prompt_ends_with_the_header_of_the_answer(scripted_model: "ScriptedModel") -> None:
    engine = ModelProcess.start(Load(model_path=scripted_model(GREETING)), python=sys.executable, environ=os.environ)
    try:
        first = next(engine.answer([Message(role="user", content="hi")], Sampling(temperature=0.0)))
        assert isinstance(first, Began)
        assert first.prompt_tail.endswith("<|end|><|answer|>")
    finally:
        engine.kill()
        engine.close()


@pytest.mark.slow
def test_15_system_message_sampling_and_seed_are_options(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    words = ["--system", "Be short.", "--temperature", "0", "--top-k", "1", "--seed", "9", "--max-tokens", "2"]
    ran = provision("chat", scripted_model(GREETING), "--prompt", "hi", *words, "--json", home=tmp_path)
    assert ran.data["messages"][0] == {"role": "system", "content": "Be short."}
    assert (ran.data["seed"], ran.data["finish_reason"]) == (9, "length")
    assert ran.data["usage"]["completion_tokens"] == 2


@pytest.mark.slow
def test_17_line_breaks_between_the_blocks_of_a_template_are_not_sent(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    model = scripted_model(GREETING)
    spread = tmp_path / "spread.jinja"
    spread.write_text(
        "{{ bos_token }}{% for message in messages %}\n"
        "    {%- if true %}\n<|turn|>{{ message['role'] }}: {{ message['content'] }}<|end|>\n    {%- endif %}\n"
        "{% endfor %}\n"
        "{%- if add_generation_prompt %}\n<|answer|>\n{%- endif %}\n"
    )
    own = provision("chat", model, "--prompt", "hi", "--json", home=tmp_path).data
    given = provision("chat", model, "--prompt", "hi", "--template", spread, "--json", home=tmp_path).data
    assert given["usage"]["prompt_tokens"] == own["usage"]["prompt_tokens"]
    assert given["answer"] == own["answer"]
