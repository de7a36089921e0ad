import pytest

from provision.host import cuda_tables as tables


@pytest.mark.parametrize(
    ("toolkit", "driver", "driver_cuda", "verdict"),
    [
        ((12, 4), (550, 54, 14), (12, 4), "runs"),
        ((12, 8), (535, 104, 5), (12, 2), "native-only"),
        ((12, 8), (535, 104, 5), None, "native-only"),
        ((13, 0), (575, 51, 3), None, "too-old"),
        ((13, 0), (580, 65, 6), None, "runs"),
        ((12, 4), (580, 65, 6), None, "runs"),
        ((11, 8), (535, 54, 3), None, "runs"),
        ((12, 4), None, None, "unknown"),
        ((12, 4), (390, 1), None, "unknown"),
    ],
)
def test_a_driver_serves_its_own_major_and_older(
    toolkit: tuple[int, ...], driver: tuple[int, ...] | None, driver_cuda: tuple[int, ...] | None, verdict: str
) -> None:
    assert tables.driver_verdict(toolkit, driver=driver, driver_cuda=driver_cuda) == verdict


def test_what_the_driver_says_wins_over_the_table() -> None:
    assert tables.driver_verdict((12, 8), driver=(535, 1), driver_cuda=(12, 8)) == "runs"


def test_a_branch_between_two_known_ones_counts_as_the_older() -> None:
    assert tables.driver_cuda_version((552, 22)) == (12, 4)
    assert tables.driver_cuda_version((999, 0)) == (13, 3)
    assert tables.driver_cuda_version((440, 0)) is None


def test_toolkits_know_the_architectures_of_their_time() -> None:
    old, mid, new = (tables.toolkit_facts(version) for version in [(12, 4), (12, 8), (13, 0)])
    assert old is not None
    assert mid is not None
    assert new is not None
    assert old.knows_arch("61")
    assert not old.knows_arch("120")
    assert mid.knows_arch("120")
    assert mid.knows_arch("61")
    assert not new.knows_arch("61")
    assert not new.knows_arch("70")
    assert new.knows_arch("121")
    assert tables.toolkit_facts((11, 7)).knows_arch("86") is None  # type: ignore[union-attr]
    assert tables.toolkit_facts((99, 0)) is None


def test_arch_ranges_agree_with_the_ranges_written_in_the_table() -> None:
    written = tables._tables()["sm_to_toolkit_range"]
    assert len(written) > 10
    for arch, row in written.items():
        assert tables.arch_toolkit_range(arch) == (tables.parse_version(row["first"]), tables.parse_version(row["last"])), arch
    assert tables.arch_toolkit_range("30") is None


def test_glibc_and_compilers() -> None:
    facts = {facts.version: facts for facts in tables.all_toolkits()}
    assert facts[12, 8].glibc_ok((2, 40))
    assert not facts[12, 8].glibc_ok((2, 41))
    assert facts[13, 0].glibc_ok((2, 41))
    assert not facts[13, 0].glibc_ok((2, 42))
    assert facts[13, 2].glibc_ok((2, 43))
    assert (facts[12, 4].gcc_max, facts[12, 8].gcc_max, facts[13, 4].gcc_max) == (13, 14, 16)
    assert facts[12, 8].compression_driver_floor == (550, 54, 14)
    assert facts[12, 4].bundled_driver_linux == (550, 54, 14)


def test_toolkits_for_names_every_one_that_fits_newest_first() -> None:
    versions = [facts.version for facts in tables.toolkits_for(("61",), driver=(580, 65, 6), driver_cuda=None)]
    assert versions[0] == (12, 9)
    assert (11, 8) in versions
    assert all(version < (13, 0) for version in versions)
    mixed = tables.toolkits_for(("61", "120"), driver=(580, 65, 6), driver_cuda=None)
    assert [facts.version for facts in mixed] == [(12, 9), (12, 8)]
    assert tables.toolkits_for(("70", "121"), driver=None, driver_cuda=None, glibc=(2, 42)) == ()


def test_pypi_parts_build_from_cuda_13_on_linux_only() -> None:
    facts = {facts.version: facts for facts in tables.all_toolkits()}
    assert facts[13, 0].builds_from_pypi("linux", "x86_64")
    assert facts[13, 0].builds_from_pypi("linux", "arm64")
    assert not facts[13, 0].builds_from_pypi("windows", "AMD64")
    assert not facts[12, 9].builds_from_pypi("linux", "x86_64")
    assert facts[13, 0].pypi_packages["nvidia-cuda-nvcc"] == "==13.0.88.*"


def test_known_defects_name_their_source() -> None:
    (defect,) = tables.known_defects((13, 2, 86))
    assert "IQ3_S" in defect.effect
    assert defect.sources
    assert {defect.layout for defect in tables.known_defects((13, 0))} == {"pypi", None}
    assert tables.known_defects((12, 4)) == ()


@pytest.mark.parametrize(
    ("text", "version"), [("550.54.14", (550, 54, 14)), ("release 13.0, V13.0.88", (13, 0)), ("none", None), ("9" * 5000, None)]
)
def test_parse_version(text: str, version: tuple[int, ...] | None) -> None:
    assert tables.parse_version(text) == version


def test_prebuilt_tags() -> None:
    assert "cu124" in tables.prebuilt_cuda_tags("linux", "x86_64")
    assert tables.prebuilt_cuda_tags("linux", "aarch64") == ()
    assert "cu132" in tables.prebuilt_cuda_tags("windows", "AMD64")
    assert tables.prebuilt_cuda_tags("darwin", "arm64") == ()


def test_arch_family() -> None:
    assert tables.arch_family("89") == "Ada RTX 40 / L4 / L40"
    assert tables.arch_family("120a") == "Blackwell RTX 50 / RTX PRO"
    assert tables.arch_family("7") is None


def test_driver_versions_are_written_as_nvidia_writes_them() -> None:
    assert tables.driver_text((535, 54, 3)) == "535.54.03"
    assert tables.driver_text((580,)) == "580"
    assert tables.driver_text((551, 61)) == "551.61"
