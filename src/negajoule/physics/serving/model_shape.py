"""What a model stores, reads and computes for a token: the sizes that decide time and energy."""

from __future__ import annotations

import msgspec

__all__ = ["ModelShape"]


class ModelShape(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes that decide time and energy.

    Attributes:
        name: the model.
        kind: ``dense``, ``moe``, ``hybrid`` or ``moe-hybrid``.
        parameters: all parameters, those of an image or sound encoder left out.
        active_parameters: parameters that one token is multiplied with.
        step_parameters: parameters that a step with every expert reads: all but the input embedding.
        routed_parameters: parameters in experts that a router chooses, all of them.
        layers: number of blocks that hold attention, a state-space mixer or a linear attention.
        attention_layers: layers that attend to the whole context.
        window_layers: layers that attend to a window or a chunk.
        window: length of that window [tokens].
        hidden: width of the residual stream.
        attention_width: query heads times their size: what attention over a prompt computes with.
        decode_width: the same for a decoded token: with latent attention, heads times the rank.
        kv_elements: numbers kept for each token and attending layer.
        kv_parts: into how many parts keys and values can be split over accelerators: their heads, 1 for MLA.
        state_elements: numbers kept for each sequence, all state-space and linear-attention layers together.
        expert_share: routed experts that a token uses / routed experts of a layer; 1 for a dense model.
        expert_layers: layers that have experts.
        block_scales: whether the maker's 8-bit weights have scales by blocks, which other kernels compute
            than those with scales by rows.
        vocabulary: entries of the output layer; 0 if unknown.
        weight_format: number format of the published weights.
        counted: whether the sizes were counted from a configuration; if not, widths are a transformer's
            usual proportions.
        guessed: whether even the layers are only usual for the size.
    """

    name: str
    kind: str
    parameters: float
    active_parameters: float
    step_parameters: float
    routed_parameters: float
    layers: int
    attention_layers: int
    window_layers: int
    window: int
    hidden: float
    attention_width: float
    decode_width: float
    kv_elements: float
    kv_parts: float
    state_elements: float = 0.0
    expert_share: float = 1.0
    expert_layers: int = 0
    block_scales: bool = False
    vocabulary: int = 0
    weight_format: str = "bfloat16"
    counted: bool = True
    guessed: bool = False

    @property
    def is_moe(self) -> bool:
        """Whether a router chooses experts."""
        return self.routed_parameters > 0

    @property
    def is_hybrid(self) -> bool:
        """Whether some layers keep a state instead of keys and values."""
        return "hybrid" in self.kind
