"""Runs the server process: starts it, waits until it answers, and ends it cleanly."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provision.chat.diagnosis import explain_death, explain_load_failure
from provision.chat.interrupts import interrupts_stop
from provision.chat.serving import ServerPlan, server_url
from provision.errors import MachineError, ProvisionError, UsageError
from provision.events import LogLine, Progress, ProgressEnded, Reporter, silent
from provision.processes import CHILD_MARK, kill_group

_CHILD = Path(__file__).parent / "children" / "server.py"
_GRACE_S = 15.0


class RunningServer:
    """A server that accepts connections."""

    def __init__(self, process: subprocess.Popen[bytes], plan: ServerPlan, reporter: Reporter) -> None:
        self._process = process
        self._plan = plan
        self._reporter = reporter
        self._log: deque[str] = deque(maxlen=400)
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        self.url = plan.url
        self.n_ctx = 0
        self.chat_format = ""

    @classmethod
    def start(
        cls,
        plan: ServerPlan,
        *,
        key: str | None,
        python: Path | str,
        environ: Mapping[str, str],
        reporter: Reporter = silent,
    ) -> RunningServer:
        """Start, load the model, and return when requests are answered. The load log goes to `reporter` as LogLine events.

        The key travels through a pipe: no argument list and no environment shows it. Raises ProvisionError with the reason.
        """
        process = subprocess.Popen(
            [str(python), "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
        )
        server = cls(process, plan, reporter)
        try:
            server._send(key)
            server._wait_until_ready()
        except BaseException:
            server.kill()
            raise
        return server

    def wait(self) -> int:
        """Wait for the end of the process; its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """Let running answers finish for a moment, then end. Safe in a signal handler."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Stop, and kill what does not stop in time."""
        if self._process.poll() is None:
            self.stop()
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._release()

    def abort(self) -> None:
        """End at once, without waiting for it. Safe in a signal handler."""
        kill_group(self._process)

    def kill(self) -> None:
        """End at once."""
        kill_group(self._process)
        self._process.wait()
        self._release()

    def failure(self) -> ProvisionError | None:
        """Why the server ended, if it ended by itself."""
        returncode = self._process.poll()
        if returncode in (None, 0, -signal.SIGTERM):
            return None
        return self._death("serving")

    def _release(self) -> None:
        self._log_reader.join(timeout=2)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _send(self, key: str | None) -> None:
        plan = self._plan
        request = {
            "model": str(plan.model),
            "alias": plan.alias,
            "host": plan.host,
            "port": plan.port,
            "api_key": key,
            "settings": dict(plan.settings),
            "extra": dict(plan.extra),
            "template": plan.template,
            "defaults": dict(plan.defaults),
            "allowed_hosts": list(plan.allowed_hosts),
            "access_log": plan.access_log,
            "created": int(time.time()),
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death("starting") from None

    def _wait_until_ready(self) -> None:
        self._reporter(Progress(task="serve", label=f"loading {self._plan.model.name}", done=0, total=None, unit="steps"))
        try:
            answer = self._answer()
        finally:
            self._reporter(ProgressEnded(task="serve"))
        if "error" in answer:
            raise self._refusal(answer)
        self.url = server_url(self._plan.host, answer["port"])
        self.n_ctx = answer["n_ctx"]
        self.chat_format = answer["chat_format"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace")
            if text.startswith(CHILD_MARK):
                answer: dict[str, Any] = json.loads(text[len(CHILD_MARK) :])
                return answer
        raise self._death("loading the model")

    def _refusal(self, answer: Mapping[str, Any]) -> ProvisionError:
        detail = answer["detail"]
        match answer["error"]:
            case "server-missing":
                return MachineError(
                    f"the server's own packages are not installed: {detail}",
                    code="server-missing",
                    hint="python -m pip install 'llama-cpp-python[server]'",
                )
            case "address":
                return UsageError(f"cannot listen on {detail}", code="address-in-use", hint="choose another: --port 8001")
            case "host":
                hint = "--host takes an address of this machine: 127.0.0.1 or 0.0.0.0"
                return UsageError(f"cannot listen on {detail}", code="bad-host", hint=hint)
            case "no-chat-template":
                return UsageError(
                    "the model has no chat template, and llama-cpp-python would quietly use that of Llama 2",
                    code="no-chat-template",
                    hint="name the right one: --chat-format chatml, or --template FILE",
                )
        return explain_load_failure(answer["error"], detail, answer["log"], model=str(self._plan.model))

    def _death(self, stage: str) -> ProvisionError:
        try:
            returncode = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            returncode = self._process.wait()
        self._log_reader.join(timeout=2)
        name = None
        if returncode < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-returncode).name
        return explain_death(name, returncode, "\n".join(self._log), stage=stage, model=str(self._plan.model))

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stderr:
                text = line.decode("utf-8", "replace").rstrip("\n")
                self._log.append(text)
                self._reporter(LogLine(source="server", line=text))


def tell_supervisor(environ: Mapping[str, str], message: str) -> None:
    """sd_notify(3): `READY=1` or `STOPPING=1` to the service manager that started us, if one did."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())


def wait_for_signal(server: RunningServer, *, announce: Callable[[], None]) -> None:
    """Block until the server ends; SIGINT and SIGTERM end it cleanly, the second one at once.

    `announce` is called once signals are heard: whoever reads that we are ready may send one at once.
    """
    with interrupts_stop(server.stop, server.abort):
        announce()
        server.wait()
