"""`provision serve` for real: the process, the engine, HTTP, the openai client."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from tests.support.commands import private_environ, provision

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration

ENDLESS: list[str | list[str]] = ["Once", " upon", " a time"]
# Names that llama_cpp.server would take from anybody's environment.
LEAKS = {
    "MODEL": "/nowhere.gguf",
    "N_CTX": "64",
    "API_KEY": "leaked",
    "HOST": "0.0.0.0",
    "PORT": "1",
    "CONFIG_FILE": "/nowhere",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    process: subprocess.Popen[bytes]
    data: dict[str, Any]
    key_file: Path

    @property
    def root(self) -> str:
        return str(self.data["url"]).removesuffix("/v1")

    @property
    def key(self) -> str:
        return self.key_file.read_text().strip()

    @property
    def worker(self) -> int:
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@contextmanager
def serving(model: Path | str, home: Path, *words: str, **environ: str) -> Iterator[Served]:
    key_file = home / "serve.key"
    argv = [
        sys.executable,
        "-m",
        "provision",
        "serve",
        str(model),
        "--port",
        "0",
        "--json",
        "--api-key-file",
        str(key_file),
        *words,
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=private_environ(home, **environ))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (process.stderr.read() if process.stderr else b"").decode()
        yield Served(process=process, data=json.loads(line)["data"], key_file=key_file)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(scripted_model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for name in ("uvicorn", "fastapi", "openai"):
        pytest.importorskip(name)
    home = tmp_path_factory.mktemp("server-home")
    with serving("demo", home, "--ctx", "512", "--alias", "tale", "--embeddings", **LEAKS) as served:
        yield served


def test_every_check_passes_with_the_real_client(server: Served, tmp_path: Path) -> None:
    ran = provision("serve", "--test", server.root, "--api-key-file", server.key_file, "--json", home=tmp_path)
    assert ran.exit_code == 0, ran.stdout
    assert ran.data["verdict"] == "pass"
    assert {check["id"]: check["status"] for check in ran.data["checks"]} == {f"G{number}": "pass" for number in range(1, 9)}


def test_the_printed_snippets_run_as_they_are(server: Served, tmp_path: Path) -> None:
    shown = server.data["snippets"]
    environ = private_environ(tmp_path)
    python = subprocess.run([sys.executable, "-c", shown["python"]], capture_output=True, text=True, env=environ, check=False)
    assert python.returncode == 0, python.stderr
    assert python.stdout.strip()
    editor = yaml.safe_load(shown["editor"])["models"][0]
    assert (editor["apiBase"], editor["model"]) == (server.data["url"], "tale")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed; the Python snippet ran, the shell's was not tried")
    curl = subprocess.run(["sh", "-c", shown["curl"]], capture_output=True, text=True, env=environ, check=False)
    assert json.loads(curl.stdout)["choices"][0]["message"]["content"], curl.stderr


def test_nothing_of_the_environment_leaks_in(server: Served) -> None:
    assert server.data["n_ctx"] == 512
    assert server.root.startswith("http://127.0.0.1:")
    rows = httpx2.get(f"{server.root}/v1/models", headers={"Authorization": f"Bearer {server.key}"}).json()["data"]
    assert [row["id"] for row in rows] == ["tale"]


def test_the_key_is_nowhere_to_be_seen(server: Served) -> None:
    assert server.key_file.stat().st_mode & 0o777 == 0o600
    for pid in (server.process.pid, server.worker):
        assert server.key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert server.key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert server.key not in json.dumps(server.data)


def asking(**options: object) -> bytes:
    """A question as newer clients send it: a list of parts."""
    content = [{"type": "text", "text": "What is the capital of France?"}]
    return json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": 4, **options}).encode()


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/health", {}, None, 200),
        ("GET", "/v1/models", {}, None, 401),
        ("GET", "/v1/models", {"Authorization": "Bearer leaked"}, None, 401),
        ("POST", "/v1/chat/completions", {}, b"{}", 401),
        ("GET", "/docs", "key", None, 404),
        ("GET", "/openapi.json", "key", None, 404),
        ("GET", "/v1/models", {"Host": "evil.example"}, None, 421),
        ("GET", "/v1/models", {"Origin": "https://evil.example"}, None, 403),
        ("POST", "/v1/chat/completions", "key", b"{not json", 400),
        ("POST", "/v1/chat/completions", "key", b"[]", 400),
        ("POST", "/v1/chat/completions", "key", b'{"messages": []}', 400),
        ("POST", "/v1/chat/completions", "key", b'{"messages": "hi"}', 400),
        ("POST", "/v1/chat/completions", "key", b'{"messages": [{"content": "x"}], "model": "gpt-4"}', 404),
        ("POST", "/v1/chat/completions", "key", asking(temperature="hot"), 400),
        ("POST", "/v1/chat/completions", "key", asking(grammar="root ::= ("), 400),
        ("POST", "/v1/chat/completions", "key", asking(grammar="root ::= " + "(" * 20_000), 400),
        ("POST", "/v1/completions", "key", b'{"prompt": "x", "top_k": -1}', 400),
        ("POST", "/v1/chat/completions", "key", asking(grammar='root ::= "yes"', n=None), 200),
    ],
)
def test_the_guard(
    method: str, path: str, headers: dict[str, str] | str, body: bytes | None, status: int, server: Served
) -> None:
    sent = {"Authorization": f"Bearer {server.key}"} if headers == "key" else dict(headers)  # type: ignore[arg-type]
    answer = httpx2.request(method, server.root + path, headers=sent, content=body, timeout=20)
    assert answer.status_code == status, answer.text
    assert "access-control-allow-origin" not in answer.headers
    if status >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    elif method == "POST":
        assert answer.json()["model"] == "tale", "the name, not the path of the file"
        assert answer.json()["choices"][0]["message"]["content"] == "yes"


def test_a_taken_port_is_named(server: Served, scripted_model: ScriptedModel, tmp_path: Path) -> None:
    port = server.root.rsplit(":", 1)[1]
    ran = provision("serve", scripted_model(ENDLESS, loop=True), "--port", port, "--json", home=tmp_path)
    assert ran.exit_code == 2
    assert ran.envelope["errors"][0]["code"] == "address-in-use"


@pytest.mark.slow
def test_no_template_is_refused_here_too(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    ran = provision("serve", scripted_model(["Hi"], template=None), "--port", "0", "--json", home=tmp_path)
    assert ran.envelope["errors"][0]["code"] == "no-chat-template"


def test_a_recipes_template_and_sampling_are_served(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    """Its template builds the prompt, its sampling fills in what a request leaves out, and a request still has its way."""
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f"""
        name = "own"
        title = "Own"
        [model]
        path = "{scripted_model(ENDLESS, loop=True)}"
        [chat]
        template = "{{{{ bos_token }}}}{{% for message in messages %}}{{{{ message['content'] }}}}{{% endfor %}}<|answer|>"
        [sampling]
        max_tokens = 2
        """
    )
    with serving(recipe, tmp_path) as served:
        assert served.data["chat_format"] == "own template"
        assert "what a request leaves out is the recipe's: max_tokens 2" in served.data["reasons"]

        def ask(**options: object) -> dict[str, Any]:
            body = {"messages": [{"role": "user", "content": "four"}], "temperature": None, **options}
            headers = {"Authorization": f"Bearer {served.key}"}
            answer = httpx2.post(f"{served.root}/v1/chat/completions", headers=headers, json=body).json()
            return dict(answer["usage"])

        # The first token of a text, one for each letter, and the header of the answer.
        assert ask() == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}
        assert ask(max_completion_tokens=3)["completion_tokens"] == 3


def test_a_template_that_is_no_jinja_is_named_before_anything_is_served(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    template = tmp_path / "broken.jinja"
    template.write_text("{% for %}")
    ran = provision("serve", scripted_model(["Hi"]), "--port", "0", "--template", template, "--json", home=tmp_path)
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (2, "bad-template")


def test_sigterm_ends_it_cleanly(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    with serving(scripted_model(ENDLESS, loop=True), tmp_path) as served:
        worker = served.worker
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0
        assert not _alive(worker)


@pytest.mark.slow
def test_it_does_not_outlive_its_parent(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    with serving(scripted_model(ENDLESS, loop=True), tmp_path) as served:
        worker = served.worker
        served.process.kill()
        served.process.wait()
        deadline = time.monotonic() + 20
        while _alive(worker) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _alive(worker)


def test_a_server_that_is_not_there_fails_with_a_hint(tmp_path: Path) -> None:
    ran = provision("serve", "--test", "http://127.0.0.1:9", "--json", home=tmp_path)
    assert ran.exit_code == 10
    first, *others = ran.data["checks"]
    assert first["status"] == "fail"
    assert "provision serve" in first["remedy"]
    assert {check["status"] for check in others} == {"skip"}


def test_units_are_printed_for_this_very_installation(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    model = scripted_model(ENDLESS, loop=True)
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    asked = ["--template", template, "--n-gpu-layers", "0", "--embeddings"]
    ran = provision("serve", model, "--unit", "systemd", *asked, home=tmp_path)
    assert f"ExecStart={sys.executable} -m provision serve {model} --offline" in ran.stdout
    assert f"--ctx 4096 --n-gpu-layers 0 --template {template} --embeddings" in ran.stdout, "what was asked for is kept"
    assert ran.exit_code == 0
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; the unit was printed but not verified by systemd")
    unit = tmp_path / "llm.service"
    unit.write_text(ran.stdout)
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
