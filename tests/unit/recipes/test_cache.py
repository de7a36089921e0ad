import hashlib
import os
from pathlib import Path

import pytest

from provision.events import Event, Progress, silent
from provision.fetch.placed import note_placed
from provision.recipes.cache import list_cache, removable, remove, verify_cache
from provision.recipes.uses import note_deployment, note_lock, uses
from provision.settings import Settings, read_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({"PROVISION_HOME": str(tmp_path / "own"), "HF_HOME": str(tmp_path / "hf")}, home=tmp_path)


def put_blob(settings: Settings, repo: str, name: str, content: bytes, *, commit: str = "a" * 40) -> tuple[str, Path]:
    digest = hashlib.sha256(content).hexdigest()
    folder = settings.hf_hub_cache / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    pointer = folder / "snapshots" / commit / name
    pointer.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(os.path.relpath(blob, pointer.parent), pointer)
    return digest, blob


def test_an_empty_machine_has_an_empty_cache(settings: Settings) -> None:
    assert list_cache(settings) == ()


def test_models_of_a_shared_cache_are_named_by_their_files(settings: Settings) -> None:
    put_blob(settings, "org/name", "sub/m-Q8_0.gguf", b"12345")
    put_blob(settings, "org/name", "m-Q4_0.gguf", b"123")
    assert [(entry.name, entry.size_bytes, entry.ours) for entry in list_cache(settings)] == [
        ("org/name: sub/m-Q8_0.gguf", 5, False),
        ("org/name: m-Q4_0.gguf", 3, False),
    ]


def test_gc_takes_only_what_we_placed_and_nothing_refers_to(settings: Settings, tmp_path: Path) -> None:
    foreign, foreign_blob = put_blob(settings, "org/a", "a.gguf", b"foreign")
    needed, needed_blob = put_blob(settings, "org/b", "b.gguf", b"needed by a lock")
    running, running_blob = put_blob(settings, "org/c", "c.gguf", b"needed by a deployment")
    spare, spare_blob = put_blob(settings, "org/d", "d.gguf", b"spare")
    for digest, blob in ((needed, needed_blob), (running, running_blob), (spare, spare_blob)):
        note_placed(settings, sha256=digest, path=blob)
    lock, python = tmp_path / "provision.lock", tmp_path / "python"
    lock.write_text("", encoding="utf-8")
    python.write_text("", encoding="utf-8")
    note_lock(settings, path=lock, sha256=[needed])
    note_deployment(settings, python=python, recipe="c", sha256=[running])
    going = removable(list_cache(settings))
    assert [entry.name for entry in going] == ["org/d: d.gguf"]
    assert remove(going, settings=settings) == len(b"spare")
    assert not spare_blob.exists()
    assert not (spare_blob.parents[1] / "snapshots" / ("a" * 40)).exists()
    assert foreign_blob.exists()
    assert needed_blob.exists()
    assert running_blob.exists()
    lock.unlink()
    assert [entry.name for entry in removable(list_cache(settings))] == ["org/b: b.gguf"]
    assert foreign not in {entry.sha256 for entry in removable(list_cache(settings))}


def test_partial_downloads_of_other_programs_are_theirs(settings: Settings) -> None:
    blobs = settings.hf_hub_cache / "models--org--a" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / ("c" * 64 + ".incomplete")).write_bytes(b"theirs")
    (blobs / ("d" * 64 + ".provision.incomplete")).write_bytes(b"ours")
    entries = list_cache(settings)
    assert {entry.kind for entry in entries} == {"partial"}
    assert [entry.path.name[0] for entry in removable(entries)] == ["d"]


def test_wheels_toolkits_and_models_of_our_own(settings: Settings) -> None:
    home = settings.provision_home
    for path in (home / "wheels" / "cpu-0.3.36-abc" / "x.whl", home / "toolkits" / "cuda-12" / "bin" / "nvcc"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"12")
    digest = hashlib.sha256(b"model").hexdigest()
    (home / "models" / digest).mkdir(parents=True)
    (home / "models" / digest / "m.gguf").write_bytes(b"model")
    entries = {entry.kind: entry for entry in list_cache(settings)}
    assert set(entries) == {"wheel", "toolkit", "model"}
    assert entries["wheel"].sha256 == hashlib.sha256(b"12").hexdigest()
    remove(removable(entries.values()), settings=settings)
    assert list_cache(settings) == ()
    assert not (home / "models").exists() or not list((home / "models").iterdir())


def test_a_flipped_byte_at_rest_is_found(settings: Settings) -> None:
    good, _ = put_blob(settings, "org/a", "good.gguf", b"x" * 5000)
    _, bad_blob = put_blob(settings, "org/a", "bad.gguf", b"y" * 5000)
    data = bytearray(bad_blob.read_bytes())
    data[2500] ^= 1
    bad_blob.write_bytes(bytes(data))
    events: list[Event] = []
    results = {result.entry.name: result.right for result in verify_cache(list_cache(settings), reporter=events.append)}
    assert results == {"org/a: good.gguf": True, "org/a: bad.gguf": False}
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.done == last.total == 10000
    assert good


def test_notes_of_what_is_gone_do_not_count(settings: Settings, tmp_path: Path) -> None:
    note_lock(settings, path=tmp_path / "gone.lock", sha256=["a" * 64])
    note_deployment(settings, python=tmp_path / "gone", recipe="x", sha256=["a" * 64])
    assert uses(settings) == ()
    (settings.provision_home / "uses" / "lock-broken.json").write_text("{", encoding="utf-8")
    assert uses(settings) == ()


def test_verify_of_nothing(settings: Settings) -> None:
    assert verify_cache((), reporter=silent) == ()
