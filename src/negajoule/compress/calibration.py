"""Round a model's layers one after the other, each by the inputs that texts give it.

The model goes through transformers, which reads the same GGUF file. A layer sees what the layers before
it give *after* they were rounded, so that it makes up for them too. Within a layer, all matrices are
judged by inputs that the layer had before it was rounded itself: one pass to see inputs, one to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.compress.four_bits import FourBits
from negajoule.compress.toolbox import torch, transformers
from negajoule.engine import open_weights, values_of
from negajoule.errors import CompressError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["load_whole", "rounded_layers"]


def load_whole(source: Path) -> Any:  # noqa: ANN401 (a model of transformers)
    """A GGUF file as a model of transformers with 32-bit weights.

    Raises:
        CompressError: (K101) if transformers doesn't know this kind of model.
        ExtraMissingError: (X101) without torch, transformers or gguf.
    """
    lib = torch()
    require("gguf", extra="profile", purpose="read a model's weights")
    try:
        model = transformers().AutoModelForCausalLM.from_pretrained(
            str(source.parent), gguf_file=source.name, dtype=lib.float32
        )
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise CompressError(f"{source.name} can't be loaded: {error}") from None
    # It holds plain weights now; what says otherwise would keep it from being saved.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.eval()


def rounded_layers(
    source: Path,
    calibration: Sequence[Sequence[int]],
    rounding: Callable[[Any, Any], FourBits],
    leave: Callable[[str], bool] = lambda _: False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, FourBits]:
    """Round the matrices of all layers.

    Args:
        source: a GGUF file.
        calibration: tokens of texts.
        rounding: given weights and the sum of outer products of their inputs, the rounded weights.
        leave: given the file's name of a matrix, whether it stays as it is.
        say: told how far it is.

    Returns:
        By the names that the file gives to its tensors, rows in the file's order.

    Raises:
        CompressError: (K101) if the model has no plain stack of layers.
        ExtraMissingError: (X101) without torch, transformers or gguf.
    """
    lib = torch()
    model = load_whole(source)
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not layers:
        raise CompressError(f"{source.name} has no plain stack of layers, so it can't be calibrated")
    tensors = {tensor.name: tensor for tensor in open_weights(source).tensors}
    named = _file_names(source, layers)
    found: dict[str, FourBits] = {}
    with lib.no_grad():
        states, told = _first_inputs(model, layers[0], calibration)
        for number, layer in enumerate(layers):
            for name, part, gram in _grams(layer, states, told):
                file_name = named.get(f"model.layers.{number}.{name}")
                if file_name is None or file_name not in tensors:
                    raise CompressError(f"{source.name} lacks the weights of model.layers.{number}.{name}")
                if leave(file_name):
                    continue
                rounded = rounding(part.weight.numpy(), gram)
                places = _row_places(values_of(tensors[file_name]), part.weight.numpy(), file_name)
                found[file_name] = FourBits(rounded.codes[places], rounded.scales[places])
                part.weight.copy_(lib.from_numpy(rounded.values))
            states = [_run(layer, state, more) for state, more in zip(states, told, strict=True)]
            say(f"calibrated layer {number + 1} of {len(layers)}")
    return found


def _file_names(source: Path, layers: Sequence[Any]) -> dict[str, str]:
    """The file's name for each linear part of a layer."""
    gguf = require("gguf", extra="profile", purpose="read a model's weights")
    architecture = open_weights(source).fields["general.architecture"].contents()
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], len(layers))
    found = {}
    for number, layer in enumerate(layers):
        for name, _ in _linears(layer):
            full = f"model.layers.{number}.{name}"
            known = names.get_name(full)
            if known is not None:
                found[full] = f"{known}.weight"
    return found


def _linears(layer: Any) -> list[tuple[str, Any]]:  # noqa: ANN401
    kind = torch().nn.Linear
    return [(name, part) for name, part in layer.named_modules() if isinstance(part, kind)]


def _first_inputs(
    model: Any,  # noqa: ANN401
    first: Any,  # noqa: ANN401
    calibration: Sequence[Sequence[int]],
) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """What the first layer gets for each text: states, and all else it is told."""
    lib = torch()
    states: list[Any] = []
    told: list[Mapping[str, Any]] = []

    def catch(_: object, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states.append(given[0] if given else named["hidden_states"])
        told.append({key: value for key, value in named.items() if key != "hidden_states"})
        raise _Caught

    hook = first.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for tokens in calibration:
            try:
                model(lib.tensor([list(tokens)]), use_cache=False)
            except _Caught:
                continue
    finally:
        hook.remove()
    return states, told


class _Caught(Exception):
    """The first layer's input has been seen; the rest of the model needn't run."""


def _grams(
    layer: Any,  # noqa: ANN401
    states: Sequence[Any],
    told: Sequence[Mapping[str, Any]],
) -> list[tuple[str, Any, Any]]:
    """Each linear part of a layer, with the sum over tokens of outer products of its inputs."""
    sums: dict[str, Any] = {}
    parts = _linears(layer)

    def watch(name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def see(_: object, given: tuple[Any, ...]) -> None:
            flat = given[0].reshape(-1, given[0].shape[-1])
            product = (flat.T @ flat).double()
            sums[name] = sums[name] + product if name in sums else product

        return see

    hooks = [part.register_forward_pre_hook(watch(name)) for name, part in parts]
    try:
        for state, more in zip(states, told, strict=True):
            _run(layer, state, more)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, part, sums[name].numpy()) for name, part in parts if name in sums]


def _run(layer: Any, state: Any, told: Mapping[str, Any]) -> Any:  # noqa: ANN401
    out = layer(state, **told)
    return out[0] if isinstance(out, tuple) else out


def _row_places(in_file: Any, in_model: Any, name: str) -> list[int]:  # noqa: ANN401
    """For each row of the file the model's row: loading turns rows of queries and keys around."""
    places: dict[bytes, list[int]] = {}
    for place, row in enumerate(in_model):
        places.setdefault(row.tobytes(), []).append(place)
    found = []
    for row in in_file:
        same = places.get(row.tobytes())
        if not same:
            raise CompressError(f"transformers reads other weights for {name} than the file holds")
        found.append(same.pop() if len(same) > 1 else same[0])
    return found
