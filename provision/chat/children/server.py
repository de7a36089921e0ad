"""llama_cpp.server with the settings it should have had, behind a guard that answers for it where it would answer wrongly.

Runs in the environment that holds llama_cpp[server] and imports nothing of provision. The first line of stdin is the request:

    {"model", "alias", "host", "port", "api_key" | null, "settings": {...ModelSettings}, "extra": {...Llama},
     "template": Jinja | null, "defaults": {...}, "allowed_hosts": [...], "access_log", "created"}

Stdout says `@provision {"ready": true, "port", "n_ctx", ...}` once connections are accepted, or
`@provision {"error", "detail", "log"}`. When stdin closes, the parent has gone and the server stops.

What the guard changes (llama-cpp-python 0.3.36, llama_cpp/server/app.py): unknown model names got the default model; a prompt
over the context broke a stream after "200 OK"; bad requests were 500; any web page could read answers (CORS * with
credentials); the documentation pages were open; there was no /health; `max_completion_tokens` was ignored; null was no number.
"""

from __future__ import annotations

import ctypes
import hmac
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "engine" / "children"))
from chat_template import choose
from serve_requests import Refused, check_grammar, parse_body, settled

MARK = "@provision "
LARGEST_BODY_BYTES = 32 * 1024 * 1024
_GENERATING = ("/v1/chat/completions", "/v1/completions")
_EMBEDDING = "/v1/embeddings"
_CLOSED = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")
_KEPT: list[Any] = []

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Counted(Exception):
    """Thrown out of a chat handler with the number of prompt tokens."""


class BadTemplate(Exception):
    """The template of the request is no Jinja."""


class CountingLlama:
    """Stands in for Llama while a chat handler renders a prompt: tokenizes, and gives up before anything is generated."""

    verbose = False

    def __init__(self, llama: Any) -> None:
        self._llama = llama

    def tokenize(self, *words: Any, **options: Any) -> Any:
        return self._llama.tokenize(*words, **options)

    def create_completion(self, prompt: Any, **options: Any) -> None:
        raise Counted(len(prompt))


