"""The server checks against servers that are wrong: a check that cannot fail proves nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.support.commands import private_environ, provision

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _client() -> None:
    pytest.importorskip("openai")


class _Faulty(BaseHTTPRequestHandler):
    """An OpenAI-like server with one fault, named by `fault`."""

    fault = ""
    answers = 0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        rows = (
            []
            if self.fault == "no-models"
            else [{"id": "m", "object": "model", "created": 1, "owned_by": "x", "meta": {"n_ctx": 64}}]
        )
        self._json(200, {"object": "list", "data": rows})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "embeddings" in self.path:
            vectors = [[0.1, 0.2], [0.1]] if self.fault == "ragged-embeddings" else [[0.1], [0.2]]
            data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
            self._json(200, {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        elif self.headers["Authorization"] != "Bearer right" and self.fault != "any-key":
            self._error(401, "wrong key")
        elif body["model"] != "m" and self.fault != "any-model":
            self._error(404, "no such model")
        elif len(body["messages"][0]["content"]) > 200 and self.fault != "any-length":
            self._error(500 if self.fault == "overflow-500" else 400, "context length exceeded")
        else:
            self._answer(bool(body.get("stream")))

    def _answer(self, stream: bool) -> None:
        type(self).answers += 1
        text = "" if self.fault == "empty" else "one two"
        if not stream:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            self._json(
                200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
            )
            return
        said = f"{text} {self.answers}" if self.fault == "stream-differs" else text
        cut = self.fault == "cut-stream" or (self.fault == "cut-second" and self.answers > 2)
        finish = None if cut else "stop"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, reason in (({"content": said}, None), ({}, finish)):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _error(self, status: int, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})

    def _json(self, status: int, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def faulty_server(fault: str) -> Iterator[str]:
    handler = type("Handler", (_Faulty,), {"fault": fault})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("fault", "check", "status"),
    [
        ("", None, None),
        ("no-models", "G1", "fail"),
        ("empty", "G2", "fail"),
        ("cut-stream", "G3", "fail"),
        ("stream-differs", "G3", "fail"),
        ("cut-second", "G4", "fail"),
        ("any-key", "G5", "fail"),
        ("any-model", "G6", "warn"),
        ("any-length", "G7", "fail"),
        ("overflow-500", "G7", "fail"),
        ("ragged-embeddings", "G8", "fail"),
    ],
)
def test_each_fault_is_found_by_its_check(fault: str, check: str | None, status: str | None) -> None:
    from provision.chat.server_checks import check_server

    with faulty_server(fault) as url:
        report = check_server(url, key="right", timeout_s=20)
    wrong = {found.id: found.status for found in report.checks if found.status in ("warn", "fail")}
    if check is None:
        assert wrong == {}
        assert report.verdict == "pass"
    else:
        assert wrong.get(check) == status
        assert report.verdict == status


@pytest.mark.slow
def test_the_server_as_it_comes_does_not_pass(scripted_model: ScriptedModel, tmp_path: Path) -> None:
    """Why there is a guard at all: llama_cpp.server with its own defaults."""
    pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = scripted_model(["Once", " upon", " a time"], loop=True)
    argv = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--port", str(port), "--host", "127.0.0.1"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=private_environ(tmp_path))
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.2)
        ran = provision("serve", "--test", f"http://127.0.0.1:{port}", "--json", home=tmp_path)
    finally:
        process.terminate()
        process.wait(timeout=30)
    found = {check["id"]: check["status"] for check in ran.data["checks"]}
    assert found["G2"] == "pass"
    assert found["G6"] == "warn", "an unknown model name gets the default model"
