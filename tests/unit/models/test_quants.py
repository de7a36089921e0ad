import pytest

from provision.errors import NotFoundError, UsageError
from provision.models.quants import group, labels, select, select_mmproj
from provision.models.types import ModelSet, RepoFile, Role


def sets(*paths: str) -> tuple[ModelSet, ...]:
    return group(RepoFile(path=path, size_bytes=10) for path in paths)


def pick(quant: str | None, *paths: str) -> list[str]:
    return [file.path for file in select(sets(*paths), quant, repo_id="o/r").files]


def test_the_exact_label_wins_over_its_ud_twin() -> None:
    both = ("x-UD-Q4_K_M.gguf", "x-Q4_K_M.gguf")
    assert pick("Q4_K_M", *both) == ["x-Q4_K_M.gguf"]
    assert pick("ud-q4_k_m", *both) == ["x-UD-Q4_K_M.gguf"]


def test_only_a_ud_file_answers_the_plain_label_but_not_the_other_way_round() -> None:
    assert pick("Q4_K_M", "x-UD-Q4_K_M.gguf", "x-Q8_0.gguf") == ["x-UD-Q4_K_M.gguf"]
    with pytest.raises(NotFoundError):
        pick("UD-Q4_K_M", "x-Q4_K_M.gguf")


def test_only_ud_stands_in_for_the_plain_label_and_only_when_it_is_one() -> None:
    assert pick("IQ1_M", "x-UD-IQ1_M.gguf", "x-AD-IQ1_M.gguf") == ["x-UD-IQ1_M.gguf"]
    with pytest.raises(NotFoundError, match="it has AD-IQ1_M; nearest: AD-IQ1_M"):
        pick("IQ1_M", "x-AD-IQ1_M.gguf")
    with pytest.raises(UsageError, match="2 models") as caught:
        pick("IQ1_M", "a/x-UD-IQ1_M.gguf", "b/x-UD-IQ1_M.gguf")
    assert caught.value.code == "quant-ambiguous"


def test_f16_is_neither_bf16_nor_a_projector() -> None:
    with pytest.raises(NotFoundError):
        pick("F16", "x-BF16.gguf", "mmproj-F16.gguf", "x-Q4_K_M.gguf")


def test_q4_0_is_not_its_draft_nor_its_arm_cousin() -> None:
    assert pick("Q4_0", "MTP/mtp-x-Q4_0.gguf", "x-Q4_0.gguf", "x-Q4_0_4_4.gguf") == ["x-Q4_0.gguf"]


def test_q1_0_is_not_tq1_0_and_q4_k_is_not_q4_k_m() -> None:
    for wanted, there in (("Q1_0", "x-TQ1_0.gguf"), ("Q4_K", "x-Q4_K_M.gguf"), ("Q4_NL", "x-IQ4_NL.gguf")):
        with pytest.raises(NotFoundError):
            pick(wanted, there)


def test_a_variant_is_never_taken_for_the_plain_label_but_has_one_of_its_own() -> None:
    assert pick("Q4_K_M", "x-Q4_K_M-mtp.gguf", "x-Q4_K_M.gguf") == ["x-Q4_K_M.gguf"]
    with pytest.raises(NotFoundError, match="it has Q4_K_M-mtp, Q8_0") as caught:
        pick("Q4_K_M", "x-Q4_K_M-mtp.gguf", "x-Q8_0.gguf")
    assert caught.value.hint == "provision fetch o/r:Q4_K_M-mtp"
    assert pick("q4_k_m-MTP", "x-Q4_K_M-mtp.gguf", "x-Q4_K_M.gguf") == ["x-Q4_K_M-mtp.gguf"]


