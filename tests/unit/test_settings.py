from pathlib import Path

import pytest

from provision.settings import OFFICIAL_ENDPOINT, read_settings

HOME = Path("/home/somebody")


def test_nothing_set_means_the_official_hub_and_the_shared_cache() -> None:
    settings = read_settings({}, home=HOME)
    assert settings.endpoint == OFFICIAL_ENDPOINT
    assert settings.hf_hub_cache == HOME / ".cache/huggingface/hub"
    assert settings.token is None
    assert settings.offline is False
    assert settings.cuda_visible_devices is None


@pytest.mark.parametrize(
    "name", ["HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "CUDA_HOME", "PROVISION_HOME", "CMAKE_ARGS"]
)
def test_a_blank_value_counts_as_unset(name: str) -> None:
    blank = read_settings({name: "  "}, home=HOME)
    unset = read_settings({}, home=HOME)
    for field in ("endpoint", "token", "hf_home", "hf_hub_cache", "cuda_home", "provision_home", "cmake_args"):
        assert getattr(blank, field) == getattr(unset, field)


def test_the_endpoint_loses_its_trailing_slash() -> None:
    assert read_settings({"HF_ENDPOINT": "https://mirror.example/"}, home=HOME).endpoint == "https://mirror.example"


def test_an_empty_cuda_visible_devices_is_not_unset_because_it_hides_every_gpu() -> None:
    assert read_settings({"CUDA_VISIBLE_DEVICES": ""}, home=HOME).cuda_visible_devices == ""


def test_the_token_never_shows_in_a_repr(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_secret_of_the_file\n")
    from_file = read_settings({"HF_HOME": str(tmp_path)}, home=HOME)
    assert from_file.token == "hf_secret_of_the_file"
    assert "secret" not in repr(from_file)
    assert "secret" not in repr(read_settings({"HF_TOKEN": "hf_secret"}, home=HOME))


def test_own_state_follows_the_home_that_was_passed_in() -> None:
    settings = read_settings({}, home=HOME)
    assert settings.provision_home.is_relative_to(HOME)
    assert read_settings({"PROVISION_HOME": "/srv/p"}, home=HOME).provision_home == Path("/srv/p")
