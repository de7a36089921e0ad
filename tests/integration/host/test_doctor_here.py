"""The real doctor on the machine the tests run on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from provision.host.cuda_tables import version_text

pytestmark = pytest.mark.integration


def doctor(*arguments: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PROVISION_HOME": str(home), **environ}
    return subprocess.run(
        [sys.executable, "-m", "provision", "doctor", *arguments], capture_output=True, text=True, env=env, timeout=120
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def answer(own: Path) -> dict[str, Any]:
    done = doctor("--json", home=own)
    assert done.returncode in (0, 1), done.stderr
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


def test_no_check_and_no_probe_fails(answer: dict[str, Any]) -> None:
    assert [finding for finding in answer["findings"] if finding["status"] == "crashed"] == []
    assert [note for note in answer["host"]["notes"] if note.startswith("probe ")] == []


def test_what_python_says_of_itself_agrees(answer: dict[str, Any]) -> None:
    host = answer["host"]
    assert tuple(host["python"]["version"]) == sys.version_info[:3]
    assert host["python"]["is_venv"] == (sys.prefix != sys.base_prefix)
    assert host["cpu"]["cores"] is not None
    assert host["cpu"]["cores"] <= (os.cpu_count() or 1)
    assert 0 < host["memory"]["available_bytes"] <= host["memory"]["total_bytes"]


def test_the_answer_of_one_machine_can_be_judged_on_another(answer: dict[str, Any], own: Path, tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(json.dumps({"data": {"host": answer["host"]}}))
    again = json.loads(doctor("--json", "--host", str(file), home=own).stdout)["data"]
    assert again["verdict"] == answer["verdict"]
    assert again["findings"] == answer["findings"]


def test_it_does_not_tell_who_we_are(own: Path, tmp_path: Path) -> None:
    home = tmp_path / "home" / "zoe-quux"
    home.mkdir(parents=True)
    plain = doctor("--json", home=home / "own", HOME=str(home), USER="zoe-quux", LOGNAME="zoe-quux")
    assert "zoe-quux" not in plain.stdout
    named = doctor("--json", "--include-identifiers", home=home / "own", HOME=str(home), USER="zoe-quux", LOGNAME="zoe-quux")
    assert "zoe-quux" in named.stdout


def test_a_token_never_shows(own: Path) -> None:
    for form in (["--json", "--include-identifiers"], ["--markdown"]):
        done = doctor(*form, home=own, HF_TOKEN="hf_verysecretindeed")
        assert "verysecret" not in done.stdout + done.stderr


def test_the_error_line_and_the_plan_of_a_mend_tell_no_more_than_the_findings(tmp_path: Path) -> None:
    home = tmp_path / "home" / "zoe-quux"
    home.mkdir(parents=True)
    # A file where the folder of models belongs: the worst finding names it, and so does the error.
    (home / "hub").write_text("")
    strange = {"HOME": str(home), "USER": "zoe-quux", "LOGNAME": "zoe-quux", "HF_HUB_CACHE": str(home / "hub" / "models")}
    strange |= {"CMAKE_ARGS": "-DX=hf_verysecretindeed -I/home/other-user/x", "CUDA_VISIBLE_DEVICES": "GPU-1234abcd,0"}
    for form in (["--json"], ["--markdown"], ["--fix", "--dry-run", "--json"], []):
        done = doctor(*form, home=home / "own", **strange)
        assert done.returncode == 1, done.stderr
        for word in ("zoe-quux", "verysecret", "other-user", "1234abcd"):
            assert word not in done.stdout + done.stderr, (form, word)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert doctor("--fix", "--dry-run", home=tmp_path / "own", HOME=str(tmp_path)).returncode in (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_prints_without_end_costs_its_limit_and_no_memory(tmp_path: Path) -> None:
    for name in ("cmake", "git"):
        (tmp_path / name).write_text("#!/bin/sh\nexec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n")
        (tmp_path / name).chmod(0o755)
    argv = [sys.executable, "-m", "provision", "doctor", "--json"]
    code = (
        "import json, resource, subprocess, sys; "
        f"done = subprocess.run({argv!r}, capture_output=True); "
        "sys.stdout.buffer.write(done.stdout); "
        "print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    )
    env = {**os.environ, "PROVISION_HOME": str(tmp_path / "own"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120, check=True)
    answer, kib = done.stdout.strip().splitlines()
    assert json.loads(answer)["exit_code"] in (0, 1)
    # Two streams of 32 MiB per tool, and their text; without a limit it is gigabytes.
    assert int(kib) < 1024 * 1024


def test_it_is_quick_the_second_time(answer: dict[str, Any], own: Path) -> None:
    # 1.5 s when the machine is ours alone; the limit here leaves room for busy neighbours.
    took = []
    for _ in range(2):
        started = time.monotonic()
        doctor("--json", home=own)
        took.append(time.monotonic() - started)
    assert min(took) < 4.0, took


@pytest.mark.parametrize(
    "environ",
    [
        {"PATH": "/nowhere"},
        {"PATH": ""},
        {"CUDA_HOME": "/dev/null", "CUDA_VISIBLE_DEVICES": "\udcff", "CC": "/etc/passwd", "CXX": "/"},
        {"TMPDIR": "/nowhere/at/all", "PROVISION_HOME": "/proc/1/own", "HF_HOME": "/dev/full"},
        {"HOME": "", "USER": "", "LOGNAME": "", "TERM": "", "COLUMNS": "0"},
        {"HOME": "relative", "COLUMNS": "40", "LANG": "C", "LC_ALL": "C", "TERM": "dumb", "PYTHONIOENCODING": "latin-1"},
        {"LD_LIBRARY_PATH": "/usr/lib/stubs", "CMAKE_ARGS": "-DLLAMA_CUBLAS=on \x01", "LANG": "tlh", "LC_ALL": "C"},
    ],
)
def test_a_strange_environment_still_gets_an_answer(environ: dict[str, str], tmp_path: Path) -> None:
    home = Path(environ.pop("PROVISION_HOME", str(tmp_path / "own")))
    done = doctor("--json", home=home, **environ)
    assert done.returncode in (0, 1), done.stderr
    data = json.loads(done.stdout)["data"]
    assert [finding for finding in data["findings"] if finding["status"] == "crashed"] == []
    assert data["verdict"]


def _is_the_development_machine() -> bool:
    """GCC 12.2, an AMX CPU, no GPU and a CUDA 13.0 without cuBLAS: what the expectations below were written for."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    root = Path("/usr/local/cuda-13.0")
    return (
        "amx_tile" in flags
        and (root / "bin/nvcc").exists()
        and not (root / "lib64/libcublas.so").exists()
        and Path("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus").exists()
        and not Path("/dev/nvidiactl").exists()
    )


