"""The label grammar: what it writes it reads back, in any case, behind any base, split or not; and it reads nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from provision.models.quants import group, parse_label, parse_name, select
from provision.models.types import RepoFile, Role

PLAIN = [
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q4_0",
    "Q4_1",
    "Q5_1",
    "Q4_0_4_4",
    "Q1_0",
    "TQ1_0",
    "TQ2_0",
    "MXFP4",
    "MXFP4_MOE",
    "NVFP4",
]
PLAIN += [f"Q{bits}_K{size}" for bits in range(2, 7) for size in ("", "_S", "_M", "_L", "_XL")]
PLAIN += ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ3_M", "IQ4_XS", "IQ4_NL", "Q2_0_g64", "Q8_K_P", "Q4"]
LABELS = st.builds(lambda prefix, plain: prefix + plain, st.sampled_from(["", "UD-", "AD-"]), st.sampled_from(PLAIN))
BASES = st.from_regex(r"[A-Za-z0-9]{1,8}([-._][A-Za-z0-9]{1,6}){0,3}-\d{1,3}[Bb]", fullmatch=True)
CASES = st.sampled_from([str.upper, str.lower, str.swapcase, str])


@given(LABELS, CASES)
def test_a_label_is_read_back_in_any_case(label: str, case) -> None:
    assert parse_label(case(label)) == label
    assert parse_label(parse_label(case(label)) or "") == label


@given(BASES, st.sampled_from(["-", ".", "_"]), LABELS, CASES, st.integers(0, 4))
def test_a_name_gives_back_its_label(base: str, separator: str, label: str, case, shards: int) -> None:
    suffixes = [f"-{index:05d}-of-{shards:05d}.gguf" for index in range(1, shards + 1)] or [".gguf"]
    paths = [f"{base}{separator}{case(label)}{suffix}" for suffix in suffixes]
    for path in paths:
        name = parse_name(path)
        assert name.quant == label
        assert name.count == (shards or None)
    (one,) = group(RepoFile(path=path) for path in reversed(paths))
    assert one.complete
    assert [file.path for file in one.files] == paths


@given(st.sets(LABELS, min_size=1, max_size=8), LABELS)
def test_select_returns_the_label_asked_for_or_its_ud_form_or_nothing(there: set[str], wanted: str) -> None:
    sets = group(RepoFile(path=f"model-7b-{label}.gguf") for label in there)
    dynamic = {label for label in there if label == f"UD-{wanted}"}
    try:
        chosen = select(sets, wanted).quant
    except Exception:
        assert wanted not in there
        assert not dynamic
    else:
        assert chosen == (wanted if wanted in there else f"UD-{wanted}")


@given(st.text(max_size=40), st.sampled_from(["", ".gguf", "-00001-of-00002.gguf", ".gguf-split-a"]))
def test_any_text_has_an_answer(text: str, suffix: str) -> None:
    name = parse_name(text + suffix)
    assert name.path == text + suffix
    assert isinstance(name.role, Role)
    assert name.quant is None or parse_label(name.quant) == name.quant
