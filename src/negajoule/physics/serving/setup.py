"""A model on accelerators: what serves it, and whether it fits their memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import ConfigError
from negajoule.physics.accelerators import format_bytes, hardware_of
from negajoule.physics.serving.model_shape import ModelShape

if TYPE_CHECKING:
    from negajoule.physics.accelerators import Accelerator

__all__ = ["ENGINES", "ServingSetup"]

ENGINES = ("vllm-0.11", "vllm-0.5")
"""Engines whose runs were measured; the first is the usual one."""


class ServingSetup(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of a deployment.

    Attributes:
        shape: the model.
        accelerator: name of the accelerator, as the catalogue knows it.
        count: accelerators that hold the replica together.
        tensor_parallel: accelerators that split attention; default count / data_parallel.
        expert_parallel: accelerators that experts are spread over whole; 1 if each expert is split instead.
        data_parallel: copies of the attention part among the accelerators.
        weight_format: number format of the weights; default the published one.
        kv_format: number format of keys and values.
        engine: engine and version, one of ``ENGINES``; another is taken as the first, with a wider interval.
        cuda_graphs: whether steps are replayed as graphs; without them each kernel is launched by the host.
        slow_host: whether the host feeds steps no faster than every 30 to 40 ms, as it did in the measured
            reasoning runs on B200 (``docs/findings.md``).
        batch_limit: most sequences in a step (``max_num_seqs``); default what memory allows.
        memory_share: share of the accelerators' memory that the engine may fill; vLLM's default.
    """

    shape: ModelShape
    accelerator: str
    count: int = 1
    tensor_parallel: int | None = None
    expert_parallel: int = 1
    data_parallel: int = 1
    weight_format: str | None = None
    kv_format: str = "bfloat16"
    engine: str = ENGINES[0]
    cuda_graphs: bool = True
    slow_host: bool = False
    batch_limit: int | None = None
    memory_share: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            ConfigError: (C101) if a number isn't positive or the parallel parts don't multiply to the count.
        """
        for name in ("count", "tensor_parallel", "expert_parallel", "data_parallel", "batch_limit"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
                raise ConfigError(f"{name} is {value!r}", fix="a whole number, at least 1")
        if self.count % self.data_parallel or self.count % self.expert_parallel:
            raise ConfigError(
                f"{self.count} accelerators can't be shared by data_parallel {self.data_parallel} and "
                f"expert_parallel {self.expert_parallel}",
                fix="both must divide count",
            )
        if self.tensor_parallel is not None and self.tensor_parallel * self.data_parallel != self.count:
            raise ConfigError(
                f"tensor_parallel {self.tensor_parallel} x data_parallel {self.data_parallel} isn't "
                f"count {self.count}",
                fix="leave tensor_parallel out, or give count = tensor_parallel x data_parallel",
            )
        if not 0 < self.memory_share <= 1:
            raise ConfigError(f"memory_share is {self.memory_share!r}", fix="above 0, at most 1")

    @property
    def hardware(self) -> Accelerator:
        """The accelerator's data sheet.

        Raises:
            CatalogError: (F101) with the known names if there's none.
        """
        return hardware_of(self.accelerator)

    @property
    def format(self) -> str:
        """Number format of the weights."""
        return self.weight_format or self.shape.weight_format

    @property
    def attention_split(self) -> int:
        """Accelerators that split the attention of one copy."""
        return self.tensor_parallel or self.count // self.data_parallel

    @property
    def kv_split(self) -> float:
        """Into how many parts the keys and values of the batch are split.

        Latent attention has one head to keep, which every accelerator of a copy would hold; where experts are
        spread whole, engines spread the sequences instead.
        """
        if self.shape.kv_parts == 1.0 and self.expert_parallel == self.count:
            return float(self.count)
        return min(float(self.attention_split), self.shape.kv_parts) * self.data_parallel

    def weight_bytes(self) -> float:
        """Bytes of all weights on all accelerators, copies counted."""
        shape = self.shape
        shared = (shape.parameters - shape.routed_parameters) * self.data_parallel
        return (shared + shape.routed_parameters) * format_bytes(self.format)

    def kv_bytes(self, context: float) -> float:
        """Bytes kept for one sequence of this length, on all accelerators, copies counted."""
        shape = self.shape
        copies = self.count / self.kv_split
        tokens = shape.attention_layers * context
        tokens += shape.window_layers * (min(context, shape.window) if shape.window else context)
        kept = tokens * shape.kv_elements * format_bytes(self.kv_format) * copies
        return kept + shape.state_elements * format_bytes("bfloat16")

    def free_bytes(self) -> float:
        """Memory left for keys and values beside the weights.

        Raises:
            ConfigError: (C112) if the weights alone don't fit.
        """
        hardware = self.hardware
        usable = self.count * hardware.memory * self.memory_share
        weights = self.weight_bytes()
        if weights >= usable:
            needed = math.ceil(weights / usable * self.count + 1e-9)
            raise ConfigError(
                f"{self.shape.name} doesn't fit: its weights take {weights / 1e9:.0f} GB in {self.format}, "
                f"{self.count} x {hardware.name} have {usable / 1e9:.0f} GB to fill",
                code="C112",
                tried=f"{self.memory_share:.0%} of {hardware.memory / 1e9:.0f} GB each",
                fix=f"at least {needed} of them, or a smaller format",
            )
        return usable - weights

    def max_sequences(self, context: float) -> int:
        """Sequences of this length that memory holds beside the weights, within ``batch_limit``; may be 0.

        Raises:
            ConfigError: (C112) if the weights alone don't fit.
        """
        held = self.free_bytes() / max(self.kv_bytes(context), 1.0)
        return int(min(held, self.batch_limit or held))

    def require_fit(self, batch: float, context: float) -> None:
        """Check that so many sequences of this length fit beside the weights.

        Raises:
            ConfigError: (C112) with the largest batch that fits.
        """
        free, each = self.free_bytes(), self.kv_bytes(context)
        if batch * each > free:
            raise ConfigError(
                f"{batch:g} sequences of {context:.0f} tokens don't fit: their keys and values take "
                f"{batch * each / 1e9:.1f} GB, {free / 1e9:.1f} GB are left beside the weights",
                code="C112",
                tried=f"{self.shape.name} in {self.format} on {self.count} x {self.hardware.name}",
                fix=f"a batch of at most {int(free / each)}, a shorter context or more accelerators",
            )
