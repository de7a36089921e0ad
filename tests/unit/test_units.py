import pytest

from provision.errors import UsageError
from provision.units import GIB, format_bytes, format_seconds, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * GIB), ("24G", 24 * GIB), ("1.5 gib", 3 * GIB // 2), ("2GB", 2_000_000_000), ("1048576", 1 << 20), ("0", 0)],
)
def test_parse_size_reads_what_people_write(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "1e9", "12 parsecs", "1,5G", "9" * 400, "1" * 17 + "TB"])
def test_parse_size_refuses_the_rest_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.code == "bad-size"
    assert caught.value.hint


def test_format_bytes_never_shows_a_thousand_of_a_smaller_unit() -> None:
    assert format_bytes(0) == "0 B"
    assert format_bytes(1023) == "1023 B"
    assert format_bytes(1024) == "1.0 KiB"
    assert format_bytes(1024 * 1024 - 1) == "1.0 MiB"
    assert format_bytes(4_913_000_000) == "4.6 GiB"


def test_format_seconds() -> None:
    assert format_seconds(0.42) == "0.4 s"
    assert format_seconds(59.6) == "1 min 00 s"
    assert format_seconds(7800) == "2 h 10 min"
