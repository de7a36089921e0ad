"""Holds one model for a conversation: JSON lines in on stdin, JSON lines out on stdout, the engine's log on stderr.

Runs in the environment that holds llama_cpp and imports nothing of provision. Requests, one per line:

    {"op": "load", "model_path", "llama_kwargs", "chat_format", "template", "template_kwargs", "markers"}   first, and once
    {"op": "count", "id", "messages"}            -> {"event": "counted", "id", "prompt_tokens"}
    {"op": "chat", "id", "messages", "options"}  -> "begin", "prompt"*, "delta"*, "end"
    {"op": "stop", "id"}                         ends the answer to that request; read at any time
    {"op": "quit"} or end of input               leaves

Every request but stop and quit is answered by its last event or by {"event": "failed", "reason", "detail"}.
Deltas are written at once when tokens come slowly and gathered for a few milliseconds when they come fast, so that a small
model is not slowed by its own output.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "engine" / "children"))
from chat_template import choose

GATHER_S = 0.03
PROMPT_EVENT_S = 0.25
_KEPT: list[Any] = []
"""Callbacks that native code holds; Python must not collect them."""


class Stopped(Exception):
    """The person asked for the end of the answer while the prompt was still being read."""


class Counted(Exception):
    """Thrown out of the chat handler with the prompt's tokens, before anything is generated."""

    def __init__(self, prompt: list[int]) -> None:
        super().__init__()
        self.prompt = prompt


class Output:
    """Stdout for the protocol alone: what native code prints to file descriptor 1 goes to the log instead."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        self.log_fd = os.dup(2)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, event: str, **fields: Any) -> None:
        data = json.dumps({"event": event, **fields}).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]


class Input(threading.Thread):
    """Reads requests; `stop` is taken at once, everything else waits its turn."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self.stopped_id: object = None

    def run(self) -> None:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if request["op"] == "stop":
                self.stopped_id = request["id"]
            elif request["op"] == "quit":
                break
            else:
                self.requests.put(request)
        # Our parent has gone or wants us gone; a decode in native code must not keep the memory.
        os._exit(0)


class Log:
    """llama.cpp's log: passed on as it comes, with its error lines kept for the answer to a failed load."""

    def __init__(self, fd: int) -> None:
        self.errors: list[str] = []
        self.placement: list[str] = []
        self._fd = fd

    def __call__(self, level: int, text: bytes, user_data: object) -> None:
        os.write(self._fd, text)
        if level in (3, 4) and len(self.errors) < 200:  # GGML_LOG_LEVEL_WARN, _ERROR (ggml.h of 0.25.3)
            self.errors.append(text.decode("utf-8", "replace").rstrip("\n"))
        elif b"offloaded" in text or b"using device" in text:
            self.placement.append(text.decode("utf-8", "replace").strip())


class Meter:
    """Counts and clocks what one chat request does, from inside the calls llama_cpp makes."""

    def __init__(self, llama: Any, out: Output, source: Input) -> None:
        self._llama, self._out, self._source = llama, out, source
        self._complete, self._generate, self._eval = llama.create_completion, llama.generate, llama.eval
        self.only_count = False
        self.start(None)
        llama.create_completion, llama.generate, llama.eval = self.complete, self.generate, self.eval

    def start(self, request_id: object) -> None:
        self.request_id = request_id
        self.prompt_tokens = 0
        self.reused_tokens = 0
        self.tokens = 0
        self.last_token = -1
        self.started = self.first = self.before_last = self.last = time.perf_counter()
        self._in_prompt = True

    def stopped(self) -> bool:
        return self.request_id is not None and self._source.stopped_id == self.request_id

    def complete(self, prompt: Any, **options: Any) -> Any:
        if self.only_count:
            raise Counted(prompt)
        self.prompt_tokens = len(prompt)
        tail = self._llama.detokenize(prompt[-24:], special=True).decode("utf-8", "replace")
        self._out.send("begin", prompt_tokens=len(prompt), prompt_tail=tail)
        return self._complete(prompt=prompt, **options)

    def generate(self, tokens: Any, **options: Any) -> Iterator[int]:
        clock = time.perf_counter
        for token in self._generate(tokens, **options):
            self.before_last, self.last = self.last, clock()
            if self._in_prompt:
                self.first = self.last
                self._in_prompt = False
            self.tokens += 1
            self.last_token = token
            yield token

    def eval(self, tokens: list[int]) -> None:
        if not self._in_prompt:
            self._eval(tokens)
            return
        total, told = len(tokens), time.perf_counter()
        self.reused_tokens = self.prompt_tokens - total
        for at in range(0, total, self._llama.n_batch):
            if self.stopped():
                raise Stopped
            self._eval(tokens[at : at + self._llama.n_batch])
            if time.perf_counter() - told > PROMPT_EVENT_S:
                told = time.perf_counter()
                self._out.send("prompt", done=min(total, at + self._llama.n_batch), total=total)


