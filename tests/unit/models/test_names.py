import json
from pathlib import Path

import pytest

from provision.models.quants import group, parse_label, parse_name, select
from provision.models.types import RepoFile, Role

CORPUS = json.loads((Path(__file__).parents[2] / "data" / "gguf-listings.json").read_text(encoding="utf-8"))["repos"]


@pytest.mark.parametrize(
    ("path", "role", "quant"),
    [
        ("x-Q4_K_M.gguf", Role.MODEL, "Q4_K_M"),
        ("x.q4_k_m.gguf", Role.MODEL, "Q4_K_M"),
        ("x_Q4_K_M.GGUF", Role.MODEL, "Q4_K_M"),
        ("Q4_K_M.gguf", Role.MODEL, "Q4_K_M"),
        ("x.i1-IQ4_NL.gguf", Role.MODEL, "IQ4_NL"),
        ("x-UD-Q4_K_XL.gguf", Role.MODEL, "UD-Q4_K_XL"),
        ("x-ud-q4_k_xl.gguf", Role.MODEL, "UD-Q4_K_XL"),
        ("AD-IQ1_M/x-AD-IQ1_M.gguf", Role.MODEL, "AD-IQ1_M"),
        ("x-BF16.gguf", Role.MODEL, "BF16"),
        ("x-fp16.gguf", Role.MODEL, "F16"),
        ("x-TQ1_0.gguf", Role.MODEL, "TQ1_0"),
        ("x-Q1_0.gguf", Role.MODEL, "Q1_0"),
        ("x-PQ2_0.gguf", Role.MODEL, "PQ2_0"),
        ("x-Q2_0_g64.gguf", Role.MODEL, "Q2_0_g64"),
        ("x-Q4_0_4_4.gguf", Role.MODEL, "Q4_0_4_4"),
        ("x-Q6_K_L.gguf", Role.MODEL, "Q6_K_L"),
        ("x-MXFP4_MOE.gguf", Role.MODEL, "MXFP4_MOE"),
        ("x-mxfp4.gguf", Role.MODEL, "MXFP4"),
        ("x-NVFP4.gguf", Role.MODEL, "NVFP4"),
        ("x-q8.gguf", Role.MODEL, "Q8"),
        ("sd_turbo-f16-q8_0.gguf", Role.MODEL, "Q8_0"),
        ("x-20b-BF16-abliterated-MXFP4_MOE.gguf", Role.MODEL, "MXFP4_MOE"),
        ("x-Q4_K_M-imat.gguf", Role.MODEL, "Q4_K_M"),
        ("x_q4_0-it.gguf", Role.MODEL, "Q4_0"),
        ("X-APEX-I-Mini.gguf", Role.MODEL, "APEX-I-Mini"),
        ("X-APEX-MTP-I-quality.gguf", Role.MODEL, "APEX-I-Quality"),
        ("Q4_K_M/model.gguf", Role.MODEL, "Q4_K_M"),
        ("x-Q4_K_M/model-00001-of-00002.gguf", Role.MODEL, "Q4_K_M"),
        # Words that only look like labels.
        ("TinyMistral-248M-v2.gguf", Role.MODEL, None),
        ("x-Q4-trained-thing.gguf", Role.MODEL, None),
        ("x-Q5_K_M-F16-Merged.gguf", Role.MODEL, None),
        ("xQ4_K_M.gguf", Role.MODEL, None),
        ("x-KQ4_0.gguf", Role.MODEL, None),
        # Other roles, some with a label of their own.
        ("mmproj-F16.gguf", Role.MMPROJ, "F16"),
        ("mmproj-model-f16.gguf", Role.MMPROJ, "F16"),
        ("x-BF16-mmproj.gguf", Role.MMPROJ, None),
        ("x.mmproj-f16.gguf", Role.MMPROJ, "F16"),
        ("mmproj-x-Q8_0.gguf", Role.MMPROJ, "Q8_0"),
        ("vision/x-vision-F16.gguf", Role.MMPROJ, "F16"),
        ("imatrix_unsloth.gguf", Role.IMATRIX, None),
        ("imatrix_unsloth.gguf_file", Role.IMATRIX, None),
        ("x.imatrix.dat", Role.IMATRIX, None),
        ("x.imatrix.gguf", Role.IMATRIX, None),
        ("x-imatrix-Q4_K_M.gguf", Role.MODEL, "Q4_K_M"),
        ("mtp-x-Q4_0.gguf", Role.DRAFT, "Q4_0"),
        ("MTP/x-Q4_0.gguf", Role.DRAFT, "Q4_0"),
        ("dspark/x-Q8_0.gguf", Role.DRAFT, "Q8_0"),
        ("eagle3-x-F16.gguf", Role.DRAFT, "F16"),
        ("x-MTP-Q4_K_M.gguf", Role.MODEL, "Q4_K_M"),
        ("org_x-DRAFT-0.5B-Q4_K_M.gguf", Role.MODEL, "Q4_K_M"),
        ("my-MTP-models/x-Q4_0.gguf", Role.MODEL, "Q4_0"),
        ("ggml-model-f16-big-endian.gguf", Role.OTHER, "F16"),
        ("stories260K-be.gguf", Role.OTHER, None),
        ("model-00001-of-00002.safetensors", Role.OTHER, None),
        ("README.md", Role.OTHER, None),
        (".gguf", Role.OTHER, None),
        ("", Role.OTHER, None),
    ],
)
def test_role_and_label(path: str, role: Role, quant: str | None) -> None:
    name = parse_name(path)
    assert (name.role, name.quant) == (role, quant)


