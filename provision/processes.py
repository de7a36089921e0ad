"""Running other programs: bounded time, whole process groups, output as lines, and risky native code in children.

A *child* is a Python script of ours that may die of native code (`SIGSEGV`, `SIGILL`, `abort`, out of memory). It speaks a
one-line protocol: its last stdout line that starts with `CHILD_MARK` carries a JSON object. Its death is a value here, never
an exception and never our death.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

CHILD_MARK = "@provision "
_TAIL_CHARS = 64 * 1024
_OUTPUT_LIMIT = 32 * 1024 * 1024
_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A program that ran. `returncode` is negative for death by signal; `timed_out` means we killed it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    elapsed_s: float
    timed_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutcome:
    """How a risky child ended: `ok` with `answer`, or a named death with what it last said on stderr."""

    kind: Literal["ok", "error", "signal", "timeout", "protocol", "missing"]
    answer: Mapping[str, Any]
    """The JSON object of the child; empty unless it answered. A child that caught its own failure answers {"error": ...}."""
    signal_name: str | None
    returncode: int | None
    stderr_tail: str
    elapsed_s: float


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run `argv` to its end or for `timeout_s`, then kill its whole process group.

    Output is decoded as UTF-8 with replacement; of each stream the first 32 MiB are kept. With `on_line`, stderr is merged into
    stdout and every line is passed on as it arrives. Raises OSError when the program cannot be started. On any exception
    (Ctrl-C included) the group is killed first.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        if on_line is None:
            out, err, timed_out = _communicate(process, stdin, timeout_s)
        else:
            out, err, timed_out = _stream(process, stdin, timeout_s, on_line)
    except BaseException:
        kill_group(process)
        process.wait()
        raise
    elapsed = time.monotonic() - started
    return Finished(
        argv=tuple(argv), returncode=process.returncode, stdout=out, stderr=err, elapsed_s=elapsed, timed_out=timed_out
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and everything it started, process groups of their own (ninja's compilers) included."""
    if not hasattr(os, "killpg"):  # pragma: no cover - Windows, not tried
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # The group is gone, but a group of its own stays in our session. Twice: a member may have forked while we looked.
    for _ in range(2):
        for pid in _session_members(process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _session_members(session: int) -> list[int]:
    """Processes of a session by /proc (Linux); empty elsewhere."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        # proc(5): after the name come state, ppid, pgrp, session.
        if len(fields) > 3 and fields[3] == str(session):
            members.append(int(folder.name))
    return members


def _communicate(process: subprocess.Popen[bytes], stdin: str | None, timeout_s: float) -> tuple[str, str, bool]:
    """Like Popen.communicate, but a program that prints without end costs time and no memory."""
    ended = time.monotonic() + timeout_s
    kept = (bytearray(), bytearray())
    threads = [
        threading.Thread(target=_drain, args=(stream, into), daemon=True)
        for stream, into in zip((process.stdout, process.stderr), kept, strict=True)
    ]
    if stdin is not None:
        threads.append(threading.Thread(target=_feed, args=(process.stdin, stdin.encode()), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ended - time.monotonic()))
    timed_out = any(thread.is_alive() for thread in threads)
    if not timed_out:
        try:
            process.wait(max(0.0, ended - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
    if timed_out:
        kill_group(process)
        process.wait()
        for thread in threads:
            # What left the session may hold the pipe for ever; its words are not waited for.
            thread.join(_LAST_WORDS_S)
    out, err = (bytes(part).decode("utf-8", "replace") for part in kept)
    return out, err, timed_out


def _drain(stream: IO[bytes] | None, into: bytearray) -> None:
    assert stream is not None
    with stream:
        while chunk := os.read(stream.fileno(), 1 << 16):
            into += chunk[: max(0, _OUTPUT_LIMIT - len(into))]


def _feed(stream: IO[bytes] | None, data: bytes) -> None:
    assert stream is not None
    # A program that ends without reading its input is no failure of ours.
    with contextlib.suppress(BrokenPipeError):
        stream.write(data)
        stream.flush()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def _stream(
    process: subprocess.Popen[bytes], stdin: str | None, timeout_s: float, on_line: Callable[[str], None]
) -> tuple[str, str, bool]:
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        kill_group(process)

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    lines: list[str] = []
    kept = 0
    try:
        if stdin is not None and process.stdin is not None:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        assert process.stdout is not None
        with process.stdout as stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                lines.append(line)
                kept += len(line) + 1
                while kept > 4 * _TAIL_CHARS and len(lines) > 1:
                    kept -= len(lines.pop(0)) + 1
                on_line(line)
        process.wait()
    finally:
        timer.cancel()
    return "\n".join(lines), "", expired.is_set()


def run_child(
    python: Path | str,
    script: Path,
    request: Mapping[str, Any],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> ChildOutcome:
    """Run a child script under `python` with `request` as one JSON line on stdin; read its one-line JSON answer.

    `script` imports the standard library and what the environment of `python` holds (llama_cpp, numpy), never `provision`:
    the environment it runs in need not have us.
    """
    try:
        # -P: the script's own folder must not shadow the standard library or the packages it imports.
        done = run([str(python), "-P", str(script)], timeout_s=timeout_s, env=env, stdin=json.dumps(request) + "\n")
    except OSError as error:
        return ChildOutcome(kind="missing", answer={}, signal_name=None, returncode=None, stderr_tail=str(error), elapsed_s=0.0)
    answer = _last_answer(done.stdout)
    name = _signal_name(done.returncode)
    kind: Literal["ok", "error", "signal", "timeout", "protocol", "missing"]
    if done.timed_out:
        kind = "timeout"
    elif name is not None:
        kind = "signal"
    elif answer is None:
        kind = "protocol"
    else:
        kind = "error" if "error" in answer or done.returncode != 0 else "ok"
    return ChildOutcome(
        kind=kind,
        answer=answer or {},
        signal_name=name,
        returncode=done.returncode,
        stderr_tail=done.stderr[-_TAIL_CHARS:],
        elapsed_s=done.elapsed_s,
    )


def _last_answer(stdout: str) -> Mapping[str, Any] | None:
    for line in reversed(stdout.splitlines()):
        if line.startswith(CHILD_MARK):
            try:
                answer = json.loads(line[len(CHILD_MARK) :])
            except ValueError:
                return None
            return answer if isinstance(answer, dict) else None
    return None


def _signal_name(returncode: int) -> str | None:
    if returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
