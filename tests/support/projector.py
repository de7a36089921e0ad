"""A LLaVA-style projector, as metadata and tensors libmtmd loads (tools/mtmd/clip.cpp, llama.cpp 0.5.0)."""

from __future__ import annotations

from typing import Any

from tests.support.ggufs import Tensor


def projector(
    *, width: int = 1024, ff: int = 4096, layers: int = 24, heads: int = 16, image: int = 336, patch: int = 14, out: int = 4096
) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
    """A CLIP tower (ViT-L/14 at 336 pixels unless told) with a two-layer projector."""
    vision: dict[str, Any] = {
        "image_size": image,
        "patch_size": patch,
        "embedding_length": width,
        "feed_forward_length": ff,
        "block_count": layers,
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": 1e-5,
        "projection_dim": 768,
        "image_mean": [0.48, 0.45, 0.40],
        "image_std": [0.26, 0.26, 0.27],
    }
    metadata = {
        "general.architecture": "clip",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": False,
        **{f"clip.vision.{key}": value for key, value in vision.items()},
    }
    tensors = [
        Tensor(name="v.class_embd", dimensions=(width,)),
        Tensor(name="v.patch_embd.weight", dimensions=(patch, patch, 3, width), kind="F16"),
        Tensor(name="v.position_embd.weight", dimensions=(width, (image // patch) ** 2 + 1)),
        *_pair("v.pre_ln", (width,)),
    ]
    for index in range(layers):
        block = f"v.blk.{index}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            tensors += _pair(block + name, (width, width))
        tensors += [*_pair(block + "ln1", (width,)), *_pair(block + "ln2", (width,))]
        # The names are crossed in files of this kind, and the engine knows.
        tensors += [*_pair(block + "ffn_down", (width, ff)), *_pair(block + "ffn_up", (ff, width))]
    tensors += [*_pair("mm.0", (width, out)), *_pair("mm.2", (out, out))]
    return metadata, tuple(tensors)


def _pair(name: str, dimensions: tuple[int, ...]) -> list[Tensor]:
    kind = "F16" if len(dimensions) > 1 else "F32"
    return [
        Tensor(name=f"{name}.weight", dimensions=dimensions, kind=kind),
        Tensor(name=f"{name}.bias", dimensions=(dimensions[-1],)),
    ]
