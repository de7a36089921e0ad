from pathlib import Path

import pytest

from provision.hub.tokens import auth_headers, modelscope_headers, token_for, withheld_hint
from tests.support.settings import settings_in


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("https://huggingface.co/api/models/a/b", True),
        ("https://huggingface.co:443/x", True),
        ("https://HUGGINGFACE.CO/x", True),
        ("http://huggingface.co/x", False),
        ("https://huggingface.co:8443/x", False),
        ("https://huggingface.co.evil.example/x", False),
        ("https://huggingface.co@evil.example/x", False),
        ("https://cdn-lfs.huggingface.co/x", False),
        ("https://hf-mirror.com/x", False),
        ("https://mirror.example/x", True),
        ("http://mirror.example/x", False),
        ("http://10.0.0.5:8090/x", True),
        ("http://10.0.0.5:8091/x", False),
    ],
)
def test_the_token_goes_to_the_hub_and_to_origins_a_person_named(tmp_path: Path, url: str, given: bool) -> None:
    settings = settings_in(tmp_path, HF_TOKEN="hf_t", PROVISION_TOKEN_ORIGINS=" mirror.example, http://10.0.0.5:8090,")
    assert token_for(url, settings) == ("hf_t" if given else None)
    assert auth_headers(url, settings) == ({"Authorization": "Bearer hf_t"} if given else {})


def test_hf_endpoint_alone_earns_no_token(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_TOKEN="hf_t", HF_ENDPOINT="https://mirror.example")
    assert token_for("https://mirror.example/api", settings) is None
    assert "PROVISION_TOKEN_ORIGINS=https://mirror.example" in withheld_hint("https://mirror.example/api?x=1", settings)
    assert withheld_hint("https://huggingface.co/api", settings) == ""


def test_without_a_token_nothing_is_said(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert auth_headers("https://huggingface.co/x", settings) == {}
    assert withheld_hint("https://mirror.example/x", settings) == ""


def test_each_hub_has_a_secret_of_its_own(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_TOKEN="hf_t", MODELSCOPE_API_TOKEN="ms_t")
    assert modelscope_headers("https://www.modelscope.cn/api", settings) == {"Cookie": "m_session_id=ms_t"}
    assert modelscope_headers("https://huggingface.co/x", settings) == {}
    assert token_for("https://www.modelscope.cn/api", settings) is None
