"""Layers with 4-bit weights from bitsandbytes (FP4, NF4), and what must hold before they are trained upon.

On a CPU with AVX512-BF16 the first forward pass in evaluation mode repacks the weights of ``Linear4bit``.
Every later pass in training goes through a kernel that passes no gradient back, with no more than a
warning: training seems to go on, and what comes out is wrong. So repacked weights are refused, the
warning is an error, and every adapter of the first layer must have got a gradient before energy is spent.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from negajoule.compress.toolbox import library, torch
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Kind", "demand_gradients", "refuse_repacked", "strict_autograd", "to_four_bits", "widened"]

Kind = Literal["fp4", "nf4"]

_WARNING = ".*autograd kernel was not registered.*"
_AFRESH = "load the model again, and measure what was before in a process of its own"


def to_four_bits(model: Any, kind: Kind, compute: str = "float32") -> None:  # noqa: ANN401
    """Put 4-bit layers in the place of all linear layers but the output matrix.

    Args:
        model: of transformers, weights in 32 bits.
        kind: of the 4 bits.
        compute: type that weights are widened to.

    Raises:
        ExtraMissingError: (X101) without bitsandbytes.
    """
    lib, bits = torch(), _bitsandbytes()
    head = model.get_output_embeddings()
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if type(child) is not lib.nn.Linear or child is head:
                continue
            layer = bits.nn.Linear4bit(
                child.in_features,
                child.out_features,
                bias=child.bias is not None,
                compute_dtype=getattr(lib, compute),
                quant_type=kind,
                device="meta",
            )
            layer.weight = bits.nn.Params4bit(
                child.weight.data.float(), requires_grad=False, quant_type=kind, compress_statistics=False
            )
            layer.bias = child.bias
            setattr(part, name, layer.to("cpu"))
    model.is_loaded_in_4bit = True  # peft asks for it


def widened(model: Any) -> Any:  # noqa: ANN401
    """A copy whose 4-bit layers are plain ones with the same, widened weights.

    Raises:
        CompressError: (K104) if weights are repacked.
    """
    import copy

    refuse_repacked(model)
    lib, bits = torch(), _bitsandbytes()
    twin = copy.deepcopy(model)
    for part in list(twin.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, bits.nn.Linear4bit):
                plain = lib.nn.Linear(child.in_features, child.out_features, bias=child.bias is not None)
                weights = bits.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
                plain.weight = lib.nn.Parameter(weights.to(child.compute_dtype), requires_grad=False)
                plain.bias = child.bias
                setattr(part, name, plain)
    return twin


def refuse_repacked(model: Any) -> None:  # noqa: ANN401
    """Refuse a model that no longer passes gradients.

    Raises:
        CompressError: (K104) if any 4-bit weight is repacked.
    """
    bits = _bitsandbytes()
    for name, part in model.named_modules():
        if isinstance(part, bits.nn.Linear4bit) and getattr(
            part.weight.quant_state, "packing_format_for_cpu", False
        ):
            raise CompressError(
                f"{name} was repacked by a pass in evaluation mode and passes no gradient any more",
                code="K104",
                fix=_AFRESH,
            )


def demand_gradients(model: Any) -> None:  # noqa: ANN401
    """Demand that every adapter of the first layer got a gradient; call it after the first backward pass.

    Raises:
        CompressError: (K104) if one got none.
    """
    lib = torch()
    seen = False
    for name, weight in model.named_parameters():
        # The second matrix of an adapter starts at zero, so that only it has a gradient at first.
        if not weight.requires_grad or "lora_B" not in name or ".layers.0." not in name:
            continue
        seen = True
        if weight.grad is None or not lib.isfinite(weight.grad).all() or not weight.grad.any():
            raise CompressError(f"no gradient reaches {name}", code="K104", fix=_AFRESH)
    if not seen:
        raise CompressError("the model's first layer has no adapters to train", code="K104")


@contextmanager
def strict_autograd() -> Iterator[None]:
    """Make an error of the warning that a kernel passes no gradient.

    Raises:
        CompressError: (K104) if it comes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=_WARNING)
        try:
            yield
        except (UserWarning, RuntimeError) as error:
            if "autograd kernel was not registered" not in str(error):
                raise
            raise CompressError("a kernel passes no gradient back", code="K104", fix=_AFRESH) from None


def _bitsandbytes() -> Any:  # noqa: ANN401
    return library("bitsandbytes", "hold weights in 4 bits")
