"""Eight bits within PyTorch: linear maps only, so that the change is of precision and not of engine.

The embeddings stay in 32 bits, which is most of a small encoder's file.
"""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.compress.artefact import Artefact, Bench, finish, read_artefact
from negajoule.compress.cutter import TOKENIZER
from negajoule.compress.encoder import load_model
from negajoule.compress.run_torch import TorchRunner
from negajoule.compress.toolbox import torch, transformers
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.compress.steps import TorchInt8

__all__ = ["open_torch_int8", "to_torch_int8"]

WEIGHTS = "weights.pt"


def to_torch_int8(_: TorchInt8, bench: Bench) -> None:
    """Quantise the linear maps.

    Raises:
        CompressError: (K101) for a source that isn't in PyTorch.
    """
    before = read_artefact(bench.source)
    if before.kind != "torch":
        raise CompressError(f"an artefact of kind {before.kind} can't be quantised in PyTorch")
    model = load_model(bench.source)
    small = _quantised(model)
    model.config.save_pretrained(bench.target)
    shutil.copyfile(bench.source / TOKENIZER, bench.target / TOKENIZER)
    torch().save(small.state_dict(), bench.target / WEIGHTS)
    about: Artefact = msgspec.structs.replace(
        before,
        kind="torch-int8",
        precision="int8, dynamic; embeddings fp32",
        data=bench.texts.fingerprint,
        steps=(*before.steps, "int8 in PyTorch"),
        files={},
    )
    runner = TorchRunner(small, bench.target, about.max_length)
    finish(bench.target, about, runner, bench.texts.train.texts)


def open_torch_int8(folder: Path, about: Artefact, threads: int) -> TorchRunner:
    """Load an artefact of kind ``torch-int8``.

    Raises:
        CompressError: (K101) if the weights don't fit the config.
    """
    torch().set_num_threads(threads)
    hugging = transformers()
    config = hugging.AutoConfig.from_pretrained(folder, local_files_only=True)
    model = _quantised(hugging.AutoModelForSequenceClassification.from_config(config).float().eval())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch().load(folder / WEIGHTS, weights_only=True)
        model.load_state_dict(state)
    except (RuntimeError, OSError, EOFError) as error:
        raise CompressError(f"the weights in {folder} don't load: {error}") from None
    return TorchRunner(model, folder, about.max_length)


def _quantised(model: Any) -> Any:  # noqa: ANN401
    lib = torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lib.ao.quantization.quantize_dynamic(model, {lib.nn.Linear}, dtype=lib.qint8)
