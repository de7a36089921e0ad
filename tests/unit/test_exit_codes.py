"""The documented exit codes are the ones in the code, all of them."""

import re
from pathlib import Path

from provision.errors import ExitCode, ProvisionError

PAGE = Path(__file__).parents[2] / "docs/reference/exit-codes.md"


def test_the_page_lists_every_code_once() -> None:
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)]
    assert listed == [int(code) for code in ExitCode]


def test_every_error_class_has_a_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in ProvisionError.__subclasses__()]
    assert len(codes) == len(set(codes))
    assert ExitCode.OK not in codes
