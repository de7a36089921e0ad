"""A whole lock as data, to be bent by tests."""

from __future__ import annotations

from typing import Any

SHA = "ab" * 32


def lock_data() -> dict[str, Any]:
    return {
        "schema": 2,
        "provision": "0.1.0",
        "recipe": {"name": "demo", "toml": 'name = "demo"\n'},
        "hardware": {"name": "linux-x86_64-cpu", "libc": "glibc 2.36"},
        "engine": {
            "version": "0.3.36",
            "backend": "cpu",
            "cmake_args": ["-DGGML_NATIVE=ON", "-DCMAKE_CUDA_ARCHITECTURES=" + "89;" * 300],
            "toolkit": "pypi 12.8",
            "sdist": {"filename": "llama_cpp_python-0.3.36.tar.gz", "sha256": SHA},
            "files_sha256": SHA,
            "wheel": {"filename": "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl", "size_bytes": 5, "sha256": SHA},
        },
        "packages": [{"name": "numpy", "version": "2.4.1", "files_sha256": SHA}],
        "model": {
            "source": "package",
            "quant": "Q8_0",
            "why": ["the recipe has one file"],
            "files": [{"path": "demo-Q8_0.gguf", "size_bytes": 3, "sha256": SHA}],
        },
        "load": {"n_ctx": 512, "n_gpu_layers": 0, "tensor_split": [0.5, 0.5]},
        "smoke": {"verdict": "pass", "profile": "quick", "checks": {"load": "pass"}, "answer_sha256": SHA},
        "tree_sha256": SHA,
    }
