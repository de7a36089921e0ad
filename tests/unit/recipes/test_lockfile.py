import copy
import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest

from provision.errors import ExitCode, IntegrityError, UsageError
from provision.recipes.lockfile import Lock, differences, digest_of, parse_lock, read_lock, refuse_differences, write_lock
from tests.support.locks import SHA, lock_data


def test_a_lock_reads_back_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    lock = Lock.model_validate(lock_data())
    text = write_lock(lock)
    assert write_lock(lock) == text
    path = tmp_path / "provision.lock"
    path.write_text(text, encoding="utf-8")
    again = read_lock(path)
    assert write_lock(again) == text
    assert again.to_data() == lock.to_data()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["load"].update(n_ctx=513),
        lambda d: d["model"]["files"][0].update(sha256="cd" * 32),
        lambda d: d["engine"].update(cmake_args=["-DGGML_CUDA=ON"]),
        lambda d: d["smoke"]["checks"].update(load="warn"),
        lambda d: d.update(digest="00" * 32),
        lambda d: d.pop("digest"),
    ],
)
def test_any_change_to_a_lock_is_noticed(change: Any) -> None:
    written = tomllib.loads(write_lock(Lock.model_validate(lock_data())))
    parse_lock(written, source="x")
    change(written)
    with pytest.raises(IntegrityError) as caught:
        parse_lock(written, source="x")
    assert caught.value.code == "lock-digest"
    assert caught.value.exit_code == ExitCode.INTEGRITY


@pytest.mark.parametrize("version", [None, 0, 3, "1", True, 1.0, [1]])
def test_another_version_says_so(version: Any) -> None:
    with pytest.raises(UsageError) as caught:
        parse_lock({**lock_data(), "schema": version}, source="x")
    assert caught.value.code == "lock-version"
    assert caught.value.exit_code == ExitCode.USAGE
    assert ("--upgrade" in caught.value.hint) is (version == 3)


def version_1() -> dict[str, Any]:
    old = {**lock_data(), "schema": 1}
    old["engine"] = {key: value for key, value in old["engine"].items() if key != "sdist"} | {"toolkit": "auto"}
    return {"digest": digest_of(old), **old}


def test_a_lock_of_version_1_is_read_as_one_of_today() -> None:
    lock = parse_lock(version_1(), source="x")
    # What version 1 called the toolkit was the recipe's wish, not what the engine was built with.
    assert (lock.schema_version, lock.engine.toolkit, lock.engine.sdist, lock.smoke.golden) == (2, None, None, None)
    assert parse_lock(tomllib.loads(write_lock(lock)), source="x") == lock


def test_a_change_to_a_lock_of_version_1_is_noticed() -> None:
    old = version_1()
    old["load"]["n_ctx"] = 513
    with pytest.raises(IntegrityError) as caught:
        parse_lock(old, source="x")
    assert caught.value.code == "lock-digest"


@pytest.mark.parametrize("golden", [{}, {"schema": 2}, {"schema": 1, "passages": []}])
def test_a_lock_with_a_broken_fingerprint_is_refused(golden: dict[str, Any]) -> None:
    bad = lock_data()
    bad["smoke"]["golden"] = golden
    with pytest.raises(UsageError, match=r"smoke\.golden") as caught:
        parse_lock(bad, source="x")
    assert caught.value.code == "bad-lock"


def test_a_date_in_a_lock_is_one_clear_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_lock({**lock_data(), "provision": datetime.date(2026, 11, 21)}, source="x")
    assert caught.value.code == "bad-lock"


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("path", "../../etc/passwd"),
        ("path", "a/../b"),
        ("path", "a\nb"),
        ("path", "/etc/passwd"),
        ("path", "a\\b"),
        ("sha256", "xyz"),
        ("size_bytes", -1),
    ],
)
def test_a_hostile_lock_is_refused(where: str, value: Any) -> None:
    bad = lock_data()
    bad["model"]["files"][0][where] = value
    with pytest.raises(UsageError) as caught:
        parse_lock(bad, source="x")
    assert caught.value.code == "bad-lock"


def test_differences_name_the_field() -> None:
    here = copy.deepcopy(lock_data())
    here["model"]["files"][0]["sha256"] = "cd" * 32
    here["load"]["n_ctx"] = 1024
    here["packages"].append({"name": "extra"})
    del here["hardware"]["libc"]
    found = differences(lock_data(), here)
    assert found == (
        "hardware.libc: locked 'glibc 2.36', here nothing",
        "packages[1]: locked nothing, here 'extra'",
        f"model.files[0].sha256: locked '{SHA}', here '{'cd' * 32}'",
        "load.n_ctx: locked 512, here 1024",
    )
    with pytest.raises(IntegrityError, match=r"load\.n_ctx") as caught:
        refuse_differences(found, what="this machine", hint="provision sync provision.lock")
    assert caught.value.code == "lock-differs"
    refuse_differences((), what="x", hint="")


def test_no_lock_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no lock"):
        read_lock(tmp_path / "provision.lock")
