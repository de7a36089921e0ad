"""Chinese pages name the commands of their originals."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
TRANSLATED = sorted(page for page in DOCS.rglob("*.zh.md"))


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh.md", ".md"))


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.stem)
def test_a_translation_names_no_command_that_its_original_does_not(page: Path) -> None:
    chinese, english = page.read_text(encoding="utf-8"), original(page).read_text(encoding="utf-8")
    assert commands(chinese) <= commands(english)


def commands(text: str) -> set[str]:
    """`provision install`, `./scripts/quickstart` and the like, wherever they stand."""
    return set(re.findall(r"provision [a-z]+(?= |`|$)|scripts/\w+", text, re.MULTILINE))


def test_the_readmes_name_the_same_commands() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    assert commands(english) == commands(chinese)
