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
    keeper.keep_in(tmp_path / "x.json")
    keeper(TALK)
    keeper((*TALK, *TALK))
    assert load_transcript(tmp_path / "x.json").messages == (*TALK, *TALK)


def test_two_conversations_do_not_overwrite_each_other(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    first, second = Keeper(), Keeper()
    first.keep_in(path)
    second.keep_in(path)
    first(TALK)
    with pytest.raises(UsageError, match="changed by another program") as caught:
        second((Message(role="user", content="other"),))
    assert (caught.value.code, caught.value.hint) == ("not-saved", "/save OTHER-FILE keeps it")
    assert load_transcript(path).messages == TALK
    second.keep_in(tmp_path / "other.json")
    second(TALK)
    path.unlink()
    first(TALK)
    assert load_transcript(path).messages == TALK, "a file that was taken away is written again"


def test_a_place_that_cannot_take_a_transcript_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    notes, pipe = tmp_path / "notes.txt", tmp_path / "pipe"
    notes.write_text("my notes")
    os.mkfifo(pipe)
    (tmp_path / "empty.json").touch()
    for place, why in (
        (notes, "holds no transcript"),
        (tmp_path, "no plain file"),
        (pipe, "no plain file"),
        (Path("/dev/null"), "no plain file"),
        (tmp_path / "none" / "x.json", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=why) as caught:
            Keeper().keep_in(place)
        assert caught.value.code == "not-saved"
    with pytest.raises(UsageError, match="no plain file"):
        save_transcript(pipe, TALK)
    assert notes.read_text() == "my notes"
    Keeper().keep_in(tmp_path / "empty.json")
