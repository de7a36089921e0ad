"""Models with the shapes of real ones, as metadata and tensors. Values are public; each family names where they were read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from provision.gguf.header import GgufHeader
from provision.gguf.reader import read_header
from provision.gguf.source import BytesSource
from tests.support.ggufs import Tensor, header_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file to be: metadata with no vocabulary, and the tensors llama.cpp asks for."""

    name: str
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    def header(self) -> GgufHeader:
        data, size = header_bytes(self.metadata, self.tensors)
        return read_header(BytesSource(data, size_bytes=size))


def _metadata(arch: str, **values: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"general.architecture": arch, "tokenizer.ggml.model": "no_vocab"}
    out.update({f"{arch}.{key.replace('__', '.')}": value for key, value in values.items()})
    out.setdefault(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    return out


def _more_bits(layer: int, layers: int) -> bool:
    """`use_more_bits` of src/llama-quant.cpp: which layers of a Q4_K_M file get Q6_K."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def dense(
    name: str,
    arch: str,
    *,
    layers: int,
    embd: int,
    ff: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    head_dim: int | None = None,
    n_ctx_train: int = 131_072,
    tied: bool = False,
    qkv_bias: bool = False,
    qk_norm: bool = False,
    post_norms: bool = False,
    window: int = 0,
    kind: str = "Q4_K",
    better: str = "Q6_K",
    n_expert: int = 0,
    n_expert_used: int = 0,
    ff_exp: int = 0,
) -> Model:
    """A plain or mixture-of-experts transformer, quantized like Q4_K_M."""
    head = head_dim or embd // heads
    values: dict[str, Any] = {
        "block_count": layers,
        "context_length": n_ctx_train,
        "embedding_length": embd,
        "feed_forward_length": ff,
        "attention__head_count": heads,
        "attention__head_count_kv": kv_heads,
        "vocab_size": vocab,
        "rope__freq_base": 1_000_000.0,
    }
    if head_dim:
        values |= {"attention__key_length": head, "attention__value_length": head}
    if window:
        values["attention__sliding_window"] = window
    if n_expert:
        values |= {"expert_count": n_expert, "expert_used_count": n_expert_used, "expert_feed_forward_length": ff_exp}
    tensors = [Tensor(name="token_embd.weight", dimensions=(embd, vocab), kind=better if tied else kind)]
    for index in range(layers):
        best = better if _more_bits(index, layers) else kind
        block = f"blk.{index}."
        tensors += [
            Tensor(name=block + "attn_norm.weight", dimensions=(embd,)),
            Tensor(name=block + "attn_q.weight", dimensions=(embd, heads * head), kind=kind),
            Tensor(name=block + "attn_k.weight", dimensions=(embd, kv_heads * head), kind=kind),
            Tensor(name=block + "attn_v.weight", dimensions=(embd, kv_heads * head), kind=best),
            Tensor(name=block + "attn_output.weight", dimensions=(heads * head, embd), kind=kind),
            Tensor(name=block + "ffn_norm.weight", dimensions=(embd,)),
        ]
        if qkv_bias:
            tensors += [
                Tensor(name=block + "attn_q.bias", dimensions=(heads * head,)),
                Tensor(name=block + "attn_k.bias", dimensions=(kv_heads * head,)),
                Tensor(name=block + "attn_v.bias", dimensions=(kv_heads * head,)),
            ]
        if qk_norm:
            tensors += [
                Tensor(name=block + "attn_q_norm.weight", dimensions=(head,)),
                Tensor(name=block + "attn_k_norm.weight", dimensions=(head,)),
            ]
        if post_norms:
            tensors += [
                Tensor(name=block + "post_attention_norm.weight", dimensions=(embd,)),
                Tensor(name=block + "post_ffw_norm.weight", dimensions=(embd,)),
            ]
        tensors += _feed_forward(block, embd, ff, kind, best, n_expert, ff_exp)
    tensors.append(Tensor(name="output_norm.weight", dimensions=(embd,)))
    if not tied:
        tensors.append(Tensor(name="output.weight", dimensions=(embd, vocab), kind=better))
    return Model(name=name, metadata=_metadata(arch, **values), tensors=tuple(tensors))


def _feed_forward(block: str, embd: int, ff: int, kind: str, best: str, n_expert: int, ff_exp: int) -> list[Tensor]:
    if n_expert:
        return [
            Tensor(name=block + "ffn_gate_inp.weight", dimensions=(embd, n_expert)),
            Tensor(name=block + "ffn_gate_exps.weight", dimensions=(embd, ff_exp, n_expert), kind=kind),
            Tensor(name=block + "ffn_down_exps.weight", dimensions=(ff_exp, embd, n_expert), kind=best),
            Tensor(name=block + "ffn_up_exps.weight", dimensions=(embd, ff_exp, n_expert), kind=kind),
        ]
    return [
        Tensor(name=block + "ffn_gate.weight", dimensions=(embd, ff), kind=kind),
        Tensor(name=block + "ffn_down.weight", dimensions=(ff, embd), kind=best),
        Tensor(name=block + "ffn_up.weight", dimensions=(embd, ff), kind=kind),
    ]


def llama_8b() -> Model:
    """Llama-3.1-8B: loader logs in abetlen/llama-cpp-python#1693."""
    return dense("Llama-3.1-8B", "llama", layers=32, embd=4096, ff=14336, heads=32, kv_heads=8, vocab=128_256)


def llama_70b() -> Model:
    """Llama-3.3-70B: tests/snapshots/meta-llama-3.1-70b-instruct.schema of llama.cpp, ollama/ollama#10553."""
    return dense("Llama-3.3-70B", "llama", layers=80, embd=8192, ff=28672, heads=64, kv_heads=8, vocab=128_256, head_dim=128)


def qwen25_7b() -> Model:
    """Qwen2.5-7B: loader log in ggml-org/llama.cpp#9530."""
    return dense(
        "Qwen2.5-7B",
        "qwen2",
        layers=28,
        embd=3584,
        ff=18944,
        heads=28,
        kv_heads=4,
        vocab=152_064,
        n_ctx_train=32_768,
        qkv_bias=True,
    )


def gemma3_27b() -> Model:
    """Gemma-3-27B: lmstudio-ai/lmstudio-bug-tracker#1638, src/models/gemma3.cpp of llama.cpp."""
    return dense(
        "Gemma-3-27B", "gemma3", layers=62, embd=5376, ff=21504, heads=32, kv_heads=16, vocab=262_144, head_dim=128,
        window=1024, tied=True, qk_norm=True, post_norms=True,
    )  # fmt: skip


def mixtral_8x7b() -> Model:
    """Mixtral-8x7B: loader log in abetlen/llama-cpp-python#1226."""
    return dense(
        "Mixtral-8x7B", "llama", layers=32, embd=4096, ff=14336, heads=32, kv_heads=8, vocab=32_000, n_ctx_train=32_768,
        n_expert=8, n_expert_used=2, ff_exp=14336,
    )  # fmt: skip


MODELS: tuple[Callable[[], Model], ...] = (llama_8b, llama_70b, qwen25_7b, gemma3_27b, mixtral_8x7b)
