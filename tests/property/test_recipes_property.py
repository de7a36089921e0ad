"""Whatever somebody writes into a recipe, lock, manifest or foreign file: a value or one named error, never a crash."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from provision.errors import ProvisionError
from provision.recipes.children.install import BUNDLE_VERSION, BundleDamaged, digest_of, parse_manifest
from provision.recipes.foreign.model_yaml import read_model_yaml
from provision.recipes.foreign.modelfile import read_modelfile
from provision.recipes.foreign.preset_ini import read_preset
from provision.recipes.load import merge, parse_recipe
from provision.recipes.lockfile import LOCK_VERSION, Lock, differences, parse_lock
from provision.recipes.lockfile import digest_of as lock_digest
from tests.support.locks import SHA, lock_data

KEYS = st.sampled_from(["name", "title", "model", "repo", "path", "variants", "quant", "files", "load", "n_ctx", "schema", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.just("org/name"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TABLES = st.dictionaries(KEYS | st.text(max_size=8), VALUES, max_size=6)


@given(TABLES)
def test_any_table_is_a_recipe_or_a_list_of_problems(data: dict[str, Any]) -> None:
    with contextlib.suppress(ProvisionError):
        parse_recipe({"name": "x", "title": "X", "model": {"repo": "a/b"}, **data}, source="x")


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a table, tables and lists included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, one in inner for way in [(*at, key), *places(one, (*at, key))]]


@given(st.sampled_from(places(lock_data())), VALUES, st.sampled_from([1, LOCK_VERSION]))
def test_a_lock_with_anything_in_any_place_is_a_lock_or_a_named_error(way: tuple[Any, ...], value: Any, version: int) -> None:
    """Its digest is made to agree, so that what is read is judged by its content."""
    data = {**lock_data(), "schema": version}
    inner: Any = data
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    read = lock_or_code(data)
    if isinstance(read, Lock):
        assert lock_or_code(read.to_data()) == read
    else:
        assert read in ("bad-lock", "lock-version")


def lock_or_code(data: dict[str, Any]) -> Lock | str:
    try:
        return parse_lock({**data, "digest": lock_digest(data)}, source="x")
    except ProvisionError as error:
        return error.code


def test_the_lock_that_is_bent_is_a_good_one() -> None:
    data = lock_data()
    assert parse_lock({**data, "digest": lock_digest(data)}, source="x").to_data()["tree_sha256"] == SHA


@given(TABLES)
def test_any_manifest_is_refused_or_stays_inside(data: dict[str, Any]) -> None:
    manifest = {"schema": BUNDLE_VERSION, **data}
    with contextlib.suppress(BundleDamaged):
        parsed = parse_manifest(json.dumps({**manifest, "digest": digest_of(manifest)}).encode())
        assert all(not entry["path"].startswith("/") and ".." not in entry["path"].split("/") for entry in parsed["files"])


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_any_text_is_imported_or_refused(text: str) -> None:
    for read in (read_modelfile, read_preset, read_model_yaml):
        with contextlib.suppress(ProvisionError):
            read(text)
        with contextlib.suppress(ProvisionError):
            read(f"FROM ./a.gguf\n[a]\nmodel: a/b\n{text}")


@given(TABLES, TABLES)
def test_merge_is_idempotent_and_the_upper_table_wins(base: dict[str, Any], over: dict[str, Any]) -> None:
    once = merge(base, over)
    assert merge(once, over) == once
    for key, value in over.items():
        if not isinstance(value, dict):
            assert once[key] == value or value != value


@given(TABLES)
def test_nothing_differs_from_itself(data: dict[str, Any]) -> None:
    assert differences(data, data) == ()
