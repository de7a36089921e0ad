"""Zeros where weights should be are found, by the file system's word or by reading; what is legitimately zero is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.events import silent
from provision.gguf.header import GgufHeader, TensorInfo
from provision.gguf.reader import read_header
from provision.gguf.source import FileSource
from provision.smoke.demo import demo_model_path
from provision.smoke.filechecks import check_files
from provision.smoke.holes import check_holes
from provision.smoke.types import Check

F32 = 0


def tensor_of(header: GgufHeader, name: str) -> tuple[TensorInfo, int]:
    tensor = next(one for one in header.tensors if one.name == name)
    return tensor, header.data_offset + tensor.offset


def damaged(tmp_path: Path, name: str, *, start: int, length: int) -> tuple[Path, GgufHeader]:
    """The demo with zeros in one tensor, from `start` of it on."""
    path = tmp_path / "demo.gguf"
    path.write_bytes(demo_model_path().read_bytes())
    header = read_header(FileSource(path))
    _, begins = tensor_of(header, name)
    with path.open("r+b") as file:
        file.seek(begins + start)
        file.write(bytes(length))
    return path, header


def check(path: Path, header: GgufHeader, limit: int | None = None) -> Check:
    return check_holes([(path, header)], read_limit_bytes=limit)


def test_the_shipped_model_has_none() -> None:
    path = demo_model_path()
    found = check(path, read_header(FileSource(path)))
    assert (found.id, found.status) == ("A2-holes", "pass")


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.3.attn_q.weight"])
def test_a_page_of_zeros_in_a_matrix_fails_and_says_where(tmp_path: Path, name: str) -> None:
    path, header = damaged(tmp_path, name, start=8192, length=8192)
    found = check(path, header)
    assert found.status == "fail"
    assert name in found.summary
    assert str(tensor_of(header, name)[1] + 8192) in found.summary
    assert "provision verify" in (found.remedy or "")


def test_a_norm_of_zeros_fails_though_it_is_smaller_than_a_page(tmp_path: Path) -> None:
    tensor, _ = tensor_of(read_header(FileSource(demo_model_path())), "blk.2.ffn_norm.weight")
    path, header = damaged(tmp_path, "blk.2.ffn_norm.weight", start=0, length=tensor.size_bytes)
    assert check(path, header).status == "fail"


def test_unused_rows_of_a_vocabulary_only_warn(tmp_path: Path) -> None:
    assert check(*damaged(tmp_path, "token_embd.weight", start=0, length=8192)).status == "warn"


def test_a_few_zeros_are_nothing(tmp_path: Path) -> None:
    assert check(*damaged(tmp_path, "blk.1.ffn_up.weight", start=0, length=2048)).status == "pass"


def test_beyond_the_limit_only_the_file_system_is_asked(tmp_path: Path) -> None:
    path, header = damaged(tmp_path, "blk.1.ffn_up.weight", start=8192, length=8192)
    assert check(path, header, limit=1000).status == "pass"
    sparse = tmp_path / "sparse.gguf"
    data = demo_model_path().read_bytes()
    with sparse.open("wb") as file:  # a transfer that reserved its place and wrote the beginning only
        file.write(data[: len(data) // 2])
        file.truncate(len(data))
    with sparse.open("rb") as file:
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) >= len(data):
            pytest.skip("this file system does not tell holes")
    found = check(sparse, header, limit=1000)
    assert found.status == "fail"
    assert found.value == 1


def test_it_is_one_of_the_file_checks(tmp_path: Path) -> None:
    path, _ = damaged(tmp_path, "blk.1.ffn_up.weight", start=8192, length=8192)
    facts = check_files(path, expected_sha256=None, hash_limit_bytes=None, reporter=silent)
    assert {one.id: one.status for one in facts.checks}["A2-holes"] == "fail"
