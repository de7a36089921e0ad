import pytest

from provision.engine.flags import cmake_args_text, dead_environment, merge, parse_cmake_args
from provision.errors import UsageError


def test_defines_types_and_split_words_are_read() -> None:
    flags = parse_cmake_args("-DGGML_CUDA:BOOL=on -D GGML_LTO=ON --fresh '-DCMAKE_CXX_FLAGS=-O1 -g'")
    assert dict(flags.defines) == {"GGML_CUDA": "on", "GGML_LTO": "ON", "CMAKE_CXX_FLAGS": "-O1 -g"}
    assert flags.others == ("--fresh",)
    assert flags.backend == "cuda"
    assert flags.warnings == ()


@pytest.mark.parametrize(
    ("text", "defines", "said"),
    [
        ("-DLLAMA_CUBLAS=on", {"GGML_CUDA": "on"}, "used -DGGML_CUDA=on instead"),
        ("-DLLAMA_HIPBLAS=1", {"GGML_HIP": "1"}, "used -DGGML_HIP=1 instead"),
        ("-DGGML_CUDA_FA_ALL_QUANTS=ON", {"GGML_CUDA_FA_QUANTS": "all"}, "used -DGGML_CUDA_FA_QUANTS=all"),
        ("-DGGML_CUDA_FA_ALL_QUANTS=OFF", {}, "dropped"),
        ("-DCUDA_PATH=/opt/cuda", {"CUDAToolkit_ROOT": "/opt/cuda"}, "used -DCUDAToolkit_ROOT=/opt/cuda"),
        ("-DCUDAToolkit_LIBRARY_DIR=/x", {}, "dropped"),
    ],
)
def test_dead_flags_are_named_with_their_replacement(text: str, defines: dict[str, str], said: str) -> None:
    flags = parse_cmake_args(text)
    assert dict(flags.defines) == defines
    assert len(flags.warnings) == 1
    assert said in flags.warnings[0]


def test_a_dead_flag_does_not_replace_the_living_one_beside_it() -> None:
    assert dict(parse_cmake_args("-DGGML_CUDA=OFF -DLLAMA_CUBLAS=ON").defines) == {"GGML_CUDA": "OFF"}


def test_theirs_win_and_that_is_said() -> None:
    arguments, said = merge({"A": "1", "B": "2"}, parse_cmake_args("-DB=3 -DC=4 -Wno-dev"))
    assert arguments == ("-DA=1", "-DB=3", "-DC=4", "-Wno-dev")
    assert said == ("CMAKE_ARGS wins: -DB=3 instead of 2",)


def test_the_merged_text_reads_back_the_same() -> None:
    arguments, _ = merge({"CMAKE_CUDA_ARCHITECTURES": "89-real;120-real", "X": "/a b/c"}, parse_cmake_args(""))
    again = parse_cmake_args(cmake_args_text(arguments))
    assert dict(again.defines) == {"CMAKE_CUDA_ARCHITECTURES": "89-real;120-real", "X": "/a b/c"}


def test_open_quotes_are_the_users_error() -> None:
    with pytest.raises(UsageError, match="CMAKE_ARGS cannot be read") as caught:
        parse_cmake_args("-DX='y")
    assert caught.value.code == "bad-cmake-args"


def test_variables_nothing_reads_are_named() -> None:
    said = " ".join(dead_environment({"FORCE_CMAKE": "1", "GGML_CUDA": "1", "PATH": "/bin"}))
    assert "FORCE_CMAKE" in said
    assert "-DGGML_CUDA=ON" in said
    assert dead_environment({"PATH": "/bin"}) == ()
