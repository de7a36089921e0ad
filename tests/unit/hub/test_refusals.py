from pathlib import Path

import pytest

from provision.errors import AccessError, ExitCode, NotFoundError, ProvisionError, TransferError
from provision.hub.addresses import bad_endpoint
from provision.hub.http import Answer, unreachable
from provision.hub.proxies import Proxy
from provision.hub.refusals import refusal
from tests.support.settings import settings_in

HUB = "https://huggingface.co/x"


def refused(home: Path, status: int, code: str = "", *, message: str = "", token: str = "", url: str = HUB) -> ProvisionError:
    headers = {name: value for name, value in (("x-error-code", code), ("x-error-message", message)) if value}
    answer = Answer(url=url, status=status, headers=headers, body=b"")
    settings = settings_in(home, **({"HF_TOKEN": token} if token else {}))
    error = refusal(answer, repo_id="org/m", settings=settings, revision="v1", path="a.gguf")
    assert error.hint
    return error


@pytest.mark.parametrize(
    ("status", "code", "token", "kind", "name"),
    [
        (401, "RepoNotFound", "", NotFoundError, "repo-not-found"),
        (404, "RepoNotFound", "hf_t", NotFoundError, "repo-not-found"),
        (404, "", "", NotFoundError, "repo-not-found"),
        (404, "RevisionNotFound", "", NotFoundError, "revision-not-found"),
        (404, "EntryNotFound", "", NotFoundError, "file-not-found"),
        (404, "SomethingNew", "", NotFoundError, "file-not-found"),
        (401, "GatedRepo", "", AccessError, "gated-repo"),
        (403, "GatedRepo", "hf_t", AccessError, "gated-repo"),
        (401, "", "hf_t", AccessError, "bad-token"),
        (401, "", "", AccessError, "access-denied"),
        (403, "", "", AccessError, "access-denied"),
        (429, "", "", TransferError, "rate-limited"),
        (500, "", "", TransferError, "hub-down"),
        (504, "", "", TransferError, "hub-down"),
        (418, "", "", TransferError, "not-a-hub"),
    ],
)
def test_each_refusal_has_its_error(
    tmp_path: Path, status: int, code: str, token: str, kind: type[ProvisionError], name: str
) -> None:
    error = refused(tmp_path, status, code, token=token)
    assert (type(error), error.code) == (kind, name)


def test_gated_names_the_page_even_at_a_mirror(tmp_path: Path) -> None:
    error = refused(tmp_path, 401, "GatedRepo", token="hf_t", url="https://mirror.example/x")
    assert "https://huggingface.co/org/m" in error.message
    assert "PROVISION_TOKEN_ORIGINS=https://mirror.example" in error.hint


def test_what_a_server_says_is_shown_harmless(tmp_path: Path) -> None:
    error = refused(tmp_path, 403, message="no\x1b[31m way\n" + "x" * 500)
    assert "\x1b" not in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("url", "named", "hint"),
    [
        ("hf-mirror.com/api/models/org/m", "hf-mirror.com", "export HF_ENDPOINT=https://hf-mirror.com"),
        ("corp.example:8443/hf/api/models/o/m", "corp.example:8443/hf", "export HF_ENDPOINT=https://corp.example:8443/hf"),
        ("me:secret@hf.example.com/api/models/o/m", "hf.example.com", "export HF_ENDPOINT=https://hf.example.com"),
        ("http://me:secret@host:port/api/models/o/m", "http://host:port", "export HF_ENDPOINT=https://huggingface.co"),
    ],
)
def test_an_endpoint_without_https_is_mended_in_the_hint(url: str, named: str, hint: str) -> None:
    error = bad_endpoint(url)
    assert (error.message, error.hint) == (f"not the address of a hub: {named!r}", hint)


def test_a_dead_proxy_is_named_without_its_password() -> None:
    proxy = Proxy(scheme="http", host="127.0.0.1", port=7890, username="me", password="secret")
    error = unreachable("https://hub.example/x?sig=1", OSError("refused"), proxy=proxy)
    assert "through the proxy http://127.0.0.1:7890: refused" in error.message
    assert "secret" not in error.message + error.hint
    assert "sig" not in error.message


@pytest.mark.parametrize("message", ["", "Invalid username or password."])
def test_a_401_that_does_not_say_why_names_both_reasons(tmp_path: Path, message: str) -> None:
    error = refused(tmp_path, 401, message=message)
    assert error.exit_code == ExitCode.ACCESS
    assert "no such repository, or it is private or gated" in error.message
    assert message in error.message
    assert error.hint.startswith("export HF_TOKEN=")
    assert "https://huggingface.co/org/m" in error.hint


def test_a_missing_file_is_looked_for_in_the_revision_that_was_asked(tmp_path: Path) -> None:
    error = refused(tmp_path, 404, "EntryNotFound")
    assert error.hint == "provision fetch org/m --include '*' --dry-run --revision v1"
