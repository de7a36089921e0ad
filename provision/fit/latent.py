"""Multi-head latent attention as operations on an allocator's tape."""

from __future__ import annotations

from provision.fit.blocks import Block, Choose, Graph


def latent_attention(graph: Graph, block: Block, x: int, choose: Choose) -> int:
    """MLA in its absorbed form (src/models/deepseek2.cpp): queries as wide as the latent."""
    rows, frame, cache = dict(block.rows), graph.frame, graph.cache_of(block)
    latent, rope = block.head_v, block.head_k - block.head_v
    source = x if "attn_q_a" not in rows else graph.wide(rows["attn_q_a"], x)
    q = graph.wide(rows.get("attn_q_b", rows.get("attn_q", block.n_head * frame.mla_head_v)), source)
    absorbed = graph.wide(block.n_head * latent, q)
    turned = graph.wide(block.n_head * rope, q, graph.positions) if rope else q
    wide_q = graph.wide(block.n_head * block.head_k, absorbed, turned)
    compressed = graph.wide(block.head_k, x)
    k = graph.wide(block.head_k, graph.wide(latent, compressed), graph.wide(max(rope, 1), compressed))
    if frame.rotated_k:
        wide_q, k = graph.wide(block.n_head * block.head_k, wide_q), graph.wide(block.head_k, k)
    graph.tape.use(k, cache.k_indices)
    mask = choose(graph, block, x, source, cache)
    if not frame.flash_attn:
        # V is a part of K here and must be laid out anew for the product: F16, all cells.
        values = graph.tape.op(2 * cache.span * frame.sequences * latent, mask)
        scores = graph.wide(cache.span * block.n_head, wide_q)
        scores = graph.wide(cache.span * block.n_head, mask, over=(scores,))
        out = graph.wide(block.n_head * latent, scores, values)
    else:
        out = graph.wide(block.n_head * latent, wide_q, mask)
    if frame.rotated_v:
        out = graph.wide(block.n_head * latent, out)
    out = graph.wide(block.n_head * frame.mla_head_v, out)
    return graph.wide(block.n_head * frame.mla_head_v, out)
