"""The whole command on machines that lie, break or are half there: it answers, and says which fact is missing."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

TOOLS = (
    *(
        "nvcc",
        "cmake",
        "ninja",
        "make",
        "git",
        "uv",
        "ccache",
        "glslc",
        "patchelf",
        "hipcc",
        "c++",
        "cc",
        "g++",
        "gcc",
        "g++-13",
    ),
    *("gcc-13", "clang", "clang++", "nvidia-smi", "rocminfo", "getconf", "ldd"),
)
LIES = {
    "garbage": "head -c 4000 /dev/urandom",
    "not UTF-8": r"printf '\377\376\000release 12.4, V12.4.99999 \200'",
    "huge numbers": "echo 'version 99999999999999999999.99999999999 release 999.999, V999.999.999999'",
    "nothing": "true",
    "fails": "echo 'error: \033[31m]0;owned\007' >&2; exit 3",
    "dies": "kill -SEGV $$",
    "killed": "kill -KILL $$",
    "endless lines": "yes 'CUDA Version: 12.4' | head -c 3000000",
    "one long line": "head -c 2000000 /dev/zero | tr '\\0' x",
    "closes its output": "exec >&- 2>&-; sleep 0.2",
}


def doctor(*arguments: str, environ: dict[str, str], prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    argv = [*prefix, sys.executable, "-m", "provision", "doctor", "--json", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, timeout=180)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["exit_code"] == done.returncode
    findings = answer["data"]["findings"]
    assert answer["data"]["verdict"]
    assert [finding for finding in findings if finding["status"] == "crashed"] == []
    assert [note for note in answer["data"]["host"]["notes"] if "Error" in note and note.startswith("probe ")] == []
    return answer


def liars(folder: Path, choose: random.Random) -> Path:
    """A folder of programs, each with a lie of its own."""
    folder.mkdir()
    for name in TOOLS:
        (folder / name).write_text(f"#!/bin/sh\n{choose.choice(sorted(LIES.values()))}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_whatever_programs_answer(seed: int, tmp_path: Path) -> None:
    folder = liars(tmp_path / "bin", random.Random(seed))
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PROVISION_HOME": str(tmp_path / "own")}
    doctor(environ={**environ, "CUDA_HOME": str(tmp_path), "CXX": str(folder / "g++")})


@pytest.mark.parametrize("lie", [pytest.param(lie, marks=() if lie == "garbage" else pytest.mark.slow) for lie in LIES])
def test_every_program_tells_the_same_lie(lie: str, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).write_text(f"#!/bin/sh\n{LIES[lie]}\n")
        (folder / name).chmod(0o755)
    doctor(environ={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PROVISION_HOME": str(tmp_path / "own")})


def test_folders_loops_and_nothing_at_all_where_programs_belong(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS[:6]:
        (folder / name).mkdir()
    for name in TOOLS[6:12]:
        (folder / name).symlink_to(name)
    for name in TOOLS[12:16]:
        (folder / name).symlink_to("/nowhere/at/all")
    os.mkfifo(folder / "nvidia-smi")
    (folder / "nvidia-smi").chmod(0o755)
    (tmp_path / "loop").symlink_to("loop")
    strange = {
        "CUDA_HOME": str(tmp_path / "loop"),
        "CONDA_PREFIX": str(tmp_path / "loop"),
        "MODULEPATH": str(tmp_path / "loop"),
    }
    answer = doctor(
        environ={**strange, "PATH": str(folder), "HOME": str(tmp_path), "PROVISION_HOME": str(tmp_path / "loop/own")}
    )
    assert not [tool for tool in answer["data"]["host"]["tools"] if tool["path"].startswith(str(folder))]


def test_an_empty_environment(tmp_path: Path) -> None:
    assert doctor(environ={})["data"]["host"]["python"] is not None


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Root may write whatever the mode says, but not to a file system that is mounted read-only.
    prefix = hidden(str(home), "-o ro")
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    answer = doctor(environ={**kept, "HOME": str(home)}, prefix=prefix)
    said = [finding["summary"] for finding in answer["data"]["findings"] if finding["status"] in ("error", "warning")]
    assert any("not writable: ~/.cache/huggingface" in words for words in said), said


def hidden(folder: str, options: str = "") -> tuple[str, ...]:
    """What makes a program see an empty file system at `folder`; skips where that cannot be done."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare here to hide a folder with")
    prefix = (unshare, "-rm", "sh", "-c", f'mount -t tmpfs {options} none {folder} && exec "$0" "$@"')
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces here to hide a folder in")
    return prefix


@pytest.mark.parametrize("gone", ["/proc", "/sys", "/etc", "/dev"])
def test_a_machine_without_a_system_folder(gone: str, tmp_path: Path) -> None:
    environ = {**os.environ, "PROVISION_HOME": str(tmp_path / "own")}
    answer = doctor(environ=environ, prefix=hidden(gone))
    if gone == "/proc":
        assert answer["data"]["host"]["memory"]["available_bytes"] is None
        assert answer["data"]["host"]["cpu"]["model"] is None


def test_a_probe_that_is_killed_is_named_and_the_others_answer(tmp_path: Path) -> None:
    """The target Python dies at once, as under the kernel's out-of-memory killer."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -KILL $$\n")
    python.chmod(0o755)
    answer = doctor("--python", str(python), environ={**os.environ, "PROVISION_HOME": str(tmp_path / "own")})
    found = {finding["check"]: finding for finding in answer["data"]["findings"]}
    assert found["python"]["status"] == "error"
    assert found["engine"]["status"] == "warning"
    assert "SIGKILL" in found["engine"]["summary"]
    assert found["cpu"]["status"] == "ok"


@pytest.mark.slow
def test_tools_that_hang_cost_their_limit_once(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).write_text("#!/bin/sh\nexec sleep 300\n")
        (folder / name).chmod(0o755)
    started = time.monotonic()
    doctor(environ={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PROVISION_HOME": str(tmp_path / "own")})
    assert time.monotonic() - started < 60
