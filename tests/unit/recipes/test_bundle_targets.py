"""Bundles for other machines: tags, markers, wheels read without installing, the choice of an engine, the lock that follows."""

from __future__ import annotations

import hashlib
import json
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from provision.engine.types import BuildPlan, ToolkitChoice
from provision.engine.wheelstore import Stored, store_wheel, stored_wheels
from provision.errors import IntegrityError, NotFoundError, UsageError
from provision.recipes.lockfile import Lock, LockedHardware, LockedPackage, parse_lock, write_lock
from provision.recipes.retarget import choose_engine, for_target, with_packages
from provision.recipes.targets import glibc_of_wheels, parse_python, parse_target, why_unsuited
from provision.recipes.wheels import installed_sha256, read_wheel

CUDA = parse_target("linux-x86_64-cuda")


@pytest.mark.parametrize("text", ["linux-x86_64", "windows-AMD64-cpu", "linux-x86_64-cuda-sm90", "", "linux-x86_64-CUDA"])
def test_an_unknown_target_lists_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match="linux-aarch64-vulkan") as caught:
        parse_target(text)
    assert caught.value.code == "bad-target"


@pytest.mark.parametrize("text", ["3", "3.10", "2.7", "3.12.1", "python3.12", "3.123", ""])
def test_a_python_is_a_minor_version_from_3_11_on(text: str) -> None:
    with pytest.raises(UsageError):
        parse_python(text)
    assert parse_python(" 3.12 ") == "3.12"


