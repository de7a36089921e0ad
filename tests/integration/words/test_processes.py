"""Real processes: time limits reach grandchildren, and a child's death is a value."""

import os
import sys
import time
from pathlib import Path

import pytest

from provision.processes import run, run_child

pytestmark = pytest.mark.integration


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "child.py"
    path.write_text(text)
    return path


def test_run_keeps_streams_apart_and_survives_bytes_that_are_not_utf8() -> None:
    done = run(
        [sys.executable, "-c", "import sys,os; os.write(1,b'a\\xffb'); sys.stderr.write('e'); sys.exit(3)"], timeout_s=30
    )
    assert (done.returncode, done.stdout, done.stderr, done.timed_out) == (3, "a\ufffdb", "e", False)


def test_a_program_that_prints_without_end_costs_no_memory() -> None:
    code = "import os\nwhile True: os.write(1, b'y' * 65536)"
    done = run([sys.executable, "-c", code], timeout_s=3)
    assert done.timed_out
    assert len(done.stdout) == 32 * 1024 * 1024


def test_a_program_that_does_not_read_its_input_ends_as_usual() -> None:
    done = run([sys.executable, "-c", "print('done')"], timeout_s=30, stdin="x" * 1_000_000)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_whoever_left_the_session_with_our_pipe_is_not_waited_for() -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '20'], start_new_session=True); print('started', flush=True)"
    started = time.monotonic()
    done = run([sys.executable, "-c", code], timeout_s=2)
    assert time.monotonic() - started < 15
    assert (done.timed_out, done.stdout) == (True, "started\n")


@pytest.mark.parametrize("own_group", [False, True])
def test_a_time_limit_kills_the_grandchildren_too(tmp_path: Path, own_group: bool) -> None:
    mark = tmp_path / "pid"
    group = ", process_group=0" if own_group else ""
    code = (
        f"import subprocess, time; p = subprocess.Popen(['sleep', '60']{group}); "
        f"open({str(mark)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    started = time.monotonic()
    done = run([sys.executable, "-c", code], timeout_s=2)
    assert done.timed_out
    assert time.monotonic() - started < 20
    grandchild = int(mark.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _alive(grandchild):
        time.sleep(0.05)
    assert not _alive(grandchild)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_arrive_while_the_program_runs() -> None:
    seen: list[str] = []
    done = run(
        [sys.executable, "-c", "import sys; print('one'); print('two', file=sys.stderr)"], timeout_s=30, on_line=seen.append
    )
    assert sorted(seen) == ["one", "two"]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("text", "kind", "signal_name"),
    [
        (
            "import json; r = json.loads(input()); print('noise'); print('@provision ' + json.dumps({'sum': r['a'] + 1}))",
            "ok",
            None,
        ),
        ('print(\'@provision {"error": "no model"}\')', "error", None),
        ("print('hello')", "protocol", None),
        ("print('@provision not json')", "protocol", None),
        ("import os,signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal", "SIGSEGV"),
        ("import os; os.abort()", "signal", "SIGABRT"),
        ("import time; time.sleep(60)", "timeout", "SIGKILL"),
    ],
)
def test_every_end_of_a_child_is_a_value(tmp_path: Path, text: str, kind: str, signal_name: str | None) -> None:
    outcome = run_child(sys.executable, script(tmp_path, text), {"a": 1}, timeout_s=3)
    assert (outcome.kind, outcome.signal_name) == (kind, signal_name)
    assert outcome.answer == {"ok": {"sum": 2}, "error": {"error": "no model"}}.get(kind, {})


def test_a_python_that_is_not_there_is_a_value_too(tmp_path: Path) -> None:
    assert run_child(tmp_path / "nowhere", script(tmp_path, ""), {}, timeout_s=3).kind == "missing"


def test_a_child_does_not_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    text = "import json; print('@provision ' + json.dumps({'fine': True}))"
    assert run_child(sys.executable, script(tmp_path, text), {}, timeout_s=10, env=dict(os.environ)).kind == "ok"
