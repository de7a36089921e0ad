"""The fit of a local model is remembered while nothing it rests on changes, so that the prompt is there at once."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from provision.fit.remembered import engine_files, recall, remember
from provision.fit.service import fit
from provision.fit.types import FitWish
from provision.host.probe import probe_memories
from provision.settings import Settings, read_settings
from provision.smoke.demo import demo_model_path
from tests.support.commands import private_environ, provision

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration


def n_ctx_of(model: Path, home: Path) -> int:
    ran = provision("chat", model, "--prompt", "hi", "--max-tokens", "1", "--json", home=home)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    return int(ran.data["usage"]["n_ctx"])


def kept(home: Path) -> list[Path]:
    return sorted((home / "provision" / "fits").glob("*.json"))


def change(file: Path, **chosen: Any) -> None:
    known = json.loads(file.read_text())
    known["chosen"].update(chosen)
    file.write_text(json.dumps(known))


def test_a_second_start_takes_the_fit_of_the_first_until_the_file_changes(
    scripted_model: "ScriptedModel", tmp_path: Path
) -> None:
    if engine_files() is None:
        pytest.skip("this engine is built for a GPU, whose fits are not kept")
    model = tmp_path / "model.gguf"
    shutil.copy(scripted_model(["Hi"]), model)
    fitted = n_ctx_of(model, tmp_path)
    (file,) = kept(tmp_path)
    marked = {**json.loads(file.read_text())["chosen"]["llama_kwargs"], "n_ctx": 512}
    change(file, llama_kwargs=marked)
    assert n_ctx_of(model, tmp_path) == 512, "what was kept is what is loaded"
    model.touch()
    assert n_ctx_of(model, tmp_path) == fitted, "another file under the name is fitted anew"


class Kept:
    """A fit of the demo model for `settings`, made and kept."""

    def __init__(self, settings: Settings, python: Path) -> None:
        self.settings, self.python, self.model = settings, python, demo_model_path()

    def make(self, wish: FitWish) -> None:
        host = probe_memories(self.settings, python=self.python)
        if engine_files() is None:
            pytest.skip("no engine here, or one built for a GPU, whose fits are not kept")
        result = fit(str(self.model), wish, host=host, settings=self.settings, python=self.python)
        remember(self.model, wish, result, python=self.python, settings=self.settings)

    def recall(self, wish: FitWish, **environ: str) -> Any:
        changed = Settings(**{**_fields(self.settings), "environ": {**self.settings.environ, **environ}})
        return recall(self.model, wish, python=self.python, settings=changed)


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__slots__}


def test_what_is_kept_holds_for_the_same_wish_devices_and_memory_only(tmp_path: Path) -> None:
    known = Kept(read_settings(private_environ(tmp_path), home=tmp_path), Path(sys.executable))
    known.make(FitWish())
    assert known.recall(FitWish())["n_ctx"] == 2048
    assert known.recall(FitWish(n_ctx=256)) is None
    assert known.recall(FitWish(), CUDA_VISIBLE_DEVICES="0") is None
    (file,) = kept(tmp_path)
    whole = file.read_text()
    change(file, host={**json.loads(whole)["chosen"]["host"], "model_bytes": 1 << 50})
    assert known.recall(FitWish()) is None, "it needs more than is free"
    for broken in (whole[:100], "[]", '{"rests_on": null}', json.dumps({**json.loads(whole), "chosen": 1})):
        file.write_text(broken)
        assert known.recall(FitWish()) is None
