import json

import pytest

from provision.cli import main as boundary
from provision.cli.install import check_archs, check_version
from provision.errors import UsageError


@pytest.mark.parametrize(
    ("given", "archs"),
    [
        (["89"], ("89",)),
        (["120", "sm_89", "8.9"], ("89", "120")),
        (["89,120"], ("89", "120")),
        (["7.5; 9.0"], ("75", "90")),
        ([], ()),
    ],
)
def test_architectures_as_people_write_them(given: list[str], archs: tuple[str, ...]) -> None:
    assert check_archs(given) == archs


@pytest.mark.parametrize("given", ["", "ada", "89,", "1", "12345", "89-real"])
def test_what_is_no_architecture(given: str) -> None:
    with pytest.raises(UsageError):
        check_archs([given])


@pytest.mark.parametrize("version", ["0.3.36", "1.0", "0.4.0rc1", "0.3.36.post1"])
def test_versions(version: str) -> None:
    assert check_version(f" {version} ") == version


@pytest.mark.parametrize("version", ["", "latest", "0.3.36; rm -rf /", "../x", ">=0.3", "0.3.*"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(UsageError):
        check_version(version)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--cpu", "--cuda"), "bad-option"),
        (("--from-source", "--prebuilt"), "bad-option"),
        (("--no-gpu-check",), "bad-option"),
        (("--cuda", "--cuda-arch", "ada"), "bad-cuda-arch"),
        (("--cpu", "--engine-version", "latest"), "bad-version"),
        (("--cpu", "--engine-version", "../../etc"), "bad-version"),
        (("--cpu", "--cuda-arch", "89"), "bad-option"),
        (("--cpu", "--toolkit", "pypi"), "bad-option"),
        (("--rollback", "--dry-run"), "bad-option"),
        (("--rollback", "--explain", "log"), "bad-option"),
        (("--explain", "log", "--cuda"), "bad-option"),
    ],
)
def test_options_that_make_no_sense(arguments: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.main(["install", *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == code
