import hashlib
import os
from pathlib import Path

import pytest

from provision.engine.wheelstore import store_wheel
from provision.events import Event, Progress, silent
from provision.fetch.placed import note_placed
from provision.fetch.store import locked
from provision.recipes import cache_clearing, cache_places
from provision.recipes.cache import list_cache, verify_cache
from provision.recipes.cache_clearing import removable, remove, unreferred
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
    going = unreferred(list_cache(settings))
    assert [entry.name for entry in going] == ["org/d: d.gguf"]
    assert remove(going, settings=settings) == going
    assert not spare_blob.exists()
    assert not (spare_blob.parents[1] / "snapshots" / ("a" * 40)).exists()
    assert foreign_blob.exists()
    assert needed_blob.exists()
    assert running_blob.exists()
    lock.unlink()
    assert [entry.name for entry in unreferred(list_cache(settings))] == ["org/b: b.gguf"]
    assert foreign not in {entry.sha256 for entry in unreferred(list_cache(settings))}


def test_partial_downloads_of_other_programs_are_theirs(settings: Settings) -> None:
    blobs = settings.hf_hub_cache / "models--org--a" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / ("c" * 64 + ".incomplete")).write_bytes(b"theirs")
    (blobs / ("d" * 64 + ".provision.incomplete")).write_bytes(b"ours")
    entries = list_cache(settings)
    assert {entry.kind for entry in entries} == {"partial"}
    assert [entry.path.name[0] for entry in unreferred(entries)] == ["d"]


def put(path: Path, content: bytes = b"12") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_wheel(settings: Settings, key: str, content: bytes) -> Path:
    store_wheel(put(settings.provision_home.parent / "made" / f"{key}.whl", content), settings.provision_home / "wheels", key)
    return settings.provision_home / "wheels" / key / f"{key}.whl"


def test_wheels_toolkits_builds_and_models_of_our_own(settings: Settings) -> None:
    home = settings.provision_home
    put_wheel(settings, "cpu-0.3.36-abc", b"12")
    put(home / "toolkits" / "cuda-12" / "bin" / "nvcc")
    put(home / "toolkits" / "cuda-12" / "provision.json")
    put(home / "builds" / "cuda-0.3.36-abc" / "tree" / "a.o", b"1234")
    put(home / "sdists" / "llama_cpp_python-0.3.36.tar.gz")
    put(home / "build-envs" / "0123" / "bin" / "python")
    digest = hashlib.sha256(b"model").hexdigest()
    note_placed(settings, sha256=digest, path=put(home / "models" / digest / "m.gguf", b"model"))
    entries = {entry.kind: entry for entry in list_cache(settings)}
    assert set(entries) == {"wheel", "toolkit", "model", "build", "source", "tools"}
    assert entries["wheel"].sha256 == hashlib.sha256(b"12").hexdigest()
    assert all(entry.ours for entry in entries.values())
    assert len(remove(unreferred(entries.values()), settings=settings)) == 6
    assert list_cache(settings) == ()
    assert not (home / "models").exists() or not list((home / "models").iterdir())
    assert not list((home / "wheels").glob("*"))


def test_what_killed_runs_left_is_partial_and_ours(settings: Settings) -> None:
    home = settings.provision_home
    put(home / "wheels" / "k" / ".a.whl.123")
    put(home / "toolkits" / ".cuda-13.0-123" / "wheels" / "x")
    put(home / "models" / ("a" * 64) / ".m.gguf.12.incomplete")
    put(home / "bundle-wheels-abc" / "a.whl")
    entries = list_cache(settings)
    assert {entry.kind for entry in entries} == {"partial"}
    assert len(unreferred(entries)) == len(entries) == 4
    assert all(entry.sha256 is None for entry in entries)


def test_foreign_files_in_our_own_folders_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    home = settings.provision_home
    theirs = [
        put(home / "wheels" / "mine" / "own-1-py3-none-any.whl"),
        put(home / "wheels" / "loose.whl"),
        put(home / "toolkits" / "by-hand" / "bin" / "nvcc"),
        put(home / "models" / ("b" * 64) / "copied.gguf"),
        put(home / "models" / "notes" / "read.me"),
        put(home / "sdists" / "other.tar.gz"),
    ]
    (home / "wheels" / "link").symlink_to(tmp_path)
    assert unreferred(list_cache(settings)) == ()
    remove(unreferred(list_cache(settings)), settings=settings)
    assert all(path.exists() for path in theirs)


