"""Every check the code can speak of is on the page users look it up on, and the page names no other."""

from __future__ import annotations

import re
from pathlib import Path

from provision.engine.refusals import CAUSES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/smoke-checks.md").read_text(encoding="utf-8")
CODE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "provision/smoke").glob("*.py")))
FROM_VARIANTS = {"C6-flash-attention", "C6-kv-q8_0", "C6-kv-q4_0", "C7-cpu-only"}


def test_ids_on_the_page_and_in_the_code_are_the_same() -> None:
    # `A3-` is finished at run time with the name of the death, `C6-` and `C7-` with the variant's.
    in_code = set(re.findall(r'"([A-F]\d-[a-z][a-z0-9-]+)"', CODE))
    on_page = set(re.findall(r"`([A-F]\d-[a-z][a-z0-9_-]+)`", PAGE))
    assert on_page == in_code | FROM_VARIANTS


def test_every_named_death_is_on_the_page() -> None:
    deaths = (ROOT / "provision/smoke/deaths.py").read_text(encoding="utf-8")
    names = {*re.findall(r'name="([a-z-]+)"', deaths), *CAUSES}
    assert {"amx-miscompiled", "not-gguf", "file-truncated", "load-failed", "kv-type-refused"} <= names
    assert {name for name in names if f"`{name}`" not in PAGE} == set()
