import json
from pathlib import Path

import pytest

from provision.errors import UsageError
from provision.models.refs import check_revision, is_ref, parse_ref
from provision.models.types import RepoRef


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("org/name", RepoRef(org="org", name="name")),
        ("org/name:Q4_K_M", RepoRef(org="org", name="name", quant="Q4_K_M")),
        ("org/name@v1.0", RepoRef(org="org", name="name", revision="v1.0")),
        ("o/n:UD-Q4_K_XL@refs/pr/3", RepoRef(org="o", name="n", quant="UD-Q4_K_XL", revision="refs/pr/3")),
        ("A_-_b/c.d-e", RepoRef(org="A_-_b", name="c.d-e")),
        (" https://huggingface.co/org/name ", RepoRef(org="org", name="name")),
        ("hf.co/org/name:Q8_0", RepoRef(org="org", name="name", quant="Q8_0")),
        ("o/n:x-Q4_K_M.gguf", RepoRef(org="o", name="n", file="x-Q4_K_M.gguf")),
        ("o/n:BF16/x.GGUF@v1", RepoRef(org="o", name="n", file="BF16/x.GGUF", revision="v1")),
        ("o/n:*Q4_K_M*.gguf", RepoRef(org="o", name="n", file="*Q4_K_M*.gguf")),
        ("o/n/*q4_k_[ms]*", RepoRef(org="o", name="n", file="*q4_k_[ms]*")),
        ("o/n/sub/x?.gguf", RepoRef(org="o", name="n", file="sub/x?.gguf")),
    ],
)
def test_references(text: str, ref: RepoRef) -> None:
    assert parse_ref(text) == ref


@pytest.mark.parametrize(
    "text",
    [
        *[
            "name",
            "a/b/c",
            "/b",
            "a/",
            "../b",
            "a/..",
            "a/.b",
            "-a/b",
            "a/b-",
            "a--b/c",
            "a/b..c",
            "a/b:",
            "a/b@",
            "a/b:Q4@x:y",
            "a/b@../x",
            "a/b@/x",
            "a/b@x//y",
            "a/b@-x",
            "модель/b",
            "C:\\models\\x.gguf",
            "a/b/c.gguf",
            "a/b:/etc/x.gguf",
            "a/b:../x*.gguf",
            "a/b:x/../y.gguf",
            "a/b:*:x.gguf",
            "a/b:..\\x.gguf",
        ],
        "",
        "a b/c",
        "a/b\0",
        "a/" + "b" * 97,
    ],
)
def test_what_is_not_a_reference_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ref(text)
    assert caught.value.code in ("bad-ref", "bad-revision")
    assert caught.value.hint


def test_a_file_page_is_answered_with_the_command() -> None:
    with pytest.raises(UsageError) as caught:
        parse_ref("https://huggingface.co/org/name/blob/main/q/x-Q4_0.gguf?download=true")
    assert caught.value.hint == "provision fetch org/name --file q/x-Q4_0.gguf"


def test_a_path_is_no_reference_and_a_file_of_a_repository_is() -> None:
    assert all(map(is_ref, ("o/n", "o/n:Q8_0", "o/n:x.gguf", "o/n/*q8*", "o/n:*.gguf@v1")))
    assert not any(map(is_ref, ("models/x.gguf", "models/llama/x.gguf", "/a/b", "./x.gguf", "~/x.gguf", "x.gguf", "x")))


def test_revisions_stay_below_their_folder() -> None:
    for good in ("main", "refs/pr/12", "v1.0+cu", "a" * 40):
        assert check_revision(good) == good
    for bad in ("..", "a/../b", "a/.", "/etc", "a/", "", "a b"):
        with pytest.raises(UsageError):
            check_revision(bad)


def test_every_repository_of_the_corpus_is_a_reference() -> None:
    corpus = json.loads((Path(__file__).parents[2] / "data" / "gguf-listings.json").read_text(encoding="utf-8"))["repos"]
    for entry in corpus:
        assert parse_ref(entry["repo"]).repo_id == entry["repo"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ms://org/m:Q4_K_M", "provision fetch org/m:Q4_K_M --source modelscope"),
        ("https://modelscope.cn/models/org/m", "provision fetch org/m --source modelscope"),
        ("https://www.modelscope.ai/models/org/m/files?x=1", "provision fetch org/m --source modelscope"),
        ("http://10.0.0.5:8090/org/m", "provision fetch org/m --endpoint http://10.0.0.5:8090"),
    ],
)
def test_an_address_elsewhere_becomes_an_option(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ref(text)
    assert (caught.value.code, caught.value.hint) == ("bad-ref", hint)