def test_only_a_label_that_works_is_recommended() -> None:
    torn = ("s-Q5_K_M-00001-of-00003.gguf", "s-Q5_K_M-00003-of-00003.gguf")
    cut = ("p-Q3_K_M.gguf.part1of2", "p-Q3_K_M.gguf.part2of2")
    twice = ("a/m-Q4_K_M.gguf", "b/m-Q4_K_M.gguf")
    for asked in ("Q5_0", "Q3_K_L", "Q4_K_S"):
        with pytest.raises(NotFoundError) as caught:
            pick(asked, *torn, *cut, *twice, "x-Q8_0.gguf")
        assert caught.value.message.endswith("nearest: Q8_0")
        assert caught.value.hint == "provision fetch o/r:Q8_0"
    with pytest.raises(NotFoundError) as none:
        pick("Q5_0", *torn, *cut, *twice)
    assert none.value.hint == "provision fetch o/r --include '*' --dry-run"
    with pytest.raises(UsageError) as required:
        pick(None, *torn, *cut, "x-Q8_0.gguf")
    assert required.value.hint == "provision fetch o/r:Q8_0"


def test_a_hint_at_a_split_names_all_of_it() -> None:
    paths = [f"{folder}/m-Q4_0-0000{index}-of-00002.gguf" for folder in "ab" for index in (1, 2)]
    with pytest.raises(UsageError) as caught:
        pick("Q4_0", *paths)
    assert caught.value.hint == f"provision fetch o/r --file {paths[0]} --file {paths[1]}"


def test_what_is_missing_is_answered_with_what_there_is_and_the_nearest() -> None:
    with pytest.raises(NotFoundError) as caught:
        pick("Q4_K_M", "x-Q4_K_S.gguf", "x-Q8_0.gguf", "x-IQ4_XS.gguf", "mmproj-F16.gguf")
    error = caught.value
    assert error.code == "quant-not-found"
    assert error.message == "o/r has no Q4_K_M; it has IQ4_XS, Q4_K_S, Q8_0; nearest: Q4_K_S, IQ4_XS, Q8_0"
    assert error.hint == "provision fetch o/r:Q4_K_S"


def test_a_repository_without_labels_is_answered_with_its_files() -> None:
    with pytest.raises(NotFoundError, match=r"moss-voicegen\.gguf") as caught:
        pick("Q4_K_M", "moss-voicegen.gguf")
    assert caught.value.hint == "provision fetch o/r --file moss-voicegen.gguf"


def test_a_split_is_taken_whole_and_in_order() -> None:
    paths = [f"Q8_0/x-Q8_0-0000{index}-of-00003.gguf" for index in (3, 1, 2)]
    assert pick("Q8_0", *paths) == sorted(paths)


def test_a_split_with_a_missing_shard_is_refused_by_name() -> None:
    with pytest.raises(NotFoundError, match="part 2 of 3 is missing") as caught:
        pick("Q8_0", "x-Q8_0-00001-of-00003.gguf", "x-Q8_0-00003-of-00003.gguf")
    assert caught.value.code == "split-incomplete"


def test_a_shard_outside_its_own_count_makes_no_complete_split() -> None:
    (one,) = sets("x-Q8_0-00000-of-00002.gguf", "x-Q8_0-00001-of-00002.gguf")
    assert not one.complete


def test_leftovers_of_an_older_split_do_not_stand_in_the_way() -> None:
    whole = [f"x-Q8_0-0000{index}-of-00002.gguf" for index in (1, 2)]
    assert pick("Q8_0", "x-Q8_0-00001-of-00004.gguf", *whole) == whole


def test_the_same_label_in_two_folders_is_two_models() -> None:
    with pytest.raises(UsageError) as caught:
        pick("Q4_0", "phi-2/ggml-model-q4_0.gguf", "bert/ggml-model-q4_0.gguf")
    assert caught.value.code == "quant-ambiguous"
    assert caught.value.hint == "provision fetch o/r --file bert/ggml-model-q4_0.gguf"


def test_byte_splits_are_recognised_and_refused_with_how_to_join_them() -> None:
    with pytest.raises(NotFoundError) as caught:
        pick("Q6_K", "x.Q6_K.gguf-split-b", "x.Q6_K.gguf-split-a", "x.Q5_0.gguf")
    assert caught.value.code == "byte-split"
    assert "cat x.Q6_K.gguf-split-a x.Q6_K.gguf-split-b" in caught.value.hint


