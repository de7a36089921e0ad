"""Attention that first chooses what to look at, as operations on an allocator's tape: an index scores every cell of the cache.

After src/models/deepseek32.cpp, minimax-m3.cpp and qwen4exp.cpp of llama.cpp 0.5.0. The scores are as wide as the cache, so at
long contexts they outweigh everything else in the buffer.
"""

from __future__ import annotations

from provision.fit.blocks import Block, CacheInputs, Graph

_F32 = 4


def chosen(graph: Graph, block: Block, x: int, source: int, cache: CacheInputs) -> int:
    """The mask attention gets: the plain one, or one that lets through what the block's index chose for the normed stream `x`.

    `source` is what index queries are made of.
    """
    rows = dict(block.rows)
    if "indexer.attn_q_b" in rows:
        return _lightning(graph, rows, x, source, cache)
    if "indexer.q_proj" in rows and graph.frame.index_pool:
        return _pooled(graph, rows, x, cache)
    if "indexer.q_proj" in rows and graph.frame.flash_attn:
        return _by_blocks(graph, block, rows, x, cache)
    return cache.mask


def _mask(graph: Graph, cache: CacheInputs, copies: int, *operands: int) -> int:
    return graph.tape.op(cache.span * graph.frame.tokens * copies * (2 if graph.frame.flash_attn else _F32), *operands)


def _lightning(graph: Graph, rows: dict[str, int], x: int, source: int, cache: CacheInputs) -> int:
    """DeepSeek-V3.2: one fused operation scores all cells, the best are scattered into a mask that hides everything else."""
    frame = graph.frame
    places = graph.wide(frame.index_top)
    queries = graph.wide(rows["indexer.attn_q_b"], source)
    queries = graph.wide(rows["indexer.attn_q_b"], queries, graph.positions)
    queries = graph.wide(rows["indexer.attn_q_b"], queries)
    weights = graph.wide(rows.get("indexer.proj", 1), x)
    scores = graph.wide(cache.span, queries, weights, graph.index_mask)
    best = graph.wide(frame.index_top, graph.wide(frame.index_top, scores))
    return _mask(graph, cache, 1, _mask(graph, cache, 1, cache.mask), places, best, cache.mask)


def _by_blocks(graph: Graph, block: Block, rows: dict[str, int], x: int, cache: CacheInputs) -> int:
    """MiniMax-M3: blocks of cells are chosen for each head of the keys, and the choice is spread over the cells."""
    groups = max(block.k_elements // max(block.head_k, 1), 1)
    queries = graph.wide(rows["indexer.q_proj"], graph.wide(rows["indexer.q_proj"], x), graph.positions)
    spread = graph.wide(cache.span * groups, queries)
    spread = graph.wide(cache.span * groups, spread)
    plain = graph.wide(cache.span, cache.mask)
    return _mask(graph, cache, groups, spread, plain)


def _pooled(graph: Graph, rows: dict[str, int], x: int, cache: CacheInputs) -> int:
    """Qwen4-Exp: the scores of all index heads over pooled keys, not fused, and their sum head by head."""
    frame = graph.frame
    places = graph.wide(frame.index_top)
    cells = max(cache.span // frame.index_pool, 1)
    keys = graph.tape.op(_F32 * frame.indexer_head * cells * frame.sequences)
    queries = graph.wide(rows["indexer.q_proj"], graph.wide(rows["indexer.q_proj"], x), graph.positions)
    heads = rows["indexer.q_proj"] // max(frame.indexer_head, 1)
    scores = graph.wide(cells * heads, keys, queries)
    scores = graph.wide(cells * heads, scores)
    total = graph.wide(cells, scores)
    every = graph.wide(cache.span, graph.wide(cache.span, total, cache.mask))
    return _mask(graph, cache, 1, _mask(graph, cache, 1, cache.mask), places, every, cache.mask)