def load(request: dict[str, Any], out: Output, log: Log) -> Any:
    """The model, or None after a `failed` event."""
    try:
        import llama_cpp
    except ImportError as error:
        out.send("failed", reason="engine-missing", detail=str(error), log=[])
        return None
    except (OSError, RuntimeError) as error:
        out.send("failed", reason="engine-broken", detail=str(error), log=[])
        return None
    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    _tell_progress(llama_cpp, out)
    started = time.perf_counter()
    try:
        llama = llama_cpp.Llama(model_path=request["model_path"], verbose=True, **request["llama_kwargs"])
    except Exception as error:
        out.send("failed", reason="load", detail=f"{type(error).__name__}: {error}", log=log.errors)
        return None
    llama.verbose = False
    _KEPT.append(callback)
    own_template = "tokenizer.chat_template" in llama.metadata
    chosen = request.get("chat_format") or request.get("template")
    try:
        choose(llama, **{name: request.get(name) for name in ("template", "chat_format", "template_kwargs")})
    except Exception as error:
        out.send("failed", reason="template", detail=str(error), log=[])
        return None
    _show_markers(llama, request.get("markers", []))
    out.send(
        "loaded",
        n_ctx=llama.n_ctx(),
        n_ctx_train=llama._model.n_ctx_train(),
        engine_version=llama_cpp.__version__,
        chat_format=llama.chat_format,
        has_template=own_template or bool(chosen),
        name=llama.metadata.get("general.name"),
        placement=log.placement,
        load_s=time.perf_counter() - started,
    )
    return llama


def _tell_progress(llama_cpp: Any, out: Output) -> None:
    """Model parameters that report how much of the weights has been read; `Llama` has no argument for it."""
    native = llama_cpp.llama_cpp
    original = native.llama_model_default_params
    told = [0.0]

    def progress(fraction: float, user_data: object) -> bool:
        now = time.perf_counter()
        if now - told[0] > PROMPT_EVENT_S:
            told[0] = now
            out.send("loading", fraction=float(fraction))
        return True

    callback = native.llama_progress_callback(progress)

    def with_progress() -> Any:
        parameters = original()
        parameters.progress_callback = callback
        return parameters

    _KEPT.append(callback)
    native.llama_model_default_params = with_progress


def _show_markers(llama: Any, markers: list[str]) -> None:
    """Let the marks of reasoning through where they are control tokens, which detokenizing drops otherwise."""
    visible = {}
    for marker in markers:
        ids = llama.tokenize(marker.encode(), add_bos=False, special=True)
        if len(ids) == 1 and not llama.detokenize(ids):
            visible[ids[0]] = marker.encode()
    if not visible:
        return
    original = llama.detokenize

    def detokenize(tokens: list[int], prev_tokens: Any = None, special: bool = False) -> bytes:
        if special or visible.keys().isdisjoint(tokens):
            return bytes(original(tokens, prev_tokens=prev_tokens, special=special))
        parts: list[bytes] = []
        plain: list[int] = []
        for token in tokens:
            if token in visible:
                parts += [original(plain), visible[token]]
                plain = []
            else:
                plain.append(token)
        return b"".join([*parts, original(plain)])

    llama.detokenize = detokenize


def count(llama: Any, meter: Meter, messages: list[dict[str, str]]) -> int:
    """Tokens of the rendered prompt, exactly as a chat request would send it."""
    meter.only_count = True
    try:
        llama.create_chat_completion(messages=messages, stream=True)
    except Counted as counted:
        return len(counted.prompt)
    finally:
        meter.only_count = False
    raise RuntimeError(f"the chat format {llama.chat_format!r} does not build its prompt the usual way")


def answer(llama: Any, native: Any, meter: Meter, request: dict[str, Any], out: Output) -> None:
    """One streamed chat completion. Ends with `end`, whose finish_reason is stop, length or interrupted."""
    meter.start(request["id"])
    held: list[str] = []
    finish = "interrupted"
    clock = time.perf_counter
    sent = 0.0
    try:
        chunks = llama.create_chat_completion(messages=request["messages"], stream=True, **request["options"])
        for chunk in chunks:
            choice = chunk["choices"][0]
            text = choice["delta"].get("content")
            if text:
                held.append(text)
            if choice["finish_reason"] is not None:
                finish = choice["finish_reason"]
            if held and clock() - sent > GATHER_S:
                out.send("delta", text="".join(held))
                held.clear()
                sent = clock()
            if meter.stopped():
                chunks.close()
                break
    except Stopped:
        pass
    if held:
        out.send("delta", text="".join(held))
    ended_itself = meter.tokens and native.llama_vocab_is_eog(llama._model.vocab, meter.last_token)
    out.send(
        "end",
        finish_reason=finish,
        prompt_tokens=meter.prompt_tokens,
        reused_tokens=meter.reused_tokens,
        completion_tokens=meter.tokens - bool(ended_itself),
        prompt_s=meter.first - meter.started,
        generation_s=max(0.0, (meter.before_last if ended_itself else meter.last) - meter.first),
    )


def main() -> None:
    """Serve requests until told to leave."""
    out = Output()
    source = Input()
    source.start()
    log = Log(out.log_fd)
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        import llama_cpp  # while our parent finds out what to load; what goes wrong here, `load` meets again and tells
    llama = load(source.requests.get(), out, log)
    if llama is None:
        return

    meter = Meter(llama, out, source)
    while True:
        request = source.requests.get()
        try:
            if request["op"] == "count":
                out.send("counted", id=request["id"], prompt_tokens=count(llama, meter, request["messages"]))
            else:
                answer(llama, llama_cpp.llama_cpp, meter, request, out)
        except Exception as error:
            out.send("failed", reason="request", detail=f"{type(error).__name__}: {error}", log=log.errors[-20:])


if __name__ == "__main__":
    main()
