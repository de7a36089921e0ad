"""doctor --fix and --undo on real folders: what is done can be taken back without a trace, also after a kill."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from provision.engine.mending import JOURNAL, apply, undo
from provision.engine.mends import Mend
from provision.engine.types import ToolkitChoice
from provision.errors import UsageError
from provision.events import silent
from provision.settings import Settings, read_settings

pytestmark = pytest.mark.integration


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def settings_of(home: Path, **environ: str) -> Settings:
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX")}
    return read_settings({**kept, "PROVISION_HOME": str(home / "share" / "provision"), **environ}, home=home)


def tree(folder: Path) -> dict[str, str]:
    """Every path below, with what it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = f"-> {os.readlink(path)}" if path.is_symlink() else "folder" if path.is_dir() else str(path.stat().st_size)
        found[str(path.relative_to(folder))] = kind
    return found


COMPILERS = Mend(id="host-compiler", title="t", because="b", compilers={"CC": "/usr/bin/clang", "CXX": "/usr/bin/clang++"})


def test_a_chosen_compiler_is_in_the_settings_until_undone(home: Path) -> None:
    before = tree(home)
    settings = settings_of(home)
    assert apply([COMPILERS], python=Path(sys.executable), settings=settings, reporter=silent) == ("t",)
    assert settings_of(home).environ["CXX"] == "/usr/bin/clang++"
    assert settings_of(home, CXX="/usr/bin/g++").environ["CXX"] == "/usr/bin/g++"
    assert "CC" not in settings_of(home, CXX="/usr/bin/g++").environ
    assert undo(settings=settings, reporter=silent) == ("t",)
    assert "CXX" not in settings_of(home).environ
    assert tree(home) == before


def test_links_are_made_and_taken_back(home: Path) -> None:
    settings = settings_of(home)
    library = settings.provision_home / "toolkits/cuda-13.0/lib"
    library.mkdir(parents=True)
    for name in ("libcublas.so.13", "libcublas.so.13.0.88", "libcublasLt.so.13"):
        (library / name).write_text("")
    before = tree(home)
    mend = Mend(id="toolkit-links", title="t", because="b", links=((str(library), "libcublas"), (str(library), "libcublasLt")))
    apply([mend], python=Path(sys.executable), settings=settings, reporter=silent)
    assert os.readlink(library / "libcublas.so") == "libcublas.so.13"
    assert (library / "libcublasLt.so").exists()
    undo(settings=settings, reporter=silent)
    assert tree(home) == before


def test_a_run_killed_between_record_and_act_can_be_undone(home: Path) -> None:
    settings = settings_of(home)
    apply([COMPILERS], python=Path(sys.executable), settings=settings, reporter=silent)
    journal = settings.provision_home / JOURNAL
    data = json.loads(journal.read_text())
    root = settings.provision_home / "toolkits" / "cuda-13.0"
    (root.parent / f".{root.name}-4242" / "wheels").mkdir(parents=True)
    data["rows"] += [
        {"kind": "toolkit", "title": "half done", "root": str(root)},
        {"kind": "link", "title": "never made", "path": str(root / "lib/libcudart.so"), "target": "libcudart.so.13"},
        {"kind": "of the future", "title": "unknown"},
    ]
    data["folders"].append(str(root.parent))
    journal.write_text(json.dumps(data))
    assert undo(settings=settings, reporter=silent) == ("unknown", "never made", "half done", "t")
    assert tree(home) == {}
    assert undo(settings=settings, reporter=silent) == ()


def test_a_forged_record_cannot_remove_anything_outside_our_own_folder(home: Path) -> None:
    settings = settings_of(home)
    precious = home / "precious"
    precious.mkdir()
    apply([COMPILERS], python=Path(sys.executable), settings=settings, reporter=silent)
    journal = settings.provision_home / JOURNAL
    data = json.loads(journal.read_text())
    data["rows"].append({"kind": "toolkit", "root": str(precious)})
    data["rows"].append(
        {"kind": "toolkit", "root": str(settings.provision_home / "toolkits" / ".." / ".." / ".." / "precious")}
    )
    journal.write_text(json.dumps(data))
    undo(settings=settings, reporter=silent)
    assert precious.is_dir()


