"""Chinese pages: every page for users has one, with the commands, codes and variables of its original."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ENGLISH = sorted(
    page
    for page in [DOCS / "index.md", *(DOCS / "tutorial").glob("*.md"), *(DOCS / "how-to").glob("*.md")]
    if not page.name.endswith(".zh.md")
)
TRANSLATED = sorted(page for page in DOCS.rglob("*.zh.md"))


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh.md", ".md"))


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_every_page_for_users_is_there_in_chinese(page: Path) -> None:
    assert page.with_name(f"{page.stem}.zh.md").is_file()


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.stem)
def test_a_translation_names_no_command_that_its_original_does_not(page: Path) -> None:
    chinese, english = page.read_text(encoding="utf-8"), original(page).read_text(encoding="utf-8")
    assert commands(chinese) <= commands(english)


def commands(text: str) -> set[str]:
    """`provision install`, `./scripts/quickstart` and the like, wherever they stand."""
    return set(re.findall(r"provision [a-z]+(?= |`|$)|scripts/\w+", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "pattern"),
    [
        ("exit-codes", r"^\| (\d+) \|"),
        ("environment", r"`([A-Z]+_[A-Z_]+)`"),
        ("quant-names", r"`([\w./-]*(?:Q\d|F16|IQ)[\w./-]*)`"),
    ],
)
def test_what_a_program_reads_is_the_same_in_both(page: str, pattern: str) -> None:
    found = [
        set(re.findall(pattern, (DOCS / "reference" / f"{page}{suffix}").read_text(encoding="utf-8"), re.MULTILINE))
        for suffix in (".md", ".zh.md")
    ]
    assert found[0]
    assert found[0] == found[1]


def test_the_readmes_name_the_same_commands() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    assert commands(english) == commands(chinese)
