"""`provision verify` names exactly what it checked, and each command it gives brings the right bytes back."""

from __future__ import annotations

import os
import random
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import Ran, provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(23).randbytes(2 * MIB)
OTHER = random.Random(24).randbytes(MIB)
Q8, Q4 = "m-Q8_0.gguf", "m-Q4_0.gguf"


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("o/r", {Q8: MODEL, Q4: OTHER})]) as running:
        yield running


@pytest.fixture
def home(hub: RunningHub, tmp_path: Path) -> Path:
    ran = provision("fetch", "o/r", "--include", "*", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code == 0, ran.stderr
    return tmp_path


def folder(home: Path) -> Path:
    return home / ".cache/huggingface/hub/models--o--r"


def snapshot(hub: RunningHub, home: Path) -> Path:
    return folder(home) / "snapshots" / hub.repos["o/r"].head


def damage(path: Path) -> None:
    real = path.resolve()
    real.write_bytes(b"?" + real.read_bytes()[1:])


def verify(home: Path, *words: str | Path) -> Ran:
    return provision("verify", *words, "--json", home=home)


def mended(hub: RunningHub, home: Path, *words: str | Path) -> None:
    """What verify says to do is done, and then nothing is wrong."""
    ran = verify(home, *words)
    assert ran.exit_code == 8
    for error in ran.envelope["errors"]:
        program, *said = shlex.split(error["hint"])
        assert program == "provision"
        done = provision(*said, home=home, HF_ENDPOINT=hub.url)
        assert done.exit_code == 0, done.stderr
    again = verify(home, *words)
    assert again.exit_code == 0, again.stdout


@pytest.mark.parametrize("words", [[], ["o/r"], ["o/r:Q8_0"], ["o/r@main"]], ids=" ".join)
def test_damage_among_several_models(hub: RunningHub, home: Path, words: list[str]) -> None:
    damage(snapshot(hub, home) / Q8)
    mended(hub, home, *words)


@pytest.mark.parametrize("words", [[], ["o/r"], ["o/r:Q8_0"]], ids=" ".join)
def test_damage_in_a_revision_that_main_has_left(hub: RunningHub, home: Path, words: list[str]) -> None:
    old = snapshot(hub, home)
    hub.repos["o/r"].push({Q8: MODEL[::-1]})
    assert provision("fetch", "o/r:Q8_0", home=home, HF_ENDPOINT=hub.url).exit_code == 0
    damage(old / Q8)
    ran = verify(home, *words)
    assert [(file["status"], file["revision"]) for file in ran.data["files"] if file["status"] != "ok"] == [
        ("damaged", old.name)
    ]
    shown = provision("verify", *words, home=home)
    assert f"{Q8} at {old.name[:12]}" in shown.stdout
    mended(hub, home, *words)


def test_a_snapshots_file_and_a_blob_by_path(hub: RunningHub, home: Path) -> None:
    pointer = snapshot(hub, home) / Q8
    blob = pointer.resolve()
    for path in (pointer, blob):
        damage(pointer)
        mended(hub, home, path)
    blob.unlink()
    assert verify(home, pointer).data["files"][0]["status"] == "missing"
    mended(hub, home, pointer)


def test_a_plain_folder_knows_where_its_files_came_from(hub: RunningHub, home: Path) -> None:
    place = home / "my models"
    assert provision("fetch", "o/r:Q8_0", "--local-dir", place, home=home, HF_ENDPOINT=hub.url).exit_code == 0
    # No memory of this user's is needed.
    shutil.rmtree(home / "provision")
    for target in (place / Q8, place):
        damage(place / Q8)
        mended(hub, home, target)
    (place / Q8).unlink()
    assert verify(home, place / Q8).data["files"][0]["status"] == "missing"
    mended(hub, home, place)


def test_what_is_not_there_is_said_so(hub: RunningHub, home: Path) -> None:
    (home / "empty").mkdir()
    for path, code in ((home / "no.gguf", "no-such-file"), (home / "empty", "no-promise")):
        ran = verify(home, path)
        assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (5, code)
    ran = verify(home, "o/none")
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (5, "not-cached")
    fresh = home / "fresh"
    shown = provision("verify", home=fresh)
    assert (shown.exit_code, "nothing was checked" in shown.stdout) == (0, True)


def test_turned_links_are_damage(hub: RunningHub, home: Path) -> None:
    one, two = snapshot(hub, home) / Q8, snapshot(hub, home) / Q4
    texts = os.readlink(one), os.readlink(two)
    for path, text in ((one, texts[1]), (two, texts[0])):
        path.unlink()
        path.symlink_to(text)
    assert {file["status"] for file in verify(home, "o/r").data["files"]} == {"damaged"}
    mended(hub, home, "o/r")


def test_a_copy_that_nobody_described_is_unknown_not_fine(hub: RunningHub, home: Path) -> None:
    for path in snapshot(hub, home).iterdir():
        real = path.resolve()
        path.unlink()
        real.rename(path)
    shutil.rmtree(folder(home) / "trees")
    (snapshot(hub, home) / Q8).write_bytes(b"damaged")
    for words in ([], ["o/r"], ["o/r:Q8_0"]):
        ran = verify(home, *words)
        assert ran.exit_code == 5
        assert {file["status"] for file in ran.data["files"]} == {"unknown"}
        assert ran.envelope["errors"][0]["code"] == "file-unknown"
    alone = verify(home, snapshot(hub, home) / Q8)
    assert (alone.exit_code, alone.envelope["errors"][0]["hint"]) == (5, ran.envelope["errors"][0]["hint"])
    shown = provision("verify", home=home).stdout
    assert "unknown: 2 files without a promise" in shown
    assert " ok" not in shown
    hint = shlex.split(verify(home, "o/r:Q8_0").envelope["errors"][0]["hint"])
    assert provision(*hint[1:], home=home, HF_ENDPOINT=hub.url).exit_code == 0
    assert verify(home, "o/r:Q8_0").exit_code == 0


def test_a_repository_without_an_organization_is_not_passed_over(hub: RunningHub, home: Path) -> None:
    old = home / ".cache/huggingface/hub/models--gpt2"
    pointer = old / "snapshots" / ("a" * 40) / "x.gguf"
    for place in (old / "blobs", pointer.parent):
        place.mkdir(parents=True)
    (old / "blobs" / ("b" * 64)).write_text("wrong")
    pointer.symlink_to(f"../../blobs/{'b' * 64}")
    ran = verify(home)
    assert ran.exit_code == 8
    (error,) = ran.envelope["errors"]
    assert error["hint"] == f"hf download gpt2 x.gguf --revision {'a' * 40} --force-download"


def test_the_same_bytes_under_other_names_are_each_named(hub: RunningHub, home: Path) -> None:
    hub.repos["o/r"].push({"model.gguf": MODEL, "copy-Q8_0.gguf": MODEL, Q4: OTHER})
    assert provision("fetch", "o/r", "--include", "*", home=home, HF_ENDPOINT=hub.url).exit_code == 0
    ran = verify(home, f"o/r:Q4_0@{hub.repos['o/r'].head}")
    assert [file["path"] for file in ran.data["files"]] == [Q4]
    assert {file["path"] for file in verify(home).data["files"]} == {
        f"o/r: {name}" for name in (Q8, Q4, "model.gguf", "copy-Q8_0.gguf")
    }
    assert verify(home, "o/r:model.gguf").exit_code == 0


def test_a_file_that_was_renamed_is_found_by_its_quant(hub: RunningHub, home: Path) -> None:
    hub.add(repo("o/renamed", {"a-model.gguf": MODEL}))
    assert provision("fetch", "o/renamed", home=home, HF_ENDPOINT=hub.url).exit_code == 0
    hub.repos["o/renamed"].push({"z-Q8_0.gguf": MODEL})
    assert provision("fetch", "o/renamed:Q8_0", home=home, HF_ENDPOINT=hub.url).exit_code == 0
    ran = verify(home, "o/renamed:q8_0")
    assert [file["path"] for file in ran.data["files"]] == ["z-Q8_0.gguf"]
