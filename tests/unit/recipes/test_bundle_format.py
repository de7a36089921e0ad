import errno
import json
import os
import platform
import random
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from provision.errors import IntegrityError, MachineError, UsageError
from provision.events import silent
from provision.recipes import bundle_write
from provision.recipes.bundle_write import Item, left_behind, write_bundle
from provision.recipes.children.install import (
    BUNDLE_VERSION,
    MANIFEST,
    Bundle,
    BundleDamaged,
    digest_of,
    kit_for,
    other_python,
    parse_manifest,
    tar_header,
    why_unsuited,
)

KIT = {"python": "3.11", "lock": "install.py", "tree_sha256": "0" * 64, "bootstrap": ["bootstrap/pip-1-py3-none-any.whl"]}
NEEDS = {"os": "linux", "arch": "x86_64", "glibc": "2.28"}
ABOUT: dict[str, Any] = {"name": "demo", "target": "linux-x86_64-cpu", "needs": NEEDS, "pythons": [KIT]}
PIP = Item(path="bootstrap/pip-1-py3-none-any.whl", source=b"pip")
LONG = "wheels/" + "x" * 140 + ".whl"


def items(tmp_path: Path) -> list[Item]:
    model = tmp_path / "model.gguf"
    model.write_bytes(random.Random(7).randbytes(3 * 1024 * 1024 + 17))
    return [
        Item(path="install.py", source=b"print('hello')\n"),
        Item(path=LONG, source=b"w" * 512),
        Item(path="model/demo.gguf", source=model),
        Item(path="empty", source=b""),
        PIP,
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
        assert archive.getnames() == [MANIFEST, "install.py", LONG, "model/demo.gguf", "empty", PIP.path]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(bytes(data))


def test_a_tar_that_is_cut_short_or_goes_on_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.tar", items(tmp_path), ABOUT, reporter=silent)
    whole = (tmp_path / "a.tar").read_bytes()
    victim = tmp_path / "b.tar"
    for size in (0, 1, 511, 512, 513, len(whole) // 2, len(whole) - 1024, len(whole) - 1):
        victim.write_bytes(whole[:size])
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
    entry = {"path": path, "size_bytes": 0, "sha256": "0" * 64}
    with pytest.raises(BundleDamaged, match="lists its files"):
        parse_manifest(manifest_with(files=[*FILES, entry]))


FILES = [{"path": path, "size_bytes": 0, "sha256": "0" * 64} for path in ("install.py", PIP.path)]


def manifest_with(**changed: Any) -> bytes:
    """A manifest with a right digest, like one somebody made up on purpose."""
    manifest = {"schema": BUNDLE_VERSION, **ABOUT, "files": FILES, **changed}
    return json.dumps({**manifest, "digest": digest_of(manifest)}).encode()


def test_a_made_up_manifest_is_read_when_it_makes_sense() -> None:
    assert parse_manifest(manifest_with())["name"] == "demo"


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "../../etc"},
        {"name": None},
        {"target": 1},
        {"needs": {}},
        {"needs": {**NEEDS, "glibc": "2.x"}},
        {"pythons": []},
        {"pythons": [{**KIT, "python": "3.11; rm"}]},
        {"pythons": [{**KIT, "lock": "elsewhere"}]},
        {"pythons": [{**KIT, "bootstrap": []}]},
        {"pythons": [{**KIT, "bootstrap": ["install.py"]}]},
        {"files": [*FILES, {"path": "a", "size_bytes": 1 << 60, "sha256": "0" * 64}]},
        {"files": [*FILES, {"path": "a", "size_bytes": True, "sha256": "0" * 64}]},
        {"files": [*FILES, {"path": "a", "size_bytes": 0, "sha256": "Z" * 64}]},
        {"files": [*FILES, {"path": "wheels/sub/a.whl", "size_bytes": 0, "sha256": "0" * 64}]},
        {"files": [*FILES, FILES[0]]},
        {"schema": 1},
    ],
)
def test_a_made_up_manifest_that_makes_no_sense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BundleDamaged):
        parse_manifest(manifest_with(**changed))


