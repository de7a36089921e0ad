"""The blocks of llama.cpp's graphs as operations on an allocator's tape, driven by what matrices a block has.

Each function follows one builder of src/llama-graph.cpp or src/models/*.cpp (llama.cpp 0.5.0) in its order of operations,
because the order decides which holes the allocator finds. Widths come from the header's tensors, so that an architecture nobody
here has heard of is still followed as far as its tensors go. Sizes are bytes of F32 for all tokens of the physical batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from provision.fit.arena import Tape

_F32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one block's graph depends on. Elements, not bytes."""

    rows: tuple[tuple[str, int], ...]
    """Width per token of what each matrix computes, by the tensor's name without block and `.weight`."""
    n_head: int
    head_k: int
    head_v: int
    k_elements: int
    v_elements: int
    cached: bool
    """Whether it has keys and values of its own in the cache."""
    windowed: bool
    recurrent: bool
    last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all blocks of a graph share."""

    tokens: int
    sequences: int
    n_embd: int
    n_vocab: int
    span: int
    """Cache cells of one sequence that attention looks at."""
    window_span: int
    flash_attn: bool
    rotated_k: bool
    """A quantized cache is filled with rotated keys, which costs one more copy of them and of the queries."""
    rotated_v: bool
    is_mla: bool
    mla_head_v: int
    n_rot: int
    n_expert: int
    n_expert_used: int
    state_r: int
    state_s: int
    conv_taps: int
    n_group: int
    d_state: int
    indexer_head: int
    index_top: int
    """How many cells an index lets through."""
    index_pool: int
    """How many cells share one pooled index key; 0 where keys are not pooled."""
    n_streams: int
    """Parallel copies of the stream between blocks (hyper-connections)."""
    keeps_hidden: bool
    logits: int
    """How often the logits lie in memory at the end: 0 for an encoder, usually 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInputs:
    """What comes from outside for one cache: where keys and values go, and who sees whom."""

    span: int
    """Cells that a token looks at."""
    k_indices: int
    v_indices: int
    mask: int


@dataclass(slots=True, kw_only=True)
class Graph:
    """A tape with the inputs that blocks share."""

    tape: Tape
    frame: Frame
    ids: int
    positions: int
    wanted: int
    index_mask: int
    caches: Mapping[bool, CacheInputs]
    """By whether the cache is windowed."""

    def cache_of(self, block: Block) -> CacheInputs:
        """The block's own cache, or one that it shares."""
        return self.caches.get(block.windowed) or next(iter(self.caches.values()))

    def wide(self, elements: int, *operands: int, over: tuple[int, ...] = ()) -> int:
        """An operation with `elements` F32 results per token."""
        return self.tape.op(_F32 * self.frame.tokens * elements, *operands, over=over)


Choose = Callable[[Graph, Block, int, int, CacheInputs], int]
"""From the normed stream and what index queries are made of to the mask that attention gets."""


def begin(frame: Frame, blocks: tuple[Block, ...]) -> Graph:
    """The inputs in the engine's order. Small ones count too: freed between two large tensors they join their holes."""
    tape, each = Tape(), _F32 * frame.tokens
    attending = [block for block in blocks if block.cached]
    ids = tape.input(each)
    tape.input(each * frame.n_embd)  # embeddings from outside: not used here, and never given back
    positions = tape.input(each)
    caches = {}
    for windowed in dict.fromkeys(block.windowed for block in attending):
        k_indices = tape.input(2 * each)
        # Without flash attention V is written transposed, one index per element.
        v_indices = tape.input(2 * each * (1 if frame.flash_attn else max(block.v_elements for block in attending)))
        span = frame.window_span if windowed else frame.span
        mask = tape.input(span * frame.tokens * (2 if frame.flash_attn else _F32))
        caches[windowed] = CacheInputs(span=span, k_indices=k_indices, v_indices=v_indices, mask=mask)
    if not caches:
        # Encoders and diffusion models look at the batch itself.
        mask = tape.input(frame.tokens * frame.tokens * (2 if frame.flash_attn else _F32))
        caches[False] = CacheInputs(span=frame.tokens, k_indices=mask, v_indices=mask, mask=mask)
    index_mask = tape.input(0)
    if any(name == "indexer.attn_q_b" for block in blocks for name, _ in block.rows):
        index_mask = tape.input(frame.span * frame.tokens * (2 if frame.flash_attn else _F32))
    wanted = tape.input(each)
    return Graph(tape=tape, frame=frame, ids=ids, positions=positions, wanted=wanted, index_mask=index_mask, caches=caches)


