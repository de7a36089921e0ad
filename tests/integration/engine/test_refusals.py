"""What a machine lacks, met by the whole command as a user runs it: exit code, reason, a command to run, nothing changed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision.engine import making
from provision.engine.install import install
from provision.engine.types import InstallWish
from provision.errors import MachineError
from tests.support.engine_environment import fingerprint, make_environment, private_settings
from tests.support.hosts import linux
from tests.support.small_disk import mounted

pytestmark = pytest.mark.integration


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An empty environment, a home, and a PATH on which only the named programs are."""

    python: Path
    root: Path

    @property
    def environment(self) -> Path:
        return self.python.parent.parent

    def path(self, *programs: str, **scripts: str) -> str:
        """A PATH with links to `programs` of this machine, and shell scripts by name."""
        folder = self.root / "bin"
        folder.mkdir(exist_ok=True)
        for name in programs:
            real = next((Path(place) / name for place in os.environ["PATH"].split(":") if (Path(place) / name).exists()), None)
            if real is not None:
                (folder / name).symlink_to(real)
        for name, body in scripts.items():
            script = folder / name.replace("_", "+")
            script.write_text(f"#!/bin/sh\n{body}\n")
            script.chmod(0o755)
        return str(folder)

    def refused(self, *arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
        """(exit code, first error) of `provision install`; fails the test when it succeeds or changes the environment."""
        before = fingerprint(self.environment)
        # Nobody answers there: what is refused must not depend on the network, and what is not refused must not go far.
        nowhere = {"PROVISION_WHEEL_INDEX": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
        settings = private_settings(self.root / "home", **nowhere, **environ)
        argv = [sys.executable, "-m", "provision", "install", "--python", str(self.python), "--json", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, env=dict(settings.environ), check=False)
        assert done.returncode != 0, done.stdout
        assert fingerprint(self.environment) == before
        assert "Traceback" not in done.stderr
        error: dict[str, Any] = json.loads(done.stdout)["errors"][0]
        assert error["hint"]
        return done.returncode, error


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(python=make_environment(tmp_path / "env"), root=tmp_path)


def test_no_compiler(machine: Machine) -> None:
    code, error = machine.refused("--cpu", PATH=machine.path("sh", "cmake", "ninja", "ldd"))
    assert (code, error["code"]) == (3, "no-compiler")
    assert "install" in error["hint"]


def test_a_compiler_that_compiles_nothing(machine: Machine) -> None:
    broken = (
        'case "$1" in --version) echo "g++ (Debian) 12.2.0 Free Software Foundation";; *) echo "no cc1plus" >&2; exit 1;; esac'
    )
    scripts = {"c__": broken, "g__": broken, "cc": broken, "gcc": broken}
    code, error = machine.refused("--cpu", PATH=machine.path("sh", "cmake", "ninja", "ldd", **scripts))
    assert (code, error["code"]) == (3, "broken-compiler")
    assert "no cc1plus" in error["message"]


def test_a_toolkit_that_is_none(machine: Machine) -> None:
    aimed = ("--cuda", "--cuda-arch", "89", "--no-gpu-check", "--toolkit")
    code, error = machine.refused(*aimed, str(machine.root))
    assert (code, error["code"]) == (3, "no-cuda-toolkit")
    assert f"{machine.root}: no CUDA toolkit there" in error["message"]


@pytest.mark.parametrize(
    ("version", "arch", "says"),
    [
        ("11.8", "120", "does not compile for this GPU (sm_120 needs"),
        ("13.0", "61", "does not compile for this GPU (sm_61 needs"),
    ],
)
def test_a_toolkit_of_the_wrong_kind(machine: Machine, version: str, arch: str, says: str) -> None:
    root = cuda_root(machine.root / "cuda", version)
    code, error = machine.refused("--cuda", "--cuda-arch", arch, "--no-gpu-check", "--toolkit", str(root))
    assert (code, error["code"]) == (3, "no-cuda-toolkit")
    assert says in error["message"]


def test_a_toolkit_whose_compiler_does_not_start(machine: Machine) -> None:
    root = cuda_root(machine.root / "cuda", "13.0", nvcc="exit 127")
    code, error = machine.refused("--cuda", "--cuda-arch", "89", "--no-gpu-check", "--toolkit", str(root))
    assert (code, error["code"]) == (3, "no-cuda-toolkit")
    assert "its nvcc does not run" in error["message"]


def cuda_root(root: Path, version: str, *, nvcc: str = "") -> Path:
    """A folder that looks like a CUDA toolkit of `version`."""
    major = version.split(".")[0]
    for name in ("include/cuda_runtime.h", "include/cublas_v2.h", "nvvm/bin/cicc", "lib64/stubs/libcuda.so"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    for name in ("cudart", "cublas", "cublasLt"):
        (root / "lib64" / f"lib{name}.so").write_text("")
        (root / "lib64" / f"lib{name}.so.{major}").write_text("")
    (root / "version.json").write_text(json.dumps({"cuda": {"version": f"{version}.0"}}))
    (root / "bin").mkdir()
    script = root / "bin" / "nvcc"
    script.write_text(f"#!/bin/sh\n{nvcc or f'echo Cuda compilation tools, release {version}, V{version}.0'}\n")
    script.chmod(0o755)
    (root / "nvvm/bin/cicc").chmod(0o755)
    return root


def test_no_gpu(machine: Machine) -> None:
    code, error = machine.refused("--cuda", CUDA_VISIBLE_DEVICES="")
    assert (code, error["code"]) == (3, "no-cuda-gpu")


def test_options_that_make_no_sense(machine: Machine) -> None:
    code, error = machine.refused("--cpu", "--cuda")
    assert (code, error["code"]) == (2, "bad-option")


def test_a_python_that_is_not_there(machine: Machine) -> None:
    code, error = machine.refused("--cpu", "--python", str(machine.root / "no" / "python"))
    assert (code, error["code"]) == (2, "bad-python")
    assert "no such file" in error["message"].lower()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    with mounted(tmp_path / "small", "size=6m") as folder:
        yield folder


def test_a_cache_that_cannot_be_written(machine: Machine, tmp_path: Path) -> None:
    with mounted(tmp_path / "frozen", "ro") as frozen:
        code, error = machine.refused("--cpu", PROVISION_HOME=str(frozen / "provision"))
        assert (code, error["code"]) == (3, "home-not-writable")
        code, error = machine.refused("--cpu", PROVISION_HOME=str(frozen))
        assert (code, error["code"]) == (3, "home-not-writable")
    assert "PROVISION_HOME" in error["hint"]


def test_a_disk_that_fills_up_while_the_build_is_prepared(
    machine: Machine, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the room had been there when it was looked for.
    monkeypatch.setattr(making, "lack_of_disk", lambda plan, home: None)
    before = fingerprint(machine.environment)
    settings = private_settings(machine.root / "home", PROVISION_HOME=str(small_disk / "provision"))
    with pytest.raises(MachineError) as caught:
        install(InstallWish(backend="cpu", python=machine.python), host=linux(), settings=settings)
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-disk", 3)
    assert fingerprint(machine.environment) == before
