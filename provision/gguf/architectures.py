"""What llama.cpp knows about an architecture beyond its metadata: windows, recurrent layers, caches of their own.

Read from `load_arch_hparams` of src/models/*.cpp, `llm_arch_is_recurrent/hybrid` in src/llama-arch.cpp and `create_memory` in
src/llama-model.cpp of llama.cpp 0.5.0 (as in llama-cpp-python 0.3.36). An architecture missing from these tables is a plain
transformer there, or unknown here; `KNOWN` tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRule:
    """How sliding-window layers are spread. `every` n: each nth layer is global (the first of n with `dense_first`)."""

    every: int | None
    """None: the file must say it layer by layer. 0: all layers are windowed."""
    dense_first: bool = False
    default_window: int | None = None
    """Used when the file has no `attention.sliding_window`; None: then there is no window."""
    forced_window: int | None = None
    """The engine ignores the file's number."""


WINDOWS: dict[str, WindowRule] = {
    "afmoe": WindowRule(every=4),
    "cohere2": WindowRule(every=4),
    "cohere2moe": WindowRule(every=4, dense_first=True),
    "exaone-moe": WindowRule(every=4, default_window=128),
    "exaone4": WindowRule(every=4, default_window=4096),
    "gemma2": WindowRule(every=2, default_window=4096),
    "gemma3": WindowRule(every=6),
    "gemma3n": WindowRule(every=5),
    "gemma4": WindowRule(every=None),
    "gpt-oss": WindowRule(every=2),
    "granite_swa": WindowRule(every=None),
    "laguna": WindowRule(every=4, dense_first=True),
    "llama4": WindowRule(every=4, default_window=8192, forced_window=8192),
    "maple": WindowRule(every=None),
    "mellum": WindowRule(every=4),
    "mimo2": WindowRule(every=None),
    "muse-glimmer": WindowRule(every=4),
    "olmo2": WindowRule(every=4),
    "plamo3": WindowRule(every=8),
    "smallthinker": WindowRule(every=4, dense_first=True, forced_window=4096),
    "spark2_5": WindowRule(every=None),
    "step35": WindowRule(every=None),
}

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
# A layer is recurrent when its number of KV heads is zero.
RECURRENT_WITHOUT_KV_HEADS = frozenset(
    {"jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next"}
)
# ... and its feed-forward length too.
RECURRENT_WITHOUT_KV_HEADS_AND_FFN = frozenset({"nemotron_h", "nemotron_h_moe"})
# Every nth layer has attention, the others a linear state; n from `full_attention_interval`, else this.
FULL_ATTENTION_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
RECURRENT_AND_ATTENTION = frozenset({"falcon-h1"})

