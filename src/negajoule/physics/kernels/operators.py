"""The four operators whose kernels were measured: what they compute and read, and how their shapes compare.

Columns are those of the kernel tables of aiconfigurator. Only operators of the language are used, so one
function serves plain floats and numpy arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPERATORS", "Operator", "Work", "operator_named"]

Value = Any  # float or NDArray[np.float64]; the arithmetic is the same


class Work(NamedTuple):
    """What a kernel has to do at least.

    Attributes:
        flops: operations.
        bytes: read and written once [B].
    """

    flops: Value
    bytes: Value


class Operator(NamedTuple):
    """One operator.

    Attributes:
        name: as in the name of its table.
        format_column: column with the number format that decides bytes and rate.
        shape: columns of numbers that make a shape, in the order of every call.
        sweep: those of them that were swept within one model's layer: tokens, batch, context.
        work: from the shape's values and the bytes of one number to the work.
        coordinates: from the shape's values to positive numbers in which efficiency is smooth.
    """

    name: str
    format_column: str
    shape: tuple[str, ...]
    sweep: tuple[str, ...]
    work: Callable[[tuple[Value, ...], Value], Work]
    coordinates: Callable[[tuple[Value, ...]], tuple[Value, ...]]


_ACTIVATION_BYTES = 2.0  # activations and results are 16-bit in every table


def _gemm_work(shape: tuple[Value, ...], number_bytes: Value) -> Work:
    m, n, k = shape
    return Work(2.0 * m * n * k, number_bytes * k * (n + m) + _ACTIVATION_BYTES * m * n)


def _gemm_coordinates(shape: tuple[Value, ...]) -> tuple[Value, ...]:
    return shape


def _smaller(a: Value, b: Value) -> Value:
    return (a + b - abs(a - b)) / 2.0


def _visible(length: Value, window: Value) -> Value:
    """The last tokens that a query at this position sees; a window of 0 is none."""
    return _smaller(length, window + (window == 0) * length)


def _prompt_work(shape: tuple[Value, ...], number_bytes: Value) -> Work:
    batch, tokens, heads, kv_heads, head_size, window = shape
    seen = _visible(tokens, window)
    pairs = tokens * seen - seen * seen / 2.0  # causal: a query sees itself and what came before
    numbers = (2.0 * heads * _ACTIVATION_BYTES + 2.0 * kv_heads * number_bytes) * tokens * head_size
    return Work(4.0 * batch * heads * head_size * pairs, batch * numbers)


def _prompt_coordinates(shape: tuple[Value, ...]) -> tuple[Value, ...]:
    batch, tokens, heads, kv_heads, head_size, window = shape
    return batch * heads, tokens, head_size, heads / kv_heads, tokens / _visible(tokens, window)


def _decode_work(shape: tuple[Value, ...], number_bytes: Value) -> Work:
    batch, context, heads, kv_heads, head_size, window = shape
    seen = _visible(context + 1.0, window)
    numbers = 2.0 * kv_heads * seen * number_bytes + 2.0 * heads * _ACTIVATION_BYTES
    return Work(4.0 * batch * heads * head_size * seen, batch * head_size * numbers)


def _decode_coordinates(shape: tuple[Value, ...]) -> tuple[Value, ...]:
    batch, context, heads, kv_heads, head_size, window = shape
    length = context + 1.0
    return batch * kv_heads, length, head_size, heads / kv_heads, length / _visible(length, window)


def _touched(local: Value, choices: Value) -> Value:
    """Experts that get a token if each choice falls on one of ``local`` experts alike."""
    return local * (1.0 - (1.0 - 1.0 / (local + 1e-9)) ** choices)


def _moe_work(shape: tuple[Value, ...], number_bytes: Value) -> Work:
    tokens, hidden, inner, chosen, experts, split, spread, _ = shape
    choices = tokens * chosen / spread
    matrices = 3.0 * hidden * inner / split  # gate, up and down
    weights = _touched(experts / spread, choices) * matrices * number_bytes
    # Every chosen token passes through memory between the matrices and in their sum, other ranks' tokens too.
    between = tokens * chosen * (3.0 * hidden + 4.0 * inner / split) * _ACTIVATION_BYTES
    return Work(2.0 * choices * matrices, weights + between)


def _moe_coordinates(shape: tuple[Value, ...]) -> tuple[Value, ...]:
    tokens, hidden, inner, chosen, experts, split, spread, skew = shape
    return tokens * chosen / experts, hidden * inner / split, experts / spread, hidden, 1.0 + skew


_SEQUENCES = ("num_heads", "num_key_value_heads", "head_dim", "window_size")

OPERATORS = {
    operator.name: operator
    for operator in (
        Operator("gemm", "gemm_dtype", ("m", "n", "k"), ("m",), _gemm_work, _gemm_coordinates),
        Operator(
            "context_attention",
            "kv_cache_dtype",
            ("batch_size", "isl", *_SEQUENCES),
            ("batch_size", "isl"),
            _prompt_work,
            _prompt_coordinates,
        ),
        Operator(
            "generation_attention",
            "kv_cache_dtype",
            ("batch_size", "step", *_SEQUENCES),
            ("batch_size", "step"),
            _decode_work,
            _decode_coordinates,
        ),
        Operator(
            "moe",
            "moe_dtype",
            (
                "num_tokens",
                "hidden_size",
                "inter_size",
                "topk",
                "num_experts",
                "moe_tp_size",
                "moe_ep_size",
                "skew",
            ),
            ("num_tokens",),
            _moe_work,
            _moe_coordinates,
        ),
    )
}
"""By name. ``skew`` isn't a column: it's the exponent in ``distribution``, 0 if balanced."""


def operator_named(name: str) -> Operator:
    """The operator of a name.

    Raises:
        ConfigError: (C101) if no table of that operator was measured.
    """
    found = OPERATORS.get(name)
    if found is None:
        raise ConfigError(f"kernels of {name!r} weren't measured", fix=f"one of {', '.join(OPERATORS)}")
    return found
