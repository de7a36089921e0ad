"""The table of commands: one alone is the same as among all the others."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from provision.cli.commands import _MODULE_OF
from provision.cli.main import make_app


def commands_of(word: str) -> dict[str, Any]:
    return dict(typer.main.get_command(make_app(word)).commands)  # type: ignore[attr-defined]


EVERYTHING = commands_of("")


def test_the_table_names_every_command() -> None:
    assert set(_MODULE_OF) == set(EVERYTHING)


@pytest.mark.parametrize("name", list(_MODULE_OF))
def test_a_command_alone_is_the_same_command(name: str) -> None:
    alone = commands_of(name)
    assert set(alone) < set(EVERYTHING)
    assert [parameter.opts for parameter in alone[name].params] == [parameter.opts for parameter in EVERYTHING[name].params]


def test_a_word_that_is_no_command_gets_the_whole_table() -> None:
    assert list(commands_of("ftech")) == list(EVERYTHING)
