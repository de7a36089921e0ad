"""Bytes of the compute buffers, from the widest moments of llama.cpp's graphs.

ggml-alloc reuses memory, so a buffer is as large as the moment at which most tensors live: the logits at the end, attention
with its mask, or the feed-forward part (src/llama-graph.cpp, llama.cpp 0.5.0). docs/reference/accuracy.md measures it
against the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from provision.fit.context import cells, window_cells
from provision.fit.types import RunSettings
from provision.gguf.shape import LayerShape, ModelShape

_F32 = 4
_FLOATS = frozenset({"f32", "f16", "bf16"})
_SMALL_INPUTS = 8
"""Token ids, positions, output ids and the like, per token."""


def batch_tokens(settings: RunSettings) -> int:
    """Tokens of the largest graph: one physical batch."""
    return max(min(settings.n_ctx, settings.n_batch, settings.n_ubatch), 1)


def compute_bytes(
    shape: ModelShape, settings: RunSettings, *, layers: Sequence[int] | None = None, has_output: bool = True
) -> int:
    """Bytes of one device's compute buffer when it runs `layers` (None: all) and, with `has_output`, the output layer."""
    tokens = batch_tokens(settings)
    mine = [shape.layers[index] for index in (range(len(shape.layers)) if layers is None else layers)]
    output = _output_bytes(shape, settings) if has_output else 0
    widest = max((_layer_bytes(shape, layer, settings) for layer in mine), default=0)
    masks = mask_bytes(shape, settings, mine)
    return max(output, masks + widest) + _F32 * tokens


def _output_bytes(shape: ModelShape, settings: RunSettings) -> int:
    """The logits of the whole batch, the stream before them, and what still lies between the two."""
    wide = shape.n_vocab * (2 if shape.architecture == "chameleon" else 1) + 2 * shape.n_embd
    if settings.type_k not in _FLOATS:
        wide += shape.n_embd  # the stream is rotated before it is quantized, and leaves a hole
    if shape.has_shared_expert:
        wide += (shape.n_expert_used + 2) * shape.n_embd
    return _F32 * batch_tokens(settings) * wide


def mask_bytes(shape: ModelShape, settings: RunSettings, layers: Sequence[LayerShape]) -> int:
    """Bytes of the attention masks: one for full layers, one for windowed ones; half as wide with flash attention."""
    width = 2 if settings.flash_attn and not shape.explicit_attention else 4
    total = 0
    if shape.indexer_layers:
        # The index has a mask of its own, and scores every cell in F32.
        total += cells(settings) * settings.n_seq_max * batch_tokens(settings) * (width + _F32)
    if any(layer.owns_kv and not layer.windowed for layer in layers):
        total += cells(settings) * settings.n_seq_max * batch_tokens(settings) * width
    if any(layer.owns_kv and layer.windowed for layer in layers):
        total += window_cells(shape, settings) * settings.n_seq_max * batch_tokens(settings) * width
    return total


def input_bytes(shape: ModelShape, settings: RunSettings) -> int:
    """Bytes of what main memory hands to the GPUs: embeddings of the batch and the masks."""
    return mask_bytes(shape, settings, shape.layers) + 2 * _F32 * batch_tokens(settings) * shape.n_embd


def _layer_bytes(shape: ModelShape, layer: LayerShape, settings: RunSettings) -> int:
    """The widest moment of one block: four copies of the stream, and either attention's or the feed-forward part's tensors."""
    tokens = batch_tokens(settings)
    attention = 0
    if layer.owns_kv:
        attention = layer.n_head * layer.head_k + layer.k_elements + layer.v_elements
        if shape.is_mla:
            attention = layer.n_head * (layer.head_k + layer.head_v + shape.mla_query)
        if not settings.flash_attn or shape.explicit_attention:
            span = window_cells(shape, settings) if layer.windowed else cells(settings)
            attention += span * layer.n_head
    # gate, up and their product
    feed_forward = 3 * layer.n_ff
    if shape.n_expert:
        feed_forward = max(feed_forward, shape.n_expert_used * max(3 * shape.n_ff_exp, shape.n_embd))
    return _F32 * tokens * (4 * shape.n_embd + max(attention, feed_forward) + _SMALL_INPUTS)
