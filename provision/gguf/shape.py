"""A header to the shape of a model: what decides its memory, layer by layer.

Follows `llama_model_base::load_hparams` (src/llama-model.cpp) and `llama_hparams` (src/llama-hparams.cpp) of llama.cpp 0.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from provision.errors import IntegrityError
from provision.gguf import architectures as arch
from provision.gguf.header import GgufHeader, TensorInfo

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h
_LAYER = re.compile(r"blk\.(\d+)\.")
_MATRIX = re.compile(r"blk\.(\d+)\.(.+)\.weight$")
_READS = frozenset({"ffn_down", "ffn_down_exps", "ffn_down_shexp", "ssm_out", "attn_output"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """One block. Elements, not bytes: types are chosen later."""

    n_head: int
    n_head_kv: int
    head_k: int
    head_v: int
    windowed: bool
    owns_kv: bool
    recurrent: bool
    n_ff: int
    weight_bytes: int
    """Bytes of the block's tensors that the engine loads."""
    largest_tensor_bytes: int
    rows: tuple[tuple[str, int], ...] = ()
    """Width per token of what each matrix of the block computes, by the tensor's name without block and `.weight`; for some,
    what it reads too, as `NAME:in`; 1 for what is no matrix."""

    @property
    def k_elements(self) -> int:
        """Key elements per cached token."""
        return self.head_k * self.n_head_kv

    @property
    def v_elements(self) -> int:
        return self.head_v * self.n_head_kv


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What the memory of a model depends on."""

    architecture: str
    n_layers: int
    """Blocks as llama.cpp counts them for `n_gpu_layers`, draft blocks included."""
    n_trunk_layers: int
    n_embd: int
    n_ctx_train: int
    n_vocab: int
    layers: tuple[LayerShape, ...]
    window: int
    """Tokens of the sliding window, 0 without one."""
    is_mla: bool
    mla_query: int
    """Elements per head of latent attention besides its wide query and value: the query, and its part without position."""
    indexer_head: int
    indexer_layers: frozenset[int]
    index_top: int
    """How many cells the index of sparse attention lets through."""
    index_pool: int
    """How many cells share a pooled index key; 0 where they do not."""
    n_streams: int
    """Copies of the residual stream side by side (hyper-connections); 1 usually."""
    recurrent_r: int
    """Elements (F32) of the rolling state of one recurrent layer and sequence."""
    recurrent_s: int
    conv_taps: int
    """Width of the convolution before a recurrent state."""
    n_group: int
    d_state: int
    n_rot: int
    mla_head_v: int
    """Elements of one head's value once latent attention is undone."""
    n_expert: int
    n_expert_used: int
    n_ff_exp: int
    has_shared_expert: bool
    explicit_attention: bool
    """The engine computes attention without flash attention whatever it is told."""
    input_bytes: int
    """Tensors of the input layer, which always stay in main memory."""
    output_bytes: int
    """Tensors of the output layer. A tied output is counted here again when a GPU takes it: see `tied_bytes`."""
    tied_bytes: int
    """Bytes of the token embedding that serves as output too; 0 with an output tensor of its own."""
    expert_bytes: int
    parameters: int
    file_bytes: int
    assumptions: tuple[str, ...]
    """Sentences on what could not be known; empty when the architecture is followed to the letter."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors the engine loads, each once."""
        return self.input_bytes + self.output_bytes + sum(layer.weight_bytes for layer in self.layers)

    @property
    def has_recurrent(self) -> bool:
        return any(layer.recurrent for layer in self.layers)


def read_shape(header: GgufHeader) -> ModelShape:
    """The shape behind `header`; raises IntegrityError (`gguf-no-model`) when it holds no language model."""
    return _Reader(header).shape()