# Which formula the state of a recurrent layer follows; the rest is Mamba's (`n_embd_r`, `n_embd_s` of src/llama-hparams.cpp).
RWKV = frozenset({"rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
SHORT_CONVOLUTION = frozenset({"lfm2", "lfm2moe"})
KDA = frozenset({"kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next"})
UNGROUPED_STATE = frozenset({"mamba", "jamba"})

# The first n layers own a KV cache, the others reuse theirs.
KV_FROM_START = {"gemma3n": 20}
SHARED_KV = frozenset({"gemma4"})
# A second, small key cache for the index of sparse attention.
INDEXER = frozenset({"deepseek32", "glm-dsa", "hy_v4", "minimax-m3"})
# Tensors of the draft head are left out unless asked for (`load_mtp`).
SKIPS_DRAFT_LAYERS = frozenset(
    {
        "bailingmoe2", "bailingmoe3", "cohere2moe", "deepseek2", "deepseek32", "deepseek4", "exaone-moe", "exaone4", "glm-dsa",
        "glm4moe", "glm5-next", "hy_v3", "mimo2", "nemotron_h_moe", "nemotron_h", "qwen35", "qwen35moe", "qwen3next", "step35",
        "mistral4",
    }
)  # fmt: skip
# No cache at all: encoders and diffusion models.
CACHELESS = frozenset(
    {
        "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert", "wavtokenizer-dec",
        "modern-bert", "gemma-embedding", "dream", "llada", "llada-moe", "rnd1",
    }
)  # fmt: skip
# Their result is the last hidden state: there are no logits.
ENCODERS = (CACHELESS - {"dream", "llada", "llada-moe", "rnd1"}) | {"t5encoder"}
# A cache is there, and attention looks at the batch all the same.
IGNORES_CACHE = frozenset({"llama-embed", "t5encoder"})
# The logits are put together once more at the end.
TWICE_THE_LOGITS = frozenset({"chameleon", "qwen3tts"})
# Caches with rules of their own, which the analytic estimate does not follow yet.
UNMODELLED = {
    "deepseek4": "its compressed cache is counted as a plain one, which is too much at long contexts",
    "dots3note": "the keys of its index are not counted, nor all of its compute buffer",
    "kimi-k3": "the block residuals it keeps are not all counted in its compute buffer",
    "hy_v4": "its hyper-connections are counted roughly in its compute buffer",
    "glm5-next": "the cache of its pooled index is not counted",
    "qwen4exp": "the cache of its index and its n-gram state are not counted",
    "minimax-01": "the decay matrices of its linear attention are not counted",
    "chameleon": "the second copy of its logits finds less room than is counted at very long contexts",
    "minimax-m3": "the masks of its sparse attention are counted roughly",
    "t5": "its cross attention and its position biases are not counted",
    "t5encoder": "its position biases are not counted",
    "graniteswitch": "its router layer is not counted",
    "dflash": "it is a draft model",
    "eagle3": "it is a draft model",
    "gemma4-assistant": "it is a draft model",
    "pockettts": "it is no text model",
} | dict.fromkeys(
    (
        "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3",
        "rwkv6", "rwkv6qwen2", "plm", "gptj", "wavtokenizer-dec",
    ),
    "its formula was never compared with the engine",
)  # fmt: skip

# The stream before the last norm is a result too, for a draft head (`t_h_nextn`).
KEEPS_HIDDEN = frozenset(
    {
        "bailingmoe3", "cohere2moe", "gemma4", "gpt-oss", "hy_v3", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe",
        "qwen3next", "step35",
    }
)  # fmt: skip

EXPLICIT_ATTENTION = frozenset({"grok", "t5", "t5encoder"})

_PLAIN = frozenset(
    {
        "llama", "deci", "falcon", "grok", "gpt2", "gptj", "gptneox", "mpt", "baichuan", "starcoder", "refact",
        "bloom", "stablelm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe",
        "phi2", "phi3", "phimoe", "plamo", "codeshell", "orion", "internlm2", "minicpm", "minicpm3", "gemma",
        "starcoder2", "xverse", "command-r", "dbrx", "olmo", "olmoe", "openelm", "arctic", "deepseek", "deepseek2",
        "deepseek2-ocr", "chatglm", "glm4", "glm4moe", "bitnet", "t5encoder", "jais", "jais2", "nemotron", "exaone",
        "granite", "granitemoe", "chameleon", "plm", "bailingmoe", "bailingmoe2", "dots1", "arcee", "ernie4_5",
        "ernie4_5-moe", "hunyuan-moe", "hunyuan-dense", "hunyuan_vl", "hy_v3", "smollm3", "seed_oss", "grovemoe",
        "apertus", "hrm_text", "minimax-m2", "cogvlm", "pangu-embedded", "mistral3", "mistral4", "paddleocr",
        "llama-embed", "maincoder", "talkie", "nanbeige",
    }
)  # fmt: skip

KNOWN: frozenset[str] = (
    _PLAIN
    | frozenset(WINDOWS)
    | RECURRENT
    | RECURRENT_WITHOUT_KV_HEADS
    | RECURRENT_WITHOUT_KV_HEADS_AND_FFN
    | frozenset(FULL_ATTENTION_INTERVAL)
    | RECURRENT_AND_ATTENTION
    | INDEXER
    | CACHELESS
    | frozenset(UNMODELLED)
)
