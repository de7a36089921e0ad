"""The demo model in other quants, and broken on purpose: written by upstream's `gguf` package from the shipped Q8_0 file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from provision.smoke.demo import demo_model_path

QUANTS = ("F32", "F16", "Q8_0", "Q4_0")
_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}


@dataclass(slots=True, kw_only=True)
class Demo:
    """A model in memory, free to be bent: metadata as (value, type, element type), tensors as float32, rows last."""

    metadata: dict[str, tuple[Any, Any, Any]]
    tensors: dict[str, np.ndarray]
    raw: dict[str, bytes] = field(default_factory=dict)
    """Quantized bytes that replace a tensor's own, for faults that live below float32."""

    def set(self, key: str, value: Any) -> None:
        _, kind, element = self.metadata[key]
        self.metadata[key] = (value, kind, element)


def load_demo(path: Path | None = None) -> Demo:
    """The shipped model (or another file of its family), dequantized."""
    reader = gguf.GGUFReader(path or demo_model_path())
    metadata = {}
    for name, one in reader.fields.items():
        if not name.startswith("GGUF."):
            element = one.types[-1] if one.types[0] == gguf.GGUFValueType.ARRAY else None
            metadata[name] = (one.contents(), one.types[0], element)
    tensors = {one.name: gguf.quants.dequantize(one.data, one.tensor_type).copy() for one in reader.tensors}
    return Demo(metadata=metadata, tensors=tensors)


def write_demo(demo: Demo, path: Path, quant: str) -> Path:
    """Write `demo` with its matrices in `quant`; the same input gives the same bytes."""
    writer = gguf.GGUFWriter(path, demo.metadata["general.architecture"][0])
    for name, (value, kind, element) in demo.metadata.items():
        if name == "general.file_type":
            writer.add_file_type(_FILE_TYPES[quant])
        elif name != "general.architecture":
            writer.add_key_value(name, value, kind, element)
    wanted = gguf.GGMLQuantizationType[quant]
    for name, values in demo.tensors.items():
        # As converters do it: vectors and the small state-space matrices stay F32, the engine takes them no other way.
        small = values.ndim == 1 or "ssm_conv1d" in name or name.endswith(("ssm_a", "ffn_gate_inp.weight"))
        kind = gguf.GGMLQuantizationType.F32 if small else wanted
        data = gguf.quants.quantize(values.astype(np.float32), kind)
        if name in demo.raw:
            data = np.frombuffer(demo.raw[name], dtype=np.uint8).reshape(data.shape)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_variant(folder: Path, quant: str) -> Path:
    """`provision-demo-QUANT.gguf` in `folder`: a sound model. Q8_0 is the shipped file itself."""
    path = folder / f"provision-demo-{quant}.gguf"
    if quant == "Q8_0":
        path.write_bytes(demo_model_path().read_bytes())
        return path
    return write_demo(load_demo(), path, quant)


def write_deeper(path: Path, *, layers: int) -> Path:
    """The demo model in F32 with `layers` more layers that change nothing: the same answers from a larger file."""
    demo = load_demo()
    present = int(demo.metadata["llama.block_count"][0])
    last = {name: values for name, values in demo.tensors.items() if name.startswith(f"blk.{present - 1}.")}
    for layer in range(present, present + layers):
        for name, values in last.items():
            silent = name.endswith(("attn_output.weight", "ffn_down.weight"))
            # Not zero, which a smoke test takes for a hole in the file.
            demo.tensors[name.replace(f"blk.{present - 1}.", f"blk.{layer}.")] = values * 1e-6 if silent else values
    demo.set("llama.block_count", present + layers)
    return write_demo(demo, path, "F32")


def double_scales(demo: Demo, sound: Path, name: str) -> None:
    """The Q8_0 bytes of `name` in the file `sound`, every second block's float16 scale doubled, as the tensor's raw bytes."""
    tensor = next(one for one in gguf.GGUFReader(sound).tensors if one.name == name)
    blocks = np.array(tensor.data, dtype=np.uint8).reshape(-1, 34)
    scales = blocks[::2, :2].copy().view(np.float16)
    blocks[::2, :2] = (scales * 2).view(np.uint8)
    demo.raw[name] = blocks.tobytes()