class _Reader:
    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.arch = header.architecture
        self.notes: list[str] = []
        self.n_layers = self._needed("block_count")
        if not 0 < self.n_layers <= MAX_LAYERS:
            raise _no_model(header, f"{self.n_layers} layers")
        self.n_draft = min(self.integer("nextn_predict_layers") or 0, self.n_layers)
        self.n_embd = self._needed("embedding_length")
        self.heads = self.per_layer("attention.head_count")
        self.heads_kv = self.per_layer("attention.head_count_kv", default=self.heads)
        self.ff = self.per_layer("feed_forward_length")

    def integer(self, name: str) -> int | None:
        return self.header.integer(f"{self.arch}.{name}")

    def _needed(self, name: str) -> int:
        value = self.integer(name)
        if value is None or value < 0:
            raise _no_model(self.header, f"no {self.arch}.{name}")
        return value

    def per_layer(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        key = f"{self.arch}.{name}"
        one, many = self.header.integer(key), self.header.integers(key)
        if one is not None:
            return (max(one, 0),) * self.n_layers
        if many is not None and len(many) >= self.n_layers:
            return tuple(max(value, 0) for value in many[: self.n_layers])
        return default if default is not None else (0,) * self.n_layers

    def _layers(
        self, windowed: Sequence[bool], recurrent: Sequence[bool], blocks: Sequence[int], largest: Sequence[int]
    ) -> tuple[LayerShape, ...]:
        rows = self._rows()
        head_k, head_v = self._head("key_length"), self._head("value_length")
        head_k_window = self.integer("attention.key_length_swa") or head_k
        head_v_window = self.integer("attention.value_length_swa") or head_v
        owners = self._kv_owners(recurrent)
        return tuple(
            LayerShape(
                n_head=self.heads[index],
                n_head_kv=self.heads_kv[index],
                head_k=head_k_window if windowed[index] else head_k,
                head_v=head_v_window if windowed[index] else head_v,
                windowed=windowed[index],
                owns_kv=owners[index],
                recurrent=recurrent[index],
                n_ff=self.ff[index],
                weight_bytes=blocks[index],
                largest_tensor_bytes=largest[index],
                rows=rows[index],
            )
            for index in range(self.n_layers)
        )

    def shape(self) -> ModelShape:
        if self.arch not in arch.KNOWN:
            self.notes.append(f"architecture {self.arch!r} is not known here: counted as a plain transformer of its metadata")
        elif self.arch in arch.UNMODELLED:
            self.notes.append(f"architecture {self.arch!r}: {arch.UNMODELLED[self.arch]}")
        windowed, window = self._windows()
        recurrent = self._recurrent()
        blocks, largest, inputs, outputs = self._weights()
        layers = self._layers(windowed, recurrent, blocks, largest)
        tied = self._tied()
        state_r, state_s = self._state()
        return ModelShape(
            architecture=self.arch,
            n_layers=self.n_layers,
            n_trunk_layers=self.n_layers - self.n_draft,
            n_embd=self.n_embd,
            n_ctx_train=self.integer("context_length") or 0,
            n_vocab=self._vocabulary(),
            layers=layers,
            window=window if any(windowed) else 0,
            is_mla=bool(self.integer("attention.key_length_mla")) and bool(self.integer("attention.value_length_mla")),
            mla_query=self._mla_query(),
            indexer_head=self.integer("attention.indexer.key_length") or 0,
            indexer_layers=self._indexers(),
            index_top=self.integer("attention.indexer.top_k") or 0,
            index_pool=max(self.per_layer("attention.compress_ratios")) if self.arch == "qwen4exp" else 0,
            n_streams=max(self.integer("hyper_connection.count") or 1, 1),
            recurrent_r=state_r,
            recurrent_s=state_s,
            conv_taps=self.integer("ssm.conv_kernel") or self.integer("shortconv.l_cache") or 4,
            n_group=self.integer("ssm.group_count") or 0,
            d_state=self.integer("ssm.state_size") or 0,
            n_rot=self.integer("rope.dimension_count") or 0,
            mla_head_v=self.integer("attention.value_length_mla") or 0,
            n_expert=self.integer("expert_count") or 0,
            n_expert_used=max(self.per_layer("expert_used_count")),
            n_ff_exp=max(self.per_layer("expert_feed_forward_length", default=self.ff)),
            has_shared_expert=self._has_shared_expert(),
            explicit_attention=self.arch in arch.EXPLICIT_ATTENTION,
            input_bytes=inputs,
            output_bytes=outputs,
            tied_bytes=tied,
            expert_bytes=sum(tensor.size_bytes for tensor in self.header.tensors if _is_expert(tensor)),
            parameters=self.header.parameters,
            file_bytes=self.header.file_bytes,
            assumptions=tuple(self.notes),
        )

    def _head(self, name: str) -> int:
        value = self.integer(f"attention.{name}")
        if value is not None:
            return value
        return self.n_embd // self.heads[0] if self.heads[0] else 0

    def _vocabulary(self) -> int:
        tokens = self.header.length("tokenizer.ggml.tokens")
        if tokens:
            return tokens
        given = self.integer("vocab_size")
        if given:
            return given
        embedding = next((t for t in self.header.tensors if t.name == "token_embd.weight"), None)
        return embedding.dimensions[1] if embedding and len(embedding.dimensions) > 1 else 0

    def _windows(self) -> tuple[list[bool], int]:
        none = [False] * self.n_layers, 0
        window = self.integer("attention.sliding_window")
        rule = arch.WINDOWS.get(self.arch)
        if self.arch == "exaone4" and self.n_layers - self.n_draft != 64:
            return none  # only the 32B has windows, src/models/exaone4.cpp
        if self.arch == "lfm2" and window:
            recurrent = self._recurrent()
            return [not value for value in recurrent], window
        if rule is None:
            if window and self.arch not in arch.KNOWN:
                self.notes.append("its sliding window is not used: every layer is counted with a full cache")
            return none
        if window is None:
            window = rule.default_window
        if not window:
            return none
        window = rule.forced_window or window
        return self._pattern(rule), window

    def _pattern(self, rule: arch.WindowRule) -> list[bool]:
        key = f"{self.arch}.attention.sliding_window_pattern"
        flags = self.header.integers(key)
        if flags is not None and len(flags) >= self.n_layers - self.n_draft:
            padded = list(flags[: self.n_layers]) + [0] * (self.n_layers - len(flags))
            return [bool(value) for value in padded]
        every = self.header.integer(key)
        every = rule.every if every is None else every
        if every is None:
            self.notes.append("the file does not say which layers have a window: every layer is counted with a full cache")
            return [False] * self.n_layers
        trunk = self.n_layers - self.n_draft
        if rule.dense_first:
            return [index < trunk and (every == 0 or index % every != 0) for index in range(self.n_layers)]
        return [index < trunk and (every == 0 or index % every < every - 1) for index in range(self.n_layers)]

    def _recurrent(self) -> list[bool]:
        trunk = self.n_layers - self.n_draft
        if self.arch in arch.RECURRENT or self.arch in arch.RECURRENT_AND_ATTENTION:
            return [True] * self.n_layers
        if self.arch in arch.RECURRENT_WITHOUT_KV_HEADS:
            return [index < trunk and self.heads_kv[index] == 0 for index in range(self.n_layers)]
        if self.arch in arch.RECURRENT_WITHOUT_KV_HEADS_AND_FFN:
            return [index < trunk and self.heads_kv[index] == 0 and self.ff[index] == 0 for index in range(self.n_layers)]
        if self.arch in arch.FULL_ATTENTION_INTERVAL:
            flags = self.header.integers(f"{self.arch}.attention.recurrent_layers")
            if flags is not None and len(flags) >= self.n_layers:
                return [bool(value) for value in flags[: self.n_layers]]
            every = self.integer("full_attention_interval") or arch.FULL_ATTENTION_INTERVAL[self.arch]
            return [index < trunk and (index + 1) % every != 0 for index in range(self.n_layers)]
        return [False] * self.n_layers

    def _kv_owners(self, recurrent: Sequence[bool]) -> list[bool]:
        if self.arch in arch.RECURRENT or self.arch in arch.CACHELESS:
            return [False] * self.n_layers
        first = arch.KV_FROM_START.get(self.arch, self.n_layers)
        if self.arch in arch.SHARED_KV:
            first = self.n_layers - (self.integer("attention.shared_kv_layers") or 0)
        trunk = self.n_layers - self.n_draft
        both = self.arch in arch.RECURRENT_AND_ATTENTION
        owners = [index < min(first, trunk) and (both or not recurrent[index]) for index in range(self.n_layers)]
        if self.arch in arch.RECURRENT_WITHOUT_KV_HEADS_AND_FFN:
            owners = [owner and self.ff[index] == 0 for index, owner in enumerate(owners)]
        return owners

    def _state(self) -> tuple[int, int]:
        """Elements of the rolling and of the recurrent state: `n_embd_r` and `n_embd_s` of src/llama-hparams.cpp."""
        d_conv = self.integer("ssm.conv_kernel") or 0
        d_inner = self.integer("ssm.inner_size") or 0
        d_state = self.integer("ssm.state_size") or 0
        head = self.heads[0]
        if self.arch in arch.RWKV:
            return (self.integer("token_shift_count") or 2) * self.n_embd, self.n_embd * (self.integer("wkv.head_size") or 0)
        if self.arch in arch.SHORT_CONVOLUTION:
            return self.n_embd * max((self.integer("shortconv.l_cache") or 1) - 1, 0), 0
        if self.arch in arch.KDA:
            size = self.integer("kda.head_dim") or 0
            return 3 * (d_conv - 1 if d_conv > 0 else 3) * head * size, size * size * head
        if self.arch == "minimax-01":
            size = self._head("key_length")
            return 0, size * size * head
        groups = 0 if self.arch in arch.UNGROUPED_STATE else self.integer("ssm.group_count") or 0
        return max(d_conv - 1, 0) * (d_inner + 2 * groups * d_state), d_state * d_inner

    def _indexers(self) -> frozenset[int]:
        if self.arch not in arch.INDEXER or not self.integer("attention.indexer.key_length"):
            return frozenset()
        trunk = self.n_layers - self.n_draft
        if self.arch == "minimax-m3":
            return frozenset(range(self.integer("leading_dense_block_count") or 0, self.n_layers))
        flags = self.header.integers(f"{self.arch}.attention.indexer.types")
        if self.arch == "deepseek32" or flags is None or len(flags) < trunk:
            if self.arch == "glm-dsa" and (self.integer("context_length") or 0) >= 1_048_576:
                self.notes.append("the file does not say which layers own an index: all are counted")
            return frozenset(range(trunk))
        return frozenset(index for index in range(trunk) if flags[index])

    def _mla_query(self) -> int:
        key = self.integer("attention.key_length_mla") or 0
        return key + max(key - (self.integer("rope.dimension_count") or 0), 0)

    def _has_shared_expert(self) -> bool:
        if not self.integer("expert_count"):
            return False
        if self.header.tensors:
            return any("_shexp." in tensor.name for tensor in self.header.tensors)
        return bool(self.integer("expert_shared_count") or self.integer("expert_shared_feed_forward_length"))

    def _weights(self) -> tuple[list[int], list[int], int, int]:
        """Bytes and largest tensor per block; bytes of the input and output layers (`LLM_TENSOR_INFOS`)."""
        blocks, largest, inputs, outputs = [0] * self.n_layers, [0] * self.n_layers, 0, 0
        trunk = self.n_layers - self.n_draft
        skip = self.arch in arch.SKIPS_DRAFT_LAYERS
        for tensor in self.header.tensors:
            match = _LAYER.match(tensor.name)
            if match:
                index = int(match.group(1))
                if index < self.n_layers and not (skip and index >= trunk):
                    blocks[index] += _padded(tensor)
                    largest[index] = max(largest[index], tensor.size_bytes)
            elif tensor.name.startswith(("token_embd", "position_embd", "token_types", "per_layer_token_embd")):
                inputs += _padded(tensor)
            else:
                outputs += _padded(tensor)
        return blocks, largest, inputs, outputs

    def _rows(self) -> list[tuple[tuple[str, int], ...]]:
        """Per block the widths of its matrices. Without tensors, those of a plain block of the metadata."""
        found: list[dict[str, int]] = [{} for _ in range(self.n_layers)]
        for tensor in self.header.tensors:
            match = _MATRIX.match(tensor.name)
            if match and int(match.group(1)) < self.n_layers:
                block, name = found[int(match.group(1))], match.group(2)
                block[name] = tensor.dimensions[1] if len(tensor.dimensions) > 1 else 1
                if name in _READS:
                    block[f"{name}:in"] = tensor.dimensions[0]
        if not self.header.tensors:
            for index, block in enumerate(found):
                block.update({"ffn_gate": self.ff[index], "ffn_up": self.ff[index], "ffn_down:in": self.ff[index]})
        return [tuple(sorted(block.items())) for block in found]

    def _tied(self) -> int:
        names = {tensor.name: tensor for tensor in self.header.tensors}
        if "output.weight" in names or "token_embd.weight" not in names:
            return 0
        return _padded(names["token_embd.weight"])


def _padded(tensor: TensorInfo) -> int:
    """Bytes in a buffer: each tensor is padded to the 32 bytes of the CPU buffer type (GGML_MEM_ALIGN is less)."""
    return tensor.size_bytes + -tensor.size_bytes % 32


def _is_expert(tensor: TensorInfo) -> bool:
    return "_exps." in tensor.name


def _no_model(header: GgufHeader, what: str) -> IntegrityError:
    kind = header.architecture or header.text("general.type") or "no architecture"
    return IntegrityError(
        f"this GGUF holds no language model ({kind}: {what})",
        code="gguf-no-model",
        hint="choose the model file of the repository: provision fit ORG/REPO lists them",
    )
