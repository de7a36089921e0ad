"""What is here from before, while somebody who is asked lies: no honest byte is lost, no innocent is blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import IntegrityError, TransferError
from provision.events import Event, Note
from provision.units import MIB
from tests.integration.fetch.conftest import Getter, noise
from tests.support.ranges import RangeServer, serve_ranges

pytestmark = pytest.mark.integration

CONTENT = noise(20 * MIB + 12345, seed=5)
LIES = bytes(byte ^ 1 if index % 65536 == 0 else byte for index, byte in enumerate(CONTENT))


def stop_midway(get: Getter, server: RangeServer) -> None:
    """A run that ends with about half of the file here."""
    sent = server.sent_bytes
    server.fault = lambda number, start, stop: "status:500" if server.sent_bytes - sent > 10 * MIB else None
    with pytest.raises(TransferError):
        get(CONTENT, server, connections=2, patience_s=0.2)
    server.fault = lambda number, start, stop: None


def warnings(events: list[Event]) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Note) and event.level == "warning")


def damage(tmp_path: Path) -> None:
    """One bit of what an earlier run left, gone wrong on the disk."""
    (partial,) = (tmp_path / "hub").rglob("*.provision.incomplete")
    with partial.open("r+b") as file:
        file.write(bytes([CONTENT[0] ^ 1]))


@pytest.mark.parametrize("order", ["honest first", "liar first"])
def test_a_liar_who_joins_later_spoils_nothing(get: Getter, order: str) -> None:
    with serve_ranges(CONTENT) as honest, serve_ranges(LIES) as liar:
        stop_midway(get, honest)
        done = get(CONTENT, *((honest, liar) if order == "honest first" else (liar, honest)))
        assert done.local_path.read_bytes() == CONTENT


def test_right_bytes_outlive_a_run_with_nobody_but_a_liar(get: Getter) -> None:
    with serve_ranges(CONTENT) as honest, serve_ranges(LIES) as liar:
        stop_midway(get, honest)
        before = honest.sent_bytes
        with pytest.raises(IntegrityError):
            get(CONTENT, liar)
        done = get(CONTENT, honest)
        assert done.local_path.read_bytes() == CONTENT
        assert done.action == "resumed"
        assert honest.sent_bytes - before <= len(CONTENT) - 8 * MIB


def test_damage_on_the_disk_beside_a_liar_is_mended_by_the_honest_one(get: Getter, tmp_path: Path) -> None:
    with serve_ranges(CONTENT) as honest, serve_ranges(LIES) as liar:
        stop_midway(get, honest)
        damage(tmp_path)
        assert get(CONTENT, honest, liar).local_path.read_bytes() == CONTENT


def test_nobody_is_blamed_for_what_a_disk_lost(get: Getter, tmp_path: Path, events: list[Event]) -> None:
    with serve_ranges(CONTENT) as one, serve_ranges(CONTENT) as two:
        stop_midway(get, one)
        damage(tmp_path)
        assert get(CONTENT, one, two).action == "repaired"
        assert "here from before" in warnings(events)
        assert one.url not in warnings(events)
        assert two.url not in warnings(events)
