import json
from pathlib import Path

import pytest

from provision.cli.main import main
from provision.recipes.schema import json_schema


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_shows_where_names_were_not_read_in_a_listing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recipe", "list")
    assert code == 0
    assert "demo" in out
    assert "bartowski/Meta-Llama-3-8B-Instruct-GGUF *" in out
    assert "listing was not" in out


def test_list_json_is_the_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recipe", "list", "--json")
    envelope = json.loads(out)
    assert code == envelope["exit_code"] == 0
    rows = {row["name"]: row for row in envelope["data"]["recipes"]}
    assert rows["qwen3-0.6b"]["model"] == "Qwen/Qwen3-0.6B-GGUF"


def test_show_says_what_the_recipe_says(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recipe", "show", "qwen3-0.6b", "--json")
    assert code == 0
    recipe = json.loads(out)["data"]["recipe"]
    assert recipe["chat"]["reasoning"] == {"open": "<think>", "close": "</think>"}
    code, out, _ = run(capsys, "recipe", "show", "qwen3-0.6b")
    assert code == 0
    assert "chat.reasoning" in out


def test_validate_reports_every_file_and_ends_in_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "bad"\ntitel = "x"\n', encoding="utf-8")
    worse = tmp_path / "worse.toml"
    worse.write_text("=", encoding="utf-8")
    code, out, _ = run(capsys, "recipe", "validate", "demo", str(bad), str(worse), "--json")
    envelope = json.loads(out)
    assert code == envelope["exit_code"] == 2
    assert [row["valid"] for row in envelope["data"]["files"]] == [True, False, False]
    assert len(envelope["errors"]) == 4
    assert "perhaps you meant 'title'" in out
    code, _, err = run(capsys, "recipe", "validate", str(bad))
    assert code == 2
    assert "perhaps you meant 'title'" in err


def test_schema_knows_the_keys_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recipe", "schema")
    assert code == 0
    assert json.loads(out) == json_schema()
    assert "schema" in json_schema()["properties"]
    assert "schema_version" not in json_schema()["properties"]