def test_a_command_in_a_hint_quotes_hostile_names() -> None:
    with pytest.raises(UsageError) as caught:
        pick(None, "$(rm -rf ~).gguf", "b.gguf")
    assert caught.value.hint == "provision fetch o/r --file '$(rm -rf ~).gguf'"


def by_file(pattern: str, *paths: str) -> list[str]:
    return [file.path for file in select(sets(*paths), None, repo_id="o/r", file=pattern).files]


def test_a_pattern_names_one_model_in_any_letter_case_and_any_folder() -> None:
    paths = ("x-q4_k_m.gguf", "x-q4_k_s.gguf", "big/X-Q8_0-00001-of-00002.gguf", "big/X-Q8_0-00002-of-00002.gguf")
    assert by_file("*Q4_K_M*.gguf", *paths) == ["x-q4_k_m.gguf"]
    assert by_file("x-q4_k_s.gguf", *paths) == ["x-q4_k_s.gguf"]
    assert by_file("X-Q8_0-00001-of-00002.gguf", *paths) == list(paths[2:])
    assert by_file("big/*", *paths) == list(paths[2:])


def test_the_letter_case_as_written_wins() -> None:
    assert by_file("*Q4_0*", "x-Q4_0.gguf", "x-q4_0.gguf") == ["x-Q4_0.gguf"]


def test_a_pattern_never_means_a_projector_and_never_two_models() -> None:
    with pytest.raises(NotFoundError, match=r"matches mmproj-F16\.gguf; it has x-Q8_0\.gguf") as caught:
        by_file("mmproj-F16.gguf", "x-Q8_0.gguf", "mmproj-F16.gguf")
    assert (caught.value.code, caught.value.hint) == ("file-not-found", "provision fetch o/r --file x-Q8_0.gguf")
    with pytest.raises(UsageError, match=r"\*Q4_K\* names 2 models: x-Q4_K_M\.gguf, x-Q4_K_S\.gguf") as ambiguous:
        by_file("*Q4_K*", "x-Q4_K_M.gguf", "x-Q4_K_S.gguf")
    assert ambiguous.value.code == "quant-ambiguous"


def test_without_a_quant_only_a_lone_model_is_taken() -> None:
    assert pick(None, "x-Q4_K_M.gguf", "mmproj-F16.gguf", "README.md") == ["x-Q4_K_M.gguf"]
    with pytest.raises(UsageError, match="Q4_K_M, Q8_0") as caught:
        pick(None, "x-Q4_K_M.gguf", "x-Q8_0.gguf")
    assert caught.value.code == "quant-required"


def test_no_model_at_all() -> None:
    with pytest.raises(NotFoundError, match="o/r holds no GGUF model") as caught:
        pick("Q4_K_M", "README.md", "mmproj-F16.gguf", "model.safetensors")
    assert caught.value.code == "no-model"


def test_labels_are_those_of_models_only() -> None:
    assert labels(sets("x-Q4_K_M.gguf", "mmproj-F16.gguf", "mtp-x-Q8_0.gguf")) == ("Q4_K_M",)


def test_the_projector_is_f16_of_the_models_own_folder_first() -> None:
    there = sets("a/x-Q4_0.gguf", "a/mmproj-BF16.gguf", "a/mmproj-F16.gguf", "mmproj-F16.gguf")
    model = select(there, "Q4_0")
    chosen = select_mmproj(there, model)
    assert chosen is not None
    assert chosen.files[0].path == "a/mmproj-F16.gguf"
    assert chosen.role is Role.MMPROJ
    root = sets("a/x-Q4_0.gguf", "mmproj-BF16.gguf")
    found = select_mmproj(root, select(root, "Q4_0"))
    assert found is not None
    assert found.files[0].path == "mmproj-BF16.gguf"
    assert select_mmproj(sets("x-Q4_0.gguf"), model) is None