def demo_tokenizer_json() -> dict[str, Any]:
    """The demo's tokenizer as the Hub would hold it: `tokenizer.json` of a byte-level BPE."""
    metadata = load_demo().metadata
    tokens, kinds = metadata["tokenizer.ggml.tokens"][0], metadata["tokenizer.ggml.token_type"][0]
    added = [
        {"id": index, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for index, (text, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == gguf.TokenType.CONTROL
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {text: index for index, text in enumerate(tokens)},
            "merges": list(metadata["tokenizer.ggml.merges"][0]),
        },
    }


Break = Callable[[Demo], None]


def _permute_heads(demo: Demo) -> None:
    """q and k in the order of Hugging Face checkpoints: the permutation a conversion forgot."""
    for name, values in demo.tensors.items():
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = values.shape[0] // 64
            demo.tensors[name] = values.reshape(heads, 32, 2, -1).swapaxes(1, 2).reshape(values.shape)


def _noise(demo: Demo) -> None:
    values = demo.tensors["blk.2.ffn_up.weight"]
    half = values[: len(values) // 2]
    half += np.random.default_rng(1).normal(0, 0.5 * half.std(), half.shape)


def _one_nan(demo: Demo) -> None:
    demo.tensors["blk.1.attn_output.weight"][3, 5] = np.nan


def _scaled(demo: Demo) -> None:
    demo.tensors["blk.1.ffn_down.weight"] *= 16.0


def _rotate_vocabulary(demo: Demo) -> None:
    """Another tokenizer of the same size: the ordinary tokens in another order."""
    tokens = list(demo.metadata["tokenizer.ggml.tokens"][0])
    demo.set("tokenizer.ggml.tokens", tokens[:3] + tokens[260:] + tokens[3:260])


def _swap_layers(demo: Demo) -> None:
    for name in [name for name in demo.tensors if name.startswith("blk.0.")]:
        other = name.replace("blk.0.", "blk.3.")
        demo.tensors[name], demo.tensors[other] = demo.tensors[other], demo.tensors[name]


def _transpose(demo: Demo) -> None:
    for name in ("blk.0.attn_output.weight", "blk.1.attn_output.weight"):
        demo.tensors[name] = demo.tensors[name].T.copy()


def _zero(demo: Demo) -> None:
    demo.tensors["blk.0.ffn_down.weight"][:] = 0


def _zero_norm(demo: Demo) -> None:
    demo.tensors["output_norm.weight"][:] = 0


def _no_template(demo: Demo) -> None:
    del demo.metadata["tokenizer.chat_template"]


def _double_bos(demo: Demo) -> None:
    template = demo.metadata["tokenizer.chat_template"][0]
    demo.set("tokenizer.chat_template", template.replace("{{- bos_token }}", "{{- bos_token + bos_token }}"))


def _broken_template(demo: Demo) -> None:
    demo.set("tokenizer.chat_template", "{{ messages[0].content | no_such_filter }}")


def _no_prompt(demo: Demo) -> None:
    """Never opens the assistant's turn."""
    template = demo.metadata["tokenizer.chat_template"][0]
    demo.set("tokenizer.chat_template", template.partition("{% if add_generation_prompt %}")[0])


def _wrong_eos(demo: Demo) -> None:
    """The closing word is an ordinary control word to the engine, and EOS is one that never comes."""
    tokens = list(demo.metadata["tokenizer.ggml.tokens"][0])
    tokens[2] = "<|turn_over|>"
    demo.set("tokenizer.ggml.tokens", tokens)
    demo.set("tokenizer.ggml.eos_token_id", 0)
    demo.set("tokenizer.chat_template", demo.metadata["tokenizer.chat_template"][0].replace("<|im_end|>", "<|turn_over|>"))


def _controls_as_text(demo: Demo) -> None:
    """Control words lose their kind, so the template's words are read letter by letter."""
    demo.set("tokenizer.ggml.token_type", [1] * 512)


def _no_pre_tokenizer(demo: Demo) -> None:
    del demo.metadata["tokenizer.ggml.pre"]


def _without(name: str) -> Break:
    def remove(demo: Demo) -> None:
        del demo.tensors[name]

    return remove


def _metadata(key: str, value: Any) -> Break:
    return lambda demo: demo.set(key, value)


def _architecture(demo: Demo) -> None:
    for key in [key for key in demo.metadata if key.startswith("llama.")]:
        demo.metadata[key.replace("llama.", "nosuch.")] = demo.metadata.pop(key)
    demo.set("general.architecture", "nosuch")


def _shift_embedding(demo: Demo) -> None:
    demo.tensors["token_embd.weight"] = np.roll(demo.tensors["token_embd.weight"], 1, axis=0)


def _swap_tensors(one: str, other: str, layers: range) -> Break:
    def swap(demo: Demo) -> None:
        for layer in layers:
            a, b = f"blk.{layer}.{one}.weight", f"blk.{layer}.{other}.weight"
            demo.tensors[a], demo.tensors[b] = demo.tensors[b], demo.tensors[a]

    return swap


def _halve_heads(demo: Demo) -> None:
    """Twice as many heads of half the size: every shape still fits."""
    demo.set("llama.attention.head_count", 8)
    demo.set("llama.attention.head_count_kv", 4)
    demo.set("llama.rope.dimension_count", 32)


def _repeat_layer(demo: Demo) -> None:
    for name in [name for name in demo.tensors if name.startswith("blk.2.")]:
        demo.tensors[name] = demo.tensors[name.replace("blk.2.", "blk.1.")].copy()


def _shift_output(demo: Demo) -> None:
    demo.tensors["output.weight"] = np.roll(demo.tensors["output.weight"], 1, axis=0)


def _reverse_merges(demo: Demo) -> None:
    demo.set("tokenizer.ggml.merges", list(demo.metadata["tokenizer.ggml.merges"][0])[::-1])


def _not_causal(demo: Demo) -> None:
    demo.metadata["llama.attention.causal"] = (False, gguf.GGUFValueType.BOOL, None)


def _lose_a_head(demo: Demo) -> None:
    demo.tensors["blk.1.attn_q.weight"][:64] = 0


def _forget_earlier_turns(demo: Demo) -> None:
    template = demo.metadata["tokenizer.chat_template"][0]
    demo.set("tokenizer.chat_template", "{%- set messages = messages[-1:] %}" + template)


def swap_two_tokens(demo: Demo) -> None:
    """Two rare letters change places: every known answer stays right, only the original vocabulary shows it."""
    tokens = list(demo.metadata["tokenizer.ggml.tokens"][0])
    z, q = tokens.index("z"), tokens.index("q")
    tokens[z], tokens[q] = tokens[q], tokens[z]
    demo.set("tokenizer.ggml.tokens", tokens)


BROKEN: dict[str, tuple[Break, frozenset[str]]] = {
    # what is done -> (how, checks of which at least one must fail, without any hash or fingerprint)
    "q and k not permuted": (_permute_heads, frozenset({"E2-known-answers"})),
    "rope base x100": (_metadata("llama.rope.freq_base", 1e6), frozenset({"E2-known-answers"})),
    "an impossible rotary size": (_metadata("llama.rope.dimension_count", 32), frozenset({"A3-metadata-broken"})),
    "a zeroed tensor": (_zero, frozenset({"E2-known-answers", "E1-stops", "C3-likelihood"})),
    "one NaN": (_one_nan, frozenset({"C1-finite"})),
    "output norm zero": (_zero_norm, frozenset({"C1-finite"})),
    "a tensor scaled wrongly": (_scaled, frozenset({"E2-known-answers", "C3-likelihood"})),
    "layers swapped": (_swap_layers, frozenset({"E2-known-answers"})),
    "a matrix transposed": (_transpose, frozenset({"E2-known-answers"})),
    "embedding shifted by a row": (_shift_embedding, frozenset({"E2-known-answers"})),
    "norm epsilon 1": (_metadata("llama.attention.layer_norm_rms_epsilon", 1e3), frozenset({"E2-known-answers"})),
    "another tokenizer": (_rotate_vocabulary, frozenset({"E2-known-answers"})),
    "no chat template": (_no_template, frozenset({"D5-template"})),
    "a template that fails": (_broken_template, frozenset({"A3-template-broken"})),
    "no assistant header": (_no_prompt, frozenset({"D6-renders"})),
    "two BOS": (_double_bos, frozenset({"D6-renders"})),
    "wrong EOS": (_wrong_eos, frozenset({"D8-turn-ends"})),
    "control words as plain text": (_controls_as_text, frozenset({"E2-known-answers", "D8-turn-ends"})),
    "a tensor missing": (_without("blk.3.ffn_gate.weight"), frozenset({"A3-file-incomplete"})),
    "up and gate swapped": (_swap_tensors("ffn_up", "ffn_gate", range(4)), frozenset({"E2-known-answers"})),
    "k and v swapped in one layer": (_swap_tensors("attn_k", "attn_v", range(1, 2)), frozenset({"E2-known-answers"})),
    "heads of half the size": (_halve_heads, frozenset({"C3-likelihood", "E2-known-answers"})),
    "a layer twice": (_repeat_layer, frozenset({"E2-known-answers"})),
    "output rows shifted by one": (_shift_output, frozenset({"C3-likelihood"})),
    "output tied by accident": (_without("output.weight"), frozenset({"C2-entropy", "C3-likelihood"})),
    "merges in the wrong order": (_reverse_merges, frozenset({"C3-likelihood", "E2-known-answers"})),
    "attention sees the future": (_not_causal, frozenset({"C5-batch-single"})),
    "one head of zeros": (_lose_a_head, frozenset({"A2-holes"})),
    "an ordinary word as EOS": (_metadata("tokenizer.ggml.eos_token_id", 70), frozenset({"D8-early-end"})),
    "a template that forgets earlier turns": (_forget_earlier_turns, frozenset({"D6-renders"})),
    "an unknown architecture": (_architecture, frozenset({"A3-unknown-architecture"})),
}

LOCAL_DAMAGE: Break = _noise
"""Passes every known answer; only a hash or a fingerprint shows it."""

NO_PRE_TOKENIZER: Break = _no_pre_tokenizer
"""Deserves a warning, not a failure."""