@pytest.mark.parametrize(
    ("filename", "target", "taken"),
    [
        ("numpy-2.4.6-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", "linux-x86_64-cuda", True),
        ("a-1-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "linux-x86_64-cpu", True),
        ("a-1-cp312-cp312-manylinux1_x86_64.whl", "linux-x86_64-cpu", True),
        ("a-1-cp312-cp312-manylinux_2_28_aarch64.whl", "linux-aarch64-cpu", True),
        ("a-1-py3-none-linux_x86_64.whl", "linux-x86_64-cpu", True),
        ("a-1-cp312-cp312-manylinux_2_34_x86_64.whl", "linux-x86_64-cpu", False),
        ("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", "linux-aarch64-cpu", False),
        ("a-1-cp312-cp312-musllinux_1_2_x86_64.whl", "linux-x86_64-cpu", False),
    ],
)
def test_tags_are_those_pip_knows(filename: str, target: str, taken: bool) -> None:
    platforms = {tag.platform for tag in parse_wheel_filename(filename)[3]}
    assert bool(platforms & set(parse_target(target).pip_platforms())) is taken


def test_markers_are_those_of_the_other_machine() -> None:
    markers = parse_target("linux-aarch64-cpu").markers("3.13")
    for text, holds in (
        ("a; python_version < '3.13'", False),
        ("a; python_full_version >= '3.13.0'", True),
        ("a; platform_machine == 'aarch64' and sys_platform == 'linux'", True),
        ("a; sys_platform == 'win32'", False),
        ("a; implementation_name == 'pypy'", False),
    ):
        marker = Requirement(text).marker
        assert marker is not None
        assert marker.evaluate({**markers, "extra": ""}) is holds


def test_the_oldest_glibc_that_serves_all_wheels() -> None:
    assert glibc_of_wheels(["a-1-py3-none-any.whl"]) is None
    names = ["a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "b-1-py3-none-manylinux_2_27_x86_64.whl"]
    assert glibc_of_wheels(names) == (2, 27)
    # Said to work on both: the older is enough.
    assert glibc_of_wheels(["c-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_28_x86_64.whl"]) == (2, 17)


def machine(name: str, libc: str = "glibc 2.36") -> LockedHardware:
    return LockedHardware(name=name, libc=libc)


@pytest.mark.parametrize(
    ("locked", "here", "said"),
    [
        ("linux-x86_64-cuda-sm89-sm90", "linux-x86_64-cuda-sm90", None),
        ("linux-x86_64-cuda-sm89-sm90", "linux-x86_64-cuda-sm120", "this machine has sm120"),
        ("linux-x86_64-cuda-sm90", "linux-x86_64-cuda", "none is visible"),
        ("linux-x86_64-cuda-sm90", "linux-aarch64-cuda-sm90", "this machine is linux-aarch64-cuda"),
        ("linux-x86_64-cpu", "linux-x86_64-cpu", None),
    ],
)
def test_an_engine_suits_the_machines_whose_gpus_it_has_code_for(locked: str, here: str, said: str | None) -> None:
    found = why_unsuited(machine(locked), machine(here))
    assert (found is None) if said is None else (found is not None and said in found)


def make_wheel(folder: Path, *, files: dict[str, bytes], requires: tuple[str, ...] = (), name: str = "thing") -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in {**files, f"{name}-1.0.dist-info/METADATA": text.encode()}.items():
            archive.writestr(inside, content)
        archive.writestr(f"{name}-1.0.dist-info/RECORD", b"")
    return path


def test_a_wheel_says_what_it_needs_for_which_machine(tmp_path: Path) -> None:
    requires = (
        "numpy>=1.20",
        "colorama; sys_platform == 'win32'",
        "socksio==1.*; extra == 'socks'",
        "tomli; python_version < '3.12'",
    )
    wheel = read_wheel(make_wheel(tmp_path, files={}, requires=requires))
    assert (wheel.name, wheel.version) == ("thing", "1.0")
    assert [one.name for one in wheel.wanted(frozenset(), CUDA.markers("3.11"))] == ["numpy", "tomli"]
    assert [one.name for one in wheel.wanted(frozenset({"socks"}), CUDA.markers("3.12"))] == ["numpy", "socksio"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", b"x" * 100])
def test_what_is_no_wheel_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="x-1-py3-none-any"):
        read_wheel(path)


def test_the_hash_is_over_what_lands_in_site_packages(tmp_path: Path) -> None:
    files = {
        "pkg/a.py": b"a",
        "thing-1.0.data/platlib/pkg/b.so": b"b",
        "thing-1.0.data/scripts/tool": b"#!python",
        "pkg/a.pyc": b"c",
    }
    path = make_wheel(tmp_path, files=files)
    metadata = b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
    counted = {"pkg/a.py": b"a", "pkg/b.so": b"b", "thing-1.0.dist-info/METADATA": metadata}
    lines = sorted(f"{name}\0{hashlib.sha256(content).hexdigest()}" for name, content in counted.items())
    assert installed_sha256(path) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.fixture
def lock() -> Lock:
    return Lock.model_validate(
        {
            "schema": 2,
            "provision": "0.1.0",
            "recipe": {"name": "demo", "toml": "x"},
            "hardware": {"name": "linux-x86_64-cpu", "libc": "glibc 2.36"},
            "engine": {"version": "0.3.36", "backend": "cpu", "files_sha256": "b" * 64},
            "packages": [{"name": "numpy", "version": "2", "files_sha256": "c" * 64}],
            "model": {"source": "package", "files": [{"path": "m.gguf", "size_bytes": 3, "sha256": "d" * 64}]},
            "load": {"n_ctx": 512, "n_gpu_layers": 0},
            "smoke": {"verdict": "pass", "profile": "quick", "checks": {"load": "pass"}, "answer_sha256": "a" * 64},
            "tree_sha256": "a" * 64,
        }
    )


def plan(*archs: str, native: bool = False, backend: str = "cuda", platform: str = "linux-x86_64-glibc2.36") -> BuildPlan:
    toolkit = ToolkitChoice(kind="pypi", version=(13, 0), root="/x", runtime_packages=("nvidia-cublas==13.0.*",))
    return BuildPlan(
        backend=backend,  # type: ignore[arg-type]
        engine_version="0.3.36",
        python="python",
        source="build",
        cuda_archs=archs,
        toolkit=toolkit if backend == "cuda" else None,
        platform_key=platform,
        cpu_key="abc" if native else "",
    )


def stored(folder: Path, key: str, made_by: BuildPlan) -> None:
    wheel = folder / f"llama_cpp_python-0.3.36-py3-none-{key}.whl"
    wheel.write_bytes(key.encode())
    store_wheel(wheel, folder / "wheels", key, plan=made_by)


def test_the_store_remembers_what_a_wheel_is_for(tmp_path: Path) -> None:
    stored(tmp_path, "one", plan("89", "90"))
    (found,) = stored_wheels(tmp_path / "wheels")
    assert (found.backend, found.cuda_archs, found.native) == ("cuda", ("89", "90"), False)
    assert found.runtime_packages == ("nvidia-cublas==13.0.*",)
    facts = tmp_path / "wheels" / "one" / "wheel.json"
    for broken in ("{", "[]", json.dumps({"name": "../../x"}), json.dumps({"name": 1, "plan": {}})):
        facts.write_text(broken, encoding="utf-8")
        assert list(stored_wheels(tmp_path / "wheels")) == []


def test_the_engine_with_code_for_the_gpus_asked_for_is_taken(tmp_path: Path) -> None:
    for key, made_by in {
        "small": plan("90"),
        "large": plan("89", "90"),
        "native": plan("80", "89", "90", native=True),
        "arm": plan("80", "89", "90", platform="linux-aarch64-glibc2.36"),
        "cpu": plan(backend="cpu"),
    }.items():
        stored(tmp_path, key, made_by)
    wheels = tuple(stored_wheels(tmp_path / "wheels"))

    def chosen(*archs: str) -> str:
        return choose_engine(wheels, CUDA, version="0.3.36", cuda_archs=archs).wheel.path.parent.name

    assert chosen() == chosen("90") == chosen("89") == "large"
    with pytest.raises(NotFoundError, match="machine code for 120") as caught:
        chosen("120")
    assert "provision install --cuda --cuda-arch 120 --no-gpu-check --python target-env/bin/python" in caught.value.hint
    with pytest.raises(NotFoundError) as caught:
        choose_engine(wheels, parse_target("linux-aarch64-cpu"), version="0.3.36", cuda_archs=())
    assert "CMAKE_ARGS=-DGGML_NATIVE=OFF provision install --cpu --from-source" in caught.value.hint
    with pytest.raises(NotFoundError):
        choose_engine(wheels, CUDA, version="0.3.35", cuda_archs=())


def test_the_lock_for_another_machine_promises_nothing_that_was_proven_here(tmp_path: Path, lock: Lock) -> None:
    stored(tmp_path, "one", plan("89", "90"))
    (engine,) = stored_wheels(tmp_path / "wheels")
    made = for_target(lock, CUDA, engine, files_sha256="e" * 64, glibc=(2, 34))
    package = LockedPackage(name="numpy", version="2", files_sha256="f" * 64, wheel="numpy.whl", wheel_sha256="a" * 64)
    made = with_packages(made, [package], python="3.12")
    again = parse_lock(tomllib.loads(write_lock(made)), source="x")
    assert again.hardware == LockedHardware(name="linux-x86_64-cuda-sm89-sm90", libc="glibc 2.34", python="3.12")
    assert again.smoke.verdict == "unproven"
    assert again.smoke.answer_sha256 is None
    assert again.load == {}
    assert again.model == lock.model
    assert again.engine.wheel is not None
    assert again.engine.wheel.sha256 == engine.wheel.sha256
    assert (
        again.tree_sha256
        == with_packages(made, [package], python="3.12").tree_sha256
        != with_packages(lock, lock.packages, python="3.11").tree_sha256
    )


def test_two_engines_as_good_are_chosen_between_the_same_way_every_time(tmp_path: Path) -> None:
    stored(tmp_path, "a", plan("90"))
    stored(tmp_path, "b", plan("89"))
    wheels: tuple[Stored, ...] = tuple(stored_wheels(tmp_path / "wheels"))
    assert choose_engine(wheels, CUDA, version="0.3.36", cuda_archs=()) == choose_engine(
        wheels[::-1], CUDA, version="0.3.36", cuda_archs=()
    )
