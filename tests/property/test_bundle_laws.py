"""One byte changed anywhere in a bundle, header, padding, manifest or content: refused, with a name."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provision.events import silent
from provision.recipes.bundle_write import Item, write_bundle
from provision.recipes.children.install import MANIFEST, Bundle, BundleDamaged

ABOUT = {
    "name": "demo",
    "target": "linux-x86_64-cpu",
    "needs": {"os": "linux", "arch": "x86_64", "glibc": None},
    "pythons": [{"python": "3.11", "lock": "lock", "tree_sha256": "0" * 64, "bootstrap": ["bootstrap/pip-1-py3-none-any.whl"]}],
}
CONTENT = {
    "lock": b"x",
    "bootstrap/pip-1-py3-none-any.whl": b"p" * 511,
    "wheels/" + "long" * 40 + ".whl": b"w" * 512,
    "empty": b"",
    "model/m.gguf": random.Random(7).randbytes(3000),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same bundle as one file and as a folder."""
    folder = tmp_path_factory.mktemp("bundles")
    items = [Item(path=path, source=content) for path, content in CONTENT.items()]
    for name in ("a.tar", "a"):
        write_bundle(folder / name, items, ABOUT, reporter=silent)
    return folder / "a.tar", folder / "a"


def flip(path: Path, offset: int, mask: int) -> None:
    handle = os.open(path, os.O_RDWR)
    (byte,) = os.pread(handle, 1, offset)
    os.pwrite(handle, bytes([byte ^ mask]), offset)
    os.close(handle)


@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
@example(where=0.0, mask=1)
@example(where=1 - 2**-40, mask=128)
def test_one_byte_of_a_tar(bundles: tuple[Path, Path], where: float, mask: int) -> None:
    path = bundles[0]
    offset = int(where * path.stat().st_size)
    flip(path, offset, mask)
    try:
        with pytest.raises(BundleDamaged) as caught:
            Bundle(path).verify()
        assert str(caught.value)
    finally:
        flip(path, offset, mask)
    Bundle(path).verify()


@given(
    name=st.sampled_from([MANIFEST, *(path for path, content in CONTENT.items() if content)]),
    where=st.data(),
    mask=st.integers(1, 255),
)
def test_one_byte_of_a_folder(bundles: tuple[Path, Path], name: str, where: st.DataObject, mask: int) -> None:
    path = bundles[1] / name
    offset = where.draw(st.integers(0, path.stat().st_size - 1))
    flip(path, offset, mask)
    try:
        with pytest.raises(BundleDamaged) as caught:
            Bundle(bundles[1]).verify()
        assert name in str(caught.value)
    finally:
        flip(path, offset, mask)


@given(where=st.floats(0, 1, exclude_max=True))
def test_a_tar_cut_short_anywhere(bundles: tuple[Path, Path], where: float) -> None:
    whole = bundles[0].read_bytes()
    cut = bundles[0].with_name("cut.tar")
    cut.write_bytes(whole[: int(where * len(whole))])
    with pytest.raises(BundleDamaged):
        Bundle(cut).verify()