class Guard:
    """ASGI: checks host, origin, key, model and length, then hands over to llama_cpp.server."""

    def __init__(self, app: Any, request: dict[str, Any]) -> None:
        self._app = app
        self._alias = request["alias"]
        self._key = request["api_key"]
        self._hosts = set(request["allowed_hosts"])
        self._created = int(request["created"])
        self._defaults: dict[str, Any] = request["defaults"]
        self._embeddings = bool(request["settings"].get("embedding"))
        self.llama: Any = None
        self.formats: Any = None
        self.kinds: dict[str, Any] = {}
        self.grammar_of: Callable[[str], str] = str
        self.parses: Callable[[str], bool] = bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            self._check_sender(headers)
            path = scope["path"]
            if path == "/health":
                await _answer(send, 200, {"status": "ok"})
                return
            self._check_key(headers)
            if path in _CLOSED:
                raise Refused(404, f"there is nothing at {path}", code="not_found")
            if path == "/v1/models":
                await _answer(send, 200, self._models())
                return
            if path in (*_GENERATING, _EMBEDDING) and scope["method"] == "POST":
                data = parse_body(await _read(receive))
                self._check_model(data)
                data = self._embedding(data) if path == _EMBEDDING else self._generating(path, data)
                body = json.dumps(data).encode()
                scope, receive = _as_json(scope, len(body)), _again(body, receive)
        except Refused as refused:
            await _answer(send, refused.status, refused.body)
            return
        await self._app(scope, receive, send)

    def _check_sender(self, headers: dict[str, str]) -> None:
        # A page of another site reaches a loopback server through the reader's own browser: by a name that resolves to
        # 127.0.0.1 (its Host is foreign) or directly (its Origin is).
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            raise Refused(421, "this server does not answer to that name", code="unknown_host")
        origin = headers.get("origin")
        if origin is not None and origin.split("://")[-1] != headers.get("host"):
            raise Refused(403, "requests from web pages of other origins are refused", code="foreign_origin")

    def _check_key(self, headers: dict[str, str]) -> None:
        if self._key is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key.encode()):
            raise Refused(401, "the API key is missing or wrong", code="invalid_api_key")

    def _models(self) -> dict[str, Any]:
        meta = {"n_ctx": self.llama.n_ctx(), "n_ctx_train": self.llama._model.n_ctx_train(), "n_embd": self.llama.n_embd()}
        row = {"id": self._alias, "object": "model", "created": self._created, "owned_by": "me", "meta": meta}
        return {"object": "list", "data": [row]}

    def _check_model(self, data: dict[str, Any]) -> None:
        model = data.get("model")
        if model is not None and model != self._alias:
            raise Refused(404, f"the model {model!r} does not exist; this server has {self._alias!r}",
                          code="model_not_found", param="model")  # fmt: skip

    def _embedding(self, data: dict[str, Any]) -> dict[str, Any]:
        if not self._embeddings:
            raise Refused(400, "this server was started without embeddings", code="embeddings_not_enabled")
        return {**data, "model": self._alias}

    def _generating(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        data = settled(data, self._defaults, self._alias)
        chat = path == _GENERATING[0]
        tokens = self._count_chat(data) if chat else self._count_text(data)
        n_ctx = self.llama.n_ctx()
        if tokens >= n_ctx:
            raise Refused(
                400,
                f"this model's maximum context length is {n_ctx} tokens, and the prompt alone has {tokens}",
                code="context_length_exceeded",
                param="messages" if chat else "prompt",
            )
        check_grammar(data, from_schema=self.grammar_of, parses=self.parses)
        try:
            self.kinds[path].model_validate(data)
        except ValueError as error:
            # pydantic's ValidationError is one, and knows its errors; llama_cpp.server answers 500.
            first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
            param = ".".join(str(part) for part in first["loc"])
            raise Refused(400, f"{param}: {first['msg']}", code="invalid_value", param=param) from None
        return data

    def _count_chat(self, data: dict[str, Any]) -> int:
        messages = data.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(row, dict) for row in messages):
            raise Refused(400, "messages must be a list of objects, at least one", code="invalid_messages", param="messages")
        llama = self.llama
        handler = (
            llama.chat_handler
            or llama._chat_handlers.get(llama.chat_format)
            or self.formats.get_chat_completion_handler(llama.chat_format)
        )
        try:
            handler(llama=CountingLlama(llama), messages=messages, tools=data.get("tools"), stream=True)
        except Counted as counted:
            return int(counted.args[0])
        except Exception as error:
            # The template itself refuses: an order of roles it does not know, a content that is not text.
            raise Refused(400, f"the chat template refuses these messages: {error}", code="invalid_messages",
                          param="messages") from None  # fmt: skip
        return 0

    def _count_text(self, data: dict[str, Any]) -> int:
        prompt = data.get("prompt", "")
        if isinstance(prompt, list):
            if len(prompt) > 1:
                raise Refused(400, "one prompt at a time", code="invalid_prompt", param="prompt")
            prompt = prompt[0] if prompt else ""
        if not isinstance(prompt, str):
            raise Refused(400, "prompt must be text", code="invalid_prompt", param="prompt")
        return len(self.llama.tokenize(prompt.encode("utf-8", "replace"), add_bos=True, special=True))


def _host_name(host: str) -> str:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return name.strip("[]").lower()


