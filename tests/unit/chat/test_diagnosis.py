import pytest

from provision.chat.diagnosis import explain_death, explain_load_failure
from provision.errors import ExitCode

# Lines as llama-cpp-python 0.3.36 writes them for such files.
LOADS = [
    ("llama_model_load: error loading model: unknown model architecture: 'newest'", "engine-too-old", ExitCode.MACHINE),
    ("gguf_init_from_file_impl: invalid magic characters: 'PK', expected 'GGUF'", "not-a-gguf", ExitCode.INTEGRITY),
    (
        "llama_model_load: error loading model: tensor 'output.weight' data is not within the file bounds",
        "model-damaged",
        ExitCode.INTEGRITY,
    ),
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4095.05 MiB on device 0: cudaMalloc failed: out of memory",
        "out-of-memory",
        ExitCode.DOES_NOT_FIT,
    ),
    ("llama_model_load: error loading model: missing tensor 'blk.3.ffn_up.weight'", "model-damaged", ExitCode.INTEGRITY),
    ("llama_init_from_model: V cache quantization requires flash_attn", "kv-type-refused", ExitCode.USAGE),
    ("llama_model_load: error loading model: missing 'split.no' in split 2", "split-incomplete", ExitCode.INTEGRITY),
    ("gguf_init_from_file: failed to open GGUF file '/nowhere/m.gguf'", "model-not-found", ExitCode.USAGE),
    ("something nobody has seen", "load-failed", ExitCode.FAILURE),
]


@pytest.mark.parametrize(("line", "code", "exit_code"), LOADS)
def test_a_failed_load_says_why(line: str, code: str, exit_code: ExitCode) -> None:
    error = explain_load_failure("load", "ValueError: Failed to load model from file: m.gguf", [line], model="m.gguf")
    assert (error.code, error.exit_code) == (code, exit_code)
    assert line.split(": ")[-1] in error.message
    assert error.hint.startswith("provision ")


@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGILL", "engine-wrong-cpu"), ("SIGKILL", "out-of-memory"), ("SIGSEGV", "engine-crashed"), (None, "engine-ended")],
)
def test_a_death_is_named(name: str | None, code: str) -> None:
    error = explain_death(name, 3, "ggml.c:123: GGML_ASSERT(x) failed\n\n", stage="answering", model="m.gguf")
    assert error.code == code
    assert "answering" in error.message


def test_strings_of_the_model_file_cannot_drive_the_terminal() -> None:
    error = explain_load_failure("load", "", ["unknown model architecture: '\x1b]0;gotcha\x07x'"], model="m.gguf")
    assert "\x1b" not in error.message
