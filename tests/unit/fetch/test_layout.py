from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import IntegrityError, UsageError
from provision.fetch.layout import cache_home, check_names, digest_of, link_text, local_home, ref_file, safe_parts
from provision.models.types import RepoFile

SHA = "ab" * 32
COMMIT = "c" * 40
CACHE = Path("/cache/hub")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a//b",
        "./a",
        "a\\..\\b",
        "C:evil",
        "a\x00b",
        "a\nb",
        "a\x1b[2Jb",
        "a\x9b2Jb",
        "a\x85b",
        "a\u202efugg.exe",
        "a\u2066b",
        "a\u200fb",
        "con",
        "x/NUL.gguf",
        "a.",
        "a /b",
        "x" * 256,
        "a/" * 600 + "b",
        "\ud800",
    ],
)
def test_names_that_could_leave_their_folder_are_refused(path: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        safe_parts(path)
    assert caught.value.code == "unsafe-name"


def test_ordinary_names_pass() -> None:
    assert safe_parts("Q4_K_M/模型-00001-of-00002.gguf") == ("Q4_K_M", "模型-00001-of-00002.gguf")
    assert safe_parts("می\u200cخواهم.gguf") == ("می\u200cخواهم.gguf",)


def test_the_cache_layout_is_the_official_one() -> None:
    home = cache_home(CACHE, "org/name", COMMIT, RepoFile(path="sub/m.gguf", size_bytes=1, sha256=SHA.upper()))
    repo = CACHE / "models--org--name"
    assert home.final == repo / "blobs" / SHA
    assert home.pointer == repo / "snapshots" / COMMIT / "sub" / "m.gguf"
    assert home.lock == CACHE / ".locks" / "models--org--name" / f"{SHA}.lock"
    assert home.partial.name.endswith(".incomplete")
    assert link_text(home.pointer, home.final) == f"../../../blobs/{SHA}"


def test_a_plain_folder_hides_its_partials() -> None:
    home = local_home(Path("/models"), RepoFile(path="m.gguf", sha256=SHA))
    assert home.local_path == Path("/models/m.gguf")
    assert home.partial.parent == Path("/models/.cache/provision")


def test_without_a_hash_there_is_no_promise_to_keep() -> None:
    assert digest_of(RepoFile(path="x", git_sha1="a" * 40)) == "a" * 40
    for file in (RepoFile(path="x"), RepoFile(path="x", sha256="../../x"), RepoFile(path="x", sha256="a" * 40)):
        with pytest.raises(IntegrityError):
            digest_of(file)


def test_refs_are_kept_for_names_not_for_commits() -> None:
    assert ref_file(CACHE, "o/n", "refs/pr/3") == CACHE / "models--o--n/refs/refs/pr/3"
    assert ref_file(CACHE, "o/n", COMMIT) is None
    with pytest.raises(UsageError):
        ref_file(CACHE, "o/n", "../../main")


def test_a_hostile_commit_is_refused() -> None:
    with pytest.raises(IntegrityError):
        cache_home(CACHE, "o/n", "../../../etc", RepoFile(path="x", sha256=SHA))


def test_a_deep_path_has_its_link() -> None:
    path = "a/" * 70 + "m.gguf"
    home = cache_home(CACHE, "org/name", COMMIT, RepoFile(path=path, size_bytes=1, sha256=SHA))
    assert home.pointer is not None
    assert link_text(home.pointer, home.final) == "../" * 72 + f"blobs/{SHA}"


def test_a_file_below_a_file_is_refused() -> None:
    check_names([RepoFile(path="a/b"), RepoFile(path="a/c"), RepoFile(path="ab")])
    with pytest.raises(IntegrityError, match="'a/b/c' below 'a/b'") as caught:
        check_names([RepoFile(path="a/b"), RepoFile(path="a/b/c")])
    assert caught.value.code == "unsafe-name"


@pytest.mark.parametrize("revision", ["aux", "v1.", "feature/nul"])
def test_a_revision_that_no_shared_cache_can_hold_is_named_as_one(revision: str) -> None:
    with pytest.raises(UsageError, match=revision) as caught:
        ref_file(CACHE, "org/name", revision)
    assert caught.value.code == "bad-revision"