def test_the_same_bytes_that_another_program_fetched_are_not_ours(settings: Settings) -> None:
    digest, ours = put_blob(settings, "org/a", "a.gguf", b"the same bytes")
    _, theirs = put_blob(settings, "org/b", "b.gguf", b"the same bytes")
    note_placed(settings, sha256=digest, path=ours)
    going = unreferred(list_cache(settings))
    assert [entry.path for entry in going] == [ours]
    remove(going, settings=settings)
    assert theirs.exists()
    assert (theirs.parents[1] / "snapshots" / ("a" * 40) / "b.gguf").resolve() == theirs


def test_broken_links_and_links_that_lead_elsewhere_are_only_looked_at(settings: Settings, tmp_path: Path) -> None:
    digest, blob = put_blob(settings, "org/a", "a.gguf", b"a")
    note_placed(settings, sha256=digest, path=blob)
    snapshot = blob.parents[1] / "snapshots" / ("a" * 40)
    outside = put(tmp_path / "outside" / digest)
    (snapshot / "broken.gguf").symlink_to("../../blobs/" + "f" * 64)
    (snapshot / "elsewhere.gguf").symlink_to(outside)
    (snapshot / "loop").symlink_to("loop")
    (blob.parent / ("e" * 64)).symlink_to(outside)
    (settings.hf_hub_cache / "models--org--linked").symlink_to(tmp_path / "outside")
    (entry,) = list_cache(settings)
    assert entry.pointers == (snapshot / "a.gguf",)
    remove([entry], settings=settings)
    assert outside.exists()
    assert sorted(path.name for path in snapshot.iterdir()) == ["broken.gguf", "elsewhere.gguf", "loop"]


def test_a_branch_that_meant_a_removed_snapshot_is_forgotten(settings: Settings) -> None:
    digest, blob = put_blob(settings, "org/a", "a.gguf", b"a")
    kept_digest, _ = put_blob(settings, "org/a", "b.gguf", b"b", commit="b" * 40)
    note_placed(settings, sha256=digest, path=blob)
    refs = blob.parents[1] / "refs"
    put(refs / "main", b"a" * 40)
    put(refs / "pr" / "1", b"b" * 40)
    remove(unreferred(list_cache(settings)), settings=settings)
    assert not (refs / "main").exists()
    assert (refs / "pr" / "1").exists()
    assert [entry.sha256 for entry in list_cache(settings)] == [kept_digest]


def test_what_was_used_lately_stays(settings: Settings) -> None:
    digest, blob = put_blob(settings, "org/a", "a.gguf", b"a")
    note_placed(settings, sha256=digest, path=blob)
    os.utime(blob, (1000, 1000))
    entries = list_cache(settings)
    assert removable(entries, now_s=1500, unused_for_s=600) == ()
    assert removable(entries, now_s=1500, unused_for_s=500) == entries
    assert removable(entries, now_s=900, unused_for_s=0) == (), "a clock that was set back removes nothing"


def test_what_a_download_holds_stays(settings: Settings) -> None:
    digest, blob = put_blob(settings, "org/a", "a.gguf", b"a")
    note_placed(settings, sha256=digest, path=blob)
    (entry,) = list_cache(settings)
    assert entry.lock is not None
    with locked(entry.lock, what="a.gguf", reporter=silent):
        assert remove([entry], settings=settings) == ()
        assert (blob.parents[1] / "snapshots" / ("a" * 40) / "a.gguf").exists()
    assert remove([entry], settings=settings) == (entry,)


def test_what_vanishes_meanwhile_is_no_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    put_blob(settings, "org/a", "a.gguf", b"a")
    digest, blob = put_blob(settings, "org/a", "b.gguf", b"bb")
    note_placed(settings, sha256=digest, path=blob)
    entries = list_cache(settings)
    for entry in entries:
        entry.path.unlink()
    assert verify_cache(entries, reporter=silent) == ()
    assert remove(unreferred(entries), settings=settings) == ()
    # Gone between being seen and being measured.
    monkeypatch.setattr(cache_places, "_files", lambda folder: [folder / ("0" * 64), folder / "gone.whl"])
    assert list_cache(settings) == ()


def test_a_tree_that_a_process_works_in_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = put(settings.provision_home / "builds" / "cpu-1" / "tree" / "a.o").parent
    monkeypatch.setattr(cache_clearing, "_places_of_processes", lambda: [str(tree), "/usr/bin/python"])
    (entry,) = list_cache(settings)
    assert remove([entry], settings=settings) == ()
    monkeypatch.setattr(cache_clearing, "_places_of_processes", lambda: [f"{entry.path}-2", "/"])
    assert remove([entry], settings=settings) == (entry,)


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