@pytest.mark.skipif(not _is_the_development_machine(), reason="golden facts of one machine, which this is not")
def test_golden_facts_of_the_development_machine(answer: dict[str, Any]) -> None:
    host, findings = answer["host"], answer["findings"]
    assert host["system"]["libc"] == "glibc"
    assert host["cpu"]["amx_compiler"] == "miscompiles"
    assert host["gpus"] == []
    (toolkit,) = [row for row in host["toolkits"] if row["root"] == "/usr/local/cuda-13.0"]
    assert version_text(tuple(toolkit["version"])[:2]) == "13.0"
    assert toolkit["nvcc_works"] is True
    assert toolkit["missing"] == ["cublas", "driver-stub"]
    assert "PATH" in toolkit["found_via"]
    said = {finding["summary"] for finding in findings if finding["check"] == "cuda-parts"}
    assert (
        "CUDA 13.0 in /usr/local/cuda-13.0 lacks cuBLAS (libcublas.so, libcublasLt.so, cublas_v2.h), the driver stub libcuda.so"
        in said
    )
    statuses = {finding["check"]: finding["status"] for finding in findings}
    for check in ("system", "cpu", "memory", "disk", "python", "installer", "compiler", "build-tools", "git", "variables"):
        assert statuses[check] == "ok", check
    for check in ("driver", "gpu-visibility", "mig", "unified-memory", "cuda-match"):
        assert statuses[check] == "skipped", check
    assert statuses["gpus"] == "info"
    assert "no NVIDIA GPU" in answer["verdict"]


@pytest.mark.slow
def test_a_folder_that_hangs_costs_its_limit_and_hides_nothing_else(tmp_path: Path) -> None:
    """Reading a FIFO nobody writes to hangs like a dead network mount. The process must also end."""
    root = tmp_path / "cuda"
    (root / "include").mkdir(parents=True)
    os.mkfifo(root / "version.json")
    started = time.monotonic()
    done = doctor("--json", home=tmp_path / "own", CUDA_HOME=str(root))
    assert time.monotonic() - started < 60
    data = json.loads(done.stdout)["data"]
    assert any(note.startswith("probe toolkits: no answer") for note in data["host"]["notes"])
    statuses = {finding["check"]: finding["status"] for finding in data["findings"]}
    assert statuses["probes"] == "warning"
    assert data["host"]["python"] is not None