def test_a_damaged_record_is_one_clear_error(home: Path) -> None:
    settings = settings_of(home)
    settings.provision_home.mkdir(parents=True)
    (settings.provision_home / JOURNAL).write_text("{")
    with pytest.raises(UsageError) as caught:
        undo(settings=settings, reporter=silent)
    assert caught.value.code == "bad-journal"


def test_the_assembled_toolkit_goes_with_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(home)
    root = settings.provision_home / "toolkits" / "cuda-13.0"

    def assemble(choice: ToolkitChoice, **others: object) -> Path:
        (Path(choice.root) / "bin").mkdir(parents=True)
        return Path(choice.root)

    monkeypatch.setattr("provision.engine.mending.ensure_toolkit", assemble)
    choice = ToolkitChoice(kind="pypi", version=(13, 0), root=str(root))
    apply([Mend(id="cuda-toolkit", title="t", because="b", toolkit=choice)], python=Path(sys.executable), settings=settings,
          reporter=silent)  # fmt: skip
    assert (root / "bin").is_dir()
    undo(settings=settings, reporter=silent)
    assert tree(home) == {}


def doctor(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environ, "HOME": str(home), "PROVISION_HOME": str(home / "own")}
    argv = [sys.executable, "-m", "provision", "doctor", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=900)


def test_a_broken_compiler_is_mended_and_unmended_by_the_command(home: Path, tmp_path: Path) -> None:
    """The default c++ cannot link, a second one can: --dry-run changes nothing, --fix mends it, --undo brings it back."""
    programs = tmp_path / "bin"
    programs.mkdir()
    real = {name: path for name in ("g++", "gcc") if (path := _which(name)) is not None}
    if len(real) < 2:
        pytest.skip("no g++ to stand for a second compiler")
    said = "g++ (Broken) 9.1.0\\nFree Software Foundation"
    broken = f"#!/bin/sh\ncase \"$1\" in --version) printf '{said}\\n' ;; *) echo 'error: no crt1.o' >&2; exit 1 ;; esac\n"
    for name in ("c++", "g++"):
        (programs / name).write_text(broken)
    (programs / "g++-97").write_text(f'#!/bin/sh\nexec {real["g++"]} "$@"\n')
    (programs / "gcc-97").write_text(f'#!/bin/sh\nexec {real["gcc"]} "$@"\n')
    for file in programs.iterdir():
        file.chmod(0o755)
    environ = {"PATH": f"{programs}:{os.environ['PATH']}", "CC": "", "CXX": ""}
    only = ("--only", "compiler", "--json")
    first = json.loads(doctor(home, *only, "--fix", "--dry-run", **environ).stdout)["data"]
    assert [row["id"] for row in first["fix"]["plan"]] == ["host-compiler"]
    assert not (home / "own" / "choices.json").exists()
    fixed = json.loads(doctor(home, *only, "--fix", **environ).stdout)["data"]
    (title,) = fixed["fix"]["done"]
    assert title.startswith("build with ")
    assert title != f"build with {programs}/c++ from now on"
    assert fixed["findings"][0]["status"] == "ok", fixed["findings"]
    undone = json.loads(doctor(home, *only, "--fix", "--undo", **environ).stdout)["data"]
    assert undone["fix"]["undone"] == fixed["fix"]["done"]
    assert undone["findings"][0]["status"] != "ok"
    assert not (home / "own" / "choices.json").exists()
    assert not (home / "own" / JOURNAL).exists()


def _which(name: str) -> str | None:
    import shutil

    return shutil.which(name)


