from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.isolation import isolate


@pytest.fixture(autouse=True)
def _away_from_the_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, home)
        yield home
