import pytest

from provision.hub.types import listed_path, listed_size


@pytest.mark.parametrize("said", [None, "5", -1, 1.5, True, 2**63, 10**400, [], {}])
def test_a_size_no_file_can_have_is_none(said: object) -> None:
    assert listed_size(said) is None


def test_sizes_and_names_pass_as_they_are() -> None:
    assert listed_size(2**63 - 1) == 2**63 - 1
    assert listed_path("Q4_K_M/模型.gguf") == "Q4_K_M/模型.gguf"
    assert listed_path("") is None
    assert listed_path(7) is None


def test_what_no_terminal_can_print_is_spelt_out() -> None:
    assert listed_path("x\udcff.txt") == "x\\udcff.txt"
