"""Figures of a healthy measurement, as the measuring child reports them; tests bend single ones."""

from __future__ import annotations

import copy
from typing import Any

_SHAPE = {
    "characters": 31, "tokens": 9, "character_run": 2, "token_run": 1, "distinct_4": 1.0, "zlib_ratio": 1.2, "top_share": 0.2,
    "cjk_share": 0.0, "controls": [],
}  # fmt: skip
_HEALTHY: dict[str, Any] = {
    "stage": "done",
    "cpu_flags": ["avx2", "amx_tile"],
    "engine_version": "0.3.36",
    "unknown_keywords": [],
    "devices": [{"name": "CPU", "description": "x", "kind": "cpu", "free_bytes": 1, "total_bytes": 2}],
    "load_s": 0.2,
    "n_ctx": 2048,
    "n_ctx_train": 2048,
    "n_vocab": 512,
    "n_params": 2_600_000,
    "model_bytes": 2_800_000,
    "metadata": {"general.name": "Provision Demo"},
    "tokenizer": {
        "round_trip_failures": [], "round_trips": 14, "control_tokens": 3, "control_tokens_split": [], "model": "gpt2",
        "pre": "gpt-2", "ordinary_endings": [], "bos_is_ordinary": False, "ids": [[1]],
        "add_bos": True, "bos": 0, "eos": 2, "n_vocab": 512,
    },
    "template": {
        "in_file": True,
        "format": "chat_template.default",
        "renders": {
            name: {"tokens": 9, "bos": 1, "leading_bos": 1, "missing": [], "tail": "assistant\n"}
            for name in ("u", "su", "uau")
        },
        "compared": {"against": "own", "differs": []},
        "closing": {"text": "<|im_end|>", "is_eog": True},
    },
    "thinking": {"reasoning": False, "switch": False},
    "speed": {"n_prompt": 128, "n_generate": 32, "pp": [900.0], "tg": [400.0]},
    "passages": [
        {
            "name": "english", "tokens": 200, "finite": True, "std": 2.0, "entropy": 0.4, "nll": 0.1, "nll_first_half": 0.12,
            "nll_second_half": 0.08, "nll_shuffled": 8.0, "single": {"nmse": 1e-6, "argmax": 1.0, "kl": 1e-7, "tokens": 24},
            "fingerprint": {
                "ids": list(range(64)), "nll": 0.1, "best": [{"ids": [5, 6, 7], "logits": [9.0, 4.0, 3.0]}],
            },
        }
    ],
    "answers": [
        {"id": "france", "ask": "What is the capital of France?", "text": "The capital of France is Paris.", "finish": "stop",
         "thinking": False, "seconds": 0.1, "shape": _SHAPE},
        {"id": "sum", "ask": "What is 2 + 3?", "text": "2 + 3 = 5.", "finish": "stop", "thinking": False, "seconds": 0.1,
         "shape": _SHAPE},
        {"id": "china", "ask": "中国的首都是哪里？", "text": "中国的首都是北京。", "finish": "stop",
         "thinking": False, "seconds": 0.1, "shape": {**_SHAPE, "cjk_share": 1.0}},
    ],
    "log": "",
}  # fmt: skip


def healthy() -> dict[str, Any]:
    """A fresh copy, free to bend."""
    return copy.deepcopy(_HEALTHY)
