"""What `refs/` of the shared cache says after a fetch: the Hub's own commits, and nothing anybody made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import NotFoundError
from provision.fetch.service import fetch
from provision.fetch.types import FetchResult, FetchWish
from provision.models.refs import parse_ref
from provision.settings import Settings, read_settings
from tests.support.hub import Fault, Kind, RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

OLD, NEW = b"old" * 1000, b"new" * 1000


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/m-GGUF", {"m-Q8_0.gguf": OLD})]) as running:
        origin = running.repos["org/m-GGUF"]
        origin.tags["v1"] = origin.head
        yield running


@pytest.fixture
def settings(hub: RunningHub, tmp_path: Path) -> Settings:
    environ = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "PROVISION_HOME": str(tmp_path / "own"),
        "MODELSCOPE_DOMAIN": hub.modelscope_url,
    }
    return read_settings(environ, home=tmp_path)


def get(settings: Settings, ref: str = "org/m-GGUF:Q8_0", **wish: object) -> FetchResult:
    asked = replace(FetchWish(patience_s=1.0, stall_s=1.0), **wish)  # type: ignore[arg-type]
    return fetch(parse_ref(ref), asked, settings=settings)


def refs(settings: Settings) -> dict[str, str]:
    folder = settings.hf_hub_cache / "models--org--m-GGUF" / "refs"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_another_revision_never_becomes_main(hub: RunningHub, settings: Settings) -> None:
    origin = hub.repos["org/m-GGUF"]
    origin.push({"m-Q8_0.gguf": NEW})
    get(settings, "org/m-GGUF:Q8_0@v1")
    assert refs(settings) == {"v1": origin.tags["v1"]}
    with pytest.raises(NotFoundError):
        get(settings, offline=True)
    assert get(settings, "org/m-GGUF:Q8_0@v1", offline=True).files[0].local_path.read_bytes() == OLD


@pytest.mark.parametrize("revision", ["v1", "commit"])
def test_main_is_written_when_it_is_the_commit_that_was_fetched(hub: RunningHub, settings: Settings, revision: str) -> None:
    origin = hub.repos["org/m-GGUF"]
    get(settings, revision=origin.head if revision == "commit" else revision)
    assert refs(settings)["main"] == origin.head
    assert get(settings, offline=True).files[0].action == "kept"


def test_main_is_written_when_its_own_snapshot_has_the_file(hub: RunningHub, settings: Settings) -> None:
    origin = hub.repos["org/m-GGUF"]
    origin.push({"m-Q8_0.gguf": NEW})
    get(settings, revision=origin.head)
    (settings.hf_hub_cache / "models--org--m-GGUF/refs/main").unlink()
    get(settings, "org/m-GGUF:Q8_0@v1")
    assert refs(settings) == {"v1": origin.tags["v1"], "main": origin.head}


def test_a_hub_that_does_not_say_what_main_is_spoils_nothing(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.STATUS, where="info", value=404, skip=1, times=None))
    get(settings, "org/m-GGUF:Q8_0@v1")
    assert set(refs(settings)) == {"v1"}


def test_modelscope_leaves_no_refs_and_is_found_offline(hub: RunningHub, settings: Settings) -> None:
    first = get(settings, sources=("modelscope",))
    assert refs(settings) == {}
    for asked in ({"sources": ("modelscope",)}, {}):
        again = get(settings, offline=True, **asked)
        assert (again.commit, again.revision, again.files[0].action) == (first.commit, "master", "kept")
    # What the Hub says is kept apart, and goes first.
    main = get(settings)
    assert main.commit != first.commit
    assert refs(settings) == {"main": main.commit}
    assert get(settings, offline=True).commit == main.commit
    assert get(settings, offline=True, sources=("modelscope",)).commit == first.commit
