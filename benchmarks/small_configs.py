"""Tiny configs of all model types of Transformers: small numbers by the names of their fields."""

from collections.abc import Mapping, Sequence
from typing import Any

LAYERS = 4

SMALL: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("vocab_size", "vocab_size_per_layer_input", "embedding_size_vocab"), 64),
    (("hidden_size", "n_embd", "d_model", "dim", "model_dim", "embed_dim", "rotary_emb_dim"), 32),
    (("word_embed_proj_dim", "lru_width", "attention_hidden_size", "embedding_size"), 32),
    (("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    (("encoder_layers", "num_nextn_predict_layers", "num_mtp_layers"), 0),
    (("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    (("layers",), LAYERS),
    (("attention_heads", "encoder_attention_heads", "linear_num_value_heads"), 4),
    (("num_key_value_heads", "num_kv_heads", "n_head_kv", "linear_num_key_heads"), 2),
    (("swa_num_key_value_heads", "num_global_key_value_heads"), 2),
    (("swa_num_attention_heads",), 4),
    (("head_dim", "d_kv", "attention_head_dim", "global_head_dim", "swa_head_dim"), 8),
    (("v_head_dim", "qk_nope_head_dim", "swa_v_head_dim"), 8),
    (("qk_rope_head_dim", "rotary_dim"), 4),
    (("qk_head_dim",), 12),
    (("kv_lora_rank", "q_lora_rank", "o_lora_rank"), 16),
    (("intermediate_size", "ffn_dim", "d_ff", "n_inner", "decoder_ffn_dim", "block_ff_dim"), 40),
    (("ffn_hidden_size", "intermediate_size_mlp", "mlp_hidden_size"), 40),
    (("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size"), 24),
    (("moe_shared_expert_intermediate_size", "shared_intermediate_size"), 24),
    (("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    (("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts"), 2),
    (("experts_per_token", "expert_top_k"), 2),
    (("n_group", "topk_group", "n_shared_experts", "moe_num_shared_experts"), 1),
    (("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    (("sliding_window", "attention_chunk_size", "window_size", "attention_window_size"), 6),
    (("max_window_layers", "sliding_window_pattern", "global_attn_every_n_layers"), 2),
    (("num_kv_shared_layers",), 2),
    (("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 64),
    (("index_head_dim",), 8),
    (("index_n_heads",), 8),
    (("index_topk",), 4),
    (("state_size", "ssm_state_size", "mamba_d_state"), 8),
    (("time_step_rank", "mamba_dt_rank"), 3),
    (("mamba_n_heads", "mamba_num_heads", "linear_num_heads"), 8),
    (("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 8),
    (("mamba_d_ssm",), 64),
    (("mamba_n_groups", "mamba_ngroups", "n_groups", "mamba_group"), 2),
    (("chunk_size", "mamba_chunk_size"), 4),
    (("linear_key_head_dim", "linear_value_head_dim"), 8),
    (("hidden_size_per_layer_input", "laurel_rank"), 8),
    (("pad_token_id",), 0),
    (("out_hidden_size", "text_hidden_size", "audio_hidden_size"), 32),
    (("depth",), 2),
    (("projector_hidden_size",), 32),
    (("bos_token_id",), 1),
    (("eos_token_id",), 2),
)
"""What fields of configs are made; a field that the class does not have is not set."""

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_MROPE = {"rope_parameters": {**_ROPE, "mrope_section": [2, 1, 1]}}
"""Rotary embeddings of which parts turn by time, height and width."""

FAMILIES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"linear_head_dim": 8, "num_expert_group": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "chameleon": {"vocabulary_map": {"<image>": 8, "IMGIMGA": 9, "IMGIMGB": 10}},
    "cosmos3_edge_text": _MROPE,
    "blt": {"encoder_hash_byte_group_vocab": 50, "use_cache": False},
    "blt_local_decoder": {"hidden_size_global": 32},
    "blt_local_encoder": {"hidden_size_global": 32},
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "rope_parameters": {"full_attention": None, "sliding_attention": _ROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {
            "hidden_size": 32,
            "ffn_hidden_size": 24,
            "moe_num_experts": 4,
            "moe_top_k": 2,
        },
    },
    "deepseek_v4": {
        "compress_rates": {"heavily_compressed_attention": 4, "compressed_sparse_attention": 2}
    },
    "dots3_note": {
        "vision_config": {"adapter_out_dim": 32},
        "audio_config": {"adapter_out_dim": 32},
    },
    "dots3_note_text": {
        "head_dim": 12,
        "per_layer_config": {
            layer: {"num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 24}
            for layer in ("01", "03")
        },
        "shared_experts_intermediate_size": 24,
    },
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"] * 2},
    "ernie4_5_vl_moe_text": {
        "moe_intermediate_size": [24, 24],
        "rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]},
    },
    "fun_asr_nano": {
        "adaptor_config": {"hidden_size": 32, "intermediate_size": 8, "num_attention_heads": 4}
    },
    "glm4v_text": _MROPE,
    "glm_ocr_text": _MROPE,
    "glm4v_moe_text": {
        "head_dim": 16,
        "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]},
    },
    "glm5_next_text": {"index_kpool": 2, "qk_rope_head_dim": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granite4_vision": {
        "downsample_rate": "1/2",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 40,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
        },
        "deepstack_layer_map": [[0, 1], [1, 2]],
        "spatial_target_layers": [0, 3],
    },
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "hunyuan_vl_text": _MROPE,
    "muse_spark_audio": {"hidden_sizes": [8, 8, 16, 16]},
    "radio": {"video_temporal_patch_size": 2},
    "unlimited_ocr_text": {"num_key_value_heads": 4},
    "molmo2_adapter": {"vision_feature_layer": [2, 1]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "mistral4": {"head_dim": 12},
    "paddleocr_vl_text": _MROPE,
    "qwen2_5_omni_text": _MROPE,
    "qwen2_5_vl_text": _MROPE,
    "qwen2_vl_text": _MROPE,
    "qwen4_exp_text": {
        "hc_lowrank": 8,
        "indexer_n_heads": 8,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "reformer": {
        "attn_layers": ["local"] * LAYERS,
        "attention_head_size": 8,
        "axial_pos_embds": False,
        "feed_forward_size": 40,
        "local_attn_chunk_length": 4,
    },
    "xlm": {"emb_dim": 32},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_blocks": LAYERS},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "hybrid_layer_ids": [1, 3],
        "kv_channels": 8,
        "num_query_groups": 4,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16, "layer_types": ["hybrid"] * 4},
}
"""Where a class needs numbers that fit together in its own way, by its model type."""


def small_values(family: str) -> dict[str, Any]:
    """The fields of a family's config that make it tiny; an encoder is made a decoder."""
    from transformers import AutoConfig
    from wscc.frontend.model.config.schema import schema

    decoder = dict([schema().encoders[family]]) if family in schema().encoders else {}
    return _shrunk(AutoConfig.for_model(family)) | decoder


def _shrunk(config: Any) -> dict[str, Any]:
    stated, aliases = config.to_dict(), config.attribute_map or {}
    values: dict[str, Any] = {}
    for names, value in SMALL:
        for name in names:
            if name in stated and name not in aliases:
                values[name] = value
    if "encoder_layers" in stated and "decoder_layers" not in stated:
        values["encoder_layers"] = 2
    if "qk_rope_head_dim" in stated:
        values["num_key_value_heads"] = 4
        values["head_dim"] = 4
    old = stated.get(aliases.get("num_hidden_layers", "num_hidden_layers"), 0)
    for name, value in stated.items():
        if isinstance(value, list) and len(value) == old and old > LAYERS:
            values[name] = _sampled(value)
        inner: Any = getattr(config, name, None) if isinstance(value, Mapping) else None
        if hasattr(inner, "attribute_map"):
            values[name] = _shrunk(inner) | {"model_type": inner.model_type}
    return values | FAMILIES.get(config.model_type, {})


def _sampled(entries: Sequence[Any]) -> list[Any]:
    """Entries for the layers of the tiny model, every kind among them, in turn."""
    kinds = [entry for at, entry in enumerate(entries) if entry not in entries[:at]]
    return [kinds[at % len(kinds)] for at in range(LAYERS)]
