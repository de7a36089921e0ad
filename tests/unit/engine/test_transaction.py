"""An environment changed by renames: whole before, whole after, and put back from any point in between."""

import json
import os
from pathlib import Path

import pytest

from provision.engine import transaction
from provision.engine.transaction import Move, apply, plan_move, recover


class Killed(BaseException):
    """What a SIGKILL is to a test: nothing of ours runs after it."""


def tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def read(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def prepare(tmp_path: Path) -> tuple[Path, Path, tuple[Move, ...]]:
    site, stage, backup = tmp_path / "site", tmp_path / "state/stage", tmp_path / "state/previous"
    tree(site, {"llama_cpp/a.so": "old", "llama_cpp/gone.so": "old", "llama-1.dist-info/RECORD": "1", "lib/x.so": "stray"})
    tree(stage, {"llama_cpp/a.so": "new", "llama-2.dist-info/RECORD": "2", "numpy/__init__.py": "numpy"})
    moves = (
        plan_move(site / "numpy", staged=stage / "numpy", backup=backup / "numpy"),
        plan_move(site / "lib/x.so", staged=None, backup=backup / "lib/x.so"),
        plan_move(site / "llama_cpp", staged=stage / "llama_cpp", backup=backup / "llama_cpp"),
        plan_move(site / "llama-2.dist-info", staged=stage / "llama-2.dist-info", backup=backup / "llama-2.dist-info"),
        plan_move(site / "llama-1.dist-info", staged=None, backup=backup / "llama-1.dist-info"),
    )
    return site, tmp_path / "state", moves


AFTER = {"llama_cpp/a.so": "new", "llama-2.dist-info/RECORD": "2", "numpy/__init__.py": "numpy"}


@pytest.mark.parametrize("exchange", [True, False])
def test_moves_bring_the_new_and_keep_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(transaction, "_exchange", lambda one, other: False)
    site, state, moves = prepare(tmp_path)
    before = read(site)
    apply(moves, state_dir=state)
    assert read(site) == AFTER
    assert read(state / "previous") == before
    assert not (state / "journal.json").exists()
    assert not recover(state)


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("step", range(1, 9))
def test_killed_between_any_two_renames_the_next_run_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, step: int
) -> None:
    site, state, moves = prepare(tmp_path)
    before = read(site)
    count = 0

    def dying(real: object) -> object:
        def call(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                raise Killed
            return real(*arguments)  # type: ignore[operator]

        return call

    real_exchange = transaction._exchange if exchange else (lambda one, other: False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying(os.rename))
        patch.setattr(transaction, "_exchange", dying(real_exchange))
        # A killed process undoes nothing.
        patch.setattr(transaction, "_undo", lambda moves: None)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        try:
            apply(moves, state_dir=state)
            died = False
        except Killed:
            died = True
    # The package folder is whole at every moment, old or new; without an atomic exchange it is away for an instant.
    if exchange:
        assert (site / "llama_cpp/a.so").read_text() in ("old", "new")
    assert recover(state)
    assert read(site) == before
    assert died or step > 6


def test_a_failure_in_the_middle_is_undone_at_once(tmp_path: Path) -> None:
    site, state, moves = prepare(tmp_path)
    before = read(site)
    broken = Move(final=str(site / "z"), staged=str(tmp_path / "nowhere"), backup=str(state / "z"), old_inode=None, new_inode=1)
    with pytest.raises(FileNotFoundError):
        apply((*moves, broken), state_dir=state)
    assert read(site) == before
    assert not (state / "journal.json").exists()


def test_a_journal_that_is_none_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text(json.dumps({"moves": [{"what": 1}]}))
    assert not recover(tmp_path)
    assert not (tmp_path / "journal.json").exists()
