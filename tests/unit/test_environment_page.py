import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")


def test_every_variable_of_the_settings_is_on_the_page() -> None:
    code = (ROOT / "provision" / "settings.py").read_text(encoding="utf-8")
    body = code[code.index("def read_settings") : code.index("def _default_provision_home")]
    names = set(re.findall(r'"([A-Z]+_[A-Z_]+)"', body))
    assert {"HF_ENDPOINT", "HF_TOKEN", "PROVISION_HOME"} <= names
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_every_variable_of_the_hub_room_is_on_the_page() -> None:
    for path in (ROOT / "provision" / "hub").glob("*.py"):
        for name in re.findall(r'"([A-Z]+_[A-Z]+(?:_[A-Z]+)*)"', path.read_text(encoding="utf-8")):
            assert name in PAGE or name == "CERTIFICATE_VERIFY_FAILED", f"{name} of {path.name}"