@pytest.mark.parametrize(
    ("path", "stem", "index", "count", "byte_split"),
    [
        ("q/x-Q8_0-00002-of-00009.gguf", "q/x-Q8_0", 2, 9, False),
        ("x-IQ3_XS-split-00001-of-00009.gguf", "x-IQ3_XS", 1, 9, False),
        ("x.Q6_K.gguf-split-b", "x.Q6_K", 2, None, True),
        ("x.Q6_K.gguf.part1of3", "x.Q6_K", 1, 3, True),
        ("x.Q6_K.gguf-00003-of-00003", "x.Q6_K", 3, 3, True),
        ("x.Q6_K.gguf.part-ab", "x.Q6_K", 2, None, True),
        ("x-Q8_0.gguf", "x-Q8_0", None, None, False),
    ],
)
def test_place_in_a_split(path: str, stem: str, index: int | None, count: int | None, byte_split: bool) -> None:
    name = parse_name(path)
    assert (name.stem, name.index, name.count, name.byte_split) == (stem, index, count, byte_split)
    assert name.role is Role.MODEL


def test_a_name_made_to_hurt_is_answered_at_once() -> None:
    assert parse_name("-it" * 100_000 + ".gguf").role is Role.OTHER
    assert parse_name("-it" * 300 + ".gguf").quant is None


def test_labels_are_not_guessed_from_other_words() -> None:
    for word in ("", "latest", "Q4_K_M_", "Q9_K", "K_M", "UD-", "i1-Q4_K_M", "Q4_K_M.gguf", "4bit"):
        assert parse_label(word) is None


def test_no_pick_of_the_corpus_is_wrong() -> None:
    for entry in CORPUS:
        check_every_label(entry)


def check_every_label(entry: dict[str, list[str]]) -> None:
    """Every chosen file spells the label asked for, and is no projector, draft, matrix or half a split."""
    sets = group(RepoFile(path=path) for path in entry["files"])
    assert sorted(file.path for one in sets for file in one.files) == sorted(entry["files"])
    for one in sets:
        if one.role is not Role.MODEL or one.quant is None or one.tail or not one.complete or one.byte_split:
            continue
        rivals = [
            other for other in sets if (other.role, other.quant, other.tail) == (one.role, one.quant, "") and other.complete
        ]
        if len(rivals) > 1:
            continue
        chosen = select(sets, one.quant.lower())
        assert chosen is one
        spelled = one.quant.lower().removeprefix("apex-")
        for file in chosen.files:
            assert spelled in file.path.lower()
            base = file.path.lower().rpartition("/")[2]
            assert not base.startswith(("mmproj", "imatrix", "mtp-"))
            assert not any(word in base for word in ("mmproj", "big-endian", "gguf_file", "gguf-split"))
