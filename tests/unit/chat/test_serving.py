import shlex
import stat
from pathlib import Path

import pytest
import yaml

from provision.chat.keys import read_key, read_or_create_key
from provision.chat.serving import ServerPlan, ServeWish, alias_of, is_loopback, plan_server, server_url
from provision.chat.snippets import snippets
from provision.errors import UsageError

KEY_FILE = Path("/state/serve.key")


def plan(**options: object) -> ServerPlan:
    wish = ServeWish(model=Path("/m/demo-Q8_0.gguf"), llama_kwargs={"n_ctx": 2048, "swa_full": False}, **options)  # type: ignore[arg-type]
    return plan_server(wish, default_key_file=KEY_FILE)


def test_a_key_is_required_wherever_others_can_reach_the_server() -> None:
    assert plan().api_key_file is None
    assert plan(host="::1").api_key_file is None
    for host in ("0.0.0.0", "192.168.1.5", "::", "my-machine"):
        assert plan(host=host).api_key_file == KEY_FILE
    own = Path("/own.key")
    assert plan(api_key_file=own).api_key_file == own
    assert plan(host="0.0.0.0", api_key_file=own).api_key_file == own


def test_the_settings_are_the_safe_ones_and_fit_has_its_way() -> None:
    decided = plan()
    assert decided.settings == {"use_mlock": False, "logits_all": False, "n_ctx": 2048}
    assert decided.extra == {"swa_full": False}
    assert decided.alias == "demo-Q8_0"
    assert set(decided.allowed_hosts) == {"localhost", "127.0.0.1", "::1"}
    assert plan(host="0.0.0.0").allowed_hosts == ()
    assert plan(embeddings=True).settings["embedding"] is True
    assert plan(embeddings=True).extra["pooling_type"] == 1


def test_a_recipes_sampling_becomes_what_requests_leave_out_and_the_rest_is_told() -> None:
    decided = plan(sampling={"temperature": 0.6, "top_k": 0, "presence_penalty": 3.0, "seed": None, "stop": ("END",)})
    assert decided.defaults == {"temperature": 0.6, "top_k": 0, "stop": ["END"]}
    assert "llama_cpp.server does not take this of the recipe: presence_penalty 3.0" in decided.reasons
    assert any("temperature 0.6" in reason for reason in decided.reasons)
    assert not any("recipe" in reason for reason in plan(sampling={"seed": None, "stop": ()}).reasons)


def test_names() -> None:
    assert alias_of(Path("big-Q4_K_M-00001-of-00003.gguf")) == "big-Q4_K_M"
    assert alias_of(Path("odd name!.GGUF")) == "odd-name-"
    assert server_url("0.0.0.0", 80) == "http://127.0.0.1:80/v1"
    assert server_url("::1", 8000) == "http://[::1]:8000/v1"
    assert is_loopback("localhost")
    assert is_loopback("127.0.0.2")
    assert not is_loopback("localhost.example.org")
    with pytest.raises(UsageError):
        plan(alias='x"\n')


def test_a_key_file_is_made_private_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "serve.key"
    key, made = read_or_create_key(path)
    assert made
    assert len(key) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == key + "\n"
    assert read_or_create_key(path) == (key, False)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("abc\n", 0o644, "read by others"),
        ("", 0o600, "alone on one line"),
        ("a b\n", 0o600, "alone"),
        ("ü\n", 0o600, "plain"),
    ],
)
def test_a_key_file_that_cannot_be_trusted_is_refused(content: str, mode: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UsageError, match=says) as caught:
        read_key(path)
    assert caught.value.code == "bad-key-file"


def test_snippets_can_be_pasted() -> None:
    shown = snippets(url="http://127.0.0.1:8000/v1", alias="it's", api_key_file=Path("/a b/key"))
    words = shlex.split(shown["curl"].replace("\\\n", " "))
    assert words[0] == "curl"
    assert words[-1].startswith('{"model": "it\'s"')
    compile(shown["python"], "snippet", "exec")
    assert yaml.safe_load(shown["editor"])["models"][0]["apiBase"] == "http://127.0.0.1:8000/v1"