def attention(graph: Graph, block: Block, x: int, choose: Choose) -> int:
    """Self-attention of the normed stream `x`, without its output projection (`build_attn`). `choose` gives the mask."""
    rows, frame = dict(block.rows), graph.frame
    q_elements = block.n_head * block.head_k
    gate = 0
    if "attn_qkv" in rows:
        fused = graph.wide(rows["attn_qkv"], x)
        q, k, v = graph.wide(q_elements, fused, graph.positions), graph.wide(block.k_elements, fused, graph.positions), fused
    else:
        wide_q = rows.get("attn_q", rows.get("attn_q_b", q_elements))
        source = x if "attn_q_a" not in rows else graph.wide(rows["attn_q_a"], x)
        q = graph.wide(wide_q, source)
        gate = q if wide_q > q_elements else 0
        q = graph.wide(q_elements, q, graph.positions)
        if not block.cached:
            k = v = 0
        else:
            v = graph.wide(block.v_elements, x) if "attn_v" in rows else 0
            k = graph.wide(block.k_elements, x)
            v = v or k
            k = graph.wide(block.k_elements, k, graph.positions)
    if frame.rotated_k:
        q = graph.wide(q_elements, q)
        k = graph.wide(block.k_elements, k) if k else k
    if frame.rotated_v and v and block.cached:
        v = graph.wide(block.v_elements, v)
    if block.cached:
        cache = graph.cache_of(block)
        graph.tape.use(k, cache.k_indices)
        graph.tape.use(v, cache.v_indices)
    out = product(graph, block, q, choose(graph, block, x, x, graph.cache_of(block)))
    if frame.rotated_v:
        out = graph.wide(block.n_head * block.head_v, out)
    if "attn_gate" in rows:
        gate = graph.wide(rows["attn_gate"], x)
    if gate:
        out = graph.wide(block.n_head * block.head_v, gate, over=(out,))
    return out


def product(graph: Graph, block: Block, q: int, mask: int) -> int:
    """Attention itself: fused, or scores over the whole span and their product with V (`build_attn_mha`)."""
    frame = graph.frame
    cache = graph.cache_of(block)
    if frame.flash_attn:
        return graph.wide(block.n_head * block.head_v, q, mask)
    scores = graph.wide(cache.span * block.n_head, q)
    scores = graph.wide(cache.span * block.n_head, mask, over=(scores,))
    out = graph.wide(block.n_head * block.head_v, scores)
    return graph.wide(block.n_head * block.head_v, out)


def feed_forward(graph: Graph, rows: Mapping[str, int], x: int, *, suffix: str = "") -> int:
    """A dense feed-forward part (`build_ffn`): gate and up side by side, fused into one matrix, or up alone."""
    up = rows.get(f"ffn_up{suffix}", 0)
    if f"ffn_gate{suffix}" in rows:
        gate = graph.wide(rows[f"ffn_gate{suffix}"], x)
        hidden = graph.wide(up, gate, graph.wide(up, x))
    else:
        hidden = graph.wide(up, x)
        down_in = rows.get(f"ffn_down{suffix}:in", up)
        if down_in != up:
            hidden = graph.wide(down_in, hidden)
    return graph.wide(graph.frame.n_embd, hidden)


def experts(graph: Graph, rows: Mapping[str, int], x: int) -> int:
    """A mixture of experts (`build_moe_ffn`): each used expert's tensors lie side by side, then are added up."""
    frame = graph.frame
    used, narrow = frame.n_expert_used, rows.get("ffn_down_exps:in", 0)
    shares = graph.wide(frame.n_expert, x)
    chosen = graph.wide(frame.n_expert, shares)
    weights = graph.wide(used, shares, chosen)
    source = graph.wide(rows["ffn_latent_down"], x) if "ffn_latent_down" in rows else x
    if "ffn_gate_up_exps" in rows:
        hidden = graph.wide(used * narrow, graph.wide(used * rows["ffn_gate_up_exps"], source, chosen))
    elif "ffn_gate_exps" in rows:
        gate = graph.wide(used * rows["ffn_gate_exps"], source, chosen)
        hidden = graph.wide(used * narrow, gate, graph.wide(used * rows["ffn_up_exps"], source, chosen))
    else:
        hidden = graph.wide(used * rows.get("ffn_up_exps", narrow), source, chosen)
    width = rows.get("ffn_down_exps", frame.n_embd)
    each = graph.wide(used * width, hidden, chosen)
    each = graph.wide(used * width, weights, over=(each,))
    out = graph.wide(width, each)  # the sum of two views
    if used > 2:
        # One more view each, over the sum so far: how many there are changes nothing, and a header may claim billions.
        out = graph.wide(width, each, over=(out,))
    if "ffn_latent_up" in rows:
        out = graph.wide(frame.n_embd, out)
    return out