@pytest.mark.slow
def test_build_tools_are_installed_into_the_environment_and_taken_out_without_a_trace(home: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    before = tree(venv)
    settings = settings_of(home)
    mend = Mend(id="build-tools", title="t", because="b", packages=("ninja>=1.10",))
    apply([mend], python=venv / "bin/python", settings=settings, reporter=silent)
    assert subprocess.run([venv / "bin/ninja", "--version"], check=True, capture_output=True).stdout
    undo(settings=settings, reporter=silent)
    after = {path: kind for path, kind in tree(venv).items() if "__pycache__" not in path}
    assert after == {path: kind for path, kind in before.items() if "__pycache__" not in path}


@pytest.mark.slow
def test_a_mend_that_fails_says_why_without_the_person_and_can_be_undone(
    tmp_path: Path, fake_nvml: Callable[[str], dict[str, str]]
) -> None:
    home = tmp_path / "zoe-quux"
    home.mkdir()
    nowhere = {**fake_nvml("new"), "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_EXTRA_INDEX_URL": ""}
    nowhere |= {"UV_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": "", "USER": "zoe-quux", "LOGNAME": "zoe-quux"}
    for _ in range(2):
        done = doctor(home, "--only", "cuda-match", "--json", "--fix", **nowhere)
        answer = json.loads(done.stdout)
        if answer["exit_code"] in (0, 1) and answer["data"]["fix"]["plan"] == []:
            pytest.skip("this machine has a CUDA toolkit that could build for an RTX 5090, so none is assembled")
        assert (done.returncode, answer["errors"][0]["code"]) == (4, "toolkit-failed")
        assert "zoe-quux" not in done.stdout + done.stderr
    undone = json.loads(doctor(home, "--fix", "--undo", "--json", **nowhere).stdout)
    assert len(undone["data"]["fix"]["undone"]) == 1
    assert tree(home) == {}


CUBLAS = """
#include <cublas_v2.h>
__global__ void twice(float * x) { x[threadIdx.x] *= 2; }
int main() { cublasHandle_t handle; twice<<<1, 32>>>(nullptr); return cublasCreate(&handle); }
"""


@pytest.mark.slow
def test_the_toolkit_of_pypi_is_assembled_compiles_links_and_goes_without_a_trace(
    home: Path, tmp_path: Path, fake_nvml: Callable[[str], dict[str, str]]
) -> None:
    """All of it for real, half a gigabyte of NVIDIA's packages; only the GPU is a stand-in."""
    environ = {**fake_nvml("new"), "PIP_NO_CACHE_DIR": "1"}
    only = ("--only", "cuda-match", "--json")
    plan = json.loads(doctor(home, *only, "--fix", "--dry-run", **environ).stdout)["data"]["fix"]["plan"]
    if [row["id"] for row in plan] != ["cuda-toolkit"]:
        pytest.skip("this machine has a CUDA toolkit that could build for an RTX 5090, so none is assembled")
    if shutil.disk_usage(home).free < 4 << 30:
        pytest.skip("less than 4 GiB of disk for a CUDA toolkit")
    assert tree(home) == {}
    # What --only asks about is all that is mended.
    assert json.loads(doctor(home, "--only", "memory", "--json", "--fix", **environ).stdout)["data"]["fix"]["done"] == []
    fixed = doctor(home, *only, "--fix", **environ)
    data = json.loads(fixed.stdout)["data"]
    assert len(data["fix"]["done"]) == 1, fixed.stderr
    assert [finding["status"] for finding in data["findings"]] == ["ok"], data["findings"]
    (root,) = (home / "own" / "toolkits").iterdir()
    (tmp_path / "probe.cu").write_text(CUBLAS)
    argv = [root / "bin/nvcc", "-arch=sm_120", tmp_path / "probe.cu", "-o", tmp_path / "probe", "-lcublas", "-lcuda"]
    built = subprocess.run(
        [*argv, f"-L{root}/lib/stubs", *_suitable_host_compiler()], capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stderr
    undone = json.loads(doctor(home, *only, "--fix", "--undo", **environ).stdout)["data"]
    assert undone["fix"]["undone"] == data["fix"]["done"]
    assert [finding["status"] for finding in undone["findings"]] == ["info"]
    assert tree(home) == {}


def _suitable_host_compiler() -> list[str]:
    """CUDA 13.0's nvcc takes gcc up to 15; an older one beside it is what a build would be given."""
    older = [path for number in range(15, 10, -1) if (path := shutil.which(f"g++-{number}"))]
    return [f"-ccbin={older[0]}"] if older else []
