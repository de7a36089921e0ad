"""Metadata of many architectures, without tensors: the engine makes those itself from metadata (llama_model_init_from_user).

`generic` gives every key any architecture asks for, after tests/test-llama-archs.cpp of llama.cpp 0.5.0, at sizes of a model of
about one billion parameters. `PUBLISHED` holds the hyper-parameters of published models, from their configuration files.
"""

from __future__ import annotations

from typing import Any

_LAYERS = 8
_MLA = {
    "attention.key_length": 576,
    "attention.value_length": 512,
    "rope.dimension_count": 64,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "attention.head_count_kv": 1,
}
_FLAGS = {"attention.sliding_window_pattern": [1, 0] * (_LAYERS // 2)}
_SPARSE = [4 if index % 4 == 3 else 0 for index in range(_LAYERS)]
_HYBRID = {"attention.head_count_kv": _SPARSE, "attention.head_count": [16] * _LAYERS}
_DELTA = {"ssm.inner_size": 2048, "ssm.time_step_rank": 16, "ssm.group_count": 16}
_NEMOTRON = {
    "attention.head_count_kv": [0, 4, 0, 0, 0, 4, 0, 0],
    "attention.head_count": [16] * _LAYERS,
    "feed_forward_length": [0, 0, 5632, 0, 0, 0, 5632, 0],
}
_STREAMS = {
    "hyper_connection.count": 4,
    "hyper_connection.sinkhorn_iterations": 2,
    "hyper_connection.epsilon": 1e-6,
    "hyper_connection.low_rank": 64,
    "attention.compress_ratios": [4] * _LAYERS,
}
_SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("deepseek2", "deepseek32", "glm-dsa", "mistral4"), _MLA),
    **dict.fromkeys(("mimo2", "step35", "spark2_5", "granite_swa", "maple", "cohere2moe", "muse-glimmer"), _FLAGS),
    **dict.fromkeys(("jamba", "granitehybrid", "lfm2", "lfm2moe"), _HYBRID),
    **{
        name: {**_MLA, "attention.head_count_kv": [min(n, 1) for n in _SPARSE], "attention.head_count": [16] * _LAYERS}
        for name in ("kimi-linear", "bailingmoe3")
    },
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), _NEMOTRON),
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), _DELTA),
    **{key: {"attention.head_count_kv": 16} for key in ("olmoe", "dots1", "deepseek2-ocr")},
    **{key: {"token_shift_count": 1, "attention.head_count_kv": 16} for key in ("rwkv6qwen2", "arwkv7")},
    **{key: {"tokenizer.ggml.token_type_count": 2} for key in ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v3")},
    **{
        key: {"attention.key_length": 192, "rope.dimension_count": 64, "attention.head_count_kv": 16}
        for key in ("minicpm3", "plm")
    },
    **{
        name: {
            **_MLA,
            "attention.head_count_kv": [min(n, 1) for n in _SPARSE],
            "attention.head_count": [16] * _LAYERS,
            "expert_latent_length": 1024,
            "attn_res.block_size": 4,
            "activation.situ_beta": 4.0,
            "activation.situ_linear_beta": 25.0,
        }
        for name in ("kimi-k3",)
    },
    "glm5-next": {
        **_MLA,
        **_STREAMS,
        "attention.key_length": 512,
        "rope.dimension_count": 0,
        "attention.indexer.kpool": 4,
        "attention.indexer.kpool_select_tail": True,
        "attention.head_count_kv": [min(n, 1) for n in _SPARSE],
    },
    "qwen4exp": {**_DELTA, **_STREAMS, "attention.key_length": 128, "attention.value_length": 128},
    "deepseek4": {
        **_STREAMS,
        "attention.head_count_kv": 1,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "rope.dimension_count": 64,
        "attention.output_group_count": 8,
        "attention.output_lora_rank": 256,
        "attention.compress_ratios": [0, 0, 4, 128, 4, 128, 4, 128],
        "attention.compress_rope_freq_base": 160000.0,
        "hash_layer_count": 0,
        "swiglu_clamp_exp": 10.0,
        "expert_weights_scale": 1.0,
        "expert_weights_norm": True,
        "expert_gating_func": 4,
    },
    "dots3note": {
        **_MLA,
        **_FLAGS,
        "attention.kv_lora_rank_swa": 512,
        "attention.key_length_swa": 576,
        "attention.value_length_swa": 512,
        "attention.key_length_mla_swa": 192,
        "attention.value_length_mla_swa": 128,
        "attention.indexer.types": [0, 1] * (_LAYERS // 2),
    },
    "hy_v4": {
        **_MLA,
        **_STREAMS,
        "hyper_connection.magnitude": 2.0,
        "swiglu_clamp_exp": 10.0,
        "expert_weights_scale": 1.0,
        "expert_weights_norm": True,
        "attention.indexer.types": [1, 0] * (_LAYERS // 2),
    },
    "minimax-m3": {
        "rope.dimension_count": 64,
        "attention.indexer.head_count": 4,
        "attention.indexer.block_size": 4,
        "attention.indexer.local_blocks": 1,
    },
    "maple": {**_FLAGS, "swiglu_clamp_exp": 7.0},
    "hrm_text": {"block_count": 6, "hrm.layers_per_stack": 1, "hrm.h_cycles": 2, "hrm.l_cycles": 2},
    "graniteswitch": {
        "adapters.count": 2,
        "adapters.lora_rank": 16,
        "adapters.token_ids_activate": [5, 6],
        "adapters.token_ids_substitute": [7, 8],
    },
    **{key: {"attention.relative_buckets_count": 32, "attention.head_count_kv": 16} for key in ("t5", "t5encoder")},
    "plamo2": {**_HYBRID, "ssm.group_count": 0},
    "gemma3n": {"block_count": 24},
    "gemma4": {
        "attention.shared_kv_layers": 2,
        "attention.key_length_swa": 128,
        "attention.value_length_swa": 128,
        "attention.sliding_window_pattern": [1, 1, 1, 1, 1, 0, 1, 0],
    },
}

# Loadable from metadata alone, with an own way to be a language model.
ARCHITECTURES = (
    "afmoe", "apertus", "arcee", "arctic", "arwkv7", "baichuan", "bailingmoe", "bailingmoe2", "bailingmoe3",
    "bitnet", "bloom", "chatglm", "codeshell", "cogvlm", "cohere2", "cohere2moe", "command-r", "dbrx", "deci",
    "deepseek", "deepseek2", "deepseek2-ocr", "deepseek32", "dots1", "dream", "ernie4_5", "ernie4_5-moe",
    "eurobert", "exaone", "exaone-moe", "exaone4", "falcon", "falcon-h1", "gemma", "gemma-embedding", "gemma2",
    "gemma3", "gemma3n", "gemma4", "glm-dsa", "glm4", "glm4moe", "gpt-oss", "gpt2", "gptneox", "granite",
    "granite_swa", "granitehybrid", "granitemoe", "grok", "grovemoe", "hrm_text", "hunyuan-dense", "hunyuan-moe",
    "hunyuan_vl", "hy_v3", "hy_v4", "internlm2", "jais", "jais2", "jamba", "kimi-k3", "kimi-linear", "laguna",
    "lfm2", "lfm2moe", "llada", "llada-moe", "llama", "llama-embed", "llama4", "maincoder", "mamba", "mamba2",
    "maple", "mellum", "mimo2", "minicpm", "minicpm3", "minimax-01", "minimax-m2", "mistral3", "mistral4",
    "modern-bert", "mpt", "muse-glimmer", "nanbeige", "nemotron", "nemotron_h", "nemotron_h_moe", "neo-bert",
    "olmo", "olmo2", "olmoe", "openelm", "orion", "paddleocr", "pangu-embedded", "phi2", "phi3", "phimoe",
    "plamo", "plamo2", "plamo3", "pockettts", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen35",
    "qwen35moe", "qwen3moe", "qwen3next", "qwen3tts", "qwen3vl", "qwen3vlmoe", "refact", "rnd1", "rwkv7",
    "seed_oss", "smallthinker", "smollm3", "spark2_5", "stablelm", "starcoder", "starcoder2", "step35",
    "t5encoder", "talkie", "xverse",
)  # fmt: skip

# Load too, and are told to be rough: `reasons` name what is not counted.
ROUGH = ("chameleon", "deepseek4", "dots3note", "glm5-next", "graniteswitch", "minimax-m3", "qwen4exp", "t5")
# The engine itself asserts with more than one sequence.
ONE_SEQUENCE = frozenset({"deepseek32", "deepseek4", "dots3note", "glm-dsa", "hy_v4", "minimax-m3", "qwen4exp", "t5"})


def generic(arch: str) -> dict[str, Any]:
    """Metadata that makes the engine build a model of `arch`."""
    n_embd, heads, head = 2048, 16, 128
    values: dict[str, Any] = {
        "vocab_size": 64_000,
        "context_length": 32_768,
        "embedding_length": n_embd,
        "features_length": n_embd,
        "block_count": _LAYERS,
        "leading_dense_block_count": 1,
        "feed_forward_length": 5632,
        "use_parallel_residual": False,
        "logit_scale": 1.0,
        "time_mix_extra_dim": 64,
        "time_decay_extra_dim": 128,
        "full_attention_interval": 4,
        "attention.head_count": heads,
        "attention.head_count_kv": 4,
        "attention.max_alibi_bias": 8.0,
        "attention.clamp_kqv": 1.0,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.group_norm_epsilon": 1e-5,
        "attention.group_norm_groups": 8,
        "attention.q_lora_rank": 512,
        "attention.kv_lora_rank": 512,
        "attention.decay_lora_rank": 64,
        "attention.iclr_lora_rank": 64,
        "attention.value_residual_mix_lora_rank": 64,
        "attention.gate_lora_rank": 64,
        "attention.sliding_window": 1024,
        "attention.sliding_window_pattern": 4,
        "attention.indexer.head_count": 64,
        "attention.indexer.key_length": 128,
        "attention.indexer.top_k": 2048,
        "attention.scale": 0.1,
        "rope.dimension_sections": [head // 4] * 4,
        "rope.freq_base_swa": 10_000.0,
        "interleave_moe_layer_step": 2,
        "embedding_scale": 1.0,
        "residual_scale": 3.5,
        "embedding_length_per_layer_input": 256,
        "ssm.inner_size": 2 * n_embd,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 128,
        "ssm.time_step_rank": heads,
        "ssm.group_count": 2,
        "kda.head_dim": 128,
        "kda.safe_gate": True,
        "kda.gate_lower_bound": -5.0,
        "wkv.head_size": head,
        "shortconv.l_cache": 3,
        "expert_feed_forward_length": 1408,
        "expert_shared_feed_forward_length": 1408,
        "expert_count": 16,
        "expert_used_count": 4,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_group_scale": 1.0,
        "experts_per_group": 1,
    } | _SPECIAL.get(arch, {})
    xielu = {"xielu.alpha_n": 1.0, "xielu.alpha_p": 1.0, "xielu.beta": 1.0, "xielu.eps": 1e-7}
    return _metadata(arch, values) | xielu


def _metadata(arch: str, values: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"general.architecture": arch, "tokenizer.ggml.model": "no_vocab"}
    out.update({f"{arch}.{key}": value for key, value in values.items()})
    return out


def _published(arch: str, layers: int, n_embd: int, heads: int, kv: Any, ff: int, vocab: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "block_count": layers,
        "context_length": 131_072,
        "embedding_length": n_embd,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "feed_forward_length": ff,
        "vocab_size": vocab,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    values.update({key.replace("__", "."): value for key, value in more.items()})
    return _metadata(arch, values)


def _experts(count: int, used: int, ff: int, **more: Any) -> dict[str, Any]:
    return {"expert_count": count, "expert_used_count": used, "expert_feed_forward_length": ff, **more}


_HEAD = {"attention__key_length": 128, "attention__value_length": 128}
_LATENT = {
    "attention__key_length": 576,
    "attention__value_length": 512,
    "attention__key_length_mla": 192,
    "attention__value_length_mla": 128,
    "attention__kv_lora_rank": 512,
    "rope__dimension_count": 64,
}
_LFM2_KV = [8 if index in (2, 5, 8, 10, 12, 14) else 0 for index in range(16)]

PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": _published("llama", 32, 4096, 32, 8, 14_336, 128_256),
    "Qwen2.5-0.5B": _published("qwen2", 24, 896, 14, 2, 4864, 151_936),
    "Qwen3-14B": _published("qwen3", 40, 5120, 40, 8, 17_408, 151_936, **_HEAD),
    "Mistral-7B-v0.3": _published("llama", 32, 4096, 32, 8, 14_336, 32_768),
    "Phi-3-mini": _published("phi3", 32, 3072, 32, 32, 8192, 32_064, rope__dimension_count=96, attention__sliding_window=2047),
    "Gemma-2-9B": _published(
        "gemma2", 42, 3584, 16, 8, 14_336, 256_000, attention__key_length=256, attention__value_length=256,
        attention__sliding_window=4096,
    ),
    "Gemma-3-12B": _published(
        "gemma3", 48, 3840, 16, 8, 15_360, 262_144, attention__key_length=256, attention__value_length=256,
        attention__sliding_window=1024,
    ),
    "gpt-oss-20b": _published(
        "gpt-oss", 24, 2880, 64, 8, 2880, 201_088, attention__key_length=64, attention__value_length=64,
        attention__sliding_window=128, **_experts(32, 4, 2880),
    ),
    "Qwen3-30B-A3B": _published("qwen3moe", 48, 2048, 32, 4, 6144, 151_936, **_HEAD, **_experts(128, 8, 768)),
    "DeepSeek-V2-Lite": _published(
        "deepseek2", 27, 2048, 16, 1, 10_944, 102_400, **_LATENT, leading_dense_block_count=1,
        **_experts(64, 6, 1408, expert_shared_count=2, expert_weights_scale=1.0),
    ),
    "DeepSeek-V3": _published(
        "deepseek2", 61, 7168, 128, 1, 18_432, 129_280, **_LATENT, attention__q_lora_rank=1536, leading_dense_block_count=3,
        **_experts(256, 8, 2048, expert_shared_count=1, expert_weights_scale=2.5, expert_gating_func=2),
    ),
    "Mamba-2.8B": _published(
        "mamba", 64, 2560, 0, 0, 0, 50_280, ssm__conv_kernel=4, ssm__inner_size=5120, ssm__state_size=16,
        ssm__time_step_rank=160,
    ),
    "LFM2-1.2B": _published("lfm2", 16, 2048, 32, _LFM2_KV, 8192, 65_536, shortconv__l_cache=3),
    "Qwen3-Next-80B-A3B": _published(
        "qwen3next", 48, 2048, 16, 2, 5120, 151_936, attention__key_length=256, attention__value_length=256,
        rope__dimension_count=64, full_attention_interval=4, ssm__conv_kernel=4, ssm__inner_size=4096, ssm__state_size=128,
        ssm__time_step_rank=32, ssm__group_count=16, **_experts(512, 10, 512, expert_shared_feed_forward_length=512),
    ),
    "Falcon-H1-7B": _published(
        "falcon-h1", 44, 3072, 12, 2, 12_288, 130_048, attention__key_length=128, attention__value_length=128,
        ssm__conv_kernel=4, ssm__inner_size=3072, ssm__state_size=256, ssm__time_step_rank=24, ssm__group_count=1,
    ),
}  # fmt: skip

# Published shapes that no formula was developed on: measured once it stood (docs/reference/accuracy.md keeps them apart).
HELD_OUT: dict[str, dict[str, Any]] = {
    "Llama-3.2-3B": _published("llama", 28, 3072, 24, 8, 8192, 128_256, **_HEAD),
    "Qwen2.5-72B": _published("qwen2", 80, 8192, 64, 8, 29_568, 152_064),
    "Qwen3-0.6B": _published("qwen3", 28, 1024, 16, 8, 3072, 151_936, **_HEAD),
    "Qwen3-235B-A22B": _published("qwen3moe", 94, 4096, 64, 4, 12_288, 151_936, **_HEAD, **_experts(128, 8, 1536)),
    "Gemma-3-1B": _published(
        "gemma3", 26, 1152, 4, 1, 6912, 262_144, attention__key_length=256, attention__value_length=256,
        attention__sliding_window=512,
    ),
    "Gemma-2-27B": _published(
        "gemma2", 46, 4608, 32, 16, 36_864, 256_000, attention__key_length=128, attention__value_length=128,
        attention__sliding_window=4096,
    ),
    "gpt-oss-120b": _published(
        "gpt-oss", 36, 2880, 64, 8, 2880, 201_088, attention__key_length=64, attention__value_length=64,
        attention__sliding_window=128, **_experts(128, 4, 2880),
    ),
    "Phi-4": _published("phi3", 40, 5120, 40, 10, 17_920, 100_352, rope__dimension_count=128),
    "Mixtral-8x22B": _published("llama", 56, 6144, 48, 8, 16_384, 32_768, **_experts(8, 2, 16_384)),
    "OLMo-2-13B": _published("olmo2", 40, 5120, 40, 40, 13_824, 100_352),
    "Command-R-35B": _published(
        "command-r", 40, 8192, 64, 64, 22_528, 256_000, attention__layer_norm_epsilon=1e-5, logit_scale=0.0625
    ),
    "GLM-4-9B": _published("glm4", 40, 4096, 32, 2, 13_696, 151_552, **_HEAD, rope__dimension_count=64),
    "StarCoder2-15B": _published("starcoder2", 40, 6144, 48, 4, 24_576, 49_152, attention__layer_norm_epsilon=1e-5),
    "Falcon-7B": _published("falcon", 32, 4544, 71, 1, 18_176, 65_024, attention__layer_norm_epsilon=1e-5),
    "Mamba2-2.7B": _published(
        "mamba2", 64, 2560, 0, 0, 0, 50_288, ssm__conv_kernel=4, ssm__inner_size=5120, ssm__state_size=128,
        ssm__time_step_rank=80, ssm__group_count=1,
    ),
    "Qwen3-32B": _published("qwen3", 64, 5120, 64, 8, 25_600, 151_936, **_HEAD),
}  # fmt: skip
