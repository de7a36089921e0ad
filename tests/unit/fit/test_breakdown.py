"""The engine's std::map in memory, for both C++ libraries: nodes made by hand, since only one of them is here."""

from __future__ import annotations

import ctypes
import platform

import pytest

from provision.fit.children.memory import LIBCPP, LIBSTDCPP, Layout, entries, layout
from provision.fit.engine import outcome_problem
from provision.processes import ChildOutcome

ROWS = [(11, 1, 2, 3), (22, 4, 5, 6), (33, 7, 8, 9)]


def built(shape: Layout, count: int) -> tuple[ctypes.Array[ctypes.c_size_t], list[ctypes.Array[ctypes.c_size_t]]]:
    """A map whose root is the second row, with the others left and right of it."""
    nodes = [(ctypes.c_size_t * 8)() for _ in ROWS]
    for node, row in zip(nodes, ROWS, strict=True):
        node[4:8] = list(row)
    nodes[1][shape.left // 8], nodes[1][shape.right // 8] = ctypes.addressof(nodes[0]), ctypes.addressof(nodes[2])
    made = (ctypes.c_size_t * (shape.size // 8))()
    made[shape.root // 8], made[shape.nodes // 8] = ctypes.addressof(nodes[1]), count
    return made, nodes


@pytest.mark.parametrize("shape", [LIBSTDCPP, LIBCPP])
def test_every_node_is_read(shape: Layout) -> None:
    made, nodes = built(shape, len(ROWS))
    assert sorted(entries(ctypes.addressof(made), shape)) == ROWS
    assert nodes


@pytest.mark.parametrize("count", [0, 2, 4, 10**12])
def test_a_count_that_does_not_come_out_is_no_answer(count: int) -> None:
    made, nodes = built(LIBSTDCPP, count)
    assert entries(ctypes.addressof(made), LIBSTDCPP) == []
    assert nodes


def test_a_platform_without_figures_is_named_in_the_reason() -> None:
    outcome = ChildOutcome(kind="error", answer={"error": "abi"}, signal_name=None, returncode=0, stderr_tail="", elapsed_s=0.0)
    reason = outcome_problem(outcome)
    assert platform.machine() in reason
    assert "repacks" in reason


def test_platforms() -> None:
    assert layout("Linux", "x86_64") == layout("Linux", "aarch64") == LIBSTDCPP
    assert layout("Darwin", "arm64") == LIBCPP
    assert layout("Windows", "AMD64") is None
    assert layout("Linux", "riscv64") is None
