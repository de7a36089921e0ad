"""The model in a process of its own: start it, count tokens, let it answer, stop it, and put its death into words."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provision.chat.diagnosis import explain_death, explain_load_failure
from provision.chat.reasoning import CONTROL_MARKS
from provision.chat.types import Began, Load, LoadedModel, Message, PromptRead, RawEnd, RawEvent, RawText, Sampling
from provision.errors import ProvisionError, UsageError
from provision.events import Progress, ProgressEnded, Reporter, silent
from provision.processes import kill_group

_WORKER = Path(__file__).parent / "children" / "worker.py"
_LOG_LINES = 400


class ModelProcess:
    """One loaded model. Not thread-safe, except for `stop` and `kill`, which signal handlers may call."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._load: Load
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        self._answers = 0
        self._counts = 0
        self._answering: int | None = None
        self._sending = False
        self._stop_after_sending = False
        self.loaded: LoadedModel

    @classmethod
    def start(cls, load: Load, *, python: Path | str, environ: Mapping[str, str], reporter: Reporter = silent) -> ModelProcess:
        """Start the process and wait for the model. Raises ProvisionError with the engine's own reason when it fails."""
        engine = cls.spawn(python=python, environ=environ)
        engine.load(load, reporter=reporter)
        return engine

    @classmethod
    def spawn(cls, *, python: Path | str, environ: Mapping[str, str]) -> ModelProcess:
        """Start the process without a model. It reads the engine's libraries while we still find out what to load.

        It leads its own session: Ctrl-C at the terminal reaches us, not it.
        """
        try:
            process = subprocess.Popen(
                [str(python), "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environ),
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(f"cannot start {python}: {error}", code="bad-python", hint="give --python PATH") from error
        return cls(process)

    def load(self, load: Load, *, reporter: Reporter = silent) -> None:
        """Load the one model this process will ever hold. When that fails the process is ended and its reason raised."""
        self._load = load
        try:
            self._wait_until_loaded(reporter)
        except BaseException:
            self.discard()
            raise

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt these messages render to, the header of the answer included."""
        self._counts += 1
        self._send({"op": "count", "id": self._counts, "messages": _plain(messages)})
        while True:
            event = self._receive(stage="counting tokens")
            # The answer to a count that Ctrl-C broke off may still lie in the pipe.
            if event["event"] == "counted" and event["id"] == self._counts:
                return int(event["prompt_tokens"])

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[RawEvent]:
        """The answer as it comes; ends with RawEnd. Raises ProvisionError when the engine refuses or dies."""
        self._answers += 1
        self._answering = self._answers
        try:
            request = {"op": "chat", "id": self._answers, "messages": _plain(messages), "options": sampling.options()}
            self._send(request)
            while True:
                event = self._receive(stage="answering")
                match event.pop("event"):
                    case "begin":
                        yield Began(**event)
                    case "prompt":
                        yield PromptRead(**event)
                    case "delta":
                        yield RawText(**event)
                    case "end":
                        yield RawEnd(**event)
                        return
        finally:
            self._answering = None

    def stop(self) -> None:
        """Ask for the end of the running answer; it ends with finish_reason `interrupted`, in its own time."""
        if self._answering is None:
            return
        if self._sending:
            # A signal handler came in the middle of a line; two lines must not mix.
            self._stop_after_sending = True
            return
        with contextlib.suppress(ProvisionError):
            self._send({"op": "stop", "id": self._answering})

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer learns of its death."""
        kill_group(self._process)

    def discard(self) -> None:
        """End the process at once and let its pipes go."""
        self.kill()
        self.close()

    def close(self) -> None:
        """Let the process leave by itself, for a moment, then end it."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._log_reader.join(timeout=5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def alive(self) -> bool:
        """Whether the process can still answer."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that holds the model."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The last lines of the engine's log."""
        return "\n".join(self._log)

    def _wait_until_loaded(self, reporter: Reporter) -> None:
        self._send(
            {
                "op": "load",
                "model_path": str(self._load.model_path),
                "llama_kwargs": dict(self._load.llama_kwargs),
                "chat_format": self._load.chat_format,
                "template": self._load.template,
                "template_kwargs": dict(self._load.template_kwargs),
                "markers": sorted({*CONTROL_MARKS, *(text for m in self._load.markers for text in (m.open, m.close))}),
            }
        )
        size = _size(self._load.model_path)
        label = f"loading {self._load.model_path.name}"
        try:
            while True:
                event = self._receive(stage="loading the model")
                match event.pop("event"):
                    case "loading":
                        done = int(event["fraction"] * size)
                        reporter(Progress(task="load", label=label, done=done, total=size, unit="bytes"))
                    case "loaded":
                        self.loaded = LoadedModel(**{**event, "placement": tuple(event["placement"])})
                        return
        finally:
            reporter(ProgressEnded(task="load"))

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._sending = True
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._death("waiting") from None
        finally:
            self._sending = False
        if self._stop_after_sending:
            self._stop_after_sending = False
            self.stop()

    def _receive(self, *, stage: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death(stage)
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "failed":
            raise self._refusal(event)
        return event

    def _refusal(self, event: Mapping[str, Any]) -> ProvisionError:
        if event["reason"] != "request":
            return explain_load_failure(event["reason"], event["detail"], event["log"], model=str(self._load.model_path))
        return ProvisionError(
            f"the engine refused the request: {event['detail']}",
            code="request-refused",
            hint="/undo takes back the last turn; a template that insists on an order of roles refuses others",
        )

    def _death(self, stage: str) -> ProvisionError:
        try:
            returncode = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            returncode = self._process.wait()
        self._log_reader.join(timeout=2)
        name = None
        if returncode < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-returncode).name
        return explain_death(name, returncode, self.log, stage=stage, model=str(self._load.model_path))

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stderr:
                self._log.append(line.decode("utf-8", "replace").rstrip("\n"))


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    # The reasoning stays here: models are trained without the reasoning of earlier turns in their prompt.
    return [{"role": message.role, "content": message.content} for message in messages]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
