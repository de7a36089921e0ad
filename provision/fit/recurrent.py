"""Blocks with a recurrent state as operations on an allocator's tape: Mamba, gated delta nets, RWKV, short convolutions.

After src/models/mamba-base.cpp, delta-net-base.cpp, kimi-linear.cpp, rwkv*-base.cpp and lfm2.cpp of llama.cpp 0.5.0.
"""

from __future__ import annotations

from provision.fit.blocks import Block, Graph

_F32 = 4


def recurrent(graph: Graph, block: Block, x: int) -> int:
    """The recurrent part of a block for the normed stream `x`, recognised by its matrices."""
    rows = dict(block.rows)
    if "shortconv.in_proj" in rows:
        return _short_convolution(graph, rows, x)
    if "time_mix_key" in rows:
        return _rwkv(graph, rows, x)
    if "ssm_in" in rows:
        return _mamba(graph, rows, x)
    if "attn_qkv" in rows or "ssm_conv1d_q" in rows:
        return _delta_net(graph, block, rows, x)
    return graph.wide(graph.frame.n_embd, graph.wide(3 * graph.frame.n_embd, x))


def _state(graph: Graph, elements: int, *operands: int) -> int:
    return graph.tape.op(_F32 * graph.frame.sequences * elements, *operands)


def _convolved(graph: Graph, width: int, source: int) -> int:
    """The last taps of the batch before, joined with this one, and the convolution over both."""
    frame = graph.frame
    taps = _F32 * frame.sequences * max(frame.conv_taps - 1, 0) * width
    old = graph.tape.op(taps)
    joined = graph.tape.op(taps + _F32 * frame.tokens * width, old, source)
    return graph.wide(width, joined)


def _short_convolution(graph: Graph, rows: dict[str, int], x: int) -> int:
    n_embd = graph.frame.n_embd
    wide = graph.wide(rows["shortconv.in_proj"], x)
    product = graph.wide(n_embd, wide)
    joined = graph.wide(n_embd, product)
    mixed = graph.wide(n_embd, joined)
    mixed = graph.wide(n_embd, wide, over=(mixed,))
    return graph.wide(n_embd, mixed)


def _mamba(graph: Graph, rows: dict[str, int], x: int) -> int:
    frame = graph.frame
    inner = rows.get("ssm_out:in", frame.n_embd)
    wide = graph.wide(rows["ssm_in"], x)
    first = "ssm_x" in rows
    conv = inner if first else inner + 2 * frame.n_group * frame.d_state
    mixed = _convolved(graph, conv, wide)
    steps = graph.wide(inner, graph.wide(rows["ssm_x"], mixed)) if first else graph.wide(rows["ssm_in"] - conv - inner, wide)
    scanned = graph.tape.op(_F32 * (frame.tokens * inner + frame.sequences * frame.state_s), mixed, steps)
    gate = graph.wide(inner, wide)
    skipped = graph.wide(inner, mixed)
    y = graph.wide(inner, scanned, over=(skipped,))
    out = graph.wide(inner, gate, y)
    if not first:
        out = graph.wide(inner, out)
    return graph.wide(frame.n_embd, out)


def _delta_net(graph: Graph, block: Block, rows: dict[str, int], x: int) -> int:
    frame = graph.frame
    out_width = rows.get("ssm_out:in", rows.get("attn_output:in", frame.n_embd))
    if "attn_qkv" in rows:
        conv_width = rows["attn_qkv"]
        mixed = _convolved(graph, conv_width, graph.wide(conv_width, x))
        half = max((conv_width - out_width) // 2, 1)
        operands = [graph.wide(half, mixed), graph.wide(half, mixed), mixed]
    else:
        joined = [_joined(graph, rows[f"attn_{name}"], x) for name in "qkv"]
        operands = []
        for name, one in zip("qkv", joined, strict=True):
            mixed = graph.wide(rows[f"attn_{name}"], graph.wide(rows[f"attn_{name}"], one))
            operands.append(mixed if name == "v" else graph.wide(rows[f"attn_{name}"], mixed))
        decay = graph.wide(rows["attn_k"], graph.wide(rows["attn_k"], x))
        operands.append(decay)
    old = _state(graph, frame.state_s)
    mixed = graph.tape.op(_F32 * (frame.tokens * out_width + frame.sequences * frame.state_s), old, *operands)
    normed = graph.wide(out_width, mixed)
    gate = graph.wide(out_width, graph.wide(out_width, x))
    out = graph.wide(out_width, gate, over=(normed,))
    return graph.wide(frame.n_embd, out)


def _joined(graph: Graph, width: int, x: int) -> int:
    frame = graph.frame
    taps = _F32 * frame.sequences * max(frame.conv_taps - 1, 0) * width
    return graph.tape.op(taps + _F32 * frame.tokens * width, graph.wide(width, x))


def _rwkv(graph: Graph, rows: dict[str, int], x: int) -> int:
    """Time mix: six shifted copies of the stream (five in RWKV 6), then the weighted key-value state."""
    frame, n_embd = graph.frame, graph.frame.n_embd
    copies = 6 if "time_mix_a1" in rows else 5
    shifted = graph.wide(n_embd, x)
    difference = graph.wide(n_embd, x, over=(shifted,))
    lerped = graph.wide(copies * n_embd, difference)
    lerped = graph.wide(copies * n_embd, x, over=(lerped,))
    operands = [graph.wide(n_embd, lerped) for _ in range(copies)]
    mixed = graph.tape.op(_F32 * (frame.tokens * n_embd + frame.sequences * frame.state_s), *operands)
    gate = graph.wide(n_embd, lerped)
    out = graph.wide(n_embd, gate, over=(graph.wide(n_embd, mixed),))
    return graph.wide(n_embd, out)
