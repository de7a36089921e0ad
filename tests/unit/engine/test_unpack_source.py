"""Python 3.11.0 to 3.11.3, which Debian 12 has, knows no extraction filters: what an archive may hold is checked by us."""

import io
import stat
import tarfile
from pathlib import Path

import pytest

from provision.engine.build import unpack_source
from provision.errors import BuildError


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for member in members:
            member.size = 3 if member.isfile() else 0
            out.addfile(member, io.BytesIO(b"abc") if member.isfile() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


@pytest.fixture(params=["with filters", "without"])
def _filters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("_filters")
def test_a_source_package_is_unpacked(tmp_path: Path) -> None:
    sdist = archive(tmp_path / "a.tar.gz", member("a-1/x/run.sh", mode=0o4755), member("a-1/setup.py"))
    unpack_source(sdist, tmp_path / "source")
    assert (tmp_path / "source/setup.py").read_bytes() == b"abc"
    mode = (tmp_path / "source/x/run.sh").stat().st_mode
    assert (mode & stat.S_ISUID, mode & stat.S_IXUSR) == (0, stat.S_IXUSR)


@pytest.mark.usefixtures("_filters")
@pytest.mark.parametrize(
    "bad",
    [
        member("../evil"),
        member("a-1/../../evil"),
        member("a-1/fifo", tarfile.FIFOTYPE),
        member("a-1/link", tarfile.SYMTYPE, link="../../etc/passwd"),
        member("a-1/hard", tarfile.LNKTYPE, link="/etc/passwd"),
    ],
)
def test_what_reaches_outside_is_refused(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    sdist = archive(tmp_path / "a.tar.gz", member("a-1/setup.py"), bad)
    with pytest.raises(BuildError) as caught:
        unpack_source(sdist, home / "source")
    assert caught.value.code == "bad-source"
    assert not any(path.name != "home" and path != sdist for path in tmp_path.iterdir())
    assert not (home / "source").exists()