@pytest.mark.parametrize("kind", ["link", "link to the same bytes", "pipe", "folder", "longer", "hard link elsewhere"])
def test_what_is_no_plain_file_of_that_size_is_named(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    write_bundle(folder, items(tmp_path), ABOUT, reporter=silent)
    victim = folder / "model" / "demo.gguf"
    kept = victim.rename(tmp_path / "kept.gguf")
    if kind == "link":
        victim.symlink_to("/etc/hostname")
    elif kind == "link to the same bytes":
        victim.symlink_to(kept)
    elif kind == "pipe":
        os.mkfifo(victim)
    elif kind == "folder":
        victim.mkdir()
    elif kind == "hard link elsewhere":
        os.link(tmp_path / "out" / "install.py", victim)
    else:
        # A terabyte that takes no disk: told by its size, not read.
        with victim.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(BundleDamaged, match=r"model/demo\.gguf"):
        Bundle(folder).verify()


def test_strangers_that_are_no_files_are_named_too(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_bundle(folder, items(tmp_path), ABOUT, reporter=silent)
    os.mkfifo(folder / "wheels" / "pipe")
    with pytest.raises(BundleDamaged, match="wheels/pipe does not belong"):
        Bundle(folder).verify()
    (folder / "wheels" / "pipe").unlink()
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(BundleDamaged, match="more does not belong"):
        Bundle(folder).verify()


def test_a_renamed_file_is_missing_and_a_stranger(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_bundle(folder, items(tmp_path), ABOUT, reporter=silent)
    (folder / "empty").rename(folder / "Empty")
    with pytest.raises(BundleDamaged, match="empty: No such file"):
        Bundle(folder).verify()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.REGTYPE])
@pytest.mark.parametrize("where", ["before the end", "after the end"])
def test_no_other_member_can_hide_in_a_tar(tmp_path: Path, kind: bytes, where: str) -> None:
    write_bundle(tmp_path / "a.tar", items(tmp_path), ABOUT, reporter=silent)
    info = tarfile.TarInfo("../../etc/passwd")
    info.type = kind
    info.linkname = "/etc/passwd"
    whole, more = (tmp_path / "a.tar").read_bytes(), info.tobuf(tarfile.GNU_FORMAT)
    end = len(whole) - 1024 if where == "before the end" else len(whole)
    (tmp_path / "a.tar").write_bytes(whole[:end] + more + whole[end:])
    with pytest.raises(BundleDamaged, match="the end of the archive"):
        Bundle(tmp_path / "a.tar")


def test_a_member_replaced_by_a_link_is_named(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.tar", items(tmp_path), ABOUT, reporter=silent)
    raw = (tmp_path / "a.tar").read_bytes()
    link = tarfile.TarInfo("empty")
    link.type, link.linkname, link.mode = tarfile.SYMTYPE, "/etc/passwd", 0o644
    (tmp_path / "a.tar").write_bytes(raw.replace(tar_header("empty", 0), link.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(BundleDamaged, match="empty: the archive is damaged"):
        Bundle(tmp_path / "a.tar")


def test_a_manifest_that_promises_a_petabyte_costs_nothing(tmp_path: Path) -> None:
    huge = [*FILES, {"path": "a", "size_bytes": 1 << 50, "sha256": "0" * 64}]
    raw = manifest_with(files=huge)
    (tmp_path / "a.tar").write_bytes(tar_header(MANIFEST, len(raw)) + raw + b"\0" * 4096)
    with pytest.raises(BundleDamaged, match="cut short"):
        Bundle(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"os": "darwin"}, "darwin"),
        ({"arch": "riscv64"}, "riscv64"),
        ({"glibc": "2.999"}, r"glibc 2\.999"),
    ],
)
def test_another_machine_is_told_what_differs(needs: dict[str, str], said: str) -> None:
    here = {"os": "linux", "arch": platform.machine(), "glibc": "2.5"}
    assert why_unsuited({**ABOUT, "needs": here}) is None
    found = why_unsuited({**ABOUT, "needs": {**here, **needs}})
    assert found is not None
    assert re.search(said, found[0])
    assert found[1]


def test_without_glibc_a_bundle_that_needs_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"os": "linux", "arch": platform.machine(), "glibc": "2.28"}
    monkeypatch.setattr(os, "confstr", lambda name: None)
    found = why_unsuited({**ABOUT, "needs": needs})
    assert found is not None
    assert "another C library" in found[0]
    assert why_unsuited({**ABOUT, "needs": {**needs, "glibc": None}}) is None


def test_the_lock_of_the_python_that_runs_is_taken() -> None:
    manifest = {**ABOUT, "pythons": [KIT, {**KIT, "python": "3.13"}]}
    assert kit_for(manifest, "3.13") == {**KIT, "python": "3.13"}
    assert kit_for(manifest, "3.12") is None
    assert other_python(manifest, "3.12")[0] == "the wheels of this bundle are for Python 3.11 and 3.13, this is 3.12"


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"schema": 2}', b"1" * 5000, b"[" * 100_000])
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleDamaged):
        parse_manifest(raw)


def test_a_source_that_is_not_what_the_lock_says_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = [Item(path="model.gguf", source=b"other bytes", sha256="0" * 64)]
    for name in ("out", "out.tar"):
        with pytest.raises(IntegrityError, match=r"model\.gguf"):
            write_bundle(tmp_path / name, bad, ABOUT, reporter=silent)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_left_is_found_and_not_touched(tmp_path: Path) -> None:
    for name in (".out.12.part", ".out-wheels-abc", ".other.12.part", "out.part"):
        (tmp_path / name).mkdir()
    assert [path.name for path in left_behind(tmp_path / "out")] == [".out-wheels-abc", ".out.12.part"]
    write_bundle(tmp_path / "out", items(tmp_path), ABOUT, reporter=silent)
    assert (tmp_path / ".out.12.part").is_dir()


def test_a_medium_that_ends_at_four_gibibytes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(bundle_write, "_write_tar", too_large)
    with pytest.raises(MachineError, match="File too large") as caught:
        write_bundle(tmp_path / "out.tar", items(tmp_path), ABOUT, reporter=silent)
    assert "exFAT" in caught.value.hint


def test_an_existing_destination_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError):
        write_bundle(tmp_path / "out", [], ABOUT, reporter=silent)
