"""docs/reference/checks.md is what the code says."""

import runpy
from pathlib import Path

from provision.host.doctor import CHECKS

ROOT = Path(__file__).parents[3]


def test_the_page_is_current() -> None:
    generator = runpy.run_path(str(ROOT / "scripts" / "generate_checks_reference"))
    assert (ROOT / "docs/reference/checks.md").read_text(encoding="utf-8") == generator["page"](), (
        "run scripts/generate_checks_reference"
    )


def test_the_page_has_every_check() -> None:
    text = (ROOT / "docs/reference/checks.md").read_text(encoding="utf-8")
    assert [check.id for check in CHECKS if f"## `{check.id}`" not in text] == []
