import hashlib
import json
from pathlib import Path

from provision.recipes.lockfile import LockedWheel
from provision.recipes.pip_install import damaged_wheel, find_wheel

NAME = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
WANTED = LockedWheel(filename=NAME, size_bytes=6, sha256=hashlib.sha256(b"locked").hexdigest())


def cached(cache: Path, key: str, content: bytes, *, noted: bytes) -> Path:
    """An entry of the wheel cache: the file, and what the cache says it is."""
    folder = cache / key
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(content)
    (folder / "wheel.json").write_text(json.dumps({"sha256": hashlib.sha256(noted).hexdigest()}), encoding="utf-8")
    return folder / NAME


def test_the_hash_decides_which_of_several_builds_is_the_locked_one(tmp_path: Path) -> None:
    cached(tmp_path, "cpu-a", b"other!", noted=b"other!")
    right = cached(tmp_path, "cpu-b", b"locked", noted=b"locked")
    assert find_wheel(WANTED, [tmp_path / "gone", tmp_path]) == right


def test_another_build_of_the_same_name_is_no_damage(tmp_path: Path) -> None:
    cached(tmp_path, "cpu-a", b"other!", noted=b"other!")
    assert find_wheel(WANTED, [tmp_path]) is None
    assert damaged_wheel(WANTED, [tmp_path]) is None


def test_the_locked_wheel_with_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    bad = cached(tmp_path, "cpu-a", b"lockee", noted=b"locked")
    assert find_wheel(WANTED, [tmp_path]) is None
    assert damaged_wheel(WANTED, [tmp_path]) == bad


def test_a_wheel_beside_the_lock_is_found_and_must_be_the_locked_one(tmp_path: Path) -> None:
    beside = tmp_path / NAME
    beside.write_bytes(b"locked")
    assert find_wheel(WANTED, [tmp_path]) == beside
    beside.write_bytes(b"locke")
    assert damaged_wheel(WANTED, [tmp_path]) == beside
