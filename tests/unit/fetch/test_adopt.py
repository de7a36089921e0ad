"""Which pieces of a damaged file the journal of its repair says are here."""

from __future__ import annotations

import pytest

from provision.fetch.adopt import DAMAGED, _journal
from provision.fetch.journal import Identity, replay


@pytest.mark.parametrize(("here", "pieces"), [(25, 3), (40, 3), (24, 2), (9, 0), (0, 0)])
def test_pieces_that_are_there_whole_count_under_any_boot(here: int, pieces: int) -> None:
    identity = Identity(digest="d" * 64, size_bytes=25, piece_bytes=10)
    known = replay(_journal(identity, here).encode(), identity, boot_id=None)
    assert known is not None
    assert known.sources_of == {index: frozenset({DAMAGED}) for index in range(pieces)}