async def _read(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client went away", code="disconnected")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY_BYTES:
            raise Refused(413, "the request is too large", code="request_too_large")
        if not message.get("more_body"):
            return b"".join(parts)


def _as_json(scope: Scope, length: int) -> Scope:
    """The request with the headers of its new body, whatever the client called the old one."""
    kept = [pair for pair in scope["headers"] if pair[0].lower() not in (b"content-type", b"content-length")]
    own = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    return {**scope, "headers": [*kept, *own]}


def _again(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replay


async def _answer(send: Send, status: int, data: dict[str, Any]) -> None:
    body = json.dumps(data).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def say(**fields: Any) -> None:
    """One line for the parent; everything else that is printed goes to the log."""
    os.write(_PROTOCOL, (MARK + json.dumps(fields) + "\n").encode())


_PROTOCOL = os.dup(1)


def fail(error: str, detail: str, log: list[str]) -> None:
    """Tell the parent and leave."""
    say(error=error, detail=detail, log=log)
    os._exit(1)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises OSError when the port is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server = socket.socket(family, kind, protocol)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(address)
    return server


def build(request: dict[str, Any], log: list[str]) -> Guard:
    """The application with its model loaded."""
    import llama_cpp
    import llama_cpp.llama_chat_format as formats
    from llama_cpp.server import app as server
    from llama_cpp.server import types
    from llama_cpp.server.settings import ModelSettings, ServerSettings
    from starlette.middleware.cors import CORSMiddleware

    def keep(level: int, text: bytes, user_data: object) -> None:
        sys.stderr.buffer.write(text)
        sys.stderr.flush()
        if level in (3, 4):  # GGML_LOG_LEVEL_WARN, _ERROR (ggml.h of 0.25.3)
            log.append(text.decode("utf-8", "replace").rstrip())

    callback = llama_cpp.llama_log_callback(keep)
    _KEPT.append(callback)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))

    # Both settings classes read variables such as MODEL, HOST, N_CTX and API_KEY, whoever set them for whatever.
    fields = {*ModelSettings.model_fields, *ServerSettings.model_fields, "config_file"}
    for name in [name for name in os.environ if name.lower() in fields]:
        del os.environ[name]

    original, template = llama_cpp.Llama, request["template"]

    class Served(original):  # type: ignore[misc,valid-type]
        """Llama with the arguments that ModelSettings has no field for."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, **request["extra"]})
            self.verbose = False
            if template is not None:
                try:
                    choose(self, template=template)
                except Exception as error:
                    raise BadTemplate(str(error)) from None

    llama_cpp.Llama = Served
    model = ModelSettings(model=request["model"], model_alias=request["alias"], verbose=True, **request["settings"])
    own = ServerSettings(host=request["host"], port=request["port"], api_key=request["api_key"], interrupt_requests=False)
    app = server.create_app(server_settings=own, model_settings=[model])
    app.user_middleware = [entry for entry in app.user_middleware if entry.cls is not CORSMiddleware]
    guard = Guard(app, request)
    assert server._llama_proxy is not None
    guard.llama, guard.formats = server._llama_proxy(request["alias"]), formats
    guard.kinds = {_GENERATING[0]: types.CreateChatCompletionRequest, _GENERATING[1]: types.CreateCompletionRequest}
    guard.grammar_of = llama_cpp.llama_grammar.json_schema_to_gbnf
    guard.parses = lambda text: grammar_parses(llama_cpp.llama_cpp, guard.llama._model.vocab, text)
    return guard


def grammar_parses(native: Any, vocab: Any, text: str) -> bool:
    """Whether llama.cpp can read a grammar."""
    sampler = native.llama_sampler_init_grammar(vocab, text.encode(), b"root")
    if not sampler:
        return False
    native.llama_sampler_free(sampler)
    return True


def main() -> None:
    """Serve until SIGTERM, or until stdin closes."""
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    log: list[str] = []
    try:
        import uvicorn
    except ImportError as error:
        fail("server-missing", str(error), log)
    try:
        listening = listen(request["host"], request["port"])
    except OSError as error:
        kind = "host" if isinstance(error, socket.gaierror) else "address"
        fail(kind, f"{request['host']}:{request['port']}: {error.strerror or error}", log)
    try:
        guard = build(request, log)
    except ImportError as error:
        fail("engine-missing" if error.name == "llama_cpp" else "server-missing", str(error), log)
    except BadTemplate as error:
        fail("template", str(error), log)
    except Exception as error:
        fail("load", f"{type(error).__name__}: {error}", log)
    llama = guard.llama
    chosen = request["settings"].get("chat_format") or request["template"]
    if "tokenizer.chat_template" not in llama.metadata and not chosen:
        fail("no-chat-template", "", log)

    class Announcing(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            say(ready=True, port=listening.getsockname()[1], n_ctx=llama.n_ctx(), chat_format=llama.chat_format)

    def leave_with_parent() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    config = uvicorn.Config(
        guard,
        log_level="info",
        access_log=request["access_log"],
        timeout_graceful_shutdown=10,
        lifespan="off",
        server_header=False,
    )
    Announcing(config).run(sockets=[listening])
    os._exit(0)  # a worker thread still inside native code must not hold up the end


if __name__ == "__main__":
    main()
