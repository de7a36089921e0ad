"""Bytes of the compute buffers: llama.cpp's graph for the largest batch, block by block, run through ggml's allocator.

docs/reference/accuracy.md measures the result against the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from provision.fit.blocks import Block, Frame, Graph, attention, begin, experts, feed_forward
from provision.fit.context import cells, window_cells
from provision.fit.latent import latent_attention
from provision.fit.recurrent import recurrent
from provision.fit.sparse import chosen
from provision.fit.types import RunSettings
from provision.gguf import architectures as arch
from provision.gguf.shape import ModelShape

_F32 = 4
_SECOND_NORMS = frozenset({"ffn_norm", "post_attention_norm", "attn_post_norm", "attn_norm_2", "post_norm"})
_FLOATS = frozenset({"f32", "f16", "bf16"})


def batch_tokens(settings: RunSettings) -> int:
    """Tokens of the largest graph: one physical batch, a whole number per sequence."""
    tokens = max(min(settings.n_ctx, settings.n_batch, settings.n_ubatch), 1)
    return -(-tokens // settings.n_seq_max) * settings.n_seq_max


def compute_bytes(
    shape: ModelShape, settings: RunSettings, *, layers: Sequence[int] | None = None, has_output: bool = True
) -> int:
    """Bytes of one device's compute buffer when it runs `layers` (None: all) and, with `has_output`, the output layer."""
    chosen = [_block(shape, index) for index in (range(shape.n_trunk_layers) if layers is None else layers)]
    if chosen:
        chosen[-1] = replace(chosen[-1], last=True)
    return _highest(_frame(shape, settings), tuple(chosen), has_output)


def _frame(shape: ModelShape, settings: RunSettings) -> Frame:
    quantized_k, quantized_v = settings.type_k not in _FLOATS, settings.type_v not in _FLOATS
    owner = next((layer for layer in shape.layers if layer.owns_kv), None)
    return Frame(
        tokens=batch_tokens(settings),
        sequences=settings.n_seq_max,
        n_embd=shape.n_embd,
        n_vocab=shape.n_vocab,
        span=cells(settings),
        window_span=window_cells(shape, settings),
        flash_attn=settings.flash_attn and not shape.explicit_attention,
        rotated_k=quantized_k and owner is not None and owner.head_k % 64 == 0,
        rotated_v=quantized_v and owner is not None and owner.head_v % 64 == 0,
        is_mla=shape.is_mla,
        mla_head_v=shape.mla_head_v,
        n_rot=shape.n_rot,
        n_expert=shape.n_expert,
        n_expert_used=shape.n_expert_used,
        state_r=shape.recurrent_r,
        state_s=shape.recurrent_s,
        conv_taps=shape.conv_taps,
        n_group=shape.n_group,
        d_state=shape.d_state,
        indexer_head=shape.indexer_head,
        index_top=shape.index_top,
        index_pool=shape.index_pool,
        n_streams=shape.n_streams,
        keeps_hidden=shape.architecture in arch.KEEPS_HIDDEN,
        logits=0 if shape.architecture in arch.ENCODERS else 2 if shape.architecture in arch.TWICE_THE_LOGITS else 1,
    )


def _block(shape: ModelShape, index: int) -> Block:
    layer = shape.layers[index]
    return Block(
        rows=layer.rows,
        n_head=layer.n_head,
        head_k=layer.head_k,
        head_v=layer.head_v,
        k_elements=layer.k_elements,
        v_elements=layer.v_elements,
        cached=layer.owns_kv and shape.architecture not in arch.IGNORES_CACHE,
        windowed=layer.windowed,
        recurrent=layer.recurrent,
    )


@lru_cache(maxsize=4096)
def _highest(frame: Frame, blocks: tuple[Block, ...], has_output: bool) -> int:
    graph = begin(frame, blocks)
    stream = graph.wide(frame.n_streams * frame.n_embd, graph.ids)
    for block in blocks:
        stream = _run(graph, block, stream, wanted=block.last and has_output)
    if has_output:
        if frame.keeps_hidden:
            graph.tape.keep(stream)
        normed = graph.wide(frame.n_embd, over=(stream,))
        graph.tape.keep(normed)
        result = normed
        for _ in range(frame.logits):
            result = graph.wide(frame.n_vocab, result)
        graph.tape.keep(result)
    return graph.tape.highest()


