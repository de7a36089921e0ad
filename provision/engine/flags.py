"""CMake flags: the user's `CMAKE_ARGS` read, dead ones named, both sides merged. Theirs win, and the plan says so.

What is dead is read from the CMake files of ggml 0.25.3 and llama.cpp 0.5.0-dev inside llama_cpp_python 0.3.36.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provision.engine.types import Backend
from provision.errors import UsageError

_DEFINE = re.compile(r"-D\s*([A-Za-z0-9_\-+./]+)(?::[A-Z]+)?=(.*)", re.DOTALL)
_TRUE = {"1", "on", "yes", "true", "y"}

BACKEND_SWITCHES: Mapping[str, Backend] = {
    "GGML_CUDA": "cuda",
    "GGML_VULKAN": "vulkan",
    "GGML_METAL": "metal",
    "GGML_HIP": "rocm",
}

# name -> (replacement or None, why). LLAMA_CUBLAS is a FATAL_ERROR; the LLAMA_* four still map with a warning; the rest is
# read by nothing.
_DEAD: Mapping[str, tuple[str | None, str]] = {
    "LLAMA_CUBLAS": ("GGML_CUDA", "llama.cpp stops with an error when it sees it"),
    "LLAMA_CUDA": ("GGML_CUDA", "renamed in llama.cpp"),
    "LLAMA_METAL": ("GGML_METAL", "renamed in llama.cpp"),
    "LLAMA_NATIVE": ("GGML_NATIVE", "renamed in llama.cpp"),
    "LLAMA_RPC": ("GGML_RPC", "renamed in llama.cpp"),
    "LLAMA_VULKAN": ("GGML_VULKAN", "renamed in llama.cpp; nothing reads it"),
    "LLAMA_HIPBLAS": ("GGML_HIP", "renamed in llama.cpp; nothing reads it"),
    "GGML_HIPBLAS": ("GGML_HIP", "renamed in ggml; nothing reads it"),
    "GGML_CUBLAS": ("GGML_CUDA", "renamed in ggml; nothing reads it"),
    "GGML_CUDA_FA_ALL_QUANTS": ("GGML_CUDA_FA_QUANTS", "deprecated in ggml; the value is now `all`"),
    "CUDA_PATH": ("CUDAToolkit_ROOT", "CMake reads CUDA_PATH from the environment only"),
    "CUDA_TOOLKIT_ROOT_DIR": ("CUDAToolkit_ROOT", "only the removed FindCUDA read it"),
    "CUDAToolkit_INCLUDE_DIR": (None, "an output of FindCUDAToolkit, not an input"),
    "CUDAToolkit_LIBRARY_DIR": (None, "an output of FindCUDAToolkit, not an input"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFlags:
    """`CMAKE_ARGS` after reading: definitions by name, everything else untouched, and what was said about dead ones."""

    defines: Mapping[str, str]
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def backend(self) -> Backend | None:
        """The backend these flags switch on, if any."""
        return next((backend for name, backend in BACKEND_SWITCHES.items() if is_on(self.defines.get(name, ""))), None)


def is_on(value: str) -> bool:
    """Whether CMake takes `value` for true (the spellings people write)."""
    return value.strip().lower() in _TRUE


def parse_cmake_args(text: str) -> UserFlags:
    """Read `CMAKE_ARGS`; raises UsageError (`bad-cmake-args`) when quotes do not close."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"CMAKE_ARGS cannot be read: {error}", code="bad-cmake-args", hint="export CMAKE_ARGS=") from error
    defines: dict[str, str] = {}
    others: list[str] = []
    warnings: list[str] = []
    for word in _join_split_defines(words):
        match = _DEFINE.fullmatch(word)
        if match is None:
            others.append(word)
            continue
        name, value = match.group(1), match.group(2)
        if name not in _DEAD:
            defines[name] = value
            continue
        replacement, why = _DEAD[name]
        if name == "GGML_CUDA_FA_ALL_QUANTS":
            value = "all" if is_on(value) else ""
        if replacement and value:
            defines.setdefault(replacement, value)
            warnings.append(f"CMAKE_ARGS: -D{name} is dead ({why}); used -D{replacement}={value} instead")
        else:
            warnings.append(f"CMAKE_ARGS: -D{name} is dead ({why}); dropped")
    return UserFlags(defines=defines, others=tuple(others), warnings=tuple(warnings))


def dead_environment(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Sentences about variables people set and nothing reads."""
    said = []
    if environ.get("FORCE_CMAKE"):
        said.append("FORCE_CMAKE is read by nothing since scikit-build-core; ignored")
    said += [
        f"the environment variable {name} is read by nothing; put -D{name}=ON into CMAKE_ARGS or use the option of provision"
        for name in ("GGML_CUDA", "LLAMA_CUBLAS", "GGML_VULKAN", "GGML_METAL")
        if environ.get(name)
    ]
    return tuple(said)


def merge(ours: Mapping[str, str], user: UserFlags) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(arguments for CMake, sentences about what of ours the user's flags replaced)."""
    merged = dict(ours)
    said = []
    for name, value in user.defines.items():
        if name in ours and ours[name] != value and not (is_on(ours[name]) and is_on(value)):
            said.append(f"CMAKE_ARGS wins: -D{name}={value} instead of {ours[name]}")
        merged[name] = value
    return tuple(f"-D{name}={value}" for name, value in merged.items()) + user.others, tuple(said)


def cmake_args_text(arguments: Sequence[str]) -> str:
    """`CMAKE_ARGS` as scikit-build-core reads it back: shell words."""
    return " ".join(shlex.quote(argument) for argument in arguments)


def _join_split_defines(words: Sequence[str]) -> list[str]:
    """`-D NAME=VALUE` in two words becomes one."""
    joined: list[str] = []
    pending = False
    for word in words:
        if pending:
            joined[-1] += word
            pending = False
            continue
        joined.append(word)
        pending = word == "-D"
    return joined
