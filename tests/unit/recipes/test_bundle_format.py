import json
import random
import tarfile
from pathlib import Path

import pytest

from provision.errors import IntegrityError, UsageError
from provision.events import silent
from provision.recipes.bundle_write import Item, write_bundle
from provision.recipes.children.install import MANIFEST, Bundle, BundleDamaged, parse_manifest

ABOUT = {"name": "demo", "target": "linux-x86_64-cpu", "bootstrap": []}
LONG = "wheels/" + "x" * 140 + ".whl"


def items(tmp_path: Path) -> list[Item]:
    model = tmp_path / "model.gguf"
    model.write_bytes(random.Random(7).randbytes(3 * 1024 * 1024 + 17))
    return [
        Item(path="install.py", source=b"print('hello')\n"),
        Item(path=LONG, source=b"w" * 512),
        Item(path="model/demo.gguf", source=model),
        Item(path="empty", source=b""),
    ]


@pytest.fixture(params=["out", "out.tar"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    destination = tmp_path / str(request.param)
    write_bundle(destination, items(tmp_path), ABOUT, reporter=silent)
    return destination


def test_a_bundle_verifies_and_gives_back_its_files(made: Path, tmp_path: Path) -> None:
    bundle = Bundle(made)
    seen: list[int] = []
    bundle.verify(lambda path, done, total: seen.append(done))
    assert seen[-1] == sum(entry["size_bytes"] for entry in bundle.files)
    with bundle.open("install.py") as stream:
        assert stream.read() == b"print('hello')\n"
    (tmp_path / "x").mkdir()
    assert bundle.extract("model/demo.gguf", tmp_path / "x").read_bytes() == (tmp_path / "model.gguf").read_bytes()
    assert not list(tmp_path.glob(".*.part"))


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_bundle(tmp_path / name, items(tmp_path), ABOUT, reporter=silent)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_ordinary_tar_can_read_it(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.tar", items(tmp_path), ABOUT, reporter=silent)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.getnames() == [MANIFEST, "install.py", LONG, "model/demo.gguf", "empty"]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(bytes(data))


def test_one_flipped_byte_anywhere_in_a_tar_is_refused(tmp_path: Path) -> None:
    small = [Item(path="install.py", source=b"print(1)\n"), Item(path=LONG, source=b"w" * 60), Item(path="empty", source=b"")]
    write_bundle(tmp_path / "a.tar", small, ABOUT, reporter=silent)
    whole = (tmp_path / "a.tar").read_bytes()
    victim = tmp_path / "b.tar"
    for offset in range(0, len(whole), 5):
        victim.write_bytes(whole)
        flip(victim, offset)
        with pytest.raises(BundleDamaged) as caught:
            Bundle(victim).verify()
        assert str(caught.value)
    victim.write_bytes(whole[:-1])
    with pytest.raises(BundleDamaged):
        Bundle(victim).verify()
    victim.write_bytes(whole + b"\0")
    with pytest.raises(BundleDamaged):
        Bundle(victim).verify()


def test_one_flipped_byte_in_a_folder_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_bundle(folder, items(tmp_path), ABOUT, reporter=silent)
    for name in ("install.py", LONG, "model/demo.gguf", MANIFEST):
        path = folder / name
        before = path.read_bytes()
        flip(path, len(before) // 2)
        with pytest.raises(BundleDamaged, match=name.split("/")[-1][:20]):
            Bundle(folder).verify()
        path.write_bytes(before)
    Bundle(folder).verify()


def test_missing_and_strange_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_bundle(folder, items(tmp_path), ABOUT, reporter=silent)
    (folder / "wheels" / "evil.whl").write_bytes(b"")
    with pytest.raises(BundleDamaged, match=r"evil\.whl does not belong"):
        Bundle(folder).verify()
    (folder / "wheels" / "evil.whl").unlink()
    (folder / "empty").unlink()
    with pytest.raises(BundleDamaged, match="empty"):
        Bundle(folder).verify()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../b", "a//b", "a\\b", "", "a\nb", "./a"])
def test_a_manifest_cannot_point_outside(path: str) -> None:
    from provision.recipes.children.install import digest_of

    manifest = {"schema": 1, **ABOUT, "files": [{"path": path, "size_bytes": 0, "sha256": "0" * 64}]}
    raw = json.dumps({**manifest, "digest": digest_of(manifest)}).encode()
    with pytest.raises(BundleDamaged):
        parse_manifest(raw)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"schema": 2}', b"1" * 5000])
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleDamaged):
        parse_manifest(raw)


def test_a_source_that_is_not_what_the_lock_says_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = [Item(path="model.gguf", source=b"other bytes", sha256="0" * 64)]
    for name in ("out", "out.tar"):
        with pytest.raises(IntegrityError, match=r"model\.gguf"):
            write_bundle(tmp_path / name, bad, ABOUT, reporter=silent)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_destination_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError):
        write_bundle(tmp_path / "out", [], ABOUT, reporter=silent)