def _run(graph: Graph, block: Block, stream: int, *, wanted: bool) -> int:
    """One block. In the last one only the rows whose logits are wanted go on, which here are all, in new places."""
    frame, rows = graph.frame, dict(block.rows)
    n_embd, wide = frame.n_embd, frame.n_streams * frame.n_embd
    attends = not block.recurrent and any(name in rows for name in ("attn_q", "attn_qkv", "attn_q_b"))
    normed = stream
    if attends or block.cached or block.recurrent:
        normed = graph.wide(n_embd, stream)
        if _side_by_side(rows):
            return _parallel(graph, block, normed, stream, wanted=wanted)
        parts = []
        if attends or block.cached:
            parts.append(_projected(graph, block, normed))
        if block.recurrent:
            parts.append(recurrent(graph, block, normed))
        mixed = parts[0] if len(parts) == 1 else graph.wide(n_embd, over=tuple(parts))
        if wanted:
            mixed, stream = graph.wide(n_embd, mixed, graph.wanted), graph.wide(wide, stream, graph.wanted)
        stream = graph.wide(wide, over=(mixed, stream))
    if not any(name.startswith("ffn_") for name in rows):
        return stream
    normed = graph.wide(n_embd, stream)
    return graph.wide(wide, over=(_feed_forward(graph, rows, normed), stream))


def _side_by_side(rows: Mapping[str, int]) -> bool:
    """Whether attention and the feed-forward part read the same normed stream, for want of a second norm (Cohere, Phi-2)."""
    return "attn_norm" in rows and "ffn_down" in rows and not _SECOND_NORMS & rows.keys()


def _parallel(graph: Graph, block: Block, normed: int, stream: int, *, wanted: bool) -> int:
    n_embd = graph.frame.n_embd
    out = attention(graph, block, normed, chosen)
    if wanted:
        out = graph.wide(n_embd, out)
        out, stream = graph.wide(n_embd, out, graph.wanted), graph.wide(n_embd, stream, graph.wanted)
        normed = graph.wide(n_embd, normed, graph.wanted)
    fed = _feed_forward(graph, dict(block.rows), normed)
    if not wanted:
        out = graph.wide(n_embd, out)
    return graph.wide(n_embd, over=(graph.wide(n_embd, over=(fed, out)), stream))


def _projected(graph: Graph, block: Block, normed: int) -> int:
    mixer = latent_attention if graph.frame.is_mla else attention
    return graph.wide(graph.frame.n_embd, mixer(graph, block, normed, chosen))


def _feed_forward(graph: Graph, rows: Mapping[str, int], normed: int) -> int:
    if "ffn_down_exps" not in rows:
        return feed_forward(graph, rows, normed)
    mixed = experts(graph, rows, normed)
    if "ffn_up_shexp" in rows:
        mixed = graph.wide(graph.frame.n_embd, over=(mixed, feed_forward(graph, rows, normed, suffix="_shexp")))
    return mixed


def mask_bytes(shape: ModelShape, settings: RunSettings) -> int:
    """Bytes of the attention masks: one for full layers, one for windowed ones; half as wide with flash attention."""
    width = 2 if settings.flash_attn and not shape.explicit_attention else _F32
    tokens, total = batch_tokens(settings), 0
    if any(layer.owns_kv and not layer.windowed for layer in shape.layers):
        total += cells(settings) * tokens * width
    if any(layer.owns_kv and layer.windowed for layer in shape.layers):
        total += window_cells(shape, settings) * tokens * width
    return total


def input_bytes(shape: ModelShape, settings: RunSettings) -> int:
    """Bytes of what main memory hands to the GPUs: embeddings of the batch and the masks."""
    return mask_bytes(shape, settings) + 2 * _F32 * batch_tokens(settings) * shape.n_embd
