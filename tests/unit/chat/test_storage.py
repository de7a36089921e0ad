import os
import stat
from pathlib import Path

import pytest

from provision.chat.storage import Keeper, load_transcript, save_transcript
from provision.chat.types import Message
from provision.errors import UsageError

TALK = (Message(role="user", content="a"), Message(role="assistant", content="b"))


def test_a_new_transcript_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    save_transcript(path, TALK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    save_transcript(path, TALK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert load_transcript(path).messages == TALK
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.json"
    save_transcript(path, TALK[:1])
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError) as caught:
        save_transcript(path, TALK)
    assert caught.value.code == "not-saved"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "there" / "talk.json")
    save_transcript(link, TALK)
    assert link.is_symlink()
    assert load_transcript(tmp_path / "there" / "talk.json").messages == TALK


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_transcript(tmp_path / "none.json")
    assert load_transcript(tmp_path / "none.json", missing_ok=True).messages == ()
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_transcript(tmp_path / "latin")
    with pytest.raises(UsageError, match="cannot read"):
        load_transcript(tmp_path)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "bom.json").write_bytes(
        b'\xef\xbb\xbf[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    )
    assert load_transcript(tmp_path / "bom.json").messages == TALK


def test_a_keeper_without_a_path_keeps_nothing(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper(TALK)
    keeper.path = tmp_path / "x.json"
    keeper(TALK)
    assert load_transcript(keeper.path).messages == TALK
