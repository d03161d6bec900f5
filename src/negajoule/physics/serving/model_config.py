"""Reading a Hugging Face ``config.json``: dense, experts, state-space hybrids, windows, GQA and MLA.

Fields have other names in other families; each size lists the names it goes by. A field that's missing and
that no published implementation has a default for is an error that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import ConfigError
from negajoule.physics.serving.model_shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["shape_from_config"]

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "language_model")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_top_k",
    "moe_topk",
    "top_k_experts",
    "experts_per_token",
)
_UNGATED = (
    "gpt2",
    "opt",
    "bloom",
    "falcon",
    "phi",
    "gpt_neox",
    "starcoder2",
    "nemotron",
    "nemotron_h",
    "gptj",
)
_FORMATS = {
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "mxfp4": "mxfp4",
    "nvfp4": "mxfp4",
    "modelopt": "fp8",
    "modelopt_fp4": "mxfp4",
    "compressed-tensors": "fp8",
    "awq": "int4",
    "gptq": "int4",
}


class _Config(NamedTuple):
    """A configuration, and what to call it in messages."""

    fields: Mapping[str, Any]
    title: str

    def find(self, *names: str) -> float | None:
        """The first of these fields that's there, as a number."""
        for name in names:
            value = self.fields.get(name)
            if value is None:
                continue
            if isinstance(value, list) and value and len(set(map(str, value))) == 1:
                value = value[0]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
                raise ConfigError(
                    f"{self.title}: the field {name!r} is {value!r}, which is no size",
                    code="C106",
                    fix="give a whole number, or take the config.json from the model's own page",
                )
            return float(value)
        return None

    def need(self, *names: str) -> float:
        """The same, at least 1.

        Raises:
            ConfigError: (C106) if it's missing, naming it.
        """
        value = self.find(*names)
        if value is None:
            others = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
            raise ConfigError(
                f"{self.title}: the field {names[0]!r}{others} is missing",
                code="C106",
                tried=f"fields: {', '.join(sorted(self.fields)[:12])}",
                fix="take the whole config.json from the model's own page",
            )
        if value < 1:
            raise ConfigError(
                f"{self.title}: the field {names[0]!r} is {value:g}", code="C106", fix="at least 1"
            )
        return value


def shape_from_config(source: str | Path | Mapping[str, Any], name: str | None = None) -> ModelShape:
    """The shape of a model from its Hugging Face configuration.

    Args:
        source: the path of a ``config.json`` or of its folder, or its content.
        name: what to call the model; default from the configuration.

    Raises:
        ConfigError: (C106) if the file can't be read, isn't JSON, or lacks a field; the message names it.
    """
    outer, title = _read(source)
    inner = _text_part(outer)
    config = _Config(inner, title)
    layers, hidden = (
        int(config.need("num_hidden_layers", "n_layer", "num_layers", "n_layers")),
        config.need("hidden_size", "n_embd", "d_model"),
    )
    kinds = _layer_kinds(config, layers)
    attention, width, decode_width, kv_elements, kv_parts = _attention(config, hidden)
    mixers, state = _mixers(config, hidden, kinds)
    everything, routed, share, sparse = _feed_forward(config, hidden, layers, kinds)
    moe = sparse > 0
    vocabulary = config.need("vocab_size")
    tied = bool(inner.get("tie_word_embeddings", outer.get("tie_word_embeddings", False)))
    full, window = kinds.count("full"), kinds.count("window")
    blocks = (full + window) * attention + mixers + everything
    head = vocabulary * hidden
    stateful = kinds.count("state")
    return ModelShape(
        name=name or str(outer.get("_name_or_path") or "") or title,
        kind=("moe-hybrid" if moe else "hybrid")
        if stateful > (full + window)
        else ("moe" if moe else "dense"),
        parameters=blocks + head * (1 if tied else 2),
        active_parameters=blocks - routed * (1.0 - share) + head,
        step_parameters=blocks + head,
        routed_parameters=routed,
        layers=layers,
        attention_layers=full,
        window_layers=window,
        window=int(config.find("sliding_window", "attention_chunk_size", "sliding_window_size") or 0),
        hidden=hidden,
        attention_width=width,
        decode_width=decode_width,
        kv_elements=kv_elements,
        kv_parts=kv_parts,
        state_elements=state,
        expert_share=share,
        expert_layers=sparse,
        block_scales=_block_scales(outer, inner),
        vocabulary=int(vocabulary),
        weight_format=_weight_format(outer, inner),
    )


