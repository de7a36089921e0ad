"""Bytes of the context: KV cache and recurrent state, layer by layer.

Follows the constructors of src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp and src/llama-memory-recurrent.cpp and the
padding in `llama_context::llama_context` (src/llama-context.cpp), llama.cpp 0.5.0.
"""

from __future__ import annotations

from provision.fit.types import RunSettings
from provision.gguf.shape import ModelShape
from provision.gguf.tensor_types import BY_NAME

_CELL_PADDING = 256
_F32_BYTES = 4
_ALIGNMENT = 32


def pad(value: int, to: int) -> int:
    """`value` rounded up to a multiple of `to`."""
    return -(-value // to) * to


def cells(settings: RunSettings) -> int:
    """Cache cells of one sequence: n_ctx shared among the sequences and padded."""
    return pad(pad(settings.n_ctx, _CELL_PADDING) // max(settings.n_seq_max, 1), _CELL_PADDING)


def window_cells(shape: ModelShape, settings: RunSettings) -> int:
    """Cells of a layer with a sliding window."""
    everything = cells(settings)
    if settings.swa_full or not shape.window:
        return everything
    n_batch = min(pad(settings.n_ctx, _CELL_PADDING), settings.n_batch)
    n_ubatch = min(n_batch, settings.n_ubatch)
    return pad(min(everything, shape.window + n_ubatch), _CELL_PADDING)


def context_by_layer(shape: ModelShape, settings: RunSettings) -> list[int]:
    """Bytes of cache and state each layer owns."""
    kind_k, kind_v = BY_NAME[settings.type_k.upper()], BY_NAME[settings.type_v.upper()]
    everything, windowed = cells(settings), window_cells(shape, settings)
    # Without flash attention V is stored transposed, and all layers take the widest one's room.
    widest_v = max((layer.v_elements for layer in shape.layers), default=0)
    out = []
    for index, layer in enumerate(shape.layers):
        size = 0
        if layer.owns_kv:
            n_cells = (windowed if layer.windowed else everything) * settings.n_seq_max
            size += pad(kind_k.row_bytes(layer.k_elements) * n_cells, _ALIGNMENT)
            if not shape.is_mla:
                v_elements = layer.v_elements if settings.flash_attn else widest_v
                size += pad(kind_v.row_bytes(v_elements) * n_cells, _ALIGNMENT)
        if index in shape.indexer_layers:
            n_cells = everything * settings.n_seq_max
            size += kind_k.row_bytes(shape.indexer_head) * n_cells
            if not shape.is_mla:
                size += kind_v.row_bytes(layer.head_v) * n_cells
        if layer.recurrent and index < shape.n_trunk_layers:
            rows = settings.n_seq_max * _F32_BYTES
            size += pad(shape.recurrent_r * rows, _ALIGNMENT) + pad(shape.recurrent_s * rows, _ALIGNMENT)
        out.append(size)
    return out
