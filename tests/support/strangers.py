"""Tiny models of other architectures with random weights and the demo's tokenizer: nobody taught them anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.support.demo_variants import Demo, load_demo, write_demo

_U32, _F32 = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32
_EMBD, _FF, _HEADS, _KV, _HEAD, _LAYERS, _VOCAB = 256, 512, 4, 2, 64, 2, 512


def write_stranger(name: str, folder: Path, quant: str = "F16") -> Path:
    """`NAME-QUANT.gguf` with random weights (fixed seed); `name` is a key of STRANGERS."""
    demo = STRANGERS[name]()
    return write_demo(demo, folder / f"{name}-{quant}.gguf", quant)


def _model(arch: str, tensors: dict[str, tuple[int, ...]], **values: Any) -> Demo:
    demo = load_demo()
    own = {key: value for key, value in demo.metadata.items() if not key.startswith(("llama.", "provision."))}
    own["general.architecture"] = (arch, gguf.GGUFValueType.STRING, None)
    own["general.name"] = (f"random {arch}", gguf.GGUFValueType.STRING, None)
    for key, value in values.items():
        kind = _F32 if isinstance(value, float) else _U32
        own[f"{arch}.{key.replace('__', '.')}"] = (value, kind, None)
    draw = np.random.default_rng(3)
    made = {}
    for name, shape in tensors.items():
        one_dimensional_norm = len(shape) == 1 and "norm" in name and name.endswith("weight")
        made[name] = np.ones(shape, np.float32) if one_dimensional_norm else draw.normal(0, 0.05, shape).astype(np.float32)
        if name.endswith("ssm_a"):
            made[name] = -np.abs(made[name])  # a decay: converters store -exp(A_log)
    return Demo(metadata=own, tensors=made)


def _sizes(**more: Any) -> dict[str, Any]:
    return {
        "block_count": _LAYERS, "context_length": 2048, "embedding_length": _EMBD, "feed_forward_length": _FF,
        "attention__head_count": _HEADS, "attention__head_count_kv": _KV, "attention__layer_norm_rms_epsilon": 1e-5,
        "rope__freq_base": 10000.0, **more,
    }  # fmt: skip


def _attention(block: str, *, head: int = _HEAD, bias: bool = False) -> dict[str, tuple[int, ...]]:
    kv = _KV * head
    tensors: dict[str, tuple[int, ...]] = {
        f"{block}attn_norm.weight": (_EMBD,), f"{block}attn_q.weight": (_HEADS * head, _EMBD),
        f"{block}attn_k.weight": (kv, _EMBD), f"{block}attn_v.weight": (kv, _EMBD),
        f"{block}attn_output.weight": (_EMBD, _HEADS * head), f"{block}ffn_norm.weight": (_EMBD,),
    }  # fmt: skip
    if bias:
        tensors |= {f"{block}attn_q.bias": (_HEADS * head,), f"{block}attn_k.bias": (kv,), f"{block}attn_v.bias": (kv,)}
    return tensors


def _ffn(block: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{block}ffn_gate.weight": (_FF, _EMBD),
        f"{block}ffn_up.weight": (_FF, _EMBD),
        f"{block}ffn_down.weight": (_EMBD, _FF),
    }


def _ends(*, output: bool = True) -> dict[str, tuple[int, ...]]:
    ends: dict[str, tuple[int, ...]] = {"token_embd.weight": (_VOCAB, _EMBD), "output_norm.weight": (_EMBD,)}
    return ends | ({"output.weight": (_VOCAB, _EMBD)} if output else {})


def _blocks(*parts: Callable[[str], dict[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    return {name: shape for layer in range(_LAYERS) for part in parts for name, shape in part(f"blk.{layer}.").items()}


def _llama() -> Demo:
    return _model("llama", _ends() | _blocks(_attention, _ffn), **_sizes(rope__dimension_count=_HEAD))


def _llama_moe() -> Demo:
    def experts(block: str) -> dict[str, tuple[int, ...]]:
        return {
            f"{block}ffn_gate_inp.weight": (4, _EMBD), f"{block}ffn_gate_exps.weight": (4, _FF, _EMBD),
            f"{block}ffn_up_exps.weight": (4, _FF, _EMBD), f"{block}ffn_down_exps.weight": (4, _EMBD, _FF),
        }  # fmt: skip

    sizes = _sizes(rope__dimension_count=_HEAD, expert_count=4, expert_used_count=2)
    return _model("llama", _ends() | _blocks(_attention, experts), **sizes)


def _qwen2() -> Demo:
    return _model("qwen2", _ends() | _blocks(lambda block: _attention(block, bias=True), _ffn), **_sizes())


def _qwen3() -> Demo:
    def norms(block: str) -> dict[str, tuple[int, ...]]:
        return {f"{block}attn_q_norm.weight": (_HEAD,), f"{block}attn_k_norm.weight": (_HEAD,)}

    sizes = _sizes(attention__key_length=_HEAD, attention__value_length=_HEAD)
    return _model("qwen3", _ends() | _blocks(_attention, norms, _ffn), **sizes)


def _gemma() -> Demo:
    sizes = _sizes(attention__key_length=_HEAD, attention__value_length=_HEAD)
    return _model("gemma", _ends(output=False) | _blocks(_attention, _ffn), **sizes)


def _mamba() -> Demo:
    inner, state, rank, conv = 512, 16, 16, 4

    def mix(block: str) -> dict[str, tuple[int, ...]]:
        return {
            f"{block}attn_norm.weight": (_EMBD,), f"{block}ssm_in.weight": (2 * inner, _EMBD),
            f"{block}ssm_conv1d.weight": (inner, conv), f"{block}ssm_conv1d.bias": (inner,),
            f"{block}ssm_x.weight": (rank + 2 * state, inner), f"{block}ssm_dt.weight": (inner, rank),
            f"{block}ssm_dt.bias": (inner,), f"{block}ssm_a": (inner, state), f"{block}ssm_d": (inner,),
            f"{block}ssm_out.weight": (_EMBD, inner),
        }  # fmt: skip

    sizes = {
        "block_count": _LAYERS, "context_length": 2048, "embedding_length": _EMBD, "feed_forward_length": 0,
        "attention__head_count": 0, "attention__layer_norm_rms_epsilon": 1e-5, "ssm__conv_kernel": conv,
        "ssm__inner_size": inner, "ssm__state_size": state, "ssm__time_step_rank": rank,
    }  # fmt: skip
    return _model("mamba", _ends() | _blocks(mix), **sizes)


STRANGERS: dict[str, Callable[[], Demo]] = {
    "llama": _llama,
    "mixture": _llama_moe,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "mamba": _mamba,
}
