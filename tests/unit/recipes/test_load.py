from pathlib import Path

import pytest

from provision.errors import ExitCode, UsageError
from provision.recipes.load import find_recipe, load_recipe, merge, parse_recipe, read_recipe, recipe_names
from provision.recipes.problems import RecipeError

MINIMAL = 'name = "mine"\ntitle = "Mine"\n[model]\nrepo = "org/name-GGUF"\n'


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_recipe_is_valid_and_named_like_its_file() -> None:
    assert "demo" in recipe_names()
    for name in recipe_names():
        assert load_recipe(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "mistral-7b-instruct-v0.3",
        "llama-3-8b-instruct",
        "llama-2-7b-chat",
        "deepseek-r1-distill-qwen-7b",
        "qwen2.5-7b-instruct",
        "qwen3-8b",
        "qwen3-0.6b",
    ],
)
def test_the_models_people_start_with_name_a_repository_and_a_licence(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model.repo is not None
    assert "GGUF" in recipe.model.repo
    assert recipe.license


def test_demo_needs_no_hub() -> None:
    assert load_recipe("demo").model.packaged == "demo"


def test_a_recipe_file_is_read(tmp_path: Path) -> None:
    recipe = load_recipe(str(write(tmp_path, "mine", MINIMAL)))
    assert recipe.model.repo == "org/name-GGUF"
    assert recipe.to_data() == {"name": "mine", "title": "Mine", "model": {"repo": "org/name-GGUF"}}


def test_a_path_in_a_recipe_starts_at_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", 'name = "mine"\ntitle = "Mine"\n[model]\npath = "models/m.gguf"\n')
    assert read_recipe(path).model.path == str(tmp_path / "models" / "m.gguf")


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="perhaps you meant 'qwen3-8b'") as caught:
        find_recipe("qwen3-8")
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint == "provision recipe list"


def test_all_problems_come_at_once_with_what_was_perhaps_meant() -> None:
    data = {
        "nam": "x",
        "name": "Bad Name",
        "title": "",
        "model": {"repos": "a/b", "revision": 3, "sources": ["hff"]},
        "variants": [{"quants": "Q4_0"}, {"quant": "Q8_0", "needs": {"vram": "6 parsecs"}}],
        "select": {"policy": "qualty"},
        "load": {"n_gpu_layers": "all", "n_ctx": "8k"},
    }
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, source="x.toml")
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 12
    assert "unknown key 'nam'; perhaps you meant 'name'" in problems
    assert "unknown key 'repos' in [model]; perhaps you meant 'repo'" in problems
    assert "variants[0].quant is missing" in problems
    assert "variants[1].needs.vram: not a size: '6 parsecs'" in problems
    assert "perhaps you meant 'quality'" in problems
    assert "perhaps you meant 'hf'" in problems
    assert "load.n_gpu_layers: 'all' is neither 'auto' nor a valid integer" in problems
    assert "load.n_ctx: input should be a valid integer, not '8k'" in problems
    assert "name: 'Bad Name' has the wrong form; for example 'qwen3-8b'" in problems
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({}, "this one has none"),
        ({"repo": "a/b", "path": "x.gguf"}, "this one has repo and path"),
    ],
)
def test_a_model_has_exactly_one_origin(model: dict[str, str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_recipe({"name": "x", "title": "X", "model": model}, source="x.toml")


def test_a_fixed_quant_must_be_among_the_variants() -> None:
    data = {"name": "x", "title": "X", "model": {"repo": "a/b"}, "variants": [{"quant": "Q8_0"}], "select": {"quant": "Q4_0"}}
    with pytest.raises(RecipeError, match=r"select\.quant Q4_0 is not among the variants: Q8_0"):
        parse_recipe(data, source="x.toml")


@pytest.mark.parametrize("repo", ["../../etc/passwd", "a/b/c", "a", "/a/b", "a/..", "https://x/y", "a/b\n"])
def test_a_repository_is_org_slash_name_and_nothing_else(repo: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe({"name": "x", "title": "X", "model": {"repo": repo}}, source="x.toml")


def test_the_name_is_the_file_s_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"name is 'mine' but the file is called other\.toml"):
        read_recipe(write(tmp_path, "other", MINIMAL))


def test_extends_merges_tables_and_replaces_arrays(tmp_path: Path) -> None:
    write(tmp_path, "mine", MINIMAL + '[sampling]\ntemperature = 0.5\ntop_k = 20\nstop = ["a", "b"]\n')
    child = write(
        tmp_path, "child", 'name = "child"\ntitle = "C"\nextends = "mine"\n[sampling]\ntemperature = 0.1\nstop = ["c"]\n'
    )
    recipe = read_recipe(child)
    assert (recipe.sampling.temperature, recipe.sampling.top_k, recipe.sampling.stop) == (0.1, 20, ("c",))
    assert recipe.model.repo == "org/name-GGUF"
    assert recipe.name == "child"


def test_another_origin_drops_what_the_base_said_about_its_own(tmp_path: Path) -> None:
    base = 'name = "mine"\ntitle = "Mine"\n[model]\nrepo = "org/name"\nrevision = "v2"\n[[variants]]\nquant = "Q8_0"\n'
    write(tmp_path, "mine", base)
    child = write(tmp_path, "child", 'name = "child"\ntitle = "C"\nextends = "mine"\n[model]\nrepo = "org/other"\n')
    recipe = read_recipe(child)
    assert recipe.model.revision == "main"
    assert recipe.variants == ()


def test_extends_in_a_circle_is_named(tmp_path: Path) -> None:
    a = write(tmp_path, "a", 'name = "a"\ntitle = "A"\nextends = "b"\n')
    write(tmp_path, "b", 'name = "b"\ntitle = "B"\nextends = "a"\n')
    with pytest.raises(RecipeError, match="a → b → a"):
        read_recipe(a)


def test_extends_names_a_recipe_not_a_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_recipe(write(tmp_path, "a", 'name = "a"\ntitle = "A"\nextends = "../../etc/x"\n'))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a = ", "is not TOML"), (b"\xff\xfe", "is not UTF-8"), (b"#" * (1024 * 1024 + 1), "larger than 1 MiB")],
)
def test_what_is_no_toml_is_refused_with_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_recipe(path)
    assert caught.value.code == "bad-toml"


def test_merge_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(base, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}
