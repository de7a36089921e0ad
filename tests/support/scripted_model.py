"""A real GGUF that says exactly what a test wants: one layer that does nothing, one-hot embeddings, and an output matrix that
makes each token call the next one. The engine loads it, tokenizes, decodes and samples as it does with any Llama model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}: {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)
_CONTROL = ["<unk>", "<s>", "</s>", "<|turn|>", "<|end|>", "<|answer|>"]
_STRENGTH = 40.0


def write_scripted_model(
    path: Path,
    script: Sequence[str | Sequence[str]],
    *,
    loop: bool = False,
    template: str | None = TEMPLATE,
    n_ctx_train: int = 4096,
    control: Sequence[str] = (),
    layers: int = 1,
) -> Path:
    """Write a model whose answer is `script`, piece by piece, then end of turn (or the last piece for ever, with `loop`).

    A piece that is a list of strings is a choice of equal probability. Pieces in `control` become control tokens.
    More `layers` make it slower and change nothing else.
    """
    pieces: list[tuple[str, int]] = []
    rows: list[list[int]] = []
    base = len(_CONTROL) + 256
    for step in script:
        choices = [step] if isinstance(step, str) else list(step)
        rows.append([base + len(pieces) + index for index in range(len(choices))])
        for text in choices:
            kind = gguf.TokenType.CONTROL if text in control else gguf.TokenType.USER_DEFINED
            pieces.append((text, kind))
    texts = [text for text, _ in pieces]
    if len(set(texts)) != len(texts):
        raise ValueError("every piece of a script must be different, or the chain forks")
    vocabulary = base + len(pieces)
    width = -(-vocabulary // 64) * 64

    output = np.zeros((vocabulary, width), dtype=np.float32)
    answer, end = _CONTROL.index("<|answer|>"), _CONTROL.index("<|end|>")
    previous = [answer]
    for row in rows:
        for token in previous:
            output[row, token] = _STRENGTH
        previous = row
    for token in previous:
        output[previous if loop else [end], token] = _STRENGTH

    _write(path, pieces, vocabulary, width, output, template, n_ctx_train, layers)
    return path


def _write(
    path: Path,
    pieces: list[tuple[str, int]],
    vocabulary: int,
    width: int,
    output: np.ndarray,
    template: str | None,
    n_ctx_train: int,
    layers: int,
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("scripted")
    writer.add_context_length(n_ctx_train)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(32)
    writer.add_head_count(width // 32)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("llama")
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    writer.add_token_list([*_CONTROL, *bytes_, *(text for text, _ in pieces)])
    writer.add_token_scores([0.0] * vocabulary)
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * (len(_CONTROL) - 1) + [gguf.TokenType.BYTE] * 256
    writer.add_token_types([*kinds, *(kind for _, kind in pieces)])
    writer.add_bos_token_id(_CONTROL.index("<s>"))
    writer.add_eos_token_id(_CONTROL.index("<|end|>"))
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    if template is not None:
        writer.add_chat_template(template)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)

    ones = np.ones(width, dtype=np.float32)
    embedding = zeros(vocabulary, width)
    embedding[np.arange(vocabulary), np.arange(vocabulary)] = 1.0
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(layers):
        name = f"blk.{layer}."
        writer.add_tensor(name + "attn_norm.weight", ones)
        writer.add_tensor(name + "attn_q.weight", zeros(width, width))
        writer.add_tensor(name + "attn_k.weight", zeros(32, width))
        writer.add_tensor(name + "attn_v.weight", zeros(32, width))
        writer.add_tensor(name + "attn_output.weight", zeros(width, width))
        writer.add_tensor(name + "ffn_norm.weight", ones)
        writer.add_tensor(name + "ffn_gate.weight", zeros(32, width))
        writer.add_tensor(name + "ffn_up.weight", zeros(32, width))
        writer.add_tensor(name + "ffn_down.weight", zeros(width, 32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
