import json
from pathlib import Path

import pytest

from provision.cli.main import main
from provision.host.serial import host_to_data
from provision.host.types import Disk, Host, Memory, PythonEnvironment, System, Tool
from provision.units import GIB
from tests.support.machine_files import FOLDER, machine_names

GOOD = Host(
    system=System(os="linux", arch="x86_64", distribution="debian 12", libc="glibc", libc_version=(2, 36)),
    memory=Memory(total_bytes=32 * GIB, available_bytes=30 * GIB),
    disks=(Disk(purpose="temporary", path="/tmp", free_bytes=90 * GIB, writable=True),),
    python=PythonEnvironment(executable="/v/bin/python", version=(3, 12, 1), is_venv=True, pip_version=(25, 0)),
    tools=(Tool(name="c++", path="/usr/bin/c++", version=(12, 2, 0), works=True, detail="gcc"),),
)
NO_COMPILER = Host(
    system=GOOD.system, memory=GOOD.memory, disks=GOOD.disks, python=GOOD.python, tools=()
)  # fmt: skip


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    return tmp_path / "machine.json"


def write(file: Path, host: Host) -> str:
    file.write_text(json.dumps({"data": {"host": host_to_data(host)}}))
    return str(file)


def test_a_machine_without_gpu_and_engine_is_fine(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--host", write(host_file, GOOD), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "ok"
    assert answer["data"]["verdict"] == "CPU only: no NVIDIA GPU"
    assert not [finding for finding in answer["data"]["findings"] if finding["status"] in ("error", "crashed")]


def test_an_error_ends_in_exit_code_1_and_a_command(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--host", write(host_file, NO_COMPILER)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Not ready: no C++ compiler")
    assert "sudo apt install build-essential" in out
    assert err.startswith("error: no C++ compiler")
    assert main(["doctor", "--host", str(host_file), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 1
    assert answer["errors"][0]["code"] == "doctor-compiler"


def test_human_output_fits_80_columns_but_for_commands(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--host", write(host_file, GOOD)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CPU only: no NVIDIA GPU"
    assert all(len(line) <= 80 for line in lines if not line.startswith("    "))
    assert not [line for line in lines if line != line.rstrip()]


def test_list_and_only(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--list"]) == 0
    assert "amx " in capsys.readouterr().out
    assert main(["doctor", "--list", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["data"]["checks"]
    assert {"id", "title", "about"} == set(checks[0])
    assert main(["doctor", "--host", write(host_file, GOOD), "--only", "memory", "--only", "git", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["data"]["findings"]
    assert {finding["check"] for finding in findings} == {"memory", "git"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--only", "nonsense"], "unknown-check"),
        (["--host", "/nowhere/machine.json"], "bad-host-file"),
        (["--progress", "loud"], "bad-option"),
        (["--undo"], "bad-option"),
        (["--dry-run"], "bad-option"),
        (["--fix", "--undo", "--dry-run"], "bad-option"),
        (["--fix", "--host", "machine.json"], "bad-option"),
        (["--network", "--host", "machine.json"], "bad-option"),
        (["--python", "/usr/bin/python3", "--host", "machine.json"], "bad-option"),
        (["--markdown"], "bad-option"),
    ],
)
def test_bad_arguments_are_usage_errors(arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments, "--json"]) == 2
    (item,) = json.loads(capsys.readouterr().out)["errors"]
    assert item["code"] == code
    assert item["hint"]


def test_a_binary_host_file_is_a_usage_error(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host_file.write_bytes(b"\xff\xfe\x00")
    assert main(["doctor", "--host", str(host_file)]) == 2
    assert "not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_host_file_as_powershell_writes_it(encoding: str, host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host_file.write_text(json.dumps(host_to_data(GOOD)), encoding=encoding)
    assert main(["doctor", "--host", str(host_file)]) == 0
    assert capsys.readouterr().out.startswith("CPU only")


def test_an_endless_host_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--host", "/dev/zero"]) == 2
    assert "too long" in capsys.readouterr().err


def test_another_schema_names_both(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host_file.write_text(json.dumps({**host_to_data(GOOD), "schema": 2, "more": 1}))
    assert main(["doctor", "--host", str(host_file), "--json"]) == 2
    (item,) = json.loads(capsys.readouterr().out)["errors"]
    assert "schema 2" in item["message"]
    assert "schema 1" in item["message"]


def test_markdown_is_one_table_and_no_raw_html(host_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--host", write(host_file, NO_COMPILER), "--markdown"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("### provision doctor\n\n**Not ready")
    assert "| ❌ | compiler |" in out
    assert "```sh\nsudo apt install build-essential\nprovision install --cpu --prebuilt\n```" in out


@pytest.mark.parametrize("name", machine_names())
def test_no_form_of_the_answer_tells_whose_machine_the_file_describes(
    name: str, host_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8").replace("/home/ana", "/home/mallory-x")
    data = json.loads(text)["host"]
    data["notes"] = ["PermissionError: [Errno 13] Permission denied: '/Users/mallory-x/.cache'"]
    data["environment"] = {"CMAKE_ARGS": "-DT=hf_AbCdEfGhIj -I/home/mallory-x/i", "CUDA_VISIBLE_DEVICES": "GPU-0a1b2c3d"}
    for gpu in data.get("gpus", []):
        gpu["uuid"] = "GPU-0a1b2c3d-0000-1111-2222-333344445555"
    host_file.write_text(json.dumps(data), encoding="utf-8")
    for form in ([], ["--json"], ["--markdown"]):
        main(["doctor", "--host", str(host_file), *form])
        out, err = capsys.readouterr()
        for word in ("mallory-x", "0a1b2c3d", "hf_AbC"):
            assert word not in out + err, (form, word)
    main(["doctor", "--host", str(host_file), "--json", "--include-identifiers"])
    out = capsys.readouterr().out
    assert "mallory-x" in out
    assert "hf_AbC" not in out