def _read(source: str | Path | Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    if not isinstance(source, (str, Path)):
        return source, "the configuration"
    path = Path(source)
    path = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}",
            code="C106",
            fix="give the path of a model's config.json",
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{path} isn't JSON: {error}", code="C106", fix="give a model's config.json"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration: it isn't a JSON object", code="C106")
    return content, str(path)


def _text_part(outer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration that has several."""
    part = outer
    while (
        inner := next((part[key] for key in _TEXT_PARTS if isinstance(part.get(key), dict)), None)
    ) is not None:
        part = inner
    return part


def _layer_kinds(config: _Config, layers: int) -> list[str]:
    """``full``, ``window``, ``state`` or ``none`` (a feed-forward part only) for each layer."""
    fields = config.fields
    pattern = fields.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return [{"M": "state", "*": "full"}.get(mark, "none") for mark in pattern]
    listed = fields.get("layer_types") or fields.get("layers_block_type")
    if isinstance(listed, list):
        names = {
            "full_attention": "full", "attention": "full", "sliding_attention": "window",
            "chunked_attention": "window",
        }  # fmt: skip
        return [names.get(str(kind), "state") for kind in listed]
    interval = config.find("full_attention_interval", "attn_layer_period")
    if interval:
        offset = int(config.find("attn_layer_offset") or interval - 1)
        return ["full" if index % int(interval) == offset else "state" for index in range(layers)]
    if fields.get("no_rope_layers") and config.find("attention_chunk_size"):
        return ["window" if rope else "full" for rope in fields["no_rope_layers"]]
    if not config.find("sliding_window", "attention_chunk_size") or fields.get("use_sliding_window") is False:
        return ["full"] * layers
    period = config.find("sliding_window_pattern", "_sliding_window_pattern")
    if period:
        return ["full" if (index + 1) % int(period) == 0 else "window" for index in range(layers)]
    return ["window"] * layers


def _attention(config: _Config, hidden: float) -> tuple[float, float, float, float, float]:
    """Parameters of a layer's attention, its two widths, numbers kept for each token, their parts."""
    heads = config.need("num_attention_heads", "n_head", "num_heads")
    rank = config.find("kv_lora_rank")
    if rank:
        rope, plain = config.need("qk_rope_head_dim"), config.need("qk_nope_head_dim")
        value = config.need("v_head_dim")
        queries = config.find("q_lora_rank")
        query = (
            hidden * queries + queries * heads * (plain + rope)
            if queries
            else hidden * heads * (plain + rope)
        )
        keep = hidden * (rank + rope) + rank * heads * (plain + value)
        return (
            query + keep + heads * value * hidden,
            heads * (plain + rope + value) / 2,
            heads * (rank + rope / 2),
            rank + rope,
            1.0,
        )
    size = config.find("head_dim", "attention_head_dim") or hidden / heads
    kept = config.find("num_key_value_heads", "num_kv_heads", "n_head_kv") or (
        1.0 if config.fields.get("multi_query") else heads
    )
    return hidden * size * (2 * heads + 2 * kept), heads * size, heads * size, 2 * kept * size, kept


def _mixers(config: _Config, hidden: float, kinds: list[str]) -> tuple[float, float]:
    """Parameters and kept state of all state-space and linear-attention layers."""
    count = kinds.count("state")
    if not count:
        return 0.0, 0.0
    if config.find("linear_num_value_heads"):
        keys = config.need("linear_num_key_heads") * config.need("linear_key_head_dim")
        values = config.need("linear_num_value_heads") * config.need("linear_value_head_dim")
        parameters = hidden * (2 * keys + 2 * values) + values * hidden
        return count * parameters, count * values * config.need("linear_key_head_dim")
    heads = config.find("mamba_num_heads", "mamba_n_heads")
    size = config.find("mamba_head_dim", "mamba_d_head")
    inner = heads * size if heads and size else hidden * config.need("mamba_expand", "expand")
    state = config.need("ssm_state_size", "mamba_d_state", "state_size")
    groups = config.find("n_groups", "mamba_n_groups") or 1.0
    parameters = hidden * (2 * inner + 2 * groups * state + (heads or 0.0)) + inner * hidden
    return count * parameters, count * inner * state


def _feed_forward(
    config: _Config, hidden: float, layers: int, kinds: list[str]
) -> tuple[float, float, float, int]:
    """Parameters of feed-forward parts, those of routed experts, share of experts used, layers with them."""
    fields = config.fields
    matrices = 2 if fields.get("model_type") in _UNGATED else 3
    pattern = fields.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return pattern.count("-") * matrices * hidden * config.need("intermediate_size"), 0.0, 1.0, 0
    experts = config.find(*_EXPERTS) or 0.0
    if experts <= 1:
        if fields.get("model_type") == "gpt2":
            return layers * matrices * hidden * (config.find("n_inner") or 4 * hidden), 0.0, 1.0, 0
        size = config.need("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
        return layers * matrices * hidden * size, 0.0, 1.0, 0
    chosen = config.need(*_CHOSEN)
    if chosen > experts:
        raise ConfigError(
            f"{config.title}: {chosen:g} experts for each token, but only {experts:g} in all", code="C106"
        )
    size = config.need("moe_intermediate_size", "intermediate_size")
    sparse = _sparse_layers(config, layers)
    shared = config.find("shared_expert_intermediate_size") or size * (
        config.find("n_shared_experts", "moe_num_shared_experts")
        or float(fields.get("model_type") == "llama4_text")
    )
    dense = config.find("intermediate_size_mlp", "intermediate_size") or size
    routed = sparse * experts * matrices * hidden * size
    other = sparse * hidden * (matrices * shared + experts) + (layers - sparse) * matrices * hidden * dense
    return routed + other, routed, chosen / experts, sparse


def _sparse_layers(config: _Config, layers: int) -> int:
    """Layers that have experts."""
    fields = config.fields
    if isinstance(fields.get("moe_layers"), list):
        return len(fields["moe_layers"])
    first = int(config.find("first_k_dense_replace", "first_dense_layers") or 0)
    step = int(config.find("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") or 1)
    plain = fields.get("mlp_only_layers") or ()
    return sum(1 for index in range(first, layers) if (index + 1) % step == 0 and index not in plain)


def _block_scales(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    """Whether 8-bit weights of this model have scales by blocks; ``published_fp8`` is our own field."""
    quantised = outer.get("quantization_config") or inner.get("quantization_config") or {}
    return "weight_block_size" in quantised or outer.get("published_fp8") == "block"


def _weight_format(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> str:
    """The number format of the published weights; ``bfloat16`` for every 16-bit one."""
    quantised = outer.get("quantization_config") or inner.get("quantization_config")
    if isinstance(quantised, dict):
        method = str(quantised.get("quant_algo") or quantised.get("quant_method") or "").lower()
        if quantised.get("load_in_8bit") or quantised.get("bits") == 8:
            return "int8"
        if quantised.get("load_in_4bit") or quantised.get("bits") == 4 or method == "bitsandbytes":
            return "int4"
        return _FORMATS.get(method, "bfloat16")
    return "bfloat16"
